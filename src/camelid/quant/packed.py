"""Linear layers over packed weights of 2 to 8 bits, on the kernels that torch ships for 4 and 8 where those are faster."""

from abc import ABC, abstractmethod

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from camelid.quant.round_to_nearest import QuantizedWeight
from camelid.quant.words import pack_integers, unpack_integers

KERNEL_ROWS = 8
"""Up to so many rows the packed kernels win; above, dequantising once and a plain product do."""
INT4_GROUPS = (32, 64, 128, 256)
"""Group sizes that torch's 4-bit product takes; its outputs come in blocks of 16."""


class PackedLinear(nn.Module, ABC):
    """x W^T + b over a weight that stays packed; `quantized()` gives the weight's codes, scales and zero points.

    The buffers are no part of the state dict: `camelid.quant.storage` writes and reads them.
    """

    codes: Tensor
    scales: Tensor
    zeros: Tensor
    bias: Tensor | None

    def __init__(self, weight: QuantizedWeight, bias: Tensor | None = None) -> None:
        super().__init__()
        self.out_features, self.in_features = weight.codes.shape
        self.bits, self.group_size = weight.bits, weight.group_size
        self.register_buffer("scales", weight.scales, persistent=False)
        self.register_buffer("zeros", weight.zeros.to(torch.uint8), persistent=False)
        self.register_buffer("bias", bias, persistent=False)

    @abstractmethod
    def quantized(self) -> QuantizedWeight:
        """Exactly the weight that was packed."""

    @abstractmethod
    def fast_product(self, x: Float[Tensor, "rows inner"]) -> Float[Tensor, "rows outer"] | None:
        """x W^T by a packed kernel; None where no kernel takes this device, dtype or shape."""

    def reference(self, x: Float[Tensor, "*batch inner"]) -> Float[Tensor, "*batch outer"]:
        """The exact slow way, in x's dtype: dequantise, then multiply."""
        bias = None if self.bias is None else self.bias.to(x.dtype)
        return F.linear(x, self.quantized().dequantize(x.dtype), bias)

    def forward(self, x: Float[Tensor, "*batch inner"]) -> Float[Tensor, "*batch outer"]:
        """x W^T + b, by the kernel where there are few rows."""
        rows = x.reshape(-1, self.in_features)
        product = self.fast_product(rows) if 0 < len(rows) <= KERNEL_ROWS and x.device.type == "cpu" else None
        if product is None:
            return self.reference(x)
        product = product if self.bias is None else product + self.bias.to(x.dtype)
        return product.view(*x.shape[:-1], self.out_features)

    def extra_repr(self) -> str:
        """What `print(model)` says of the layer."""
        return (
            f"in_features={self.in_features}, out_features={self.out_features}, group_size={self.group_size}"
        )


class PackedLinear4(PackedLinear):
    """Two 4-bit codes a byte: the code of an even input is the low half."""

    def __init__(self, weight: QuantizedWeight, bias: Tensor | None = None) -> None:
        super().__init__(weight, bias)
        self.register_buffer("codes", weight.codes[:, ::2] | weight.codes[:, 1::2] << 4, persistent=False)
        self._kernel: dict[torch.dtype, tuple[Tensor, Tensor]] = {}

    def quantized(self) -> QuantizedWeight:
        """See `PackedLinear.quantized`."""
        codes = torch.stack((self.codes & 15, self.codes >> 4), dim=-1).flatten(1)
        return QuantizedWeight(codes, self.scales, self.zeros.int(), 4)

    def fast_product(self, x: Float[Tensor, "rows inner"]) -> Float[Tensor, "rows outer"] | None:
        """torch's `_weight_int4pack_mm_for_cpu`, which computes (code - 8) * scale + offset."""
        if self.group_size not in INT4_GROUPS or self.out_features % 16 or self.codes.device.type != "cpu":
            return None
        if x.dtype not in self._kernel:
            self._kernel[x.dtype] = self._kernel_form(x.dtype)
        codes, scales_and_offsets = self._kernel[x.dtype]
        product: Tensor = torch.ops.aten._weight_int4pack_mm_for_cpu(
            x.contiguous(), codes, self.group_size, scales_and_offsets
        )
        return product

    def _kernel_form(self, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        weight = self.quantized()
        codes = torch.ops.aten._convert_weight_to_int4pack_for_cpu(weight.codes.int(), 1)
        scales = weight.scales.float()
        pairs = torch.stack((scales, (8 - weight.zeros) * scales), dim=-1)
        return codes, pairs.transpose(0, 1).contiguous().to(dtype)


class PackedLinear8(PackedLinear):
    """A byte for each code."""

    def __init__(self, weight: QuantizedWeight, bias: Tensor | None = None) -> None:
        super().__init__(weight, bias)
        self.register_buffer("codes", weight.codes, persistent=False)
        self._signed: Tensor | None = None
        # The kernel reads 16 inputs at a time, and past the end where they are no multiple of that.
        one_scale = self.group_size == self.in_features and bool((self.zeros == 128).all())
        self._takes_kernel = one_scale and self.in_features % 16 == 0

    def quantized(self) -> QuantizedWeight:
        """See `PackedLinear.quantized`."""
        return QuantizedWeight(self.codes, self.scales, self.zeros.int(), 8)

    def fast_product(self, x: Float[Tensor, "rows inner"]) -> Float[Tensor, "rows outer"] | None:
        """torch's `_weight_int8pack_mm`: one scale an output, codes around 0."""
        if not self._takes_kernel or x.dtype == torch.float16 or self.codes.device.type != "cpu":
            return None
        if self._signed is None:
            self._signed = (self.codes ^ 128).view(torch.int8)
        product: Tensor = torch._weight_int8pack_mm(
            x.contiguous(), self._signed, self.scales[:, 0].to(x.dtype)
        )
        return product


class PackedLinearWords(PackedLinear):
    """Codes of 2 or 3 bits side by side in 32-bit words, as they are stored; no kernel takes them."""

    def __init__(self, weight: QuantizedWeight, bias: Tensor | None = None) -> None:
        super().__init__(weight, bias)
        self.register_buffer("codes", pack_integers(weight.codes.T, weight.bits), persistent=False)

    def quantized(self) -> QuantizedWeight:
        """See `PackedLinear.quantized`."""
        codes = unpack_integers(self.codes, self.bits).T.to(torch.uint8).contiguous()
        return QuantizedWeight(codes, self.scales, self.zeros.int(), self.bits)

    def fast_product(self, x: Float[Tensor, "rows inner"]) -> Float[Tensor, "rows outer"] | None:
        """None."""
        return None


PACKED: dict[int, type[PackedLinear]] = {
    2: PackedLinearWords,
    3: PackedLinearWords,
    4: PackedLinear4,
    8: PackedLinear8,
}


def pack(weight: QuantizedWeight, bias: Tensor | None = None) -> PackedLinear:
    """The packed layer for a weight."""
    return PACKED[weight.bits](weight, bias)
