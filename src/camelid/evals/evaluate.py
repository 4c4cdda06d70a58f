"""`evaluate(task, program, lm)`: asks every question, grades every reply and writes a record of each.

The records are written as the replies come, so that a stopped evaluation resumes where it was.
"""

import hashlib
import json
import logging
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from camelid.base.errors import CamelidError, WrongCall
from camelid.base.progress import track
from camelid.evals.results import Result
from camelid.lm.interface import LM, PromptTooLong
from camelid.prompting.attempt import Attempt, Program, Read
from camelid.tasks.graders import GRADING, LENIENT
from camelid.tasks.intervals import Comparison, bootstrap_mean, compare_grades, wilson
from camelid.tasks.item import Grades, Item
from camelid.tasks.record import Record, Total, append_records, read_records
from camelid.tasks.task import Task

logger = logging.getLogger(__name__)

CHUNK = 64
"""Questions per batch; a stopped evaluation loses at most one batch."""


@dataclass(frozen=True)
class Evaluation:
    """The evaluation of a model on a task with a program: the results, and the record of every question."""

    task: str
    version: str
    program: str
    shots: int
    model: str
    digest: str
    """Digest of everything the replies depend on: task, program with its wording, and model."""
    records: tuple[Record, ...]
    warnings: tuple[str, ...] = ()
    totals: Mapping[str, Total] = field(default_factory=dict)
    """Metrics over all records."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Settings of the program."""
    title: str = ""
    """The program's name for people."""

    @property
    def results(self) -> list[Result]:
        """A row of the table for each metric."""
        means = [self._result(metric, self._mean(metric)) for metric in self.records[0].grades]
        return means + [self._result(metric, total) for metric, total in self.totals.items()]

    @property
    def main_metric(self) -> str:
        """The reading by which evaluations are compared: the lenient one where there are two, else the
        first."""
        metrics = list(self.records[0].grades)
        return LENIENT if LENIENT in metrics else metrics[0]

    def grades(self, metric: str) -> list[bool]:
        """Whether each question was answered correctly; raises `WrongCall` for an unknown metric."""
        self._must_have(metric)
        return [record.grades[metric].correct for record in self.records]

    def values(self, metric: str) -> list[float]:
        """The metric's value for each question; raises `WrongCall` for an unknown metric."""
        self._must_have(metric)
        return [record.grades[metric].value for record in self.records]

    def _must_have(self, metric: str) -> None:
        known = self.records[0].grades
        if metric not in known:
            raise WrongCall(f"{self.task} has no metric {metric!r}; its metrics are {', '.join(known)}")

    def _mean(self, metric: str) -> Total:
        values = self.values(metric)
        if self.records[0].grades[metric].degree is None:
            return sum(values) / len(values), wilson(sum(self.grades(metric)), len(values))
        return sum(values) / len(values), bootstrap_mean(values)

    def _share(self, holds: Callable[[Record], bool], among: Sequence[Record]) -> float | None:
        return sum(map(holds, among)) / len(among) if among else None

    def _result(self, metric: str, total: Total) -> Result:
        value, interval = total
        replies = [record for record in self.records if record.attempt.completions]
        # A record is either generated or scored; metrics over all records have no grades.
        read = [record for record in replies if metric in record.grades]
        compared = [
            record for record in self.records if len(record.attempt.scores) > 1 and metric in record.grades
        ]
        return Result(
            task=self.task,
            version=self.version,
            program=self.program,
            shots=self.shots,
            metric=metric,
            value=value,
            interval=interval,
            n=len(self.records),
            model=self.model,
            evaluation=self.digest,
            settings=self.settings,
            title=self.title,
            unparsed=self._share(lambda record: record.grades[metric].extracted is None, read),
            cut=self._share(lambda record: record.attempt.cut, replies),
            tied=self._share(lambda record: record.grades[metric].tied, compared),
        )


def evaluate(
    task: Task,
    program: Program,
    lm: LM,
    out: Path | None = None,
    limit: int | None = None,
    *,
    model: str = "",
    allow_cut: bool = False,
    show: bool = False,
) -> Evaluation:
    """Asks the LM the task's questions with the program and grades the replies.

    out: a folder for `<task>.<program>.<shots>-shot.jsonl`, a line per question; questions that already have
    a line of the same evaluation are not asked again. limit: only the first questions. model: identifies the
    model, such as the digest of its folder; by default the LM's own `identity`. allow_cut: only warn if every
    reply is empty or ends at the length limit. show: show progress on standard error. Raises `CamelidError`
    if every reply is empty or cut, without writing its lines, and if `out` holds lines of another evaluation.
    """
    items = task.items[:limit]
    if not items:
        raise WrongCall(f"task {task.name} has no questions to ask")
    model = model or lm.identity
    digest = _digest(task, program, model)
    path = None if out is None else lines_path(out, task, program)
    known = {} if path is None else read_records(path, digest)
    todo = [item for item in items if item.id not in known]

    def answered() -> Iterator[Record]:
        for new in _answers(task, program, lm, todo):
            known.update((record.id, record) for record in new)
            # Checked before writing: lines of refused replies would block the corrected call.
            _gate(task, known.values(), allow_cut)
            if path is not None:
                append_records(path, new, digest)
            yield from new

    for _ in track(answered(), task.name, len(todo), show=show and bool(todo)):
        pass
    records = tuple(known[item.id] for item in items)
    return Evaluation(
        task=task.name,
        version=task.version,
        program=f"{program.name}@{program.version}",
        shots=program.shots,
        model=model,
        digest=digest,
        records=records,
        warnings=(*_gate(task, records, allow_cut), *_ties(task, records), *_unread(task, program, records)),
        totals=task.totals(records),
        settings=program.settings,
        title=program.title,
    )


