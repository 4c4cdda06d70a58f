"""Blocks that are written hold what was meant, as the `gguf` package and llama.cpp's own quantiser read
and write them."""

import ctypes
import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch

from camelid.base.errors import CamelidError
from camelid.formats.gguf.quantizing import blocks_of
from camelid.formats.gguf.types import FORMATS
from camelid.formats.gguf.writing import _kind

gguf = pytest.importorskip("gguf")
NUMBERS = {each.name: number for number, each in FORMATS.items()}


def weights(rows=24, inner=512, seed=0):
    """Bell-shaped, with rows that are hard: nothing but zeros, one value, no negative, one far out."""
    x = 0.02 * torch.randn(rows, inner, generator=torch.Generator().manual_seed(seed))
    x[0], x[1, :256], x[2], x[3, 17] = 0, 0.5, x[2].abs(), -3
    return x


def read(blocks, kind):
    return torch.from_numpy(gguf.quants.dequantize(blocks.numpy(), gguf.GGMLQuantizationType[kind]))


@pytest.mark.parametrize(
    ("kind", "worst"),
    [("F32", 0), ("F16", 2**-11), ("BF16", 2**-8), ("Q8_0", 1 / 200), ("Q5_0", 1 / 15), ("Q4_0", 1 / 7)],
)
def test_the_gguf_package_reads_what_was_meant(kind, worst):
    x = weights()
    off = (read(blocks_of(x, kind), kind) - x).abs()
    assert (off <= worst * x.view(24, -1, 32).abs().amax(-1).repeat_interleave(32, 1) + 1e-12).all()


def test_q4_k_is_read_alike_and_closer_than_q4_0():
    x = weights()
    blocks = blocks_of(x, "Q4_K")
    assert blocks.shape == (24, 512 // 256 * 144)
    again = read(blocks, "Q4_K")
    assert np.array_equal(FORMATS[NUMBERS["Q4_K"]].dequantize(blocks.numpy().ravel()), again.numpy().ravel())
    simple = read(blocks_of(x, "Q4_0"), "Q4_0")
    ordinary = slice(4, None)
    assert (again - x)[ordinary].square().mean() < 0.75 * (simple - x)[ordinary].square().mean()
    assert torch.equal(again[0], x[0])
    assert (again[1, :256] - 0.5).abs().max() < 2e-3
    assert torch.equal(blocks_of(x[4:5], "Q4_K"), blocks[4:5])


@pytest.mark.parametrize("kind", ["F16", "Q8_0", "Q5_0", "Q4_0", "Q4_K"])
@pytest.mark.parametrize("value", [1e9, -torch.inf, torch.nan])
def test_values_that_no_half_holds_are_refused(kind, value):
    x = weights()
    x[5, 40] = value
    with pytest.raises(CamelidError, match="use bfloat16 or float32"):
        blocks_of(x, kind)


@pytest.mark.parametrize(
    ("name", "inner", "dtype", "kind"),
    [
        ("blk.0.ffn_up.weight", 576, "q4_k", "Q5_0"),
        ("blk.0.ffn_up.weight", 512, "q4_k", "Q4_K"),
        ("blk.0.ffn_up.weight", 40, "q4_0", "F16"),
        ("token_embd.weight", 512, "q4_0", "Q8_0"),
        ("position_embd.weight", 512, "q4_0", "F32"),
    ],
)
def test_matrices_that_do_not_fit_get_the_next_best(name, inner, dtype, kind):
    assert _kind(name, torch.empty(4, inner), dtype) == kind
    assert _kind(name, torch.empty(4), dtype) == "F32"


def test_llama_cpp_quantises_no_closer():
    if (package := importlib.util.find_spec("llama_cpp")) is None:
        pytest.skip("llama-cpp-python is not installed")
    library = ctypes.CDLL(str(Path(package.origin).parent / "lib" / "libggml-base.so"))
    quantize = library.ggml_quantize_chunk
    quantize.restype = ctypes.c_size_t
    quantize.argtypes = [ctypes.c_int, *[ctypes.c_void_p] * 2, *[ctypes.c_int64] * 3, ctypes.c_void_p]
    x = weights(rows=64)[4:].contiguous()
    for kind in ("Q4_K", "Q4_0", "Q8_0"):
        ours = blocks_of(x, kind)
        theirs = torch.zeros_like(ours)
        quantize(NUMBERS[kind], x.data_ptr(), theirs.data_ptr(), 0, len(x), x.shape[1], None)
        if kind == "Q4_K":
            errors = [(read(each, kind) - x).square().mean() for each in (ours, theirs)]
            assert errors[0] <= 1.02 * errors[1]
        else:
            assert torch.equal(ours, theirs)
