"""NF4 against bitsandbytes' published values and brute force, and gradients through quantised weights."""

import pytest
import torch
import torch.nn.functional as F

from camelid.model.layers import Linear
from camelid.quant.nf4 import CODES, NF4Linear
from camelid.quant.packed import pack
from camelid.quant.round_to_nearest import round_to_nearest

BELOW = (-1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453)
MIDDLE = (-0.28444138169288635, -0.18477343022823334, -0.09105003625154495, 0.0)
ABOVE = (0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224)
HIGHEST = (0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0)
PUBLISHED = (*BELOW, *MIDDLE, *ABOVE, *HIGHEST)
"""bitsandbytes, functional.py, `get_4bit_type("nf4")`."""


def weight(outer: int = 24, inner: int = 96) -> torch.Tensor:
    return torch.randn(outer, inner, generator=torch.Generator().manual_seed(0)) * 0.1


def test_the_table_is_that_of_bitsandbytes() -> None:
    torch.testing.assert_close(CODES, torch.tensor(PUBLISHED), rtol=0, atol=2e-7)


@pytest.mark.parametrize("shape", [(24, 96), (5, 7), (300, 64)])
def test_each_weight_becomes_the_nearest_value_of_its_block(shape: tuple[int, int]) -> None:
    original = weight(*shape)
    found = NF4Linear(original).dequantize()
    flat = original.flatten()
    blocks = [flat[begin : begin + 64] for begin in range(0, len(flat), 64)]
    largest = torch.stack([block.abs().max() for block in blocks])
    nearest = torch.cat(
        [
            top * CODES[(block[:, None] / top - CODES).abs().argmin(1)]
            for block, top in zip(blocks, largest, strict=True)
        ]
    )
    # Double quantisation moves a block's largest magnitude by at most half a step of 1/127 of the spread.
    step = (largest - largest.mean()).abs().max() / 127
    assert (found.flatten() - nearest).abs().max() <= 0.51 * step + 1e-7


def test_the_bits_of_a_weight() -> None:
    layer = NF4Linear(weight(256, 512))
    held = sum(getattr(layer, name).nbytes for name in ("codes", "steps", "scales"))
    assert 8 * held / (256 * 512) == pytest.approx(4 + 8 / 64 + 32 / (64 * 256))
    assert not layer.state_dict()
    zeros = NF4Linear(torch.zeros(2, 64)).dequantize()
    assert torch.equal(zeros, torch.zeros(2, 64))


@pytest.mark.parametrize("kind", ["nf4", "packed"])
def test_gradients_reach_the_inputs(kind: str) -> None:
    bias = torch.randn(24)
    layer = NF4Linear(weight(), bias) if kind == "nf4" else pack(round_to_nearest(weight(), 4, 32), bias)
    x = torch.randn(3, 4, 96, requires_grad=True)
    plain = Linear(96, 24)
    plain.weight.data, plain.bias.data = layer.dequantize(torch.float32), bias
    output = layer(x)
    torch.testing.assert_close(output, F.linear(x, plain.weight, bias))
    chosen = torch.randn_like(output)
    [ours] = torch.autograd.grad((output * chosen).sum(), x)
    [theirs] = torch.autograd.grad((plain(x) * chosen).sum(), x)
    torch.testing.assert_close(ours, theirs)
