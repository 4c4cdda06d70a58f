"""The report of a training run, from its run folder."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from camelid.base.errors import CamelidError, WrongCall
from camelid.base.json import read_json, read_table
from camelid.base.progress import in_bytes, in_time
from camelid.report.stopping import when_to_stop
from camelid.report.values import Curve, LinePlot, Passage, Report, Section, Table
from camelid.runs.licences import Licence, concerns
from camelid.runs.prediction import PREDICTION, Prediction
from camelid.runs.run import IDENTITY, METRICS, RECIPE, SOURCES, read_metrics
from camelid.runs.size import parameters_of

Records = list[dict[str, Any]]
VALIDATED = "validation_"
"""What the keys of measures on held-out rows begin with."""
NOISE_MEMORY, NOISE_STEPS = 0.99, 20
"""Decay per step of the means of which the noise scale is the ratio, and the steps before it is shown."""
UNITS = {"align": "mean loss"}
"""The unit of the loss in stages whose loss is not that of a language model."""
DATA = {"align": "comparisons", "tune": "examples"}
"""What a stage learns from, if not text."""


def training_report(folder: Path) -> Report:
    """Curves, sizes, times and recipe of a run; raises `WrongCall` if the folder is not a run."""
    if not (folder / IDENTITY).is_file():
        raise WrongCall(f"{folder} is not a run folder: {IDENTITY} is missing")
    records = read_metrics(folder / METRICS) if (folder / METRICS).is_file() else []
    if not any("loss" in record for record in records):
        raise CamelidError(f"{folder / METRICS} has no steps yet; try again after the first")
    stage = read_table(folder / IDENTITY)["recipe"]["stage"]
    unit = UNITS.get(stage, "nats per token")
    sections = (
        Section("Curves", figures=training_plots(records, unit)),
        *prediction_section(folder, records),
        *when_to_stop(records, DATA.get(stage, "text")),
        *_sources(folder / SOURCES),
    )
    return run_report(folder, _summary(records, unit), _facts(folder, records), sections)


def run_report(folder: Path, summary: str, facts: Mapping[str, str], sections: Sequence[Section]) -> Report:
    """The page of any run: its results, above the licences, the recipe and the provenance of its folder."""
    identity = read_table(folder / IDENTITY)
    versions = ", ".join(f"{name} {identity[name]}" for name in ("camelid", "torch", "python"))
    return Report(
        title=f"{identity['recipe']['stage'].capitalize()}: {folder.resolve().name}",
        summary=summary,
        facts=facts,
        sections=(
            *sections,
            *_licences(identity),
            Section(
                "Recipe",
                passages=(Passage("", (folder / RECIPE).read_text(encoding="utf-8"), monospace=True),),
                folded=True,
            ),
            Section("Provenance", tables=_origins(identity), folded=True),
        ),
        footer=f"Written by {versions}.",
    )


def training_plots(records: Records, unit: str = "nats per token") -> tuple[LinePlot, ...]:
    """Loss, other measures of validation, speed, learning rate and gradient norm over the steps, if recorded.

    unit: of the loss.
    """
    loss = (
        _curve(records, "loss", "training", spread=True),
        _curve(records, "validation_loss", "validation"),
    )
    plots = (
        LinePlot("Loss", "step", unit, tuple(curve for curve in loss if curve.x)),
        *(_plot(records, name.capitalize(), key, name) for key, name in _measures(records).items()),
        _plot(records, "Reward of the samples", "reward", "mean reward"),
        _plot(records, "Speed", "tokens_per_second", "tokens per second", from_zero=True),
        _plot(records, "Learning rate", "learning_rate", "learning rate"),
        _plot(records, "Gradient norm", "grad_norm", "norm before clipping", from_zero=True),
        LinePlot("Gradient noise scale", "step", "tokens", (Curve("critical batch", *noise_scale(records)),)),
    )
    return tuple(plot for plot in plots if plot.curves and plot.curves[0].x)


def noise_scale(records: Records) -> tuple[list[int], list[float]]:
    """The steps and the gradient noise scale tr(S) / |G|^2 in tokens, about the critical batch size.

    Both terms are averaged by themselves, as their ratio in a single step says nothing (McCandlish et al.
    2018, arXiv:1812.06162, appendix A.1). Left out are the first steps, and those where a mean is negative.
    """
    steps, scales, square, trace, count = [], [], 0.0, 0.0, 0
    for record in records:
        if "gradient_square" in record:
            count += 1
            square = NOISE_MEMORY * square + (1 - NOISE_MEMORY) * record["gradient_square"]
            trace = NOISE_MEMORY * trace + (1 - NOISE_MEMORY) * record["gradient_trace"]
            if count >= NOISE_STEPS and square > 0 and trace > 0:
                steps.append(record["step"])
                scales.append(trace / square)
    return steps, scales


def _noise(folder: Path, records: Records) -> str:
    """The noise scale beside the batch, or why a pretraining has none."""
    if (scales := noise_scale(records)[1]) and (tokens := records[-1].get("trained_tokens")):
        return f"{scales[-1]:,.0f} tokens; a batch trains {tokens:,}"
    if read_table(folder / IDENTITY)["recipe"]["stage"] != "pretrain":
        return ""
    measured = sum("gradient_square" in record for record in records)
    if not measured:
        return "not measured: a process needs two micro-batches an update, see training.micro_batch_size"
    return f"not shown before {NOISE_STEPS} updates" if measured < NOISE_STEPS else "too noisy to tell"


def training_seconds(records: Records) -> float:
    """Seconds spent in updates."""
    return float(sum(record.get("seconds", 0.0) for record in records))


def size_of(folder: Path) -> int:
    """Bytes of all files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _plot(records: Records, title: str, key: str, y_label: str, from_zero: bool = False) -> LinePlot:
    return LinePlot(title, "step", y_label, (_curve(records, key, y_label, spread=True),), from_zero)


