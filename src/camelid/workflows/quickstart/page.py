"""The quickstart's report: one page from the results of its steps."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from camelid.base.progress import in_bytes, in_time
from camelid.evals.evaluate import Evaluation, compare_evaluations
from camelid.evals.results import Result
from camelid.formats.hugging_face.checkpoint import read_spec, weight_bytes
from camelid.report.page import write_report
from camelid.report.training import UNITS, prediction_section, training_plots
from camelid.report.values import BarPlot, Dialogue, Estimate, Passage, Report, Section, Table
from camelid.runs.run import METRICS, read_metrics
from camelid.tasks.graders import STRICT
from camelid.workflows.quickstart.evaluation import (
    MOST_TURNS,
    REINFORCED,
    REQUEST,
    SAMPLED,
    Results,
    questions,
)
from camelid.workflows.quickstart.job import Job
from camelid.workflows.quickstart.reinforcement import estimate, reinforcement
from camelid.workflows.quickstart.shortfall import notes

PROGRAMS = {"direct": "directly", "chain_of_thought": "in steps"}


def write_quickstart_report(job: Job, results: Results) -> Path:
    """Writes OUT/report.html and returns its path."""
    return write_report(quickstart_report(job, results), job.out)


def quickstart_report(job: Job, results: Results) -> Report:
    """The page as values."""
    spec = read_spec(job.finished)
    remarks = job.journal.decide("notes", lambda: notes(job, results))
    return Report(
        title="Camelid quickstart",
        summary="\n".join([_summary(job, spec.parameter_count()), *remarks]),
        facts={
            "parameters": f"{spec.parameter_count() / 1e6:.2f} M",
            "float32 folder": in_bytes(weight_bytes(job.finished)),
            "4-bit folder": in_bytes(weight_bytes(job.small)),
            "time": in_time(sum(job.journal.seconds.values())),
        },
        commands=(
            f"camelid chat {job.small}",
            f'camelid generate {job.finished} --chat --prompt "{REQUEST}"',
        ),
        sections=tuple(_sections(job, results)),
    )


def _summary(job: Job, parameters: int) -> str:
    source = (
        f"{job.base}, tuned"
        if job.base
        else f"A model of {parameters / 1e6:.1f} M parameters, trained from scratch"
    )
    time = in_time(sum(job.journal.seconds.values()))
    return f"{source} on this machine in {time}. Samples below are not selected."


def _sections(job: Job, results: Results) -> Iterator[Section]:
    if any(model.evaluations for model in results.models):
        yield _accuracies(job, results)
    if job.practised:
        yield from reinforcement(job, results)
    losses = tuple(
        (
            model.name,
            model.chat_loss.nats_per_token,
            model.chat_loss.bits_per_byte,
            in_bytes(weight_bytes(model.folder)),
        )
        for model in results.models
    )
    yield Section(
        "Loss on held-out conversations",
        "Only the assistant's turns count; every model computes in the same dtype. "
        "Before quantisation the folders "
        "hold float32 weights, so that no precision is lost.",
        tables=(Table("", ("model", "nats per token", "bits per byte", "weights on disk"), losses),),
    )
    if results.talks:
        yield Section(
            "Conversations",
            f"The user's turns of the first {len(results.talks)} held-out conversations (at most "
            f"{MOST_TURNS} "
            "turns), answered greedily by the 4-bit model.",
            dialogues=tuple(Dialogue(f"Conversation {n}", talk) for n, talk in enumerate(results.talks, 1)),
        )
    if results.stories:
        yield Section(
            "Stories",
            f"“{REQUEST}”, sampled at temperature {SAMPLED.temperature:g} from the 4-bit model with seed "
            f"{job.seed}.",
            passages=tuple(Passage(f"Story {n}", text) for n, text in enumerate(results.stories, 1)),
        )
    if (path := job.out / "pretrain" / METRICS).exists():
        yield from prediction_section(path.parent, read_metrics(path))
    for stage in ("pretrain", "tune", "reinforce"):
        if (path := job.out / stage / METRICS).exists():
            unit = UNITS["align"] if stage == "reinforce" else "nats per token"
            yield Section(f"Training: {stage}", figures=training_plots(read_metrics(path), unit))
    rows = tuple((name, in_time(seconds)) for name, seconds in job.journal.seconds.items())
    yield Section("Time", tables=(Table("", ("step", "time"), rows),))


def _accuracies(job: Job, results: Results) -> Section:
    by_model = {model.name: model.evaluations for model in results.models}
    trained, longer = _split(by_model["16-bit"])
    columns = ("skill", *(_label(*key) for key in _columns(by_model)))
    return Section(
        "Questions",
        f"{questions(job)} held-out questions per skill, graded strictly, with 95 % Wilson intervals. "
        "16-bit is "
        "the tuned model computing in bfloat16. Before tuning, the model continues “Q: ... A:”; "
        "after tuning, "
        "it is asked in its chat template.",
        figures=(_bars(by_model, trained),),
        tables=(
            Table("Lengths as trained, in percent", columns, tuple(_rows(by_model, trained))),
            Table("Longer than trained, in percent", columns, tuple(_rows(by_model, longer))),
            Table(
                "Replies without an answer, in percent",
                columns,
                tuple(_unread(by_model, [*trained, *longer])),
                "In parentheses: replies that were cut at the length limit. "
                "Both count as wrong where they hold "
                "no right answer.",
            ),
            Table(
                "The cost of 4 bits",
                (
                    "skill",
                    "asked",
                    "difference in points",
                    "only 4-bit right",
                    "only 16-bit right",
                    "p (McNemar)",
                ),
                tuple(_costs(by_model[REINFORCED if job.practised else "16-bit"], by_model["4-bit"])),
            ),
        ),
    )


def _split(evaluations: Sequence[Evaluation]) -> tuple[list[str], list[str]]:
    tasks = list(dict.fromkeys(evaluation.task for evaluation in evaluations))
    return [t for t in tasks if not t.endswith("-longer")], [t for t in tasks if t.endswith("-longer")]


def _columns(by_model: dict[str, tuple[Evaluation, ...]]) -> list[tuple[str, str]]:
    return list(
        dict.fromkeys((name, e.program) for name, evaluations in by_model.items() for e in evaluations)
    )


def _label(model: str, program: str) -> str:
    return f"{model}, {PROGRAMS[program.split('@')[0]]}"


def _rows(
    by_model: dict[str, tuple[Evaluation, ...]], tasks: Sequence[str]
) -> Iterator[tuple[str | Estimate, ...]]:
    for task in tasks:
        yield task.removesuffix("-longer"), *(_estimate(by_model[m], task, p) for m, p in _columns(by_model))


def _unread(by_model: dict[str, tuple[Evaluation, ...]], tasks: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """The shares unparsed and cut of each task, which every accuracy comes with."""
    for task in tasks:
        results = (_strict(by_model[model], task, program) for model, program in _columns(by_model))
        shares = ((result.unparsed or 0.0, result.cut or 0.0) for result in results)
        yield task, *(f"{100 * unparsed:.1f} ({100 * cut:.1f})" for unparsed, cut in shares)


def _estimate(evaluations: Sequence[Evaluation], task: str, program: str) -> Estimate:
    return estimate(_strict(evaluations, task, program))


def _strict(evaluations: Sequence[Evaluation], task: str, program: str) -> Result:
    [result] = [
        result
        for evaluation in evaluations
        if (evaluation.task, evaluation.program) == (task, program)
        for result in evaluation.results
        if result.metric == STRICT
    ]
    return result


def _bars(by_model: dict[str, tuple[Evaluation, ...]], tasks: Sequence[str]) -> BarPlot:
    series = {
        _label(model, program): tuple(_estimate(by_model[model], task, program) for task in tasks)
        for model, program in _columns(by_model)
        if model == "before tuning" or not program.startswith("direct")
    }
    return BarPlot("Accuracy on held-out questions", "percent right", tuple(tasks), series)


def _costs(
    whole: Sequence[Evaluation], small: Sequence[Evaluation]
) -> Iterator[tuple[str | int | float, ...]]:
    for before, after in zip(whole, small, strict=True):
        change = compare_evaluations(before, after, STRICT)
        asked = PROGRAMS[before.program.split("@")[0]]
        yield (
            before.task,
            asked,
            round(100 * change.difference, 1),
            change.gained,
            change.lost,
            round(change.p_value, 3),
        )
