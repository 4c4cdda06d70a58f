"""torch's kernels for products with packed weights, behind one interface."""

import sys
from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int8
from torch import Tensor

from camelid.quant.choices import Bits
from camelid.quant.round_to_nearest import QuantizedWeight

INT4_GROUPS = (32, 64, 128, 256)
"""Group sizes that torch's 4-bit kernels support."""


@dataclass(frozen=True)
class PackedForm:
    """The properties of a weight that decide its kernel; symmetric: all zero points are the middle code."""

    bits: Bits
    outer: int
    inner: int
    group_size: int
    symmetric: bool


class Kernel(ABC):
    """x W^T over a packed weight in the kernel's own layout, for up to `most_rows` rows of x.

    For more rows, dequantising the weight and a plain product are as fast or faster.
    """

    most_rows: int

    @abstractmethod
    def takes(self, form: PackedForm, dtype: torch.dtype, device: torch.device) -> bool:
        """Whether the kernel supports such a weight with activations in `dtype`."""

    @abstractmethod
    def arrange(self, weight: QuantizedWeight, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Codes and scales in the kernel's layout."""

    @abstractmethod
    def product(
        self, x: Float[Tensor, "rows inner"], codes: Tensor, scales: Tensor, group_size: int
    ) -> Float[Tensor, "rows outer"]:
        """x W^T with the results of `arrange`; x must be contiguous."""


class Int4OnCPU(Kernel):
    """4 bits, outputs in blocks of 16."""

    most_rows = 8

    def takes(self, form: PackedForm, dtype: torch.dtype, device: torch.device) -> bool:
        return form.bits == 4 and form.group_size in INT4_GROUPS and form.outer % 16 == 0

    def arrange(self, weight: QuantizedWeight, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        codes = torch.ops.aten._convert_weight_to_int4pack_for_cpu(weight.codes.int(), 1)
        return codes, _scales_and_offsets(weight, dtype)

    def product(self, x: Tensor, codes: Tensor, scales: Tensor, group_size: int) -> Tensor:
        product: Tensor = torch.ops.aten._weight_int4pack_mm_for_cpu(x, codes, group_size, scales)
        return product


class Int4OnCUDA(Kernel):
    """4 bits on tensor cores (tinygemm): bfloat16, outputs in tiles of 8, inputs in 2 to 8 adjacent tiles of
    16.

    Weights are read once for every 16 rows, at half a byte each. Dequantising reads and writes 4.5 bytes per
    weight, the same traffic as 144 rows.
    """

    most_rows = 128

    def takes(self, form: PackedForm, dtype: torch.dtype, device: torch.device) -> bool:
        fits = form.group_size in INT4_GROUPS and form.outer % 8 == 0
        # Older GPUs have no bfloat16 tensor cores; the kernel would silently compute nothing on them.
        return (
            form.bits == 4
            and fits
            and dtype == torch.bfloat16
            and torch.cuda.get_device_capability(device) >= (8, 0)
        )

    def arrange(self, weight: QuantizedWeight, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Two codes to a byte, the earlier in its upper half."""
        tiles = next(count for count in (8, 4, 2) if weight.codes.shape[1] % (16 * count) == 0)
        pairs = weight.codes[:, ::2] << 4 | weight.codes[:, 1::2]
        return torch.ops.aten._convert_weight_to_int4pack(pairs, tiles), _scales_and_offsets(weight, dtype)

    def product(self, x: Tensor, codes: Tensor, scales: Tensor, group_size: int) -> Tensor:
        product: Tensor = torch.ops.aten._weight_int4pack_mm(x, codes, group_size, scales)
        return product


class Int8OnCPU(Kernel):
    """8 bits with one scale per row and no zero points."""

    most_rows = 8

    def takes(self, form: PackedForm, dtype: torch.dtype, device: torch.device) -> bool:
        # It reads 16 inputs at a time, past the end unless their number is a multiple of 16.
        one_scale = form.group_size == form.inner and form.inner % 16 == 0
        return form.bits == 8 and one_scale and form.symmetric and dtype != torch.float16

    def arrange(self, weight: QuantizedWeight, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        return _signed(weight), weight.scales[:, 0].to(dtype)

    def product(self, x: Tensor, codes: Tensor, scales: Tensor, group_size: int) -> Tensor:
        return torch._weight_int8pack_mm(x, codes, scales)


class Int8OnCUDA(Kernel):
    """8 bits without zero points: scales in one pass, then a plain product; torch.compile fuses both for one
    row.

    torch's own kernel uses one thread per output, which reaches only a fraction of the memory bandwidth.
    """

    most_rows = sys.maxsize

    def takes(self, form: PackedForm, dtype: torch.dtype, device: torch.device) -> bool:
        return form.bits == 8 and form.symmetric

    def arrange(self, weight: QuantizedWeight, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Codes in groups, one scale each."""
        return _signed(weight).view(*weight.scales.shape, -1), weight.scales[..., None].to(dtype)

    def product(self, x: Tensor, codes: Tensor, scales: Tensor, group_size: int) -> Tensor:
        return F.linear(x, (codes * scales).flatten(1))


KERNELS: dict[str, tuple[Kernel, ...]] = {
    "cpu": (Int4OnCPU(), Int8OnCPU()),
    "cuda": (Int4OnCUDA(), Int8OnCUDA()),
}
"""The kernels of each type of device."""


def kernel_for(form: PackedForm, dtype: torch.dtype, device: torch.device) -> Kernel | None:
    """The kernel that supports such a weight and activations, or None."""
    return next((each for each in KERNELS.get(device.type, ()) if each.takes(form, dtype, device)), None)


def _signed(weight: QuantizedWeight) -> Int8[Tensor, "outer inner"]:
    """8-bit codes minus 128, the middle code."""
    return (weight.codes ^ 128).view(torch.int8)


def _scales_and_offsets(weight: QuantizedWeight, dtype: torch.dtype) -> Float[Tensor, "groups outer 2"]:
    """Scale and offset of each group: torch's 4-bit products compute (code - 8) * scale + offset."""
    scales = weight.scales.float()
    pairs = torch.stack((scales, (8 - weight.zeros) * scales), dim=-1)
    return pairs.transpose(0, 1).contiguous().to(dtype)