def _curve(records: Records, key: str, name: str, spread: bool = False) -> Curve:
    rows = [record for record in records if record.get(key) is not None]
    return Curve(name, [row["step"] for row in rows], [row[key] for row in rows], spread)


def _summary(records: Records, unit: str) -> str:
    tokens = sum(record.get("tokens", 0) for record in records)
    first, last = (next(r for r in order if "loss" in r) for order in (records, reversed(records)))
    text = f"{last['step']:,} steps over {tokens:,} tokens, in {in_time(training_seconds(records))}; "
    unit = "" if unit in UNITS.values() else f" {unit}"
    return text + f"the training loss went from {first['loss']:.3f} to {last['loss']:.3f}{unit}."


def _measures(records: Records) -> dict[str, str]:
    """The measures of validation beside the loss, by their keys, as words."""
    keys = dict.fromkeys(key for record in records for key in record if key.startswith(VALIDATED))
    return {
        key: f"held-out {key.removeprefix(VALIDATED).replace('_', ' ')}"
        for key in keys
        if key != f"{VALIDATED}loss"
    }


def _facts(folder: Path, records: Records) -> dict[str, str]:
    facts = {"training loss": f"{records[-1]['loss']:.3f}"}
    for key, name in {f"{VALIDATED}loss": "validation loss", **_measures(records)}.items():
        if values := [record[key] for record in records if key in record]:
            facts[name] = f"{values[-1]:.3f}"
    if noise := _noise(folder, records):
        facts["gradient noise scale"] = noise
    seconds = training_seconds(records)
    if seconds:
        facts["tokens per second"] = f"{sum(record.get('tokens', 0) for record in records) / seconds:,.0f}"
        facts["time in updates"] = in_time(seconds)
    memory = max((record.get("memory_bytes", 0) for record in records), default=0)
    if memory:
        facts["peak memory"] = in_bytes(memory)
    if (folder / "model").is_dir():
        facts["model on disk"] = in_bytes(size_of(folder / "model"))
    return facts


def prediction_section(folder: Path, records: Records) -> tuple[Section, ...]:
    """The prediction that was written before the run, beside its last validation loss.

    Hit or miss is said of a finished run of the predicted parameters and tokens only.
    """
    losses = [record[f"{VALIDATED}loss"] for record in records if f"{VALIDATED}loss" in record]
    if not losses or not (folder / PREDICTION).is_file():
        return ()
    prediction = Prediction.read(folder / PREDICTION)
    text = (
        f"Before the run, {prediction.form} ({prediction.source[:12]}) predicted the loss after "
        f"{prediction.tokens:,.0f} tokens: "
    )
    tokens = sum(record.get("tokens", 0) for record in records)
    if (parameters := parameters_of(folder)) is None:
        verdict = f"{prediction.loss:.4f}. The run is not finished; so far its loss is {losses[-1]:.4f}"
    elif (odd := prediction.differs(parameters, tokens)) is not None:
        verdict = (
            f"{prediction.loss:.4f}. Not comparable: it is for {odd}; the validation loss is {losses[-1]:.4f}"
        )
    else:
        verdict = prediction.verdict(losses[-1])
    return (Section("Prediction", f"{text}{verdict}."),)


def _sources(path: Path) -> tuple[Section, ...]:
    """What was taken of each source of a mixture, if there is one."""
    if not path.is_file():
        return ()
    rows = read_json(path)
    names = ("path", "rows", "repeat", "share", "trained_tokens", "held_out", "too_long", "cut")
    cells = tuple(
        tuple(f"{row[name]:,}" if isinstance(row[name], int) else str(row[name]) for name in names)
        for row in rows
    )
    head = ("source", "rows", "repeat", "share", "trained tokens", "held out", "too long", "cut")
    return (Section("Sources", tables=(Table("What was taken of each source", head, cells),)),)


def _licences(identity: dict[str, Any]) -> tuple[Section, ...]:
    """The licences of base, data and teachers, and what to look up; nothing without any."""
    licences = [Licence(**entry) for entry in identity.get("licences", ())]
    rows = tuple((each.kind, each.name, each.licence, each.terms) for each in licences)
    table = Table("", ("source", "name", "licence", "terms"), rows)
    passages = tuple(Passage("", f"{concern[:1].upper()}{concern[1:]}.") for concern in concerns(licences))
    return (Section("Licences", passages=passages, tables=(table,)),) if licences else ()


def _origins(identity: dict[str, Any]) -> tuple[Table, ...]:
    parents = tuple((parent["name"], parent["digest"]) for parent in identity["parents"])
    data = tuple(identity["data"].items())
    tables = (
        Table("Parents", ("artefact", "sha256"), parents),
        Table("Data", ("path", "sha256"), data),
    )
    return tuple(table for table in tables if table.rows)
