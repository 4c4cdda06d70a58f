"""Files opened with the decompressor for their first bytes: gzip, xz, bzip2 and Zstandard."""

import bz2
import gzip
import importlib
import io
import lzma
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Protocol, cast

from camelid.base.errors import CamelidError, reason_of

SUFFIXES = {".gz", ".gzip", ".xz", ".bz2", ".zst", ".zstd"}
LARGEST_WINDOW = 1 << 31
"""Zstandard's `--long=31`: the largest window that its files can ask for."""
_ZSTANDARD, _SKIPPABLE = b"\x28\xb5\x2f\xfd", b"\x2a\x4d\x18"
_CHUNK = 1 << 17
_ARCHIVES = {b"PK\x03\x04": "ZIP", b"7z\xbc\xaf\x27\x1c": "7z", b"Rar!": "RAR", b"\x04\x22\x4d\x18": "LZ4"}


@contextmanager
def open_bytes(path: Path) -> Iterator[IO[bytes]]:
    """The decompressed content of a file; raises `CamelidError` if it is unreadable or damaged."""
    try:
        with _opened(path) as stream:
            yield stream
    except (OSError, EOFError, lzma.LZMAError, zlib.error, _DamagedError) as error:
        raise CamelidError(f"{path} cannot be read: {reason_of(error)}") from error


def _opened(path: Path) -> IO[bytes]:
    with path.open("rb") as stream:
        magic = stream.read(6)
    if magic.startswith(b"\x1f\x8b"):
        return cast(IO[bytes], gzip.open(path))
    if magic.startswith(b"\xfd7zXZ\0"):
        return lzma.open(path)
    if magic.startswith(b"BZh"):
        return bz2.open(path)
    # Tools that compress in parallel begin with a frame that holds sizes only.
    if magic.startswith(_ZSTANDARD) or (magic[1:4] == _SKIPPABLE and 0x50 <= magic[0] <= 0x5F):
        return io.BufferedReader(_ZstandardFile(path, _zstandard(path)))
    for first, name in _ARCHIVES.items():
        if magic.startswith(first):
            raise CamelidError(f"{path} is compressed with {name}, which is not read: unpack it, or use gzip")
    return path.open("rb")


class _DamagedError(Exception):
    """Compressed content that is not what its format allows."""


class _Decompressor(Protocol):
    """One frame, in the standard library and in the package zstandard."""

    eof: bool
    unused_data: bytes

    def decompress(self, data: bytes) -> bytes:
        """The content of this part."""


def _zstandard(path: Path) -> Callable[[], _Decompressor]:
    """Makes decompressors of one frame; raises `CamelidError` if neither module is installed."""
    for name in ("compression.zstd", "zstandard"):  # the standard library from Python 3.14 on
        try:
            module: Any = importlib.import_module(name)
        except ModuleNotFoundError:
            continue
        if name == "zstandard":
            context = module.ZstdDecompressor(max_window_size=LARGEST_WINDOW)
            return cast(Callable[[], _Decompressor], context.decompressobj)
        largest = {module.DecompressionParameter.window_log_max: LARGEST_WINDOW.bit_length() - 1}
        return lambda: cast(_Decompressor, module.ZstdDecompressor(options=largest))
    raise CamelidError(f"{path} is compressed with Zstandard: pip install zstandard, or decompress it")


class _ZstandardFile(io.RawIOBase):
    """All frames of a file, one after the other; a frame that is cut short is an error, not an end."""

    def __init__(self, path: Path, new: Callable[[], _Decompressor]) -> None:
        super().__init__()
        self._file, self._new = path.open("rb"), new
        self._frame: _Decompressor | None = None
        self._waiting = self._ready = b""

    def readable(self) -> bool:
        """True."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fills the buffer as far as the content at hand goes; 0 at the end."""
        while not self._ready:
            if not self._waiting and not (read := self._file.read(_CHUNK)):
                if self._frame is not None:
                    raise EOFError("the Zstandard frame is truncated")
                return 0
            data, self._waiting = self._waiting or read, b""
            self._ready = self._decompressed(data)
        count = min(len(buffer), len(self._ready))
        buffer[:count], self._ready = self._ready[:count], self._ready[count:]
        return count

    def close(self) -> None:
        """Closes the file."""
        self._file.close()
        super().close()

    def _decompressed(self, data: bytes) -> bytes:
        frame = self._frame = self._frame or self._new()
        try:
            content = frame.decompress(data)
        except (OSError, MemoryError):
            raise
        except Exception as error:  # each module has a class of its own
            raise _DamagedError(reason_of(error)) from error
        if frame.eof:
            self._frame, self._waiting = None, frame.unused_data
        return content
