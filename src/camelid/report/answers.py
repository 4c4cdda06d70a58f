"""The page on which every answer of an evaluation can be looked at, from the folder's JSON lines.

One file holds all evaluations of a folder, so that two of them can be compared item by item. Texts are
escaped JSON that the page's script shows as plain text; nothing in them is ever parsed as HTML.
"""

import logging
import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

from camelid.base.atomic import write_text_atomically
from camelid.base.errors import CamelidError
from camelid.base.json import NotJSONError, json_line, parse, read_table, whole_lines
from camelid.report.page import template

logger = logging.getLogger(__name__)

ANSWERS = "answers.html"
RESULTS = "results.json"
BUDGET = 16_000_000
"""Characters of all texts on a page; where there are more, the longest texts are cut to one length."""
SHARED = 200
"""A beginning of at least so many characters that all prompts share is shown once, as the exemplars."""

SCORED = ("logprob", "tokens", "unconditional", "content_free")
"""What is shown of a choice's score."""

Row = Mapping[str, Any]
Part = tuple[str, str]
"""A piece of a prompt: the role if it is a message of a conversation, and the text."""


def write_answers(folder: Path, budget: int = BUDGET) -> Path | None:
    """Writes answers.html for the evaluations in a folder, atomically; None if it holds none."""
    files = evaluation_files(folder)
    if not files:
        return None
    target = folder / ANSWERS
    write_text_atomically(target, answers_page(files, budget))
    return target


def evaluation_files(folder: Path) -> list[Path]:
    """The files of an evaluation's lines in a folder, the oldest first."""
    found = [path for path in sorted(folder.glob("*.jsonl")) if _is_evaluation(path)]
    return sorted(found, key=os.path.getmtime)


def answers_page(files: Sequence[Path], budget: int = BUDGET) -> str:
    """The page of these evaluations as HTML; all their texts have at most about `budget` characters.

    Raises `CamelidError` with file and line for a line that is not of an evaluation.
    """
    texts = Texts()
    evaluations = [_evaluation(path, texts) for path in files]
    titles = {
        digest: title for folder in {path.parent for path in files} for digest, title in _titles(folder)
    }
    names = [titles.get(each["digest"], each["name"]) for each in evaluations]
    for evaluation, name in zip(evaluations, names, strict=True):
        if names.count(name) == 1:
            evaluation["name"] = name
    for evaluation in evaluations:
        evaluation["comparable"] = [
            at
            for at, other in enumerate(evaluations)
            if other is not evaluation and _agree(evaluation, other)
        ]
    fitted, limit = texts.fitted(budget)
    if limit is not None:
        logger.info(
            f"texts longer than {limit:,} characters are cut on the page; the JSONL files have them whole"
        )
    data = json_line({"texts": fitted, "evaluations": evaluations, "limit": limit})
    # Inside a script element only "<" has a meaning: it could end it or begin a comment.
    return template("answers.html.jinja").render(
        files=[path.name for path in files], data=data.strip().replace("<", "\\u003c")
    )


class Texts:
    """The texts of a page, each once."""

    def __init__(self) -> None:
        self._index: dict[str, int] = {}

    def add(self, text: str | None) -> int | None:
        """The number of a text, which may be missing."""
        return None if text is None else self._index.setdefault(text, len(self._index))

    def fitted(self, budget: int) -> tuple[list[str | list[Any]], int | None]:
        """The texts in order, and the length to which the longest are cut so that all fit, None if none is.

        A cut text is its beginning, the number of characters left out, and its end.
        """
        limit = level([len(text) for text in self._index], budget)
        return [text if limit is None else _cut(text, limit) for text in self._index], limit


def level(lengths: Sequence[int], budget: int) -> int | None:
    """The greatest length to which texts can be cut so that their sum is within a budget; None if all fit."""
    if sum(lengths) <= budget:
        return None
    ordered = sorted(lengths)
    before = [0, *accumulate(ordered)]
    for at, length in enumerate(ordered):
        if before[at] + length * (len(ordered) - at) > budget:
            return (budget - before[at]) // (len(ordered) - at)
    raise AssertionError("the texts fit")


def _cut(text: str, limit: int) -> str | list[Any]:
    if len(text) <= limit:
        return text
    tail = limit // 3
    return [text[: limit - tail], len(text) - limit, text[len(text) - tail :]]


def _is_evaluation(path: Path) -> bool:
    with path.open("rb") as file:
        try:
            row = parse(file.readline().rstrip())
        except NotJSONError:
            return False
    return isinstance(row, dict) and {"prompts", "grades", "evaluation"} <= row.keys()


def _evaluation(path: Path, texts: Texts) -> dict[str, Any]:
    rows = [row for row, _ in whole_lines(path, remedy="not a line of an evaluation")]
    try:
        shared = _shared(rows)
        items = [_item(row, line, texts, shared) for line, row in enumerate(rows, 1)]
    except (KeyError, TypeError, AttributeError) as error:
        raise CamelidError(f"{path}: a line is not of an evaluation ({error!r}); remove the file") from error
    readings = list(dict.fromkeys(reading for row in rows for reading in row["grades"]))
    return {
        "name": path.name.removesuffix(".jsonl"),
        "file": path.name,
        "digest": next((row["evaluation"] for row in rows), ""),
        "readings": readings,
        "shared": [texts.add(text) for text in shared],
        "items": items,
    }


