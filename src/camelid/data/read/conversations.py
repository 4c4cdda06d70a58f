"""Chat data in the common shapes, read into `Conversation`.

The first row of a file determines its shape; later rows of another shape are bad rows.
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import TypeVar

from camelid.base.errors import CamelidError
from camelid.data.read.comparisons import Quality
from camelid.data.read.conversation_shape import ConversationShape, Ranked
from camelid.data.read.conversation_shapes import shape_of
from camelid.data.read.corpus import describe_files, one_format
from camelid.data.read.files import Format, data_files, format_of
from camelid.data.read.rows import BadRows, Row, rows_of
from camelid.text.conversation import Conversation

Found = list[tuple[Conversation, Quality | None]]
Value = TypeVar("Value")


class Conversations:
    """Conversations with their location: (conversation, file:line).

    markers: texts for `good` and `bad` answers, which are read then; other rows get the marker named `plain`,
    if any. Without markers, comparisons give their better answer, and trees their best thread.

    After reading, `shapes` has the shape of each file, `skipped` lists the bad rows, and `undecided` counts
    rows without a usable answer: ties, and without markers those whose answer is bad. Iterating again reads
    again. Raises `CamelidError` as `Corpus` does, and on rows of unknown shape, with wrong types, an empty
    answer or an unknown role.
    """

    def __init__(
        self,
        paths: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
        skip_bad_rows: bool = False,
        markers: Mapping[str, str] | None = None,
        plain: str = "good",
    ):
        self.files: dict[Path, Format] = one_format({path: format_of(path) for path in data_files(paths)})
        for path, format in self.files.items():
            if format == "text":
                raise CamelidError(
                    f"{path} is text; conversations are rows of JSON, JSON lines, CSV or Parquet"
                )
        self._bad = BadRows(skip_bad_rows)
        self._markers, self._plain = markers or {}, plain
        self.shapes: dict[Path, str] = {}
        self.count = self.undecided = 0

    @property
    def skipped(self) -> list[str]:
        """The bad rows of the last pass, each with its location and problem."""
        return self._bad.listed

    def refuse(self, where: str, problem: str) -> None:
        """Makes a row of this pass a bad row, where the template or the tokens show it to be one."""
        self._bad.add(where, problem)
        self.count -= 1

    @property
    def summary(self) -> str:
        """One line about the last pass over the data."""
        skipped = f", {len(self.skipped):,} bad rows skipped" if self.skipped else ""
        shapes = ", ".join(dict.fromkeys(self.shapes.values()))
        undecided = f", {self.undecided:,} rows without a better or good answer" if self.undecided else ""
        found = f"{self.count:,} conversations of shape {shapes}{undecided}{skipped}"
        return f"{describe_files(self.files)}: {found}"

    def __iter__(self) -> Iterator[tuple[Conversation, str]]:
        for found, where in self.by_row(both=bool(self._markers)):
            for conversation, quality in found:
                yield replace(conversation, marker=self._markers.get(quality or self._plain, "")), where

    def by_row(self, *, both: bool) -> Iterator[tuple[Found, str]]:
        """The conversations of each row with their quality, if it is known; both: also the bad ones."""
        return self._rows(lambda shape, row: shape.conversations(row, both=both))

    def rankings(self) -> Iterator[tuple[list[Ranked], str]]:
        """The ranked answers of each row, for every prompt in it; `undecided` counts rows without any."""
        return self._rows(ConversationShape.rankings)

    def _rows(
        self, read_row: Callable[[ConversationShape, Row], list[Value]]
    ) -> Iterator[tuple[list[Value], str]]:
        bad = self._bad = BadRows(self._bad.skip)
        self.count = self.undecided = read = 0
        for path, format in self.files.items():
            rows = rows_of(path, format, bad)
            if (first := next(rows, None)) is None:
                continue
            shape = shape_of(*first)
            self.shapes[path] = shape.name
            rows = chain([first], rows)
            for row, where in rows if shape.gather is None else shape.gather(rows):
                try:
                    found = read_row(shape, row)
                except CamelidError as error:
                    bad.add(where, str(error))
                    continue
                self.count += len(found)
                self.undecided += not found
                read += 1
                yield found, where
        if not read:
            raise CamelidError(f"{describe_files(self.files)}: it contains no conversations{bad.first}")
