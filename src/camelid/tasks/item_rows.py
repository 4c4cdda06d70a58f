"""Rows of a task file, recognised by their keys."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from string import ascii_uppercase
from typing import Any

from camelid.base.errors import CamelidError
from camelid.data.read.files import format_of
from camelid.data.read.rows import BadRows, rows_of
from camelid.tasks.item import Item

Row = Mapping[str, Any]


@dataclass(frozen=True)
class ItemShape:
    """A kind of row: the keys that identify it, and how it is read."""

    name: str
    keys: tuple[tuple[str, ...], ...]
    """For each required field, its possible names."""
    read: Callable[[Row], dict[str, Any]]
    holds: Callable[[Row], bool] = lambda row: True
    """A further condition on the values."""
    continuation: bool = False
    """Whether the question is a text to continue unchanged."""

    def fits(self, row: Row) -> bool:
        """Whether a row is of this shape."""
        return all(any(name in row for name in names) for names in self.keys) and self.holds(row)


def read_items(path: Path) -> tuple[list[Item], ItemShape]:
    """The items of a file, and the shape of its rows, which the first row decides.

    Raises `CamelidError` with file and line for a row of another shape.
    """
    items: list[Item] = []
    shape: ItemShape | None = None
    for row, where in rows_with_places(path):
        shape = shape or _shape_of(row, where)
        if not shape.fits(row):
            wanted = ", ".join("|".join(names) for names in shape.keys)
            raise CamelidError(
                f"{where}: not a row of {shape.name} ({wanted}), as the first row is: {keys_seen(row)}"
            )
        try:
            fields = shape.read(row)
            identity = str(next((row[key] for key in ID_KEYS if key in row), len(items)))
            items.append(Item(identity, metadata=_rest(row), **fields))
        except CamelidError as error:
            raise CamelidError(f"{where}: {error}") from error
    if shape is None:
        raise CamelidError(f"{path}: there are no rows in it")
    return items, shape


def named_items(
    name: str, path: Path, rows: Iterable[tuple[Row, str]], read: Callable[[Row], dict[str, Any]]
) -> list[Item]:
    """The items of a data set's rows; raises `CamelidError` with file and line for a row of another kind."""
    items: list[Item] = []
    for row, where in rows:
        identity = str(next((row[key] for key in ID_KEYS if key in row), len(items)))
        try:
            items.append(Item(identity, **read(row)))
        except CamelidError as error:
            raise CamelidError(f"{where}: not a row of {name}: {error}") from error
        except KeyError as error:
            raise CamelidError(
                f"{where}: not a row of {name}: there is no {error}: {keys_seen(row)}"
            ) from error
    if not items:
        raise CamelidError(f"{path}: there are no rows in it")
    return items


def rows_with_places(path: Path) -> Iterator[tuple[Row, str]]:
    """Rows with their places; if a JSON document holds exactly one list of objects, those are its rows.

    A document in one line looks like the only row of JSON lines.
    """
    format = format_of(path)
    if format == "text":
        raise CamelidError(f"{path} is text; a task needs rows of JSON, JSON lines, CSV or Parquet")
    bad = BadRows(skip=True)
    rows = rows_of(path, format, bad)
    head = [*islice(rows, 2)]
    is_document = format == "JSON" or (format == "JSON lines" and len(head) == 1)
    for row, where in chain(head, rows):
        if bad.listed:
            break
        lists = [value for value in row.values() if _is_rows(value)] if is_document else []
        if len(lists) == 1 and not any(key in row for key in QUESTION_KEYS):
            yield from ((inner, f"{where}[{index}]") for index, inner in enumerate(lists[0]))
        else:
            yield row, where
    if bad.listed:
        # Skipping questions would change the evaluation, so a malformed row is an error.
        raise CamelidError(bad.listed[0])


def _is_rows(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(entry, dict) for entry in value)


def _shape_of(row: Row, where: str) -> ItemShape:
    for shape in ITEM_SHAPES:
        if shape.fits(row):
            return shape
    raise CamelidError(f"{where}: unknown kind of row: {keys_seen(row)}. Known kinds: {item_keys()}")


def item_keys() -> str:
    """The known kinds of rows with their keys, for an error message."""
    return "; ".join(
        f"{shape.name} ({', '.join('|'.join(names) for names in shape.keys)})" for shape in ITEM_SHAPES
    )


def has_items(path: Path) -> bool:
    """Whether the first row of a file is an item's."""
    row, _ = next(rows_with_places(path), ({}, ""))
    return any(shape.fits(row) for shape in ITEM_SHAPES)


def keys_seen(row: Row) -> str:
    """The keys of a row, for an error message."""
    return f"its keys are {', '.join(map(str, row)) or 'none'}"


def _rest(row: Row) -> dict[str, Any]:
    used = {*ID_KEYS, *QUESTION_KEYS, *ANSWER_KEYS, "choices", "endings", "answerKey", "label", "gold"}
    return {key: value for key, value in row.items() if key not in used}


def text_of(row: Row, keys: Sequence[str]) -> str:
    """The text under the first of the keys that the row has; raises `CamelidError` if it is missing or
    empty."""
    key = next((key for key in keys if key in row), None)
    if key is None:
        raise CamelidError(f"there is no {' or '.join(map(repr, keys))}: {keys_seen(row)}")
    if not isinstance(row[key], str) or not row[key].strip():
        raise CamelidError(f"{key!r} must be a non-empty text, not {row[key]!r}")
    return str(row[key])


