"""Searches training data for evaluation items, and reports each by file and line."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from camelid.base.errors import CamelidError
from camelid.data.read.conversation_shapes import CONVERSATION_SHAPES, known_shape
from camelid.data.read.conversations import Conversations
from camelid.data.read.corpus import Corpus, one_format
from camelid.data.read.files import Format, data_files, format_of
from camelid.data.read.renaming import named, renaming
from camelid.data.read.rows import BadRows, rows_of
from camelid.evals.contamination import SHORTEST, Contamination, contamination, ngram_size
from camelid.tasks.item import Item
from camelid.tasks.item_rows import has_items, item_keys, read_items
from camelid.text.conversation import Conversation

TrainingText = (
    Iterable[tuple[str, str]] | Iterable[tuple[Conversation, str]] | Iterable[tuple[tuple[str, str], str]]
)
"""Documents, conversations, or pairs of input and target, with their places: `Corpus`, `Conversations`,
`TextPairs`."""
DataKind = Literal["text", "conversations", "items"]
SHOWN = 20
"""Number of findings that an error lists; the rest are counted."""


def kind_of(paths: Sequence[Path], skip_bad_rows: bool = False) -> tuple[dict[Path, Format], DataKind]:
    """The files of these paths, and their kind of data, by the first row; files without rows are text.

    skip_bad_rows: by the first row that is not malformed. Raises `CamelidError` if no kind has such rows.
    """
    files = one_format({path: format_of(path) for path in data_files(paths)})
    path, format = next(iter(files.items()))
    if format == "text":
        return files, "text"
    row, where = _first_row(path, format, skip_bad_rows)
    shape = known_shape(row)
    if "text" in row and (shape is None or "text" not in shape.fields):
        return files, "text"
    if shape is not None:
        return files, "conversations"
    if has_items(path):
        return files, "items"
    shapes = [shape.fields for shape in CONVERSATION_SHAPES]
    spoken = "; ".join(", ".join(fields) for fields in shapes)
    raise CamelidError(
        f"{where}: the fields {named(row)} are not those of any data that Camelid reads"
        f"{renaming(row, ('text',), *shapes)}. Rows for pretraining have `text`; "
        f"conversations have {spoken}; "
        f"evaluation items have {item_keys()}"
    )


def training_data(paths: Sequence[Path], skip_bad_rows: bool) -> TrainingText:
    """The documents, conversations or items of these paths; can be iterated repeatedly."""
    files, kind = kind_of(paths, skip_bad_rows)
    if kind == "items":
        return _item_texts(files)
    return Corpus(paths, skip_bad_rows) if kind == "text" else Conversations(paths, skip_bad_rows)


def look_for_items(path: Path, open_training: Callable[[], TrainingText]) -> str:
    """A summary if no item was found; raises `CamelidError` with file, line, item and words of those
    found."""
    training = open_training()
    items, _ = read_items(path)
    numbered = [replace(item, id=f"{number}") for number, item in enumerate(items)]
    found = contamination(numbered, documents(training))
    if not found:
        return (
            f"none of the {len(items):,} items of {path} was found: no whole question of {SHORTEST} words or "
            f"more, no common run of {ngram_size(items)} words"
        )
    in_lines = isinstance(training, Corpus) and "text" in training.files.values()
    listed = [_finding(one, items[int(one.item)], in_lines) for one in found[:SHOWN]]
    if len(found) > SHOWN:
        listed.append(f"and {len(found) - SHOWN:,} more")
    dirty = len({one.item for one in found})
    raise CamelidError(
        f"{dirty:,} of the {len(items):,} items of {path} are in the training data; remove these rows or "
        "passages, or do not report results on these items\n    " + "\n    ".join(listed)
    )


def documents(training: TrainingText) -> Iterator[tuple[str, str]]:
    """Every text with its place: documents, messages of conversations, inputs and targets."""
    for content, where in training:
        if isinstance(content, Conversation):
            for message in content.messages:
                yield from ((text, where) for text in (message.content, message.reasoning) if text)
        elif isinstance(content, str):
            yield content, where
        else:
            yield from ((text, where) for text in content)


def _first_row(path: Path, kind: Format, skip: bool) -> tuple[dict[str, object], str]:
    bad = BadRows(skip)
    for found in rows_of(path, kind, bad):
        return found
    raise CamelidError(f"{path}: there are no rows in it{bad.first}")


def _finding(found: Contamination, item: Item, in_lines: bool) -> str:
    """in_lines: the document's lines are lines of the file (a text file), not lines within a row."""
    where = found.where
    if in_lines:
        path, _, line = where.rpartition(":")
        where = f"{path}:{int(line) + found.line}"
    how = "the whole question, names aside" if found.kind == "question" else "a run of words"
    return f"{where}: item {item.id}, {how}: {found.words}"


def _item_texts(paths: Iterable[Path]) -> Iterator[tuple[tuple[str, str], str]]:
    """Questions and answers of files of items, as inputs and targets, since such rows can also be trained
    on."""
    for path in paths:
        for item in read_items(path)[0]:
            yield (item.question, item.answer), f"{path} (item {item.id})"
