"""The memory that a model's weights take once they are loaded, from its spec and the headers of its files."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from camelid.base.errors import naming
from camelid.engine.device import CPU
from camelid.engine.native.decoder import knows
from camelid.engine.native.weights import LANES, LEAST_BITS
from camelid.formats.hugging_face.checkpoint import (
    blank_model,
    check_belong_together,
    read_config,
    read_tensors,
)
from camelid.formats.packed.storage import check_quantizable, stored_sizes
from camelid.model.linears import plain_linears
from camelid.model.spec import ModelSpec
from camelid.model.surgery import select
from camelid.quant.choices import ALL_LINEARS
from camelid.quant.quantize import fitting_group

SMALLER_DTYPE = torch.bfloat16
"""In which `camelid quantize` stores all that is not packed, and in which the engine then computes."""
UNPACKING, REORDERING = 16, 24
"""Bytes for each weight of the largest linear while its codes are unpacked, and packed again in another
order."""


@dataclass(frozen=True)
class WeightMemory:
    """Bytes of a model's weights as they are loaded."""

    bits: int
    """Of a weight of the layers' linears."""
    size: int
    mapped: int = 0
    """Part of `size` that stays in the file, since it is stored in the dtype asked for. It is needed all the
    same, for every token reads all of it, but where memory is short the system drops it and reads it again,
    slowly."""
    loading: int = 0
    """What is needed for a moment, while packed ones are unpacked or brought into another order."""
    beside: int = 0
    """What a decoder keeps in another form, without what nothing reads any more then."""


@dataclass(frozen=True)
class PackedShape:
    """A packed linear of `outer` x `inner` weights in `groups` groups for each output."""

    outer: int
    inner: int
    groups: int
    bits: int
    scale: torch.dtype


def plain_weights(spec: ModelSpec, dtype: torch.dtype, stored: int = 0) -> WeightMemory:
    """All parameters in `dtype`, a tied embedding once; stored: bytes of them that a file has in this
    dtype."""
    size = spec.parameter_count() * dtype.itemsize
    return WeightMemory(8 * dtype.itemsize, size, min(size, stored))


def folder_weights(
    folder: Path, spec: ModelSpec, dtype: torch.dtype, device: torch.device = CPU
) -> WeightMemory:
    """Those of a checkpoint folder, from its config.json and the headers of its tensor files."""
    tensors = read_tensors(folder)
    with naming(folder):
        check_belong_together(spec, stored_sizes(tensors))
    if "quantization_config" not in read_config(folder):
        stored = sum(tensor.nbytes for tensor in tensors.values() if tensor.dtype == dtype)
        return plain_weights(spec, dtype, stored)
    return _packed_in_folder(spec, tensors, dtype, device)


def quantized_weights(
    spec: ModelSpec, bits: int, dtype: torch.dtype = SMALLER_DTYPE, device: torch.device = CPU
) -> WeightMemory:
    """What `camelid quantize --bits` makes of the model, all but the codes in `dtype`.

    Raises `CamelidError` where it would.
    """
    check_quantizable(spec)
    # One layer without memory: the linears and their choice are those of the model itself.
    layer = plain_linears(blank_model(replace(spec, num_layers=1, vocab_size=1)))
    chosen = {path: layer[path] for path in select(layer, ALL_LINEARS)}
    group = fitting_group({path: linear.weight.shape for path, linear in chosen.items()}, bits)
    packed = [
        PackedShape(outer, inner, 1 if group == -1 else inner // group, bits, dtype)
        for outer, inner in (linear.weight.shape for linear in chosen.values())
    ] * spec.num_layers
    biases = spec.num_layers * sum(
        linear.out_features for linear in chosen.values() if "bias" in dict(linear.named_parameters())
    )
    codes = sum(each.outer * each.inner for each in packed)
    rest = (spec.parameter_count() - codes) * dtype.itemsize
    stored = rest - biases * dtype.itemsize
    return _packed_weights(spec, packed, dtype, rest, stored, codes * bits // 8, device)


def _packed_in_folder(
    spec: ModelSpec, tensors: Mapping[str, Tensor], dtype: torch.dtype, device: torch.device
) -> WeightMemory:
    packed, biases, values, packed_bytes = [], 0, 0, 0
    for name, tensor in tensors.items():
        if not name.endswith(".qweight"):
            continue
        module = name.removesuffix("qweight")
        scales, order = tensors.get(module + "scales"), tensors.get(module + "g_idx")
        if scales is None or not all(each.ndim and each.numel() for each in (tensor, scales)):
            continue  # loading says what is missing
        # AWQ has no index, and a row of packed codes for each input; they are brought into the order of
        # GPTQ's.
        outer, inner = scales.shape[-1], tensor.shape[0] if order is None else max(1, order.numel())
        bits = max(1, 8 * tensor.nbytes // (outer * inner))
        packed.append(PackedShape(outer, inner, scales.numel() // outer, bits, scales.dtype))
        packed_bytes += tensor.nbytes if order is not None else 0
        values += outer * inner
        if (bias := tensors.get(module + "bias")) is not None:
            biases, values = biases + bias.nbytes, values + bias.numel()
    stored = sum(tensor.nbytes for tensor in tensors.values() if tensor.dtype == dtype)
    rest = max(0, spec.parameter_count() - values) * dtype.itemsize
    return _packed_weights(spec, packed, dtype, rest + biases, min(rest, stored), packed_bytes, device)


def _packed_weights(
    spec: ModelSpec,
    packed: Sequence[PackedShape],
    dtype: torch.dtype,
    rest: int,
    stored: int,
    packed_bytes: int,
    device: torch.device,
) -> WeightMemory:
    """Weights of which some are packed; rest: bytes of the others; stored, packed_bytes: bytes of both that a
    file has as they are."""
    codes = sum(each.outer * each.inner * each.bits // 8 for each in packed)
    points = sum(each.outer * each.groups * (each.scale.itemsize + 1) for each in packed)
    bits = min((each.bits for each in packed), default=8)
    native = knows(spec, dtype, device)
    beside = sum(_beside(each, dtype, native) for each in packed)
    # The decoder in C keeps the codes in an order of its own and never reads the file's again; the system
    # drops them.
    dropped = packed_bytes if native else 0
    reorders, unpacks = packed_bytes < codes, not native or bits < LEAST_BITS
    each_weight = REORDERING if reorders else UNPACKING if unpacks else 0
    loading = each_weight * max((each.outer * each.inner for each in packed), default=0)
    return WeightMemory(
        bits, codes + points + rest, stored + packed_bytes - dropped, loading, beside - dropped
    )


def _beside(packed: PackedShape, dtype: torch.dtype, native: bool) -> int:
    """What a decoder keeps of a packed linear beside what was loaded, in the order in which it computes."""
    if native:
        outer = -(-packed.outer // LANES) * LANES
        # A scale, in bfloat16 where that holds it exactly, and a byte of zero point for each group.
        scale = 2 if packed.scale == torch.bfloat16 else 4
        return outer * (packed.inner * max(LEAST_BITS, packed.bits) // 8 + (scale + 1) * packed.groups)
    # torch's kernels take 8 and 4 bits in an order of their own, with one or two numbers in `dtype` for each
    # group.
    numbers = {8: 1, 4: 2}.get(packed.bits)
    codes = packed.outer * packed.inner * packed.bits // 8
    return 0 if numbers is None else codes + numbers * dtype.itemsize * packed.outer * packed.groups