def plain_answer(row: Row) -> dict[str, Any]:
    """A question and its answer: text, a number, a list of right answers, or TriviaQA's value with
    aliases."""
    key = next(key for key in ANSWER_KEYS if key in row)
    value, aliases = row[key], row.get("aliases", [])
    if isinstance(value, dict):
        aliases, value = value.get("aliases", []), value.get("value")
    if isinstance(value, list) and value:
        value, aliases = value[0], value[1:]
    answers = [value, *aliases]
    if not all(isinstance(answer, str | int | float) and not isinstance(answer, bool) for answer in answers):
        raise CamelidError(f"{key!r} must be a text, a number or a list of these, not {row[key]!r}")
    first, *others = dict.fromkeys(str(answer).strip() for answer in answers)
    rationale = next((str(row[key]) for key in RATIONALE_KEYS if row.get(key)), "")
    return {
        "question": text_of(row, QUESTION_KEYS), "answer": first, "aliases": tuple(others),
        "rationale": rationale
    }  # fmt: skip


def gsm8k(row: Row) -> dict[str, Any]:
    """GSM8K: the worked steps, "#### " and the number; calculator annotations <<...>> are removed from the
    steps."""
    worked, _, number = str(row["answer"]).rpartition("####")
    steps = re.sub(r"<<[^>]*>>", "", worked)
    return {
        "question": text_of(row, QUESTION_KEYS),
        "answer": number.strip(),
        "rationale": " ".join(steps.split("\n")).strip(),
    }


def labelled_choices(row: Row) -> dict[str, Any]:
    """ARC, OpenBookQA, CommonsenseQA: parallel lists of the choices' texts and labels, and the right
    label."""
    texts, labels = row["choices"]["text"], [str(label) for label in row["choices"]["label"]]
    return choice_of(text_of(row, QUESTION_KEYS), texts, position_of(labels, row["answerKey"], "answerKey"))


def _endings(row: Row) -> dict[str, Any]:
    """HellaSwag: a context and its endings; the label is the index of the right one, as text."""
    endings = row["endings"]
    positions = [str(index) for index in range(len(endings))]
    return choice_of(
        text_of(row, ("ctx",)), endings, position_of(positions, row["label"], "label"), lettered=False
    )


def gold_choice(row: Row) -> dict[str, Any]:
    """A query, its choices and the index of the right one."""
    choices = row["choices"]
    position = position_of([str(index) for index in range(len(choices))], row["gold"], "gold")
    return choice_of(text_of(row, QUESTION_KEYS), choices, position, lettered=False)


def _choices(row: Row) -> dict[str, Any]:
    """Choices, and the right one by its index, its text or its letter."""
    choices, answer = row["choices"], row[next(key for key in ANSWER_KEYS if key in row)]
    if isinstance(answer, int) and not isinstance(answer, bool):
        position = position_of([str(index) for index in range(len(choices))], answer, "answer")
    else:
        texts = list(choices) if answer in choices else list(ascii_uppercase[: len(choices)])
        position = position_of(texts, answer, "answer")
    # A row that names its grader already holds the whole prompt, so no letters are added.
    return choice_of(text_of(row, QUESTION_KEYS), choices, position, lettered="grader" not in row)


def choice_of(question: str, choices: object, position: int, lettered: bool = True) -> dict[str, Any]:
    """The fields of an `Item` with choices; raises `CamelidError` if these are not a list of texts."""
    if not isinstance(choices, list) or not all(isinstance(text, str) and text.strip() for text in choices):
        raise CamelidError(f"the choices must be a list of texts, not {choices!r}")
    return {
        "question": question, "choices": tuple(choices), "answer": choices[position], "lettered": lettered
    }  # fmt: skip


def position_of(labels: Sequence[str], answer: object, key: str) -> int:
    """The index of an answer among the labels; raises `CamelidError` if it is not among them."""
    if str(answer) not in labels:
        raise CamelidError(f"{key!r} is {answer!r}; allowed: {', '.join(labels)}")
    return labels.index(str(answer))


ID_KEYS = ("id", "question_id")
QUESTION_KEYS = ("question", "prompt", "query", "context", "question_stem")
ANSWER_KEYS = ("answer", "target", "completion", "continuation")
RATIONALE_KEYS = ("rationale", "steps", "chain_of_thought")

ITEM_SHAPES = (
    ItemShape(
        "labelled choices, as ARC's",
        (QUESTION_KEYS, ("choices",), ("answerKey",)),
        labelled_choices,
        lambda row: isinstance(row["choices"], dict) and {"text", "label"} <= row["choices"].keys(),
    ),
    ItemShape("endings, as HellaSwag's", (("ctx",), ("endings",), ("label",)), _endings, continuation=True),
    ItemShape(
        "query, choices and gold",
        (QUESTION_KEYS, ("choices",), ("gold",)),
        gold_choice,
        lambda row: isinstance(row["choices"], list),
        continuation=True,
    ),
    ItemShape(
        "question, choices and answer",
        (QUESTION_KEYS, ("choices",), ANSWER_KEYS),
        _choices,
        lambda row: isinstance(row["choices"], list),
    ),
    ItemShape(
        "GSM8K's question and answer",
        (("question",), ("answer",)),
        gsm8k,
        lambda row: isinstance(row["answer"], str) and "####" in row["answer"],
    ),
    ItemShape(
        "question and answer",
        (("question", "prompt"), ANSWER_KEYS),
        plain_answer,
        lambda row: "choices" not in row,
    ),
    ItemShape(
        "context and continuation",
        (("context", "query"), ANSWER_KEYS),
        plain_answer,
        lambda row: "choices" not in row,
        continuation=True,
    ),
)
"""In the order in which they are tried."""
