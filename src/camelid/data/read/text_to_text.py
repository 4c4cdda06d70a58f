"""Supervised tasks as text to text, in T5's input format (arXiv:1910.10683, appendix D).

A task is an input template and a function that spells the answer; rows with `input` and `target` need none.
"""

import os
import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from string import Formatter
from typing import Any

from camelid.base.errors import CamelidError, WrongCall, shortened
from camelid.data.read.corpus import describe_files, lone_surrogate, one_format
from camelid.data.read.files import data_files, format_of
from camelid.data.read.renaming import named, renaming
from camelid.data.read.rows import BadRows, Row, rows_of


@dataclass(frozen=True)
class TextTask:
    """Maps a row to an input and a target.

    source: template of the input, with `{field}` for the row's fields. column: the field of the answer,
    spelled by `spell`. clean: applied to each text first.
    """

    source: str
    column: str
    spell: Callable[[Any], str]
    clean: Callable[[str], str] = str

    @property
    def fields(self) -> tuple[str, ...]:
        """The fields of a row that the input uses."""
        return tuple(name for _, name, _, _ in Formatter().parse(self.source) if name)

    def texts(self, row: Mapping[str, Any]) -> tuple[str, str]:
        """Input and target; raises `CamelidError` if a field is missing or has the wrong type."""
        wanted = (*self.fields, self.column)
        if missing := [name for name in wanted if name not in row]:
            raise CamelidError(
                f"no `{missing[0]}` among the fields {named(row)}; "
                f"the task reads {named(dict.fromkeys(wanted))}"
                f"{renaming(row, wanted)}"
            )
        given = {name: self.clean(_text(row[name], name)) for name in self.fields}
        return self.source.format(**given), self.clean(self.spell(row[self.column]))


def label(*words: str) -> Callable[[Any], str]:
    """Spells a class number as its word (words are kept). Rows without a label (-1) are rejected."""

    def spell(value: Any) -> str:
        if isinstance(value, str) and value in words:
            return value
        if isinstance(value, str) and value.isdecimal() and len(value) < 10:  # CSV and TSV have only strings
            value = int(value)
        if not isinstance(value, int) or not 0 <= value < len(words):
            raise CamelidError(
                f"the label is {shortened(value)}; allowed: 0 to {len(words) - 1}, or {', '.join(words)}"
            )
        return words[value]

    return spell


def to_fifths(value: Any) -> str:
    """Spells a similarity score, rounded to a multiple of 0.2 (half to even), with one decimal."""
    try:
        return f"{round(float(value) * 5) / 5:.1f}"
    except (OverflowError, TypeError, ValueError):
        raise CamelidError(f"the label is {shortened(value)}; it must be a number") from None


def first_answer(value: Any) -> str:
    """The first of SQuAD's answers, `{"text": [...]}`."""
    texts = value.get("text") if isinstance(value, Mapping) else None
    if not isinstance(texts, list) or not texts:
        raise CamelidError('`answers` must be {"text": [...]} with at least one text')
    return _text(texts[0], "answers.text")


def spaced_punctuation(text: str) -> str:
    """Puts spaces around punctuation (all but letters, marks, numbers, underscore); single spaces only."""
    apart = "".join(
        f" {one} " if unicodedata.category(one)[0] in "PSC" and one != "_" else one for one in text
    )
    return " ".join(apart.split())


def without_markup(text: str) -> str:
    """MultiRC's `<br>` becomes a space; bold tags are removed."""
    return re.sub(r"</?b>", "", text.replace("<br>", " "))


def _text(value: Any, name: str = "the answer") -> str:
    if not isinstance(value, str):
        raise CamelidError(f"{name} is {type(value).__name__}; it must be a string")
    return value


def _translation(source: str, target: str) -> TextTask:
    names = {"en": "English", "de": "German", "fr": "French", "ro": "Romanian"}
    return TextTask(f"translate {names[source]} to {names[target]}: {{{source}}}", target, _text)


