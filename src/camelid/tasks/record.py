"""The record of one question, and the JSONL file of an evaluation, to which records are appended as replies
come."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from camelid.base.journal import Journal
from camelid.lm.interface import Prompt
from camelid.prompting.attempt import Attempt, ChoiceScore
from camelid.tasks.intervals import Interval
from camelid.tasks.item import Grade, Grades
from camelid.text.conversation import Conversation


@dataclass(frozen=True)
class Record:
    """One question: its prompts, completions and grades."""

    id: str
    answer: str
    attempt: Attempt
    grades: Grades
    seconds: float = field(default=0.0, compare=False)
    """Time that the question took, its share of a batch."""


Total = tuple[float, Interval | None]
"""A value over all records, with its 95 % interval if it has one."""

Totals = Callable[[Sequence[Record]], Mapping[str, Total]]
"""Metrics that are not means of grades, such as perplexity and BLEU."""


def read_records(path: Path, digest: str) -> dict[str, Record]:
    """The records by id that an earlier call of this evaluation wrote; a line cut off by a crash is removed.

    Raises `CamelidError` if the file holds something else.
    """
    records = map(_record, _journal(path, digest).rows())
    return {record.id: record for record in records}


def append_records(path: Path, records: Sequence[Record], digest: str) -> None:
    """Appends a line for each record and waits until they are on disk."""
    _journal(path, digest).append(map(_row, records))


def _journal(path: Path, digest: str) -> Journal:
    return Journal(path, digest, key="evaluation", inputs="model, task, program or grading")


def _row(record: Record) -> dict[str, Any]:
    return {
        "id": record.id,
        **_trace(record.attempt),
        "answer": record.answer,
        "grades": {metric: _grade(grade) for metric, grade in record.grades.items()},
        "seconds": round(record.seconds, 4),
    }


def _trace(attempt: Attempt) -> dict[str, Any]:
    row: dict[str, Any] = {
        "prompts": [prompt if isinstance(prompt, str) else prompt.as_dicts() for prompt in attempt.prompts],
        "completions": attempt.completions,
        "text": attempt.text,
        "cut": attempt.cut,
        "scores": [asdict(score) for score in attempt.scores],
        "tokens": attempt.tokens,
        "logprob": attempt.logprob,
    }
    if attempt.samples:
        row |= {"samples": [_trace(each) for each in attempt.samples], "elected": dict(attempt.elected)}
    if attempt.readings:
        row["readings"] = dict(attempt.readings)
    return row if attempt.score is None else row | {"score": attempt.score}


def _attempt(row: Mapping[str, Any]) -> Attempt:
    return Attempt(
        prompts=tuple(map(_prompt, row["prompts"])),
        completions=tuple(row["completions"]),
        text=row["text"],
        cut=row["cut"],
        scores=tuple(ChoiceScore(**score) for score in row["scores"]),
        tokens=row.get("tokens", 0),
        logprob=row.get("logprob"),
        samples=tuple(map(_attempt, row.get("samples", ()))),
        elected=row.get("elected", {}),
        readings=row.get("readings", {}),
        score=row.get("score"),
    )


def _grade(grade: Grade) -> dict[str, Any]:
    row: dict[str, Any] = {"extracted": grade.extracted, "correct": grade.correct}
    if grade.degree is not None:
        row["degree"] = grade.degree
    return row | {"tied": True} if grade.tied else row


def _record(row: Mapping[str, Any]) -> Record:
    attempt = _attempt(row)
    grades = {metric: Grade(**grade) for metric, grade in row["grades"].items()}
    return Record(row["id"], row["answer"], attempt, grades, row.get("seconds", 0.0))


def _prompt(value: str | list[dict[str, Any]]) -> Prompt:
    return value if isinstance(value, str) else Conversation.from_messages(value)
