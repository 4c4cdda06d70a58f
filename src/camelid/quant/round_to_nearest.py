"""Round-to-nearest quantisation: groups of weights along the input share a scale and a zero point."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from camelid.base.errors import CamelidError
from camelid.quant.choices import Bits


@dataclass(frozen=True)
class QuantizedWeight:
    """w = scale * (code - zero), a scale and a zero point per output and `group_size` adjacent inputs."""

    codes: UInt8[Tensor, "outer inner"]
    scales: Float[Tensor, "outer groups"]
    zeros: Int[Tensor, "outer groups"]
    bits: Bits

    @property
    def group_size(self) -> int:
        """Inputs that share a scale."""
        return self.codes.shape[1] // self.scales.shape[1]

    def dequantize(self, dtype: torch.dtype = torch.float32) -> Float[Tensor, "outer inner"]:
        """The weight, computed in float32."""
        codes = self.codes.reshape(*self.scales.shape, self.group_size).float()
        weight = self.scales.float()[..., None] * (codes - self.zeros[..., None])
        return weight.reshape(self.codes.shape).to(dtype)

    def part(self, index: int, count: int, dim: int) -> "QuantizedWeight":
        """Part `index` of `count` equal ones along `dim`, exactly; groups that are cut become smaller."""
        size = math.gcd(self.group_size, self.codes.shape[1] // count) if dim == 1 else self.group_size
        finer = self.group_size // size
        tensors = self.codes, self.scales.repeat_interleave(finer, 1), self.zeros.repeat_interleave(finer, 1)
        codes, scales, zeros = (each.chunk(count, dim)[index] for each in tensors)
        return QuantizedWeight(codes, scales.clone(memory_format=torch.contiguous_format), zeros, self.bits)


def round_to_nearest(
    weight: Float[Tensor, "outer inner"],
    bits: Bits,
    group_size: int,
    scale_dtype: torch.dtype = torch.float32,
) -> QuantizedWeight:
    """Rounds every weight to the nearest code of the grid that `fit_groups` fits to its group.

    Raises `CamelidError` if `group_size` does not divide the inputs.
    """
    outer, inner = weight.shape
    if group_size < 1 or inner % group_size:
        raise CamelidError(f"{inner} inputs are not a multiple of group size {group_size}; give a divisor")
    grouped = weight.float().reshape(outer, -1, group_size)
    scales, zeros = fit_groups(grouped, bits, scale_dtype)
    codes = torch.round(grouped / scales.float()[..., None]) + zeros[..., None]
    return QuantizedWeight(codes.clamp(0, 2**bits - 1).flatten(1).to(torch.uint8), scales, zeros.int(), bits)


def fit_groups(
    grouped: Float[Tensor, "outer groups size"], bits: Bits, scale_dtype: torch.dtype
) -> tuple[Float[Tensor, "outer groups"], Float[Tensor, "outer groups"]]:
    """Scales and zero points; 8 bits: symmetric, zero point 128; fewer: asymmetric, the range extended to 0.

    Scales are rounded to `scale_dtype` before codes are chosen, so the stored scales are the ones used. Zero
    points are at least 1, which the public GPTQ layout stores as 0. Formulas: GPTQ's reference code
    (arXiv:2210.17323), `quant.py`, without its clip search.
    """
    top = 2**bits - 1
    if bits == 8:
        scales = 2 * grouped.abs().amax(-1) / top
        zeros = torch.full_like(scales, 2 ** (bits - 1))
    else:
        high, low = grouped.amax(-1).clamp(min=0), grouped.amin(-1).clamp(max=0)
        scales = (high - low) / top
        zeros = torch.round(-low / _not_zero(scales))
        # A zero point of 0 becomes 1, see above; a larger scale lets the top code still reach the maximum.
        scales = torch.where(zeros < 1, high / (top - 1), scales)
        zeros = zeros.clamp(1, top)
    return _not_zero(scales.to(scale_dtype)), zeros


def _not_zero(scales: Tensor) -> Tensor:
    # In a group of zeros any scale works: all codes are the zero point.
    return torch.where(scales == 0, torch.ones_like(scales), scales)
