"""The GGUF container, versions 2 and 3 (ggml's docs/gguf.md): metadata and memory-mapped tensors.

Files are not trusted: every length and offset is checked against the file's size before use.
"""

import math
import struct
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from camelid.base.errors import CamelidError, shortened
from camelid.formats.gguf.parts import cut_file, part_paths, split_count
from camelid.formats.gguf.types import FORMATS, BlockFormat, Bytes, Floats

MAGIC = b"GGUF"
VERSIONS = (2, 3)
MAX_DIMENSIONS = 4
NUMBERS = {
    0: "<u1",
    1: "<i1",
    2: "<u2",
    3: "<i2",
    4: "<u4",
    5: "<i4",
    6: "<f4",
    10: "<u8",
    11: "<i8",
    12: "<f8",
}
BOOL, STRING, ARRAY = 7, 8, 9


@dataclass(frozen=True)
class StoredTensor:
    """A tensor's location in the file; `shape` has the outermost dimension first, as in numpy."""

    name: str
    shape: tuple[int, ...]
    format: BlockFormat
    start: int
    size: int


class GGUFFile:
    """A GGUF file: `metadata` by key (arrays as lists), `tensors` by name; of a split model, of all its
    parts.

    Raises `CamelidError` that names the key or tensor if the file is truncated, damaged or of an unknown
    type.
    """

    def __init__(self, path: Path, *, single: bool = False) -> None:
        """single: only this part of a split model, without the others."""
        self.path = Path(path)
        self.metadata: dict[str, Any] = {}
        self.tensors: dict[str, StoredTensor] = {}
        self._others: dict[str, GGUFFile] = {}
        self._read()
        if not single and (count := split_count(self.metadata, self.path)) > 1:
            self._add_parts(count)

    def _read(self) -> None:
        self._data = _mapped(self.path)
        cursor = _Cursor(self.path, self._data)
        tensors, keys = cursor.header()
        for number in range(keys):
            name = cursor.string(f"metadata key {number + 1} of {keys}")
            if name in self.metadata:
                raise cursor.error(f"key {shortened(name)} occurs twice")
            self.metadata[name] = cursor.value(f"key {shortened(name)}")
        described = [cursor.tensor(number, tensors) for number in range(tensors)]
        start = _aligned(cursor.position, self._alignment())
        for name, shape, kind, offset in described:
            self._place(name, shape, kind, start + offset)
        self._check_apart()

    def tensor(self, name: str) -> Floats:
        """A tensor's values in float32, dequantised exactly as in ggml."""
        stored = self.tensors[name]
        return stored.format.dequantize(self.raw(name)).reshape(stored.shape)

    def raw(self, name: str) -> Bytes:
        """A tensor's raw bytes."""
        stored, source = self.tensors[name], self._others.get(name, self)
        return source._data[stored.start : stored.start + stored.size]

    def _add_parts(self, count: int) -> None:
        """Adds the tensors of the other parts of a split model; the first part has the metadata."""
        paths = part_paths(self.path, self.metadata, count)
        parts = [self if path == self.path else GGUFFile(path, single=True) for path in paths]
        for number, part in enumerate(parts):
            named = (part.metadata.get("split.no"), part.metadata.get("split.count"))
            if named != (number, count):
                raise CamelidError(
                    f"{part.path}: split.no and split.count are {shortened(named)}, "
                    f"not {(number, count)} as its name "
                    "says; download it again"
                )
        self.metadata = parts[0].metadata
        for part in parts:
            for name, tensor in part.tensors.items():
                if part is not self and name in self.tensors:
                    raise CamelidError(f"{part.path}: tensor {shortened(name)} is in another part too")
                if part is not self:
                    self.tensors[name], self._others[name] = tensor, part
        total = self.metadata.get("split.tensors.count", len(self.tensors))
        if total != len(self.tensors):
            raise CamelidError(
                f"{self.path}: its {count} parts hold {len(self.tensors)} tensors, not {shortened(total)} as "
                "split.tensors.count says; download them again"
            )

    def _alignment(self) -> int:
        alignment = self.metadata.get("general.alignment", 32)
        if not isinstance(alignment, int) or alignment < 1:
            raise CamelidError(
                f"{self.path}: general.alignment is {shortened(alignment)}; it must be a whole number"
            )
        return alignment

    def _place(self, name: str, shape: tuple[int, ...], kind: int, start: int) -> None:
        if name in self.tensors:
            raise CamelidError(f"{self.path}: tensor {shortened(name)} occurs twice")
        if (form := FORMATS.get(kind)) is None:
            known = ", ".join(form.name for form in FORMATS.values())
            raise CamelidError(
                f"{self.path}: tensor {shortened(name)} has the unsupported type {kind}; supported: {known}; "
                "convert the model to one of these"
            )
        if shape[-1] % form.values:
            raise CamelidError(
                f"{self.path}: tensor {shortened(name)} has rows of {shape[-1]}, not a multiple of "
                f"{form.name}'s blocks "
                f"of {form.values}; the file is damaged"
            )
        size = math.prod(shape) // form.values * form.size
        if start + size > len(self._data):
            raise CamelidError(
                f"{self.path} is truncated: tensor {shortened(name)} ends at byte {start + size}, "
                f"the file has {len(self._data)}; {cut_file(self.path) or 'download it again'}"
            )
        self.tensors[name] = StoredTensor(name, shape, form, start, size)

    def _check_apart(self) -> None:
        # Otherwise a small file whose tensors share bytes could expand to a model of any size.
        ordered = sorted(self.tensors.values(), key=lambda tensor: tensor.start)
        for before, after in pairwise(ordered):
            if after.start < before.start + before.size:
                raise CamelidError(
                    f"{self.path}: tensors {shortened(before.name)} and {shortened(after.name)} "
                    "overlap; the file is damaged"
                )


