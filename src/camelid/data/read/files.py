"""Data files, plain or compressed; the format is detected from name and content.

Files are streamed as strict UTF-8; every error names the file and the line or byte.
"""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

from camelid.base.errors import CamelidError, reason_of
from camelid.data.read.compressed import SUFFIXES, open_bytes

Format = Literal["text", "JSON", "JSON lines", "CSV", "TSV", "Parquet"]
_FORMATS: dict[str, Format] = {
    ".txt": "text",
    ".md": "text",
    ".json": "JSON",
    ".jsonl": "JSON lines",
    ".ndjson": "JSON lines",
    ".csv": "CSV",
    ".tsv": "TSV",
    ".parquet": "Parquet",
}
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_HEAD_BYTES = 1 << 16
LONGEST_LINE = 1 << 20
"""Longer lines of text are read in parts, to bound memory."""
_NEAR = 1 << 12
CARD, MADE_ROWS, REPLIES = "card.json", "rows.jsonl", "replies.jsonl"
"""In a folder of `camelid make`: the card beside the rows, the rows, which are its data, and the teacher's
replies, which are there before them."""


def data_files(paths: str | os.PathLike[str] | Sequence[str | os.PathLike[str]]) -> list[Path]:
    """The files at these paths and in these folders, in order, without hidden ones; of a folder that
    `camelid make` wrote, the rows.

    Raises `CamelidError` on a path that does not exist, a folder without files and one that `camelid make`
    did not finish.
    """
    files: list[Path] = []
    for path in [paths] if isinstance(paths, str | os.PathLike) else paths:
        path = Path(path)
        try:
            if not path.exists():
                raise CamelidError(f"{path} does not exist")
            found = [path] if path.is_file() else sorted(_visible_files(path))
        except OSError as error:  # such as a name that is too long
            raise CamelidError(f"{path} cannot be read: {reason_of(error)}") from error
        if not found and not path.is_dir():
            raise CamelidError(f"{path} is neither a file nor a folder; write what it gives into a file")
        if not found:
            raise CamelidError(f"{path} is a folder without files")
        files += found
    if not files:
        raise CamelidError("no data given: pass the path of a file or folder")
    return files


def format_of(path: Path) -> Format:
    """The format of a file, from its name or, if that is not enough, from its first bytes.

    Raises `CamelidError` if the file is empty or binary.
    """
    head = _head(path)
    if head.startswith(b"PAR1"):
        return "Parquet"
    suffixes = [suffix for suffix in path.suffixes if suffix.lower() not in SUFFIXES]
    named = _FORMATS.get(suffixes[-1].lower()) if suffixes else None
    if named == "Parquet":
        raise CamelidError(f"{path} is named .parquet but does not begin like a Parquet file")
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise CamelidError(f"{path} is UTF-16; save it as UTF-8 (iconv -f UTF-16 -t UTF-8)")
    if (zero := head.find(b"\0")) >= 0:
        raise CamelidError(f"{path} is binary (byte {zero} is zero); text and rows must be UTF-8")
    begin = head.removeprefix(_BYTE_ORDER_MARK).lstrip()
    if not begin:
        raise CamelidError(f"{path} is empty")
    if named in (None, "JSON") and begin[:1] in (b"{", b"["):
        ends = begin.partition(b"\n")[0].rstrip().endswith(b"}")
        return "JSON lines" if begin[:1] == b"{" and ends else "JSON"
    return named or "text"


def lines_of(path: Path) -> Iterator[tuple[int, str]]:
    """Lines with their line ends, numbered from 1; raises `CamelidError` at a byte that is not UTF-8."""
    offset = 0
    with open_bytes(path) as stream:
        for number, line in enumerate(stream, start=1):
            if number == 1:
                offset = len(_BYTE_ORDER_MARK) if line.startswith(_BYTE_ORDER_MARK) else 0
                line = line[offset:]
            yield number, _decoded(path, number, line, offset)
            offset += len(line)


def parts_of(path: Path, whole: str) -> Iterator[tuple[int, str]]:
    """Lines as `lines_of` gives them, those above `LONGEST_LINE` bytes in parts, each with its line's number.

    Parts end before a space where there is one, and never inside the string `whole`.
    """
    mark, number, held, offset = whole.encode(), 1, b"", 0
    with open_bytes(path) as stream:
        if (first := stream.readline(LONGEST_LINE)).startswith(_BYTE_ORDER_MARK):
            first, offset = first[len(_BYTE_ORDER_MARK) :], len(_BYTE_ORDER_MARK)
        while chunk := first or stream.readline(LONGEST_LINE):
            first, line = b"", held + chunk
            cut = len(line) if line.endswith(b"\n") else _cut(line, mark)
            if cut:
                yield number, _decoded(path, number, line[:cut], offset)
            held, offset, number = line[cut:], offset + cut, number + line.endswith(b"\n")
        if held:
            yield number, _decoded(path, number, held, offset)


def _cut(line: bytes, mark: bytes) -> int:
    """Where the first part of an incomplete line may end."""
    if len(line) < LONGEST_LINE:
        return 0
    cut = len(line) - len(mark)
    if (space := line.rfind(b" ", max(0, cut - _NEAR), cut)) > 0:
        cut = space
    for _ in range(3):  # a character has at most four bytes
        cut -= cut > 0 and line[cut] & 0xC0 == 0x80
    begun = line.find(mark, max(0, cut - len(mark) + 1), cut + len(mark))
    return begun if 0 <= begun < cut else cut


def _decoded(path: Path, number: int, line: bytes, offset: int) -> str:
    try:
        return line.decode()
    except UnicodeDecodeError as error:
        raise CamelidError(
            f"{path}:{number}: byte {offset + error.start} (0x{line[error.start]:02X}) is not UTF-8; "
            "save the file as UTF-8"
        ) from error


def _visible_files(folder: Path) -> Iterator[Path]:
    if (folder / CARD).is_file():
        yield folder / MADE_ROWS
        return
    if (folder / REPLIES).is_file():
        raise CamelidError(
            f"{folder} has a teacher's {REPLIES}, but no {CARD}: `camelid make` did not finish, or kept no "
            "row; the same command goes on"
        )
    for path in folder.rglob("*"):
        if path.is_file() and not any(part.startswith(".") for part in path.relative_to(folder).parts):
            yield path


def _head(path: Path) -> bytes:
    with open_bytes(path) as stream:
        return stream.read(_HEAD_BYTES)
