"""Hostile and damaged GGUF files: one message that names the key or tensor, and nothing half-written."""

import random
import struct

import numpy as np
import pytest

from camelid.base.errors import CamelidError
from camelid.formats.gguf.file import GGUFFile
from camelid.formats.importing import import_model


def refused(path, tmp_path, *parts: str) -> None:
    out = tmp_path / "refused"
    with pytest.raises(CamelidError) as raised:
        import_model(path, out)
    for part in (str(path), *parts):
        assert part in str(raised.value)
    assert [child for child in tmp_path.iterdir() if "refused" in child.name] == []


@pytest.mark.parametrize(
    ("options", "part"),
    [
        ({"skip": ["blk.0.attn_q.weight"]}, "tensor 'blk.0.attn_q.weight' is missing"),
        ({"skip": ["token_embd.weight"]}, "tensor 'token_embd.weight' is missing"),
        (
            {"extra": {"blk.0.ffn_gate_inp.weight": np.ones((2, 2), np.float32)}},
            "'blk.0.ffn_gate_inp.weight'",
        ),
        ({"skip": ["llama.block_count"]}, "llama.block_count is None"),
        ({"changes": {"llama.block_count": 2**31}}, "do not belong together"),
        ({"changes": {"llama.block_count": "two"}}, "llama.block_count is 'two'"),
        ({"changes": {"llama.feed_forward_length": 17}}, "tensor 'blk.0.ffn_gate.weight' is"),
        ({"changes": {"llama.rope.dimension_count": 2}}, "llama.rope.dimension_count is 2"),
        ({"changes": {"llama.rope.scaling.type": "yarn"}}, "llama.rope.scaling.type is 'yarn'"),
        (
            {"changes": {"llama.rope.scaling.attn_factor": 2.0}},
            "llama.rope.scaling.attn_factor is 2.0, not 1",
        ),
        (
            {
                "changes": {"llama.rope.scaling.factor": 2.0},
                "extra": {"rope_freqs.weight": np.ones(4, np.float32)},
            },
            "llama.rope.scaling.factor is 2 together with rope_freqs.weight",
        ),
        ({"changes": {"llama.attention.causal": False}}, "llama.attention.causal is False, not True"),
        ({"changes": {"llama.expert_count": 8}}, "mixtures of experts"),
        ({"changes": {"llama.attention.head_count_kv": [2, 2]}}, "llama.attention.head_count_kv is [2, 2]"),
        ({"changes": {"llama.attention.head_count_kv": 999}}, "num_kv_heads 999"),
        ({"changes": {"split.count": 3}}, "of 3 of a split model"),
        ({"changes": {"general.architecture": "mamba"}}, "general.architecture is 'mamba'; supported: llama"),
        ({"changes": {"tokenizer.ggml.tokens": ["Ā", "ā", "Āā", *map(str, range(97))]}}, "100 ids"),
    ],
)
def test_unsupported_or_damaged_model(options, part, write, tmp_path):
    path, _ = write(0, **options)
    refused(path, tmp_path, part)


def test_vocabulary_without_a_model(shared, tmp_path):
    path = shared / "weights/tokenizers/llama_cpp_vocab_vectors/ggml-vocab-llama-spm.gguf"
    refused(path, tmp_path, "a vocabulary but no tensors")


def test_an_output_folder_in_use_is_left_alone(write, tmp_path):
    path, _ = write()
    (tmp_path / "out").mkdir()
    (tmp_path / "out/mine.txt").write_text("mine")
    with pytest.raises(CamelidError, match="not empty"):
        import_model(path, tmp_path / "out")
    assert [child.name for child in (tmp_path / "out").iterdir()] == ["mine.txt"]


@pytest.mark.parametrize(
    ("content", "part"),
    [
        (b"", "truncated in the magic number"),
        (b"PK\x03\x04" + bytes(100), "not a GGUF file"),
        (b"GGUF" + struct.pack("<I", 1), "GGUF version 1; supported"),
        (b"GGUF" + struct.pack(">I", 3), "big-endian"),
        (
            b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + struct.pack("<Q", 2**63),
            "truncated in metadata key 1 of 1",
        ),
        (b"GGUF" + struct.pack("<IQQQ1sI", 3, 0, 1, 1, b"k", 99), "key 'k' has the unknown type 99"),
        (b"GGUF" + struct.pack("<IQQQ1sIIQ", 3, 0, 1, 1, b"k", 9, 4, 2**62), "truncated in key 'k'"),
        (b"GGUF" + struct.pack("<IQQQ1sIIQ", 3, 0, 1, 1, b"k", 9, 9, 1), "array of arrays"),
        (b"GGUF" + struct.pack("<IQQQ1sI", 3, 0, 1, 1, b"\xff", 4), "not valid UTF-8"),
        (b"GGUF" + struct.pack("<IQQQ1sI", 3, 1, 0, 1, b"t", 9), "tensor 't' has 9 dimensions"),
        (b"GGUF" + struct.pack("<IQQQ1sIQIQ", 3, 1, 0, 1, b"t", 1, 0, 0, 0), "tensor 't' is empty"),
        (
            b"GGUF" + struct.pack("<IQQQ1sIQIQ", 3, 1, 0, 1, b"t", 1, 8, 19, 0),
            "tensor 't' has the unsupported type 19",
        ),
        (
            b"GGUF" + struct.pack("<IQQQ1sIQIQ", 3, 1, 0, 1, b"t", 1, 8, 2, 0),
            "not a multiple of Q4_0's blocks of 32",
        ),
        (
            b"GGUF" + struct.pack("<IQQQ1sIQIQ", 3, 1, 0, 1, b"t", 1, 8, 0, 2**63),
            "truncated: tensor 't' ends",
        ),
    ],
)
def test_damaged_container(content, part, tmp_path):
    path = tmp_path / "model.gguf"
    path.write_bytes(content)
    refused(path, tmp_path, part)


def test_missing_file(tmp_path):
    refused(tmp_path / "model.gguf", tmp_path, "No such file")
    (tmp_path / "folder").mkdir()
    refused(tmp_path / "folder", tmp_path, "is a folder without")


def test_every_cut_is_noticed(write, tmp_path):
    path, _ = write()
    whole = path.read_bytes()
    sizes = {*range(0, 4000, 37), *range(4000, len(whole), 997), len(whole) - 33}
    for size in sorted(size for size in sizes if size < len(whole) - 32):
        path.write_bytes(whole[:size])
        refused(path, tmp_path)


def test_any_damaged_byte_gives_a_model_or_a_message(write, tmp_path):
    """Whatever a byte is changed to, nothing but `CamelidError` comes out, and soon."""
    path, _ = write()
    whole = path.read_bytes()
    header = GGUFFile(path).tensors["token_embd.weight"].start
    draw = random.Random(0)
    for number in range(400):
        damaged = bytearray(whole)
        damaged[draw.randrange(header)] = draw.choice((0, 1, 255, draw.randrange(256)))
        path.write_bytes(damaged)
        try:
            import_model(path, tmp_path / f"out-{number}")
        except CamelidError:
            assert not (tmp_path / f"out-{number}").exists()
