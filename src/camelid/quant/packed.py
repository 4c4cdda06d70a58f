"""Linear layers over packed weights of 2, 3, 4 or 8 bits, with torch's kernels where these are faster."""

from functools import cached_property
from typing import ClassVar, cast

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int32, UInt8
from torch import Tensor, nn

from camelid.model.linears import LinearKind, kind_of, linears
from camelid.quant.choices import Bits
from camelid.quant.frozen import frozen_product, part_of_bias
from camelid.quant.kernels import Kernel, PackedForm, kernel_for
from camelid.quant.packing import packed_int32, unpacked_integers
from camelid.quant.round_to_nearest import QuantizedWeight

PACKED: tuple[Bits, ...] = (2, 3, 4, 8)
"""Supported bit widths."""


class PackedLinear(nn.Module):
    """x W^T + b over a weight that stays packed, as folders store it (`camelid.formats.packed.storage`).

    Tensors are not copied, so those in a mapped file cost no memory until a product reads them. The buffers
    are not in the state dict: `camelid.formats.packed.storage` writes and reads them.
    """

    linear_kind: ClassVar[LinearKind] = "packed"
    packed_codes: Int32[Tensor, "packed outer"]
    scales: Float[Tensor, "outer groups"]
    zeros: UInt8[Tensor, "outer groups"]
    bias: Tensor | None

    def __init__(
        self,
        packed_codes: Int32[Tensor, "packed outer"],
        scales: Float[Tensor, "outer groups"],
        zeros: UInt8[Tensor, "outer groups"],
        bits: Bits,
        in_features: int,
        bias: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.in_features, self.out_features, self.bits = in_features, packed_codes.shape[1], bits
        self.group_size = in_features // scales.shape[1]
        self.register_buffer("packed_codes", packed_codes, persistent=False)
        self.register_buffer("scales", scales, persistent=False)
        self.register_buffer("zeros", zeros, persistent=False)
        self.register_buffer("bias", bias, persistent=False)
        self._kernels: dict[tuple[torch.dtype, torch.device], Kernel | None] = {}
        self._arranged: dict[tuple[torch.dtype, torch.device], tuple[Tensor, Tensor]] = {}

    @cached_property
    def form(self) -> PackedForm:
        """The properties of the weight that decide its kernel."""
        symmetric = bool((self.zeros == 2 ** (self.bits - 1)).all())
        return PackedForm(self.bits, self.out_features, self.in_features, self.group_size, symmetric)

    def quantized(self) -> QuantizedWeight:
        """The weight that was packed, exactly."""
        codes = (
            unpacked_integers(self.packed_codes, self.bits)[: self.in_features].T.to(torch.uint8).contiguous()
        )
        return QuantizedWeight(codes, self.scales, self.zeros.int(), self.bits)

    def dequantize(self, dtype: torch.dtype) -> Float[Tensor, "outer inner"]:
        """The weight in `dtype`."""
        return self.quantized().dequantize(dtype)

    def part(self, index: int, count: int, dim: int) -> "PackedLinear":
        """Part `index` of `count` equal ones; see `FrozenLinear.part`."""
        return pack(self.quantized().part(index, count, dim), part_of_bias(self.bias, index, count, dim))

    def reference(self, x: Float[Tensor, "*batch inner"]) -> Float[Tensor, "*batch outer"]:
        """The slow reference, in x's dtype: dequantise, then multiply."""
        bias = None if self.bias is None else self.bias.to(x.dtype)
        return F.linear(x, self.dequantize(x.dtype), bias)

    def forward(self, x: Float[Tensor, "*batch inner"]) -> Float[Tensor, "*batch outer"]:
        """x W^T + b, with a packed kernel if there are few rows and one supports them."""
        trains = x.requires_grad and torch.is_grad_enabled()  # the kernels have no backward pass
        product = frozen_product(x, self) if trains else self.fast_product(x.reshape(-1, self.in_features))
        if product is None:
            return self.reference(x)
        product = product if self.bias is None else product + self.bias.to(x.dtype)
        return product.view(*x.shape[:-1], self.out_features)

    def fast_product(self, x: Float[Tensor, "rows inner"]) -> Float[Tensor, "rows outer"] | None:
        """x W^T with a packed kernel; None if none supports this device, dtype, shape or number of rows."""
        kernel = self._kernel(x.dtype)
        if kernel is None or not 0 < len(x) <= kernel.most_rows:
            return None
        self.arrange(x.dtype)
        return kernel.product(
            x.contiguous(), *self._arranged[x.dtype, self.packed_codes.device], self.group_size
        )

    def arrange(self, dtype: torch.dtype) -> None:
        """Converts the weight to the kernel's layout for activations in `dtype`, before the first product."""
        kind, kernel = (dtype, self.packed_codes.device), self._kernel(dtype)
        if kernel is not None and kind not in self._arranged:
            self._arranged[kind] = kernel.arrange(self.quantized(), dtype)

    def forget_arranged(self) -> None:
        """Drops the kernels' cached layouts after a change of the weight."""
        vars(self).pop("form", None)
        self._kernels.clear()
        self._arranged.clear()

    def _kernel(self, dtype: torch.dtype) -> Kernel | None:
        kind = dtype, self.packed_codes.device
        if kind not in self._kernels:
            self._kernels[kind] = kernel_for(self.form, *kind)
        return self._kernels[kind]

    def extra_repr(self) -> str:
        """The description of the layer in `print(model)`."""
        sizes = f"in_features={self.in_features}, out_features={self.out_features}"
        return f"{sizes}, bits={self.bits}, group_size={self.group_size}"


def pack(weight: QuantizedWeight, bias: Tensor | None = None) -> PackedLinear:
    """The packed layer for a weight."""
    packed_codes = packed_int32(weight.codes.T, weight.bits)
    zeros = weight.zeros.to(torch.uint8)
    return PackedLinear(packed_codes, weight.scales, zeros, weight.bits, weight.codes.shape[1], bias)


def packed_linears(model: nn.Module) -> dict[str, PackedLinear]:
    """A model's packed layers by path."""
    found = linears(model)
    return {path: cast(PackedLinear, module) for path, module in found.items() if kind_of(module) == "packed"}
