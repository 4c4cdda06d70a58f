"""Data files, plain or compressed; the format is detected from name and content.

Files are streamed as strict UTF-8; every error names the file and the line or byte.
"""

import bz2
import gzip
import importlib
import lzma
import os
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Literal, cast

from camelid.base.errors import CamelidError

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
_COMPRESSED = {".gz", ".xz", ".bz2", ".zst"}
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_HEAD_BYTES = 1 << 16


def data_files(paths: str | os.PathLike[str] | Sequence[str | os.PathLike[str]]) -> list[Path]:
    """The files at these paths and in these folders, in order, without hidden ones.

    Raises `CamelidError` on a path that does not exist and on a folder without files.
    """
    files: list[Path] = []
    for path in [paths] if isinstance(paths, str | os.PathLike) else paths:
        path = Path(path)
        if not path.exists():
            raise CamelidError(f"{path} does not exist")
        found = [path] if path.is_file() else sorted(_visible_files(path))
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
    suffixes = [suffix for suffix in path.suffixes if suffix.lower() not in _COMPRESSED]
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
            try:
                yield number, line.decode()
            except UnicodeDecodeError as error:
                raise CamelidError(
                    f"{path}:{number}: byte {offset + error.start} (0x{line[error.start]:02X}) is not UTF-8; "
                    "save the file as UTF-8"
                ) from error
            offset += len(line)


@contextmanager
def open_bytes(path: Path) -> Iterator[IO[bytes]]:
    """The decompressed content of a file; raises `CamelidError` if it is unreadable or damaged."""
    try:
        with _opened(path) as stream:
            yield stream
    except (OSError, EOFError, lzma.LZMAError, zlib.error) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise CamelidError(f"{path} cannot be read: {reason}") from error


def _visible_files(folder: Path) -> Iterator[Path]:
    for path in folder.rglob("*"):
        if path.is_file() and not any(part.startswith(".") for part in path.relative_to(folder).parts):
            yield path


def _head(path: Path) -> bytes:
    with open_bytes(path) as stream:
        return stream.read(_HEAD_BYTES)


def _opened(path: Path) -> IO[bytes]:
    """The file, opened with the decompressor for its magic bytes."""
    with path.open("rb") as stream:
        magic = stream.read(6)
    if magic.startswith(b"\x1f\x8b"):
        return cast(IO[bytes], gzip.open(path))
    if magic.startswith(b"\xfd7zXZ\0"):
        return lzma.open(path)
    if magic.startswith(b"BZh"):
        return bz2.open(path)
    if magic.startswith(b"\x28\xb5\x2f\xfd"):
        return _open_zstandard(path)
    return path.open("rb")


def _open_zstandard(path: Path) -> IO[bytes]:
    for module in ("compression.zstd", "zstandard"):  # the standard library from Python 3.14 on
        try:
            return cast(IO[bytes], importlib.import_module(module).open(path))
        except ModuleNotFoundError:
            continue
    raise CamelidError(f"{path} is compressed with Zstandard: pip install zstandard, or decompress it")