def _answers(task: Task, program: Program, lm: LM, items: Sequence[Item]) -> Iterator[list[Record]]:
    """The graded replies to all questions, batch by batch."""
    for start in range(0, len(items), CHUNK):
        chunk = items[start : start + CHUNK]
        began = time.perf_counter()
        try:
            attempts = program(lm, chunk, cast(Read, task.read))
        except PromptTooLong as error:
            shown = f" with {program.shots} exemplars" if program.shots else ""
            remedy = "; show fewer exemplars (--shots)" if program.shots else ""
            raise PromptTooLong(f"{task.name}, {program.title}{shown}: {error}{remedy}") from error
        seconds = (time.perf_counter() - began) / len(chunk)
        yield [
            Record(item.id, item.answer, attempt, _grades(task, item, attempt), seconds)
            for item, attempt in zip(chunk, attempts, strict=True)
        ]


def compare_evaluations(before: Evaluation, after: Evaluation, metric: str, *, seed: int = 0) -> Comparison:
    """The paired difference in a metric between `before` and `after`.

    Raises `CamelidError` if the two did not answer the same questions of the same version.
    """
    for part in ("task", "version"):
        old, new = getattr(before, part), getattr(after, part)
        if old != new:
            raise CamelidError(
                f"the evaluations differ in their {part}: {old} and {new}; it must be the same in both"
            )
    if [record.id for record in before.records] != [record.id for record in after.records]:
        raise CamelidError(
            f"the evaluations of {before.task} answered different questions; give both the same limit"
        )
    return compare_grades(before.values(metric), after.values(metric), seed=seed)


def lines_path(out: Path, task: Task, program: Program) -> Path:
    """The file that holds the lines of an evaluation."""
    return out / f"{task.file_name}.{program.name}.{program.shots}-shot.jsonl"


def log_warnings(evaluations: Sequence[Evaluation]) -> None:
    """Logs what is odd about evaluations."""
    for evaluation in evaluations:
        for warning in evaluation.warnings:
            logger.warning(warning)


def _unread(task: Task, program: Program, records: Sequence[Record]) -> tuple[str, ...]:
    """A warning if no way of reading found an answer in any reply."""
    replies = [record for record in records if record.attempt.completions]
    if not replies or any(grade.extracted is not None for each in replies for grade in each.grades.values()):
        return ()
    return (
        f"{task.name}, {program.title}: no answer was found in any of {len(replies)} replies; "
        "look at them in answers.html",
    )


def _ties(task: Task, records: Sequence[Record]) -> tuple[str, ...]:
    """A warning for each metric with ties."""
    counts = {metric: sum(record.grades[metric].tied for record in records) for metric in records[0].grades}
    return tuple(
        f"{task.name}: in {count} of {len(records)} questions the most probable choices are exactly equal "
        f"under {metric}; they count as wrong"
        for metric, count in counts.items()
        if count
    )


def _grades(task: Task, item: Item, attempt: Attempt) -> Grades:
    """The grades of a reply; after a vote, each reading grades the sample that it elected."""
    if attempt.scores:
        return task.judge(item, attempt.scores)
    grades = task.grade(item, attempt.text)
    elected = {way: attempt.samples[at].text for way, at in attempt.elected.items()}
    return {**grades, **{way: task.grade(item, text)[way] for way, text in elected.items()}}


def _digest(task: Task, program: Program, model: str) -> str:
    inputs: dict[str, Any] = {
        "task": [task.name, task.version],
        "program": [program.name, program.version, program.settings],
        "model": model,
        "grading": GRADING,
    }
    if task.paper:
        inputs["paper"] = [task.paper.name, task.paper.version]
    return hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()[:16]


def _gate(task: Task, records: Collection[Record], allow_cut: bool) -> tuple[str, ...]:
    """Raises `CamelidError` if every reply is empty or cut; with `allow_cut` returns that as a warning
    instead."""
    asked = [record.attempt for record in records if record.attempt.completions]
    replies = sum(len(attempt.samples) or 1 for attempt in asked)
    every = f"{task.name}: every one of {replies} replies"
    # First, since a server shows nothing of a reply that is cut while the model is still thinking.
    if asked and not task.cut_by_design and all(attempt.cut for attempt in asked):
        message = f"{every} was cut at the length limit, so the model never finished an answer"
        way_out = "raise --max-new-tokens"
    elif asked and not any(text.strip() for attempt in asked for text in attempt.completions):
        message = f"{every} is empty; the model stops at once"
        way_out = "use --chat for a chat model, and leave it out for a base model"
    else:
        return ()
    if not allow_cut:
        raise CamelidError(f"{message}; {way_out}, or grade the replies as they are with --allow-cut")
    return (message,)
