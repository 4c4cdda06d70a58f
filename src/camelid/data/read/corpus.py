"""Text for pretraining: text files, folders of them, or rows with `text`."""

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from camelid.base.errors import CamelidError
from camelid.data.read.files import Format, data_files, format_of, parts_of
from camelid.data.read.renaming import named, renaming
from camelid.data.read.rows import BadRows, Row, rows_of
from camelid.text.vocabulary import END_OF_TEXT

LONGEST_DOCUMENT = 1 << 24
"""Text files without separators are split at a line end, or in a long line at a space, after this many
characters, to bound memory."""


class Corpus:
    """Documents with their location: (text, file:line).

    `description` says what was found; after reading, `summary` counts it and `skipped` lists the bad rows.
    Iterating again reads again. Raises `CamelidError` immediately if a path is missing, empty, binary or of
    mixed formats, and during reading on text that is not UTF-8 and on bad rows (unless they are skipped).
    """

    def __init__(
        self, paths: str | os.PathLike[str] | Sequence[str | os.PathLike[str]], skip_bad_rows: bool = False
    ):
        files = data_files(paths)
        self.files: dict[Path, Format] = one_format({path: format_of(path) for path in files})
        self._skip = skip_bad_rows
        self.skipped: list[str] = []
        self.count = self.separators = self.pieces = 0

    @property
    def description(self) -> str:
        """One line about the files found."""
        named = describe_files(self.files)
        if "text" in self.files.values():
            return f"{named}: each file is a document, or several where it holds {END_OF_TEXT} between them"
        return f"{named}: each row's `text` is a document"

    @property
    def summary(self) -> str:
        """One line about the last pass over the data."""
        parts = [f"{self.count:,} documents"]
        if self.separators:
            parts.append(f"separated by {self.separators:,} {END_OF_TEXT}")
        if self.pieces:
            parts.append(
                f"{self.pieces:,} cuts at line ends or spaces, in files above {LONGEST_DOCUMENT:,} characters"
            )
        if self.skipped:
            parts.append(f"{len(self.skipped):,} bad rows skipped")
        return ", ".join(parts)

    def __iter__(self) -> Iterator[tuple[str, str]]:
        bad = BadRows(self._skip)
        self.skipped, self.count, self.separators, self.pieces = bad.listed, 0, 0, 0
        for path, format in self.files.items():
            for document in self._texts(path) if format == "text" else _row_texts(path, format, bad):
                self.count += 1
                yield document
        if not self.count:
            raise CamelidError(f"{describe_files(self.files)}: it contains no documents{bad.first}")

    def _texts(self, path: Path) -> Iterator[tuple[str, str]]:
        """The documents of a text file, without separators and the line ends around them."""
        lines: list[str] = []
        size, start = 0, 1
        for number, line in parts_of(path, END_OF_TEXT):
            *ended, line = line.split(END_OF_TEXT)
            for part in ended:
                self.separators += 1
                if text := "".join([*lines, part]).strip("\r\n"):
                    yield text, f"{path}:{start}"
                lines, size, start = [], 0, number
            if not lines and not line.strip("\r\n"):
                start = number + 1
                continue
            lines.append(line)
            size += len(line)
            if size >= LONGEST_DOCUMENT:
                self.pieces += 1
                yield "".join(lines), f"{path}:{start}"
                lines, size, start = [], 0, number + 1
        if text := "".join(lines).strip("\r\n"):
            yield text, f"{path}:{start}"


def one_format(files: dict[Path, Format]) -> dict[Path, Format]:
    """The same files; raises `CamelidError` if some hold text and others rows."""
    if len(set(files.values())) > 1 and "text" in files.values():
        text = next(path for path, format in files.items() if format == "text")
        rows = next(path for path, format in files.items() if format != "text")
        raise CamelidError(
            f"mixed formats: {text} is text and {rows} is {files[rows]}; give files of one kind at a time"
        )
    return files


def describe_files(files: dict[Path, Format]) -> str:
    """The number of files of each format, or the name of the only file."""
    if len(files) == 1:
        ((path, format),) = files.items()
        return f"{path} ({format})"
    counts = Counter(files.values())
    return ", ".join(f"{count} files ({format})" for format, count in counts.items())


def _row_texts(path: Path, format: Format, bad: BadRows) -> Iterator[tuple[str, str]]:
    for row, where in rows_of(path, format, bad):
        if problem := _problem(row):
            bad.add(where, problem)
        else:
            yield row["text"], where


def _problem(row: Row) -> str | None:
    if "text" not in row:
        chat = any(isinstance(row.get(name), list) for name in ("messages", "conversations"))
        chat = chat or ("instruction" in row and bool({"output", "response"} & set(row)))
        hint = "; this looks like a conversation, for tuning" if chat else renaming(row, ("text",))
        return f"no `text` among the fields {named(row)}{hint}"
    text = row["text"]
    if not isinstance(text, str):
        return f"`text` is {type(text).__name__}; it must be a string"
    if not text.strip():
        return "`text` is empty"
    return lone_surrogate(text)


def lone_surrogate(text: str) -> str | None:
    """The problem with a string that JSON escapes have made invalid Unicode; None if it is valid."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        return f"character {error.start} is a lone surrogate, which is not valid Unicode"
    return None
