"""A model's weights as the decoder in C reads them: dense ones where they lie, packed ones in lines."""

import ctypes
import math
from typing import cast

import torch
from torch import Tensor, nn

from camelid.engine.native.build import library
from camelid.engine.native.pages import zero_pages
from camelid.engine.native.structures import NORMS, PROJECTIONS, SLOTS, CLayer, CLinear, CPacking
from camelid.model.adapters import adapted
from camelid.model.linears import LinearKind, kind_of, known_linears
from camelid.model.lora import LoRALinear
from camelid.model.transformer import Transformer
from camelid.quant.packed import PackedLinear
from camelid.quant.packing import packed_int32

FLOAT32, BFLOAT16 = 0, 1
KINDS = {torch.float32: FLOAT32, torch.bfloat16: BFLOAT16}
PACKED_KINDS = {8: 2, 4: 3}
LEAST_BITS = 4
"""Fewer are computed as so many."""
LANES = 16
LARGEST_SEGMENT = 64
"""Inputs of packed products that share a scale, at most."""
AnyLinear = nn.Linear | PackedLinear | LoRALinear
READ: tuple[LinearKind, ...] = ("plain", "packed")
"""Kinds of linears that the decoder reads."""


def takes(linear: nn.Module) -> bool:
    """Whether a product is written for a linear: plain, or packed in groups that are whole rows or lines of 8
    inputs, each with or without a low-rank update."""
    if isinstance(linear, LoRALinear):
        return kind_of(linear) == "lora" and takes(linear.base)
    if isinstance(linear, PackedLinear):
        whole_rows = linear.group_size == linear.in_features
        return kind_of(linear) in READ and (whole_rows or linear.group_size % 8 == 0)
    return kind_of(linear) in READ


class Weights:
    """What the structures of a model point to; it lives as long as they do.

    integers: whether packed products may be done in integers, which float32 models never do.
    """

    def __init__(self, model: Transformer, dtype: torch.dtype, integers: bool) -> None:
        self.dtype = dtype
        self._kept: list[Tensor] = []
        self._model = model
        kinds: tuple[LinearKind, ...] = (*READ, "lora") if adapted(model) else READ
        self._linears = cast(dict[str, AnyLinear], known_linears(model, kinds, "the decoder in C"))
        self._parameters = dict(model.named_parameters())
        bases = (each.base if isinstance(each, LoRALinear) else each for each in self._linears.values())
        packed = [base for base in bases if isinstance(base, PackedLinear)]
        self.segment = _segment(packed) if integers and dtype != torch.float32 and packed else 0
        self._arena = zero_pages(4 * sum(map(_line_values, packed))).view(torch.int32)
        self.embedding = self.address(model.embed_tokens.weight, dtype)
        self.unembedding = self._unembedding()

    def address(self, tensor: Tensor, dtype: torch.dtype = torch.float32) -> int:
        """Where a tensor's values lie in `dtype`."""
        tensor = tensor.detach().to(dtype).contiguous()
        self._kept.append(tensor)
        return tensor.data_ptr()

    def layer(self, index: int) -> ctypes.Structure:
        """One layer's norms and linears."""
        spec = self._model.spec
        layer = CLayer(window=min(spec.window_of(index) or 0, spec.context_length))
        for field, name in NORMS.items():
            if (gain := self._parameters.get(f"layers.{index}.{name}")) is not None:
                setattr(layer, field, self.address(gain))
        for field, name in PROJECTIONS.items():
            linear = self._linear(self._linears[f"layers.{index}.{name}"])
            linear.slot = SLOTS.get(field, 0)
            setattr(layer, field, linear)
        return layer

    def _unembedding(self) -> ctypes.Structure:
        if (head := self._linears.get("lm_head")) is not None:
            return self._linear(head)
        spec = self._model.spec
        return CLinear(
            weight=self.embedding, kind=KINDS[self.dtype], outer=spec.vocab_size, inner=spec.hidden_size
        )

    def _linear(self, module: AnyLinear) -> ctypes.Structure:
        if isinstance(module, LoRALinear):
            return self._adapted(module)
        bias = dict(module.named_parameters(), **dict(module.named_buffers())).get("bias")
        linear = CLinear(
            bias=None if bias is None else self.address(bias),
            outer=module.out_features,
            inner=module.in_features,
        )
        if isinstance(module, PackedLinear):
            self._pack(module, linear)
        else:
            linear.kind, linear.weight = KINDS[self.dtype], self.address(module.weight, self.dtype)
        return linear

    def _adapted(self, module: LoRALinear) -> ctypes.Structure:
        linear = self._linear(cast(AnyLinear, module.base))
        linear.rank, linear.low = module.settings.rank, self.address(module.lora_a, self.dtype)
        setattr(linear, "raise", self.address(module.settings.scale * module.lora_b.detach().float().T))
        return linear

    def _pack(self, module: PackedLinear, linear: ctypes.Structure) -> None:
        bits = max(LEAST_BITS, module.bits)
        packed_codes = (
            module.packed_codes if bits == module.bits else packed_int32(module.quantized().codes.T, bits)
        )
        packed_codes = packed_codes.contiguous()
        linear.kind, linear.group = PACKED_KINDS[bits], module.group_size
        linear.weight = self._lines(packed_codes, bits)
        scales = _tiles(module.scales)
        kind = torch.bfloat16 if torch.equal(scales.bfloat16().to(scales.dtype), scales) else torch.float32
        linear.scales, linear.scale_kind = self.address(scales, kind), KINDS[kind]
        linear.zeros = self.address(_tiles(module.zeros), torch.uint8)
        # Equal ones, as in symmetric models, need not come from memory with every group.
        linear.zero_step = 0 if bool((module.zeros == module.zeros[0, 0]).all()) else LANES

    def _lines(self, packed_codes: Tensor, bits: int) -> int:
        count, outer = packed_codes.shape
        lines = self._arena[: _tile_count(outer) * count * LANES]
        self._arena = self._arena[len(lines) :]
        packing = CPacking(packed_codes.data_ptr(), lines.data_ptr(), bits, count, outer)
        library().camelid_pack(ctypes.addressof(packing), torch.get_num_threads())
        return self.address(lines, torch.int32)


def _line_values(linear: PackedLinear) -> int:
    """Values of 32 bits in a linear's lines."""
    return (
        _tile_count(linear.out_features) * -(-linear.in_features * max(LEAST_BITS, linear.bits) // 32) * LANES
    )


def _tile_count(outer: int) -> int:
    return -(-outer // LANES)


def _segment(packed: list[PackedLinear]) -> int:
    """The largest segment that crosses no group: a whole row is one group, whatever its length."""
    groups = [each.group_size for each in packed if each.group_size != each.in_features]
    return math.gcd(LARGEST_SEGMENT, *groups)


def _tiles(values: Tensor) -> Tensor:
    """[outer, groups] -> [tiles, groups, 16], filled up with zeros."""
    outer, groups = values.shape
    padded = values.new_zeros(_tile_count(outer) * LANES, groups)
    padded[:outer] = values
    return padded.view(-1, LANES, groups).transpose(1, 2).contiguous()
