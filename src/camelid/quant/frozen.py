"""Products with weights that are quantised and not trained: the backward pass dequantises them again.

autograd would keep the dequantised matrix of every layer until then, which is the whole model in float.
"""

from typing import Any, Protocol

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


class Frozen(Protocol):
    """A weight that can be dequantised."""

    def dequantize(self, dtype: torch.dtype) -> Float[Tensor, "outer inner"]:
        """The weight in `dtype`."""


def frozen_product(x: Float[Tensor, "*batch inner"], weight: Frozen) -> Float[Tensor, "*batch outer"]:
    """x W^T, differentiable in x."""
    product: Tensor = _FrozenProduct.apply(x, weight)  # type: ignore[no-untyped-call]
    return product


class _FrozenProduct(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Frozen) -> Tensor:
        ctx.weight = weight
        return F.linear(x, weight.dequantize(x.dtype))

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, None]:
        (gradient,) = grad_outputs
        return gradient @ ctx.weight.dequantize(gradient.dtype), None
