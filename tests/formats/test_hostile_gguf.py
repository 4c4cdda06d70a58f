"""Hostile GGUF files: a folder that loads, or a message that names the file; no other end."""

import struct
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import torch
from hostile import NUMBERS, damaged_bytes, message
from hypothesis import given, settings
from hypothesis import strategies as st

from camelid.engine.memory import plan
from camelid.formats.gguf.file import GGUFFile
from camelid.formats.importing import import_model
from camelid.formats.load import load_model

FEW = settings(max_examples=20, deadline=None, derandomize=True, database=None)
KINDS = {
    "u8": 0,
    "i8": 1,
    "u32": 4,
    "i32": 5,
    "f32": 6,
    "bool": 7,
    "string": 8,
    "array": 9,
    "u64": 10,
    "i64": 11,
    "f64": 12,
}
PACK = {
    "u8": "<B",
    "i8": "<b",
    "u32": "<I",
    "i32": "<i",
    "f32": "<f",
    "bool": "<B",
    "u64": "<Q",
    "i64": "<q",
    "f64": "<d",
}


def value_of(kind: str, value: Any) -> bytes:
    """A value as it stands in the file, without its type."""
    if kind == "string":
        text = value if isinstance(value, bytes) else value.encode()
        return struct.pack("<Q", len(text)) + text
    if kind == "array":
        inner, values = value
        packed = b"".join(value_of(inner, each) for each in values)
        return struct.pack("<IQ", KINDS[inner], len(values)) + packed
    return struct.pack(PACK[kind], value)


def kind_of(value: Any) -> tuple[str, Any]:
    """The type in the file that holds a value which was read."""
    if isinstance(value, list):
        return "array", (kind_of(value[0])[0] if value else "u32", value)
    return {bool: "bool", int: "u32", float: "f32", str: "string"}[type(value)], value


def scalars() -> st.SearchStrategy[tuple[str, Any]]:
    """Typed values of every kind, extreme ones among them."""
    whole = [n for n in NUMBERS if 0 <= n < 2**64]
    return st.one_of(
        st.tuples(st.just("u64"), st.sampled_from(whole)),
        st.tuples(st.just("i32"), st.sampled_from([-(2**31), -1, 0, 1, 5])),
        st.tuples(st.just("f32"), st.sampled_from([0.0, -1.0, 1e-30, float("nan"), float("inf"), 3e38, 0.5])),
        st.tuples(st.just("f64"), st.sampled_from([1e308, -1e308, float("nan")])),
        st.tuples(st.just("bool"), st.sampled_from([0, 1, 2])),
        st.tuples(
            st.just("string"),
            st.sampled_from([b"", b"\xff", b"x" * 300, b"llama", b"gpt2", b"t5", "é{{".encode()]),
        ),
    )


def values() -> st.SearchStrategy[tuple[str, Any]]:
    """The same, and arrays of them."""
    lists = scalars().flatmap(
        lambda one: st.integers(0, 200).map(lambda count: ("array", (one[0], [one[1]] * count)))
    )
    return scalars() | lists


class Parts:
    """A GGUF file taken apart: its typed keys, its tensors' descriptions, and the bytes behind them."""

    def __init__(self, path: Path) -> None:
        file = GGUFFile(path)
        self.keys = {key: kind_of(value) for key, value in file.metadata.items()}
        first = min(tensor.start for tensor in file.tensors.values())
        types = {"F32": 0, "F16": 1}
        self.tensors = [
            [name.encode(), list(tensor.shape[::-1]), types[tensor.format.name], tensor.start - first]
            for name, tensor in file.tensors.items()
        ]
        self.data = path.read_bytes()[first:]

    def file(self, keys: dict[Any, Any], tensors: list[Any], counts: tuple[int, int] | None = None) -> bytes:
        """Put together again; counts: what the header says of tensors and keys, if not the truth."""
        said = (len(tensors), len(keys)) if counts is None else counts
        head = b"GGUF" + struct.pack("<IQQ", 3, *said)
        for key, (kind, value) in keys.items():
            head += value_of("string", key) + struct.pack("<I", KINDS[kind]) + value_of(kind, value)
        for name, shape, kind, offset in tensors:
            head += value_of("string", name) + struct.pack(f"<I{len(shape)}Q", len(shape), *shape)
            head += struct.pack("<IQ", kind, offset)
        return head + bytes(-len(head) % 32) + self.data


