"""Products with weights that are quantised and not trained: the backward pass dequantises them again.

autograd would keep the dequantised matrix of every layer until then, which is the whole model in float.
"""

from typing import Any, Protocol

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


class FrozenLinear(Protocol):
    """A linear over a quantised weight."""

    def dequantize(self, dtype: torch.dtype) -> Float[Tensor, "outer inner"]:
        """The weight in `dtype`."""

    def part(self, index: int, count: int, dim: int) -> nn.Module:
        """Part `index` of `count` equal ones, by output (dim 0) or by input (1), with the same weights.

        The parts' products are to be joined or summed. Of those by input the first has the bias. Raises
        `CamelidError` where it would cut codes that share a byte or a scale, and these cannot be cut.
        """


def part_of_bias(bias: Tensor | None, index: int, count: int, dim: int) -> Tensor | None:
    """The bias of a part; see `FrozenLinear.part`."""
    if bias is None or dim == 1:
        return bias if index == 0 else None
    return bias.chunk(count)[index].clone()


def frozen_product(x: Float[Tensor, "*batch inner"], weight: FrozenLinear) -> Float[Tensor, "*batch outer"]:
    """x W^T, differentiable in x."""
    product: Tensor = _FrozenProduct.apply(x, weight)  # type: ignore[no-untyped-call]
    return product


class _FrozenProduct(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: FrozenLinear) -> Tensor:
        ctx.weight = weight
        return F.linear(x, weight.dequantize(x.dtype))

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, None]:
        (gradient,) = grad_outputs
        return gradient @ ctx.weight.dequantize(gradient.dtype), None
