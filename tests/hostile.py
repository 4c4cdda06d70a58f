"""Values and edits that break careless readers, for the tests on hostile files."""

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from camelid.base.errors import CamelidError

NUMBERS = (
    0,
    1,
    2,
    3,
    7,
    -1,
    255,
    2**31 - 1,
    2**31,
    2**32,
    2**53,
    2**63 - 1,
    2**63,
    2**64 - 1,
    2**64,
    10**30,
    10**4000,
)
REALS = (0.5, -0.5, 1e308, 1e-308, float("inf"), float("-inf"), float("nan"))
WORDS = (
    "",
    "x",
    "..",
    "\ud800",
    "\x00",
    "é" * 300,
    "F32",
    "gptq",
    "default",
    "llama3",
    "../x",
    "/etc/passwd",
)
SCALARS = st.sampled_from([None, True, False, *NUMBERS, *REALS, *WORDS])
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(("a", "type", "factor")), inner)
    ),
    max_leaves=4,
)
DTYPES = (
    "BOOL", "U8", "I8", "F4", "F6_E2M3", "F6_E3M2", "F8_E5M2", "F8_E4M3", "F8_E8M0", "I16", "U16", "F16",
    "BF16", "I32", "U32", "F32", "F64", "I64", "U64", "C64", "f32", "", "Q4",
)  # fmt: skip
SIZES = st.sampled_from(NUMBERS)


def header_of(content: bytes) -> tuple[dict[str, Any], bytes]:
    """The JSON header of a safetensors file and the bytes behind it."""
    length = struct.unpack("<Q", content[:8])[0]
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def with_header(header: bytes, data: bytes, length: int | None = None) -> bytes:
    """A safetensors file; length: what it says of its header, if not the truth."""
    return struct.pack("<Q", (len(header) if length is None else length) % 2**64) + header + data


def dumped(value: object) -> bytes:
    """JSON, with what Python writes beyond the standard."""
    return json.dumps(value).encode()


@st.composite
def edited_table(draw: Callable[..., Any], table: dict[str, Any]) -> dict[str, Any]:
    """The table with one or two values replaced, removed or nested ones edited."""
    table = dict(table)
    for _ in range(draw(st.integers(1, 2))):
        key = draw(st.sampled_from(sorted(table)))
        if isinstance(table[key], dict) and table[key] and draw(st.booleans()):
            table[key] = draw(edited_table(table[key]))
        elif draw(st.integers(0, 5)) == 0 and len(table) > 1:
            del table[key]
        else:
            table[key] = draw(VALUES)
    return table


@st.composite
def edited_header(draw: Callable[..., Any], header: dict[str, Any]) -> bytes:
    """A safetensors header with entries that lie: about shape, place, type, name, or in raw JSON."""
    header = {name: dict(entry) for name, entry in header.items()}
    names = sorted(name for name in header if name != "__metadata__")
    for _ in range(draw(st.integers(1, 2))):
        entry = header[draw(st.sampled_from(names))]
        begin, end = entry.get("data_offsets", [0, 0]) if isinstance(entry, dict) else (0, 0)
        match draw(st.integers(0, 8)):
            case 0:
                entry["dtype"] = draw(st.sampled_from(DTYPES))
            case 1:
                entry["shape"] = draw(st.lists(SIZES, max_size=4))
            case 2:
                entry["data_offsets"] = draw(st.lists(SIZES, min_size=2, max_size=2))
            case 3:
                entry["data_offsets"] = [begin, draw(st.sampled_from((begin, end - 1, end + 1, end * 2)))]
            case 4:
                other = header[draw(st.sampled_from(names))]
                entry["data_offsets"] = other.get("data_offsets")
            case 5:
                # As many bytes, in another type and shape: what the container cannot notice.
                size = draw(st.sampled_from((1, 2, 4, 8)))
                kinds = {
                    1: ("U8", "F8_E4M3", "F8_E8M0", "BOOL"),
                    2: ("F16", "BF16", "I16"),
                    4: ("I32", "F32"),
                    8: ("C64", "F64"),
                }
                entry["dtype"] = draw(st.sampled_from(kinds[size]))
                shapes = ([(end - begin) // size], [1, (end - begin) // size, 1], [(end - begin) // size, 1])
                entry["shape"] = list(draw(st.sampled_from(shapes)))
            case 6:
                header[draw(st.sampled_from(WORDS))] = {
                    "dtype": "F32",
                    "shape": [0, draw(SIZES)],
                    "data_offsets": [end, end],
                }
            case 7:
                entry[draw(st.sampled_from(("dtype", "shape", "data_offsets", "more")))] = draw(VALUES)
            case 8:
                header["__metadata__"] = draw(VALUES)
    text = dumped(header)
    if draw(st.integers(0, 9)) == 0:  # the same name twice
        text = text[:-1] + b"," + dumped({names[0]: header[names[0]]})[1:]
    return text


@st.composite
def damaged_bytes(draw: Callable[..., Any], whole: bytes, header: int) -> bytes:
    """Cut short, or with single bytes of its first `header` bytes changed."""
    damaged = bytearray(whole)
    if draw(st.booleans()):
        del damaged[draw(st.integers(0, len(whole) - 1)) :]
        return bytes(damaged)
    for _ in range(draw(st.integers(1, 4))):
        damaged[draw(st.integers(0, header - 1))] = draw(st.integers(0, 255))
    return bytes(damaged)


def read_json(path: Path) -> dict[str, Any]:
    """A table from a file."""
    table: dict[str, Any] = json.loads(path.read_text())
    return table


def message(call: Callable[[], object]) -> str | None:
    """None where the call works, else what its `CamelidError` says; any other error goes on."""
    try:
        call()
    except CamelidError as error:
        return str(error)
    return None
