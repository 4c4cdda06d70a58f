"""The layouts of quantised linears in GPTQ and AWQ checkpoints, which vLLM and transformers read.

For a linear of `outer` x `inner` weights, w = scale * (code - zero), with codes packed into int32, the first
in the lowest bits (`camelid.quant.packing`):

              gptq                                             awq, version gemm (4 bits only)
    qweight   int32 [inner * bits / 32, outer] along inputs    int32 [inner, outer / 8] along outputs,
    interleaved qzeros    int32 [groups, outer * bits / 32] MINUS ONE      int32 [groups, outer / 8] as they
    are, interleaved scales    float [groups, outer]                            float16 [groups, outer] g_idx
    int32 [inner], index // group_size               (none: groups are in order)

GPTQ's minus one comes from the first kernels, which added one; every reader of `checkpoint_format: gptq`
follows them. `gptq_v2` stores zero points as they are; it is read but not written. Some folders name one and
hold the other: where `sym` says that every zero point is the middle code, that decides. An AWQ word holds
outputs 0, 2, 4, 6, 1, 3, 5, 7, from the lowest bits up.

Sources: casper-hansen/AutoAWQ, `awq/modules/linear/gemm.py`, `awq/utils/packing_utils.py` (order, shapes,
float16) and `awq/models/_config.py` (keys); vllm-project/vllm, `quantization/awq.py` and `gptq.py` (keys,
`w_bit` and `q_group_size` beside `bits` and `group_size`); huggingface/transformers, `AwqConfig` (`version`,
`modules_to_not_convert`).
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float, Int, Int32, UInt8
from torch import Tensor

from camelid.base.errors import CamelidError, shortened
from camelid.quant.choices import Bits
from camelid.quant.packed import PACKED, PackedLinear
from camelid.quant.packing import packed_int32, unpacked_integers

LayoutName = Literal["gptq", "awq"]
Packed = tuple[Int32[Tensor, "packed outer"], Float[Tensor, "outer groups"], UInt8[Tensor, "outer groups"]]
HEAD_PATTERN = "+:^lm_head$"
"""The key in `dynamic` (GPTQModel, vLLM) for the output projection's settings."""
INTERLEAVED = (0, 2, 4, 6, 1, 3, 5, 7)
"""The outputs in an AWQ word, from the lowest four bits up."""


@dataclass(frozen=True)
class Scheme:
    """The contents of a `quantization_config`."""

    bits: Bits
    group_size: int
    """-1 means a whole row."""
    symmetric: bool
    """Whether every zero point is the middle code."""
    packed: Sequence[str]
    left: Sequence[str]
    """Linears of the layers by their names on disk: those quantised, and those left in full precision."""
    head_bits: Bits | None = None
    """Bits of the output projection, one scale per row; None if it is not quantised."""


@dataclass(frozen=True)
class Layout:
    """One public layout: its limits, its tensors and its `quantization_config`."""

    name: LayoutName
    bits: tuple[Bits, ...]
    dtypes: tuple[torch.dtype, ...]
    """Allowed dtypes of scales and of unquantised tensors."""
    lowest_zero: int
    """The smallest zero point that can be written."""
    shapes: Callable[[int, int, int, Bits], dict[str, tuple[int, ...]]]
    """Shapes and dtypes of the tensors of a linear with `outer` x `inner` weights."""
    write: Callable[[PackedLinear], dict[str, Tensor]]
    read: Callable[[Mapping[str, Tensor], Bits, int], Packed]
    """Codes, scales and zero points of a `PackedLinear`, given the offset of stored zero points."""
    check: Callable[[Mapping[str, Any]], tuple[Bits, int]]
    """Bits, and the offset of stored zero points; raises `CamelidError` if unsupported."""
    describe: Callable[[Scheme], dict[str, Any]]
    """The `quantization_config`."""