class _Cursor:
    """Reads fields sequentially, never beyond the end."""

    def __init__(self, path: Path, data: Bytes) -> None:
        self.path, self.data, self.position = path, data.data, 0

    def header(self) -> tuple[int, int]:
        """The numbers of tensors and of metadata keys."""
        if self.take(4, "the magic number") != MAGIC:
            joined = cut_file(self.path)
            raise CamelidError(
                f"{self.path} is not a GGUF file: it does not begin with 'GGUF'{joined and f'; {joined}'}"
            )
        version = self.number("<u4", "the version")
        if version not in VERSIONS:
            swapped = struct.unpack(">I", struct.pack("<I", version))[0] in VERSIONS
            what = "is big-endian" if swapped else f"has GGUF version {version}"
            raise self.error(f"{what}; supported: little-endian, versions 2 and 3")
        return self.number("<u8", "the count of tensors"), self.number("<u8", "the count of metadata keys")

    def tensor(self, number: int, count: int) -> tuple[str, tuple[int, ...], int, int]:
        """One tensor's name, shape, type and offset from the start of the data."""
        name = self.string(f"the name of tensor {number + 1} of {count}")
        what = f"tensor {shortened(name)}"
        dimensions = self.number("<u4", what)
        if not 1 <= dimensions <= MAX_DIMENSIONS:
            raise self.error(f"{what} has {dimensions} dimensions; allowed: 1 to {MAX_DIMENSIONS}")
        shape = tuple(self.number("<u8", what) for _ in range(dimensions))[::-1]
        if 0 in shape:
            raise self.error(f"{what} is empty: its shape is {list(shape)}")
        return name, shape, self.number("<u4", what), self.number("<u8", what)

    def value(self, what: str) -> Any:
        """A metadata value, preceded by its type."""
        return self._typed(self.number("<u4", what), what)

    def string(self, what: str) -> str:
        """A UTF-8 string, preceded by its length."""
        try:
            return self.take(int.from_bytes(self.take(8, what), "little"), what).decode("utf-8")
        except UnicodeDecodeError as error:
            raise self.error(f"{what} is not valid UTF-8") from error

    def number(self, form: str, what: str) -> Any:
        """One number, as Python's int or float."""
        return self._numbers(form, 1, what).item()

    def take(self, size: int, what: str) -> bytes:
        """The next `size` bytes."""
        if size > len(self.data) - self.position:
            raise self.error(
                f"truncated in {what}, at byte {self.position} of {len(self.data)}; "
                f"{cut_file(self.path) or 'download it again'}"
            )
        self.position += size
        return bytes(self.data[self.position - size : self.position])

    def error(self, message: str) -> CamelidError:
        """A `CamelidError` that names the file."""
        return CamelidError(f"{self.path}: {message}")

    def _typed(self, kind: int, what: str) -> Any:
        if kind in NUMBERS:
            return self.number(NUMBERS[kind], what)
        readers: dict[int, Callable[[str], Any]] = {BOOL: self._bool, STRING: self.string, ARRAY: self._array}
        if kind not in readers:
            raise self.error(f"{what} has the unknown type {kind}")
        return readers[kind](what)

    def _bool(self, what: str) -> bool:
        return bool(self.number("<u1", what))

    def _array(self, what: str) -> list[Any]:
        kind, count = self.number("<u4", what), self.number("<u8", what)
        if kind in NUMBERS:
            return list(self._numbers(NUMBERS[kind], count, what).tolist())
        if kind == BOOL:
            return [value != 0 for value in self.take(count, what)]
        if kind == ARRAY:
            raise self.error(f"{what} is an array of arrays, which no known key uses")
        return [self._typed(kind, what) for _ in range(count)]

    def _numbers(self, form: str, count: int, what: str) -> NDArray[Any]:
        return np.frombuffer(self.take(count * np.dtype(form).itemsize, what), form)


def _mapped(path: Path) -> Bytes:
    try:
        return np.memmap(path, np.uint8, "r") if path.stat().st_size else np.empty(0, np.uint8)
    except OSError as error:
        raise CamelidError(f"{path} cannot be read: {error.strerror}") from error


def _aligned(position: int, alignment: int) -> int:
    return -(-position // alignment) * alignment
