"""Parts of linears of few bits: their products joined or summed are the whole's, from the same weights."""

import pytest
import torch
from torch import Tensor, nn

from camelid.base.errors import CamelidError
from camelid.quant.nf4 import NF4Linear
from camelid.quant.packed import pack
from camelid.quant.round_to_nearest import round_to_nearest

OUTER, INNER = 192, 384


def layer(kind: str, group_size: int = 64) -> nn.Module:
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(OUTER, INNER, generator=generator) * torch.rand(OUTER, 1, generator=generator)
    bias = torch.randn(OUTER, generator=generator)
    if kind == "nf4":
        return NF4Linear(weight, bias)
    return pack(round_to_nearest(weight, int(kind[0]), group_size), bias)  # type: ignore[arg-type]


def weights_of(layers: list[nn.Module], dim: int) -> Tensor:
    return torch.cat([each.dequantize(torch.float32) for each in layers], dim)  # type: ignore[operator]


@pytest.mark.parametrize("dim", [0, 1])
@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("kind", ["nf4", "2 bits", "3 bits", "4 bits", "8 bits"])
def test_parts_together_are_the_whole(kind: str, count: int, dim: int) -> None:
    whole = layer(kind)
    parts = [whole.part(index, count, dim) for index in range(count)]  # type: ignore[operator]
    assert torch.equal(weights_of(parts, dim), weights_of([whole], dim))
    x = torch.randn(2, 5, INNER, requires_grad=True)
    inputs = [x] * count if dim == 0 else x.chunk(count, -1)
    products = [part(own) for part, own in zip(parts, inputs, strict=True)]
    together = torch.cat(products, -1) if dim == 0 else torch.stack(products).sum(0)
    torch.testing.assert_close(together, whole(x), rtol=1e-5, atol=1e-4)
    if count > 1:  # nothing keeps the memory of the whole
        assert all(
            each.untyped_storage().nbytes() == each.nbytes for part in parts for each in part.buffers()
        )


@pytest.mark.parametrize("dim", [0, 1])
@pytest.mark.parametrize("kind", ["4 bits", "8 bits"])
def test_parts_have_the_kernels_of_the_whole(kind: str, dim: int) -> None:
    whole = layer(kind, 64 if kind == "4 bits" else INNER)
    parts = [whole.part(index, 2, dim) for index in range(2)]  # type: ignore[operator]
    x = torch.randn(4, INNER)
    products = [part(own) for part, own in zip(parts, [x, x] if dim == 0 else x.chunk(2, -1), strict=True)]
    together = torch.cat(products, -1) if dim == 0 else products[0] + products[1]
    assert all(part._arranged for part in parts)
    torch.testing.assert_close(together, whole.reference(x), rtol=2e-2, atol=0.2)  # type: ignore[operator]


def test_the_bias_of_a_model_in_another_precision_is_cut_too() -> None:
    linear = nn.Linear(128, 64).bfloat16()
    whole = NF4Linear(linear.weight, linear.bias).float()
    assert torch.equal(whole.part(1, 2, 0).bias, linear.bias[32:].float())


@pytest.mark.parametrize("group_size", [48, 128, 384])
def test_groups_that_are_cut_become_smaller(group_size: int) -> None:
    whole = layer("4 bits", group_size)
    parts = [whole.part(index, 4, 1) for index in range(4)]  # type: ignore[operator]
    assert torch.equal(weights_of(parts, 1), weights_of([whole], 1))
    assert {part.group_size for part in parts} == {{48: 48, 128: 32, 384: 96}[group_size]}


def test_a_block_of_nf4_is_not_cut() -> None:
    with pytest.raises(CamelidError, match="4 parts of a weight of 192 x 384, by input, would cut NF4's blo"):
        layer("nf4").part(0, 4, 1)  # type: ignore[operator]
