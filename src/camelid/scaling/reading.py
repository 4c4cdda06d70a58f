"""Reads runs from tables (CSV, TSV, JSON lines, Parquet) and from run folders of `camelid pretrain`."""

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from camelid.base.errors import CamelidError, WrongCall, shortened
from camelid.base.json import read_table
from camelid.data.read.files import format_of
from camelid.data.read.rows import BadRows, Row, rows_of
from camelid.recipes.pretrain import PretrainRecipe
from camelid.runs.run import IDENTITY, METRICS, read_metrics
from camelid.scaling.alike import differences, repeats
from camelid.scaling.points import FLOPS_PER_PARAMETER_AND_TOKEN, Points

COLUMNS = ("parameters", "tokens", "flops", "loss")
ALSO_CALLED: Mapping[str, tuple[str, ...]] = {
    "parameters": ("params", "n", "model size", "model_size"),
    "tokens": ("training tokens", "d"),
    "flops": ("flop", "training flop", "training flops", "compute", "c"),
    "loss": ("validation_loss", "validation loss", "final loss"),
}
"""Names of columns that are recognised without --columns, in any case."""


class RunPoint(NamedTuple):
    """One run, and where it was read."""

    parameters: float
    tokens: float
    flops: float
    loss: float
    name: str


class Read(NamedTuple):
    """The runs of several paths; in words what was taken for the columns, and what a fit should know."""

    points: Points
    notes: tuple[str, ...]
    warnings: tuple[str, ...] = ()


def read_runs(paths: Sequence[Path], columns: str | None = None) -> Read:
    """The runs in tables, run folders and folders of run folders, in order.

    columns: names of the columns for parameters, tokens, FLOPs and loss, see `named_columns`. Tokens are by
    default FLOPs / 6 N, FLOPs 6 N D (in run folders the exact count). Raises `CamelidError` with file and
    line for values that are not positive finite numbers.
    """
    runs: list[RunPoint] = []
    notes: list[str] = []
    folders: dict[Path, float] = {}
    for path in paths:
        if not path.exists():
            raise WrongCall(f"{path}: no such file or folder; give a table of runs, or run folders")
        if path.is_dir():
            found = run_folders(path)
            runs += found
            folders |= {Path(run.name): run.tokens for run in found}
        else:
            rows, note = _table(path, columns)
            runs += rows
            notes.append(note)
    if not runs:
        raise WrongCall("no runs given: pass a table (CSV, JSON lines) or run folders of `camelid pretrain`")
    n, d, c, loss, names = zip(*runs, strict=True)
    return Read(
        Points.of(n, d, loss, flops=c, names=names),
        tuple(notes),
        (*differences(list(folders)), *repeats(folders.items())),
    )


def run_folders(folder: Path) -> list[RunPoint]:
    """The finished pretraining runs at `folder`, or in its subfolders."""
    identity, below = folder / IDENTITY, sorted(folder.glob(f"**/*/{IDENTITY}"))
    single = identity.is_file() and read_table(identity)["recipe"]["stage"] != "scale sweep"
    found = [folder] if single else [path.parent for path in below]
    if not found:
        raise WrongCall(f"{folder} has no run (no {IDENTITY} below it); give run folders or a table")
    return [run_point(each) for each in found]


def run_point(folder: Path) -> RunPoint:
    """The run in a folder: all its parameters, its tokens and FLOPs, and its last validation loss.

    Raises `CamelidError` for other stages, and for runs that did not finish or were not validated.
    """
    written = read_table(folder / IDENTITY)["recipe"]
    if written.get("stage") != "pretrain":
        raise CamelidError(f"{folder} is a run of {written.get('stage')!r}; a scaling law needs pretraining")
    config = folder / "model" / "config.json"
    if not config.is_file():
        raise CamelidError(f"{folder} has no model yet; finish the run, or leave it out")
    recipe = PretrainRecipe.model_validate(written)
    spec = recipe.model.spec(read_table(config)["vocab_size"])
    records = read_metrics(folder / METRICS)
    losses = [record["validation_loss"] for record in records if "validation_loss" in record]
    if not losses:
        raise CamelidError(f"{folder / METRICS} has no validation loss; give the run --data.validation")
    tokens = sum(record.get("tokens", 0) for record in records)
    flops = tokens * spec.training_flops_per_token(recipe.training.context_length)
    row = {"parameters": spec.parameter_count(), "tokens": tokens, "flops": flops, "loss": losses[-1]}
    return _checked(row, {name: name for name in COLUMNS}, str(folder))


def named_columns(header: Sequence[str], columns: str | None, where: object) -> dict[str, str]:
    """The field of a table for each of parameters, tokens, flops and loss; missing ones are left out.

    columns: four names in this order, between commas, an empty one where there is none; or some as
    `parameters=Model Size,loss=final`. Without it, the names themselves and a few usual ones.
    """
    named = dict(_usual(header) if columns is None or "=" in columns else {})
    for place, part in enumerate(columns.split(",") if columns else ()):
        key, _, name = part.partition("=") if "=" in part else ("", "", part)
        key = key.strip() or (COLUMNS[place] if place < len(COLUMNS) else "?")
        if key not in COLUMNS:
            raise WrongCall(f"--columns {columns!r}: {key!r} is none of {', '.join(COLUMNS)}")
        if name.strip() in header:
            named[key] = name.strip()
        elif name.strip() and key not in ("tokens", "flops"):
            raise WrongCall(f"{where}: no column {name.strip()!r}; it has {', '.join(header)}")
    return named


def _usual(header: Sequence[str]) -> Iterator[tuple[str, str]]:
    lowered = {name.strip().lower(): name for name in header}
    for key in COLUMNS:
        if found := [lowered[name] for name in (key, *ALSO_CALLED[key]) if name in lowered]:
            yield key, found[0]


def _table(path: Path, columns: str | None) -> tuple[list[RunPoint], str]:
    named: dict[str, str] = {}
    runs = []
    for row, where in rows_of(path, format_of(path), BadRows(skip=False)):
        if not named:
            named = named_columns(list(row), columns, path)
            if {"parameters", "loss"} - named.keys() or not {"tokens", "flops"} & named.keys():
                missing = [name for name in ("parameters", "loss") if name not in named] or [
                    "tokens or flops"
                ]
                raise WrongCall(
                    f"{where}: no column for {' and '.join(missing)}; it has {', '.join(row)}. Name them: "
                    f"--columns {','.join(COLUMNS)} with your names in this order"
                )
        runs.append(_checked(row, named, where))
    return runs, f"{path}: " + ", ".join(f"{key} from {name!r}" for key, name in named.items())


def _checked(row: Row, named: Mapping[str, str], where: str) -> RunPoint:
    """The run of a row; raises `CamelidError` unless its values are positive and finite."""
    values = {key: _number(row.get(name), name, where) for key, name in named.items()}
    n, loss = values["parameters"], values["loss"]
    tokens, flops = values.get("tokens"), values.get("flops")
    if tokens is None:
        assert flops is not None
        tokens = flops / (FLOPS_PER_PARAMETER_AND_TOKEN * n)
    flops = FLOPS_PER_PARAMETER_AND_TOKEN * n * tokens if flops is None else flops
    return RunPoint(n, tokens, flops, loss, where)


def _number(value: Any, name: str, where: str) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not (math.isfinite(number) and number > 0):
        raise CamelidError(
            f"{where}: {name} is {shortened(value)}; it must be a positive finite number. Remove the run if "
            "it diverged or did not finish"
        )
    return number