def _titles(folder: Path) -> Iterator[tuple[str, str]]:
    """The digest of each evaluation with its name for people, from the results beside its lines."""
    path = folder / RESULTS
    try:
        for row in read_table(path, optional=True).get("results", ()):
            shown = f", {row['shots']} exemplars" if row["shots"] else ""
            yield row["evaluation"], f"{row['task']}, {row.get('title') or row['program']}{shown}"
    except (KeyError, TypeError) as error:
        raise CamelidError(f"{path}: not a file of results ({error!r}); remove it") from error


def _item(row: Row, line: int, texts: Texts, shared: Sequence[str]) -> dict[str, Any]:
    item: dict[str, Any] = {
        "line": line,
        "id": str(row["id"]),
        "answer": texts.add(str(row["answer"])),
        "cut": bool(row["cut"]),
        "grades": {name: _grade(grade, texts) for name, grade in row["grades"].items()},
        "chain": _chain(row, texts, shared),
        "scores": [
            [texts.add(score.get("text", "")), *(_number(score.get(key)) for key in SCORED)]
            for score in row["scores"]
        ],
    }
    if samples := row.get("samples", ()):
        item["samples"] = [
            {
                "chain": _chain(sample, texts, shared),
                "cut": bool(sample["cut"]),
                "readings": {name: texts.add(text) for name, text in sample.get("readings", {}).items()},
            }
            for sample in samples
        ]
        item["elected"] = dict(row.get("elected", {}))
        item["votes"] = {
            name: [[texts.add(answer), count] for answer, count in votes(samples, name)]
            for name in row["grades"]
        }
    return item


def votes(samples: Iterable[Row], reading: str) -> list[tuple[str, int]]:
    """Each answer that a reading extracted from the samples with its number of votes, most votes first.

    Answers that differ only in case, white space or a final full stop are the same, as in the vote itself.
    """
    counts: dict[str, list[Any]] = {}
    for sample in samples:
        if (answer := sample.get("readings", {}).get(reading)) is not None:
            key = " ".join(answer.casefold().split()).rstrip(".")
            counts.setdefault(key, [answer, 0])[1] += 1
    return sorted(((answer, count) for answer, count in counts.values()), key=lambda each: -each[1])


def _grade(grade: Row, texts: Texts) -> list[Any]:
    degree = _number(grade.get("degree"))
    return [texts.add(grade["extracted"]), grade["correct"], bool(grade.get("tied")), degree]


def _number(value: float | None) -> float | None:
    """The number if it is finite: JSON has no others, and a browser would refuse the whole page."""
    return value if value is not None and math.isfinite(value) else None


def _chain(row: Row, texts: Texts, shared: Sequence[str]) -> list[dict[str, Any]]:
    """Each prompt in parts, with its reply; a part is a role, a text, and whether it is the exemplars."""
    known: list[str] = []
    links = []
    for at, prompt in enumerate(row["prompts"]):
        reply = row["completions"][at] if at < len(row["completions"]) else None
        if isinstance(prompt, str):
            pieces = _split(prompt, known, shared)
            known = [*pieces, *([reply] if reply else [])]
            parts = [["", texts.add(piece), piece in shared] for piece in pieces]
        else:
            parts = [[role, texts.add(text), False] for role, text in map(_message, prompt)]
        links.append({"prompt": parts, "reply": texts.add(reply)})
    return links


def _split(prompt: str, known: Sequence[str], shared: Sequence[str]) -> list[str]:
    """A prompt in the pieces that it has in common with earlier texts, so that each is on the page once."""
    pieces, rest = [], prompt
    if not known:
        known = [next((each for each in shared if prompt.startswith(each)), "")]
    elif not prompt.startswith(known[0]):
        return _split(prompt, (), shared)
    for piece in known:
        if piece and rest.startswith(piece):
            pieces.append(piece)
            rest = rest[len(piece) :]
    return [*pieces, rest] if rest else pieces


def _message(message: Row) -> Part:
    """A message's role and text; other keys, such as tool calls, are shown as JSON below the text."""
    more = {key: value for key, value in message.items() if key not in ("role", "content") and value}
    content = message.get("content")
    text = content if isinstance(content, str) else "" if content is None else json_line(content)
    return str(message.get("role", "")), text + ("\n" + json_line(more) if more else "")


def _shared(rows: Sequence[Row]) -> list[str]:
    """What all first prompts begin with, and all later ones, up to an empty line: the exemplars."""
    first = [row["prompts"][0] for row in rows if row["prompts"] and isinstance(row["prompts"][0], str)]
    second = [
        row["prompts"][1] for row in rows if len(row["prompts"]) > 1 and isinstance(row["prompts"][1], str)
    ]
    beginnings = []
    for prompts in (first, second):
        if len(prompts) < 2:
            continue
        # What the first and the last in order have in common is common to all.
        common = _common(min(prompts), max(prompts))
        beginning = common[: common.rfind("\n\n") + 2] if "\n\n" in common else ""
        if len(beginning) >= SHARED and beginning not in beginnings:
            beginnings.append(beginning)
    return beginnings


def _common(one: str, other: str) -> str:
    """The longest common beginning."""
    pairs = enumerate(zip(one, other, strict=False))
    return one[: next((at for at, (left, right) in pairs if left != right), min(len(one), len(other)))]


def _agree(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two evaluations have items in common, with the same answers."""
    answers = {item["id"]: item["answer"] for item in one["items"]}
    common = [item for item in other["items"] if item["id"] in answers]
    return bool(common) and all(answers[item["id"]] == item["answer"] for item in common)
