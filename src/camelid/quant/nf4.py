"""NF4 (QLoRA, arXiv:2305.14314, section 3): 4 bits a weight, for a base that is not trained.

A weight is a code times the largest magnitude of its block of 64. These are quantised too (double
quantisation): minus their mean, to 8 bits in blocks of 256. In all 4 + 8 / 64 + 32 / (64 * 256) = 4.127 bits.
"""

import copy
from collections.abc import Sequence
from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int8, UInt8
from torch import Tensor, nn

from camelid.base.errors import CamelidError
from camelid.base.mapped_pages import let_go
from camelid.model.linears import LinearKind, plain_linears
from camelid.model.surgery import replace, select
from camelid.model.transformer import Transformer
from camelid.quant.choices import ALL_LINEARS
from camelid.quant.frozen import frozen_product, part_of_bias

BLOCK, BLOCK_OF_SCALES = 64, 256
OUTERMOST = 0.9677083
"""The quantile of the outermost codes: the mean of 1 - 1/30 and 1 - 1/32, halfway to those of 15 and 16
values."""


def normal_float_codes() -> Float[Tensor, "16"]:
    """The 16 values: 8 quantiles of the normal distribution above 0, 7 below, and 0, over the largest."""
    above = torch.special.ndtri(torch.linspace(OUTERMOST, 0.5, 9, dtype=torch.float64)[:-1])
    below = torch.special.ndtri(torch.linspace(OUTERMOST, 0.5, 8, dtype=torch.float64)[:-1])
    codes = torch.cat([above, -below, torch.zeros(1, dtype=torch.float64)]).sort().values
    return (codes / codes.max()).float()


CODES = normal_float_codes()
BORDERS = (CODES[1:] + CODES[:-1]) / 2
PAIRS = torch.cartesian_prod(CODES, CODES)
"""The two values of each byte: the first weight is in its upper half, as in bitsandbytes."""


class NF4Linear(nn.Module):
    """x W^T + b over a weight in NF4; it has no parameters, and gradients reach only x."""

    linear_kind: ClassVar[LinearKind] = "nf4"
    codes: UInt8[Tensor, " pairs"]
    steps: Int8[Tensor, " blocks"]
    scales: Float[Tensor, " blocks_of_scales"]
    mean: Float[Tensor, ""]
    bias: Tensor | None

    def __init__(self, weight: Float[Tensor, "outer inner"], bias: Tensor | None = None) -> None:
        super().__init__()
        self.out_features, self.in_features = weight.shape
        self.blocks_of_scale = BLOCK_OF_SCALES
        codes, largest = quantized(weight)
        mean = largest.mean()
        blocks = F.pad(largest - mean, (0, -len(largest) % BLOCK_OF_SCALES)).view(-1, BLOCK_OF_SCALES)
        scales = blocks.abs().amax(1) / 127
        steps = (blocks / scales.clamp(min=1e-30)[:, None]).round().to(torch.int8).flatten()[: len(largest)]
        for name, tensor in {
            "codes": codes,
            "steps": steps,
            "scales": scales,
            "mean": mean,
            "bias": None if bias is None else bias.detach(),
        }.items():
            self.register_buffer(name, tensor, persistent=False)

    def dequantize(self, dtype: torch.dtype = torch.float32) -> Float[Tensor, "outer inner"]:
        """The weight that the codes stand for."""
        padded = F.pad(self.steps, (0, -len(self.steps) % self.blocks_of_scale)).view(
            -1, self.blocks_of_scale
        )
        largest = (padded * self.scales[:, None]).flatten()[: len(self.steps)] + self.mean
        values = F.embedding(self.codes.int(), PAIRS.to(self.codes.device)).view(-1, BLOCK)
        count = self.out_features * self.in_features
        return values.mul_(largest[:, None]).flatten()[:count].view(self.out_features, -1).to(dtype)

    def _scale_of_blocks(self) -> Float[Tensor, " blocks"]:
        return self.scales.repeat_interleave(self.blocks_of_scale)[: len(self.steps)]

    def part(self, index: int, count: int, dim: int) -> "NF4Linear":
        """Part `index` of `count` equal ones; see `FrozenLinear.part`. Each of its blocks has its own scale,
        so that it has 4.625 bits a weight."""
        stretches = 1 if dim == 0 else self.out_features
        if self.out_features * self.in_features % (stretches * count * BLOCK):
            raise CamelidError(
                f"{count} parts of a weight of {self.out_features} x {self.in_features}, "
                f"{'by output' if dim == 0 else 'by input'}, would cut NF4's blocks of {BLOCK} weights; give "
                "another --parallel.tensor, or a base of 4 bits from camelid quantize"
            )

        def cut(values: Tensor) -> Tensor:
            return values.view(stretches, count, -1)[:, index].flatten().clone()  # lets go of the whole

        part = copy.deepcopy(self)
        part.codes, part.steps = cut(self.codes), cut(self.steps)
        part.scales = cut(self._scale_of_blocks())
        part.blocks_of_scale = 1
        part.bias = part_of_bias(self.bias, index, count, dim)
        part.out_features //= count if dim == 0 else 1
        part.in_features //= count if dim == 1 else 1
        return part

    def forward(self, x: Float[Tensor, "*batch inner"]) -> Float[Tensor, "*batch outer"]:
        """x W^T + b."""
        product = frozen_product(x, self)
        return product if self.bias is None else product + self.bias.to(x.dtype)


def quantized(
    weight: Float[Tensor, "outer inner"],
) -> tuple[UInt8[Tensor, " pairs"], Float[Tensor, " blocks"]]:
    """The codes, two to a byte, and the largest magnitude of each block of 64 along the rows."""
    flat = weight.detach().float().flatten()
    blocks = F.pad(flat, (0, -len(flat) % BLOCK)).view(-1, BLOCK)
    largest = blocks.abs().amax(1)
    shares = blocks / largest.clamp(min=1e-30)[:, None]
    indices = torch.bucketize(shares, BORDERS.to(weight.device), out_int32=True).to(torch.uint8).view(-1, 2)
    return indices[:, 0] << 4 | indices[:, 1], largest


@torch.no_grad()
def to_nf4(model: Transformer, selector: Sequence[str] = ALL_LINEARS) -> Transformer:
    """Replaces the plain linears that `selector` matches by NF4 ones, one at a time, in place.

    Memory of weights in mapped files is released as they are read.
    """
    found = plain_linears(model)
    for path in select(found, selector):
        linear = found.pop(path)
        replace(model, path, NF4Linear(linear.weight, linear.bias))
        let_go(linear.weight)
    return model