@pytest.fixture
def parts(write) -> Parts:
    path, _ = write(0)
    return Parts(path)


def outcome(content: bytes) -> str | None:
    """None where the file becomes a folder that loads, else the message, which has to name the file."""
    with TemporaryDirectory() as place:
        path, out = Path(place) / "model.gguf", Path(place) / "out"
        path.write_bytes(content)
        said = message(lambda: import_model(path, out))
        if said is None:
            load_model(out)
        else:
            assert sorted(each.name for each in Path(place).iterdir()) == ["model.gguf"]
        asked = message(lambda: plan(path, torch.float32, context=1))
        assert all(text is None or (str(path) in text and len(text) < 20_000) for text in (said, asked))
    return said


def test_the_parts_are_the_file(parts):
    assert outcome(parts.file(parts.keys, parts.tensors)) is None


def test_any_key(parts):
    names = sorted(parts.keys)

    @FEW
    @given(st.lists(st.tuples(st.sampled_from(names), values()), min_size=1, max_size=2))
    def run(changes):
        outcome(parts.file(parts.keys | dict(changes), parts.tensors))

    run()


def test_any_tensor(parts):
    sizes = st.sampled_from([n for n in NUMBERS if 0 <= n < 2**64])

    @FEW
    @given(st.data())
    def run(data):
        tensors = [list(tensor) for tensor in parts.tensors]
        tensor = data.draw(st.sampled_from(tensors))
        match data.draw(st.integers(0, 5)):
            case 0:
                tensor[1] = data.draw(st.lists(sizes, max_size=5))
            case 1:
                tensor[2] = data.draw(st.sampled_from([*range(36), 255, 2**32 - 1]))
            case 2:
                tensor[3] = data.draw(sizes | st.sampled_from([other[3] for other in tensors]))
            case 3:
                tensor[0] = data.draw(
                    st.sampled_from([other[0] for other in tensors] + [b"", b"\xff", b"../x"])
                )
            case 4:
                tensors.append(data.draw(st.sampled_from(tensors)))
            case 5:
                tensors.remove(tensor)
        counts = data.draw(
            st.sampled_from([None, None, None, (len(tensors), 2**64 - 1), (2**63, len(parts.keys)), (0, 0)])
        )
        outcome(parts.file(parts.keys, tensors, counts))

    run()


def test_any_damaged_bytes(parts):
    whole = parts.file(parts.keys, parts.tensors)

    @FEW
    @given(damaged_bytes(whole, len(whole) - len(parts.data)))
    def run(content):
        outcome(content)

    run()


@pytest.mark.parametrize(
    ("key", "value", "part"),
    [
        ("llama.attention.layer_norm_rms_epsilon", ("f32", float("nan")), "norm.eps is nan"),
        ("llama.attention.layer_norm_rms_epsilon", ("f32", 0.0), "norm.eps is 0.0"),
        ("llama.rope.freq_base", ("f32", float("inf")), "positions.theta is inf"),
        ("llama.rope.scaling.factor", ("f32", -2.0), "positions.scaling.factor is -2.0"),
    ],
)
def test_numbers_that_are_none_become_no_folder(parts, key, value, part):
    assert part in str(outcome(parts.file(parts.keys | {key: value}, parts.tensors)))


def test_tensors_that_share_bytes_are_refused(parts):
    tensors = [list(tensor) for tensor in parts.tensors]
    names = {tensor[0]: tensor for tensor in tensors}
    names[b"blk.0.attn_q.weight"][3] = names[b"token_embd.weight"][3]
    said = outcome(parts.file(parts.keys, tensors))
    assert "overlap" in str(said)
    assert "token_embd.weight" in str(said)