ENTAILMENT = label("entailment", "not_entailment")
TASKS: dict[str, TextTask] = {
    "cola": TextTask("cola sentence: {sentence}", "label", label("unacceptable", "acceptable")),
    "sst2": TextTask("sst2 sentence: {sentence}", "label", label("negative", "positive")),
    "mrpc": TextTask(
        "mrpc sentence1: {sentence1} sentence2: {sentence2}", "label", label("not_equivalent", "equivalent")
    ),
    "qqp": TextTask(
        "qqp question1: {question1} question2: {question2}", "label", label("not_duplicate", "duplicate")
    ),
    "stsb": TextTask("stsb sentence1: {sentence1} sentence2: {sentence2}", "label", to_fifths),
    "mnli": TextTask(
        "mnli hypothesis: {hypothesis} premise: {premise}",
        "label",
        label("entailment", "neutral", "contradiction"),
    ),
    "qnli": TextTask("qnli question: {question} sentence: {sentence}", "label", ENTAILMENT),
    "rte": TextTask("rte sentence1: {sentence1} sentence2: {sentence2}", "label", ENTAILMENT),
    "wnli": TextTask(
        "wnli sentence1: {sentence1} sentence2: {sentence2}", "label", label("not_entailment", "entailment")
    ),
    "boolq": TextTask("boolq passage: {passage} question: {question}", "label", label("False", "True")),
    "cb": TextTask(
        "cb hypothesis: {hypothesis} premise: {premise}",
        "label",
        label("entailment", "contradiction", "neutral"),
    ),
    "copa": TextTask(
        "copa choice1: {choice1} choice2: {choice2} premise: {premise} question: {question}",
        "label",
        label("choice1", "choice2"),
    ),
    "multirc": TextTask(
        "multirc question: {question} answer: {answer} paragraph: {paragraph}",
        "label",
        label("False", "True"),
        without_markup,
    ),
    "wic": TextTask(
        "wic sentence1: {sentence1} sentence2: {sentence2} word: {word}", "label", label("False", "True")
    ),
    "squad": TextTask("question: {question} context: {context}", "answers", first_answer, spaced_punctuation),
    "cnn_dailymail": TextTask("summarize: {article}", "highlights", _text),
    "translate_en_de": _translation("en", "de"),
    "translate_en_fr": _translation("en", "fr"),
    "translate_en_ro": _translation("en", "ro"),
}
"""T5's supervised tasks by name; fields in alphabetical order unless the released code has another."""


class TextPairs:
    """Rows of a task as (input, target), with their location file:line.

    task: a name of `TASKS`; None for rows with `input`, `target` and optionally `prefix`, put before the
    input. Raises `WrongCall` on an unknown task; `CamelidError` as `Corpus` does, and on rows that do not fit
    the task.
    """

    def __init__(
        self,
        paths: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
        task: str | None = None,
        skip_bad_rows: bool = False,
    ):
        if task is not None and task not in TASKS:
            raise WrongCall(f"unknown task {task!r}; known: {', '.join(TASKS)}")
        self.files = one_format({path: format_of(path) for path in data_files(paths)})
        if "text" in self.files.values():
            raise CamelidError(
                f"{describe_files(self.files)}: tasks read rows of JSON, JSON lines, CSV or Parquet"
            )
        self._texts = _plain if task is None else TASKS[task].texts
        self._task, self._bad = task, BadRows(skip_bad_rows)
        self.count = 0

    @property
    def skipped(self) -> list[str]:
        """The bad rows of the last pass, each with its location and problem."""
        return self._bad.listed

    def refuse(self, where: str, problem: str) -> None:
        """Makes a row of this pass a bad row, where its tokens show it to be one."""
        self._bad.add(where, problem)
        self.count -= 1

    @property
    def summary(self) -> str:
        """One line about the last pass over the data."""
        skipped = f", {len(self.skipped):,} bad rows skipped" if self.skipped else ""
        pairs = f"{self.count:,} pairs of {self._task or 'input and target'}"
        return f"{describe_files(self.files)}: {pairs}{skipped}"

    def __iter__(self) -> Iterator[tuple[tuple[str, str], str]]:
        bad = self._bad = BadRows(self._bad.skip)
        self.count = read = 0
        for path, format in self.files.items():
            for row, where in rows_of(path, format, bad):
                try:
                    texts = _valid(self._texts(row))
                except CamelidError as error:
                    bad.add(where, str(error))
                    continue
                self.count += 1
                read += 1
                yield texts, where
        if not read:
            raise CamelidError(f"{describe_files(self.files)}: it contains no rows{bad.first}")


def _plain(row: Row) -> tuple[str, str]:
    if missing := [name for name in ("input", "target") if name not in row]:
        raise CamelidError(
            f"no `{missing[0]}` among the fields {named(row)}; "
            "rows need `input` and `target` (and optionally "
            f"`prefix`), or a task{renaming(row, ('input', 'target'))}"
        )
    given = _text(row["input"], "`input`")
    if row.get("prefix"):
        given = f"{_text(row['prefix'], '`prefix`').rstrip()} {given}"
    return given, _text(row["target"], "`target`")


def _valid(texts: tuple[str, str]) -> tuple[str, str]:
    for name, text in zip(("input", "target"), texts, strict=True):
        if not text.strip():
            raise CamelidError(f"the {name} is empty")
        if problem := lone_surrogate(text):
            raise CamelidError(f"{name}: {problem}")
    return texts
