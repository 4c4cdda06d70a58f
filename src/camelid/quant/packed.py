"""Linear layers over packed weights of 2, 3, 4 or 8 bits, on the kernels that torch ships where those are faster."""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int32, UInt8
from torch import Tensor, nn

from camelid.quant.round_to_nearest import Bits, QuantizedWeight
from camelid.quant.words import pack_integers, unpack_integers

PACKED: tuple[Bits, ...] = (2, 3, 4, 8)
"""Bits that a weight may have."""
KERNEL_ROWS = 8
"""Up to so many rows the packed kernels win; above, dequantising once and a plain product do."""
INT4_GROUPS = (32, 64, 128, 256)
"""Group sizes that torch's 4-bit product takes; its outputs come in blocks of 16."""


class PackedLinear(nn.Module):
    """x W^T + b over a weight that stays packed, in the words in which folders store it (`camelid.quant.storage`).

    Nothing is copied, so words of a mapped file cost no memory until a product reads them. The buffers are no part of the
    state dict: `camelid.quant.storage` writes and reads them.
    """

    words: Int32[Tensor, "words outer"]
    scales: Float[Tensor, "outer groups"]
    zeros: UInt8[Tensor, "outer groups"]
    bias: Tensor | None

    def __init__(
        self,
        words: Int32[Tensor, "words outer"],
        scales: Float[Tensor, "outer groups"],
        zeros: UInt8[Tensor, "outer groups"],
        bits: Bits,
        in_features: int,
        bias: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.in_features, self.out_features, self.bits = in_features, words.shape[1], bits
        self.group_size = in_features // scales.shape[1]
        self.register_buffer("words", words, persistent=False)
        self.register_buffer("scales", scales, persistent=False)
        self.register_buffer("zeros", zeros, persistent=False)
        self.register_buffer("bias", bias, persistent=False)
        self._kernels: dict[torch.dtype, tuple[Tensor, Tensor]] = {}

    def quantized(self) -> QuantizedWeight:
        """Exactly the weight that was packed."""
        codes = unpack_integers(self.words, self.bits)[: self.in_features].T.to(torch.uint8).contiguous()
        return QuantizedWeight(codes, self.scales, self.zeros.int(), self.bits)

    def reference(self, x: Float[Tensor, "*batch inner"]) -> Float[Tensor, "*batch outer"]:
        """The exact slow way, in x's dtype: dequantise, then multiply."""
        bias = None if self.bias is None else self.bias.to(x.dtype)
        return F.linear(x, self.quantized().dequantize(x.dtype), bias)

    def forward(self, x: Float[Tensor, "*batch inner"]) -> Float[Tensor, "*batch outer"]:
        """x W^T + b, by one of torch's kernels where there are few rows and one takes them."""
        rows = x.reshape(-1, self.in_features)
        product = self.fast_product(rows) if 0 < len(rows) <= KERNEL_ROWS else None
        if product is None:
            return self.reference(x)
        product = product if self.bias is None else product + self.bias.to(x.dtype)
        return product.view(*x.shape[:-1], self.out_features)

    def fast_product(self, x: Float[Tensor, "rows inner"]) -> Float[Tensor, "rows outer"] | None:
        """x W^T by a packed kernel; None where no kernel takes this device, dtype or shape."""
        if self.words.device.type != "cpu":
            return None
        product: Tensor | None = None
        if self.bits == 4 and self.group_size in INT4_GROUPS and self.out_features % 16 == 0:
            codes, scales = self._kernel(x.dtype)
            op = torch.ops.aten._weight_int4pack_mm_for_cpu
            product = op(x.contiguous(), codes, self.group_size, scales)
        elif self._takes_int8(x.dtype):
            product = torch._weight_int8pack_mm(x.contiguous(), *self._kernel(x.dtype))
        return product

    def _takes_int8(self, dtype: torch.dtype) -> bool:
        # The kernel reads 16 inputs at a time, and past the end where they are no multiple of that.
        one_scale = self.group_size == self.in_features and self.in_features % 16 == 0
        return self.bits == 8 and one_scale and dtype != torch.float16 and bool((self.zeros == 128).all())

    def _kernel(self, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Codes and scales as the kernels want them, made when a product first asks."""
        if dtype not in self._kernels:
            weight = self.quantized()
            self._kernels[dtype] = (
                _int4_form(weight, dtype)
                if self.bits == 4
                else ((weight.codes ^ 128).view(torch.int8), weight.scales[:, 0].to(dtype))
            )
        return self._kernels[dtype]

    def extra_repr(self) -> str:
        """What `print(model)` says of the layer."""
        sizes = f"in_features={self.in_features}, out_features={self.out_features}"
        return f"{sizes}, bits={self.bits}, group_size={self.group_size}"


def pack(weight: QuantizedWeight, bias: Tensor | None = None) -> PackedLinear:
    """The packed layer for a weight."""
    words = pack_integers(weight.codes.T, weight.bits)
    zeros = weight.zeros.to(torch.uint8)
    return PackedLinear(words, weight.scales, zeros, weight.bits, weight.codes.shape[1], bias)


def _int4_form(weight: QuantizedWeight, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """What torch's product takes, which computes (code - 8) * scale + offset."""
    codes = torch.ops.aten._convert_weight_to_int4pack_for_cpu(weight.codes.int(), 1)
    scales = weight.scales.float()
    pairs = torch.stack((scales, (8 - weight.zeros) * scales), dim=-1)
    return codes, pairs.transpose(0, 1).contiguous().to(dtype)