def layout_of(method: object) -> Layout:
    """The layout named in a `quantization_config`; raises `CamelidError` if unsupported."""
    if not isinstance(method, Mapping):
        raise CamelidError(
            f"quantization_config is {shortened(method)}; it must be an object with a quant_method"
        )
    kind = method.get("quant_method")
    if not isinstance(kind, str) or kind not in LAYOUTS:
        raise CamelidError(
            f"quantization_config has quant_method {shortened(kind)}; supported: {', '.join(LAYOUTS)}"
        )
    return LAYOUTS[kind]


def _gptq_shapes(outer: int, inner: int, groups: int, bits: Bits) -> dict[str, tuple[int, ...]]:
    return {
        "qweight": (inner * bits // 32, outer),
        "qzeros": (groups, outer * bits // 32),
        "scales": (groups, outer),
        "g_idx": (inner,),
    }


def _write_gptq(linear: PackedLinear) -> dict[str, Tensor]:
    return {
        "qweight": linear.packed_codes,
        "qzeros": packed_int32(linear.zeros.int() - 1, linear.bits).T,
        "scales": linear.scales.T,
        "g_idx": torch.arange(linear.in_features, dtype=torch.int32) // linear.group_size,
    }


def _read_gptq(parts: Mapping[str, Tensor], bits: Bits, offset: int) -> Packed:
    groups, count = parts["g_idx"].long(), len(parts["scales"])
    if not torch.equal(groups, torch.arange(len(groups)) // (len(groups) // count)):
        raise CamelidError("g_idx reorders the groups (desc_act); only ordered groups are supported")
    # Stored minus one, 0 became the highest code; adding one wraps it back.
    points = (unpacked_integers(parts["qzeros"].T, bits) + offset) % 2**bits
    return parts["qweight"], parts["scales"].T.contiguous(), points.to(torch.uint8).contiguous()


def _check_gptq(method: Mapping[str, Any]) -> tuple[Bits, int]:
    bits, form = method.get("bits"), method.get("checkpoint_format", method.get("format", "gptq"))
    if type(bits) is not int or bits not in PACKED or form not in ("gptq", "gptq_v2"):
        raise CamelidError(
            f"quantization_config is gptq with {shortened(bits)} bits, format {shortened(form)}; "
            "supported: gptq with 2, 3, 4 or 8 bits, format gptq or gptq_v2"
        )
    return bits, 0 if form == "gptq_v2" else 1


def zero_offset(method: Mapping[str, Any], qzeros: Tensor, bits: Bits, offset: int) -> int:
    """The offset of a GPTQ linear's stored zero points: what `sym` implies, else what the format says.

    Raises `CamelidError` if the stored zero points contradict `sym`.
    """
    if method.get("quant_method") != "gptq" or method.get("sym") is not True or not qzeros.numel():
        return offset
    stored = unpacked_integers(qzeros.T.contiguous(), bits)
    middle = 1 << (bits - 1)
    lowest, highest = int(stored.min()), int(stored.max())
    if lowest == highest and middle - lowest in (0, 1):
        return middle - lowest
    raise CamelidError(
        f"quantization_config has sym true, so every zero point is {middle} (stored as {middle - 1}, or as "
        f"{middle} in gptq_v2), but those stored are {lowest} to {highest}; if they are right, "
        "set sym to false"
    )


def _describe_gptq(scheme: Scheme) -> dict[str, Any]:
    method: dict[str, Any] = {
        "quant_method": "gptq",
        "checkpoint_format": "gptq",
        "bits": scheme.bits,
        "group_size": scheme.group_size,
        "sym": scheme.symmetric,
        "desc_act": False,
        "lm_head": scheme.head_bits is not None,
    }
    dynamic: dict[str, Any] = {}
    if scheme.head_bits is not None:
        # "+:" overrides the settings of a module.
        dynamic[HEAD_PATTERN] = {"bits": scheme.head_bits, "group_size": -1}
    if scheme.left:
        # GPTQModel and vLLM exclude modules by a pattern with "-:"; transformers uses
        # optimum, which lists those that are quantised.
        dynamic |= {f"-:.*{re.escape(path)}$": {} for path in scheme.left}
        method["modules_in_block_to_quantize"] = [list(scheme.packed)]
    return method | ({"dynamic": dynamic} if dynamic else {})


def bits_of_head(method: Mapping[str, Any], bits: Bits) -> Bits:
    """Bits of a quantised output projection: its own setting, or the layers'."""
    dynamic = method.get("dynamic")
    own = dynamic.get(HEAD_PATTERN) if isinstance(dynamic, Mapping) else None
    if own is None:
        return bits
    head = own.get("bits") if isinstance(own, Mapping) else own
    if type(head) is not int or head not in PACKED:
        raise CamelidError(f"{HEAD_PATTERN} is {shortened(own)}; bits must be 2, 3, 4 or 8")
    return head


def _awq_shapes(outer: int, inner: int, groups: int, bits: Bits) -> dict[str, tuple[int, ...]]:
    packed = outer * bits // 32
    return {"qweight": (inner, packed), "qzeros": (groups, packed), "scales": (groups, outer)}


def _write_awq(linear: PackedLinear) -> dict[str, Tensor]:
    weight = linear.quantized()
    return {
        "qweight": packed_int32(_interleave(weight.codes, INTERLEAVED), 4).T,
        "qzeros": packed_int32(_interleave(weight.zeros, INTERLEAVED), 4).T,
        "scales": weight.scales.T,
    }


def _read_awq(parts: Mapping[str, Tensor], bits: Bits, offset: int) -> Packed:
    back = [INTERLEAVED.index(output) for output in range(8)]
    codes, points = (
        _interleave(unpacked_integers(parts[part].T, bits), back) for part in ("qweight", "qzeros")
    )
    packed_codes = packed_int32(codes.T, bits)
    return packed_codes, parts["scales"].T.contiguous(), (points + offset).to(torch.uint8).contiguous()


def _interleave(values: Int[Tensor, "outer m"], order: Sequence[int]) -> Int[Tensor, "outer m"]:
    """Reorders rows within each group of eight."""
    return values.reshape(-1, 8, values.shape[1])[:, list(order)].flatten(0, 1)


def _check_awq(method: Mapping[str, Any]) -> tuple[Bits, int]:
    bits = method.get("bits", method.get("w_bit"))
    # AutoAWQ writes `version`, GPTQModel `format` or `checkpoint_format`, the earliest folders neither.
    named = (method.get(key) for key in ("version", "format", "checkpoint_format"))
    version = str(next(filter(None, named), "gemm")).lower()
    if type(bits) is not int or bits != 4 or version != "gemm" or not method.get("zero_point", True):
        raise CamelidError(
            f"quantization_config is awq with {shortened(bits)} bits, version {shortened(version)}, "
            "zero_point "
            f"{shortened(method.get('zero_point'))}; supported: awq with 4 bits, version gemm, "
            "zero_point true"
        )
    return 4, 0


def _describe_awq(scheme: Scheme) -> dict[str, Any]:
    if scheme.head_bits is not None:
        raise CamelidError(
            "the awq layout cannot hold a quantised output projection; quantise the model again "
            "without --head-bits"
        )
    # Zero points are stored even if all are equal: readers of this version require them.
    return {
        "quant_method": "awq",
        "version": "gemm",
        "bits": scheme.bits,
        "group_size": scheme.group_size,
        "zero_point": True,
        "modules_to_not_convert": [*scheme.left, "lm_head"],
    }


LAYOUTS: dict[str, Layout] = {
    "gptq": Layout(
        name="gptq",
        bits=(2, 3, 4, 8),
        dtypes=(torch.float16, torch.bfloat16, torch.float32),
        lowest_zero=1,
        shapes=_gptq_shapes,
        write=_write_gptq,
        read=_read_gptq,
        check=_check_gptq,
        describe=_describe_gptq,
    ),
    "awq": Layout(
        name="awq",
        bits=(4,),
        dtypes=(torch.float16,),
        lowest_zero=0,
        shapes=_awq_shapes,
        write=_write_awq,
        read=_read_awq,
        check=_check_awq,
        describe=_describe_awq,
    ),
}
