"""Quantised models on disk, in the layout of GPTQ checkpoints, which vLLM and transformers read.

For a linear of `outer` x `inner` weights w = scale * (code - zero), integers of `bits` bits side by side in int32, the
first in the lowest bits (`camelid.quant.words`):

    qweight  int32 [inner * bits / 32, outer]    codes, packed along the inputs
    qzeros   int32 [groups, outer * bits / 32]   zero points MINUS ONE, packed along the outputs
    scales   float [groups, outer]
    g_idx    int32 [inner]                       the group of each input: index // group_size

The minus one is a quirk of the first GPTQ kernels, which added one again; every reader of `checkpoint_format: gptq`
keeps to it. `gptq_v2`, which stores zero points as they are, is read too, never written.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from camelid.errors import CamelidError, naming
from camelid.model.checkpoint import blank_model, fill, read_config, read_spec, read_tensors, write_checkpoint
from camelid.model.families import FAMILIES, family_for
from camelid.model.spec import ModelSpec
from camelid.model.surgery import linears, replace
from camelid.model.transformer import Transformer
from camelid.quant.packed import PACKED, PackedLinear, pack
from camelid.quant.round_to_nearest import Bits, QuantizedWeight
from camelid.quant.words import pack_integers, run_length, unpack_integers

PARTS = ("qweight", "qzeros", "scales", "g_idx")


def save_quantized(
    folder: Path,
    model: Transformer,
    *,
    dtype: torch.dtype = torch.bfloat16,
    special_ids: Mapping[str, Any] | None = None,
    provenance: Mapping[str, Any] | None = None,
) -> None:
    """Writes a model with packed linears into an existing folder; `dtype` is that of all that is not quantised.

    Raises `CamelidError` where the packed linears differ in bits or group size, which the layout cannot say.
    """
    packed = {path: module for path, module in model.named_modules() if isinstance(module, PackedLinear)}
    method = _method(packed, [path for path in linears(model) if path.startswith("layers.")])
    write_checkpoint(
        folder,
        model.spec,
        _tensors(model, packed, dtype),
        dtype=dtype,
        special_ids=special_ids,
        extra_config={"quantization_config": method},
        provenance=provenance,
    )


def load_quantized(folder: Path, dtype: torch.dtype = torch.float32) -> Transformer:
    """The model of a folder in the GPTQ layout, 2, 3, 4 or 8 bits, with packed linears; `dtype` of all other weights.

    Raises `CamelidError` on other methods and bits, on reordered groups (`desc_act`), and on damaged tensors.
    """
    folder = Path(folder)
    method = read_config(folder)["quantization_config"]
    bits, offset = _check_method(folder, method)
    spec = read_spec(folder)
    tensors = read_tensors(folder)
    with naming(folder):
        model = blank_model(spec, stored_sizes(tensors))
        check_quantizable(spec)
    family = family_for(model.spec)
    for path, linear in linears(model).items():
        name = family.place(model.spec, path + ".weight").name.removesuffix("weight")
        if name + "qweight" in tensors:
            weight = _read_weight(folder, name, tensors, bits, offset, linear.weight.shape)
            has_bias = "bias" in dict(linear.named_parameters())
            replace(model, path, pack(weight, tensors.pop(name + "bias", None) if has_bias else None))
    return fill(model, folder, tensors, dtype)


def stored_sizes(tensors: Mapping[str, Tensor]) -> Iterator[int]:
    """How many weights each tensor can hold at most: codes of 2 bits in a word are sixteen."""
    for name, tensor in tensors.items():
        yield tensor.numel() * (16 if name.endswith(".qweight") else 1)


def check_quantizable(spec: ModelSpec) -> None:
    """Raises `CamelidError` where the GPTQ layout has no place for this model's linears."""
    family = family_for(spec)
    if not family.quantizable:
        able = ", ".join(each.architecture for each in FAMILIES if each.quantizable)
        raise CamelidError(
            f"{family.architecture} keeps its weights in another form than the GPTQ layout has a place for; supported: {able}"
        )


def _tensors(
    model: Transformer, packed: Mapping[str, PackedLinear], dtype: torch.dtype
) -> Iterator[tuple[str, Tensor]]:
    for name, tensor in model.state_dict().items():
        yield name, tensor.detach()
    for path, module in packed.items():
        weight = module.quantized()
        if not torch.equal(weight.scales.to(dtype).to(weight.scales.dtype), weight.scales):
            raise CamelidError(
                f"{path}: its {weight.scales.dtype} scales would be changed by storing them as {dtype}"
            )
        yield f"{path}.qweight", pack_integers(weight.codes.T, weight.bits)
        yield f"{path}.qzeros", pack_integers(weight.zeros - 1, weight.bits).T
        yield f"{path}.scales", weight.scales.T
        yield f"{path}.g_idx", torch.arange(module.in_features, dtype=torch.int32) // module.group_size
        if module.bias is not None:
            yield f"{path}.bias", module.bias


def _method(packed: Mapping[str, PackedLinear], left: Sequence[str]) -> dict[str, Any]:
    """The `quantization_config`; `left` are linears inside the layers that stay as they are."""
    if not packed:
        raise CamelidError("the model has no packed linears to save; quantise it first")
    # One group for a whole row is written as -1, whatever the rows' lengths.
    whole_rows = all(module.group_size == module.in_features for module in packed.values())
    kinds = {(module.bits, -1 if whole_rows else module.group_size) for module in packed.values()}
    if len(kinds) > 1:
        raise CamelidError(f"the layout has one (bits, group size) for a model, this one has {sorted(kinds)}")
    [(bits, group_size)] = kinds
    symmetric = all(bool((module.zeros == 2 ** (bits - 1)).all()) for module in packed.values())
    method: dict[str, Any] = {
        "quant_method": "gptq",
        "checkpoint_format": "gptq",
        "bits": bits,
        "group_size": group_size,
        "sym": symmetric,
        "desc_act": False,
        "lm_head": False,
    }
    if left:
        # How GPTQModel and vLLM say which modules to leave alone: a pattern with "-:" before it.
        method["dynamic"] = {f"-:.*{re.escape(path)}$": {} for path in left}
    return method


def _check_method(folder: Path, method: object) -> tuple[Bits, int]:
    """Bits, and what to add to stored zero points."""
    said = method if isinstance(method, dict) else {}
    kind, bits, form = said.get("quant_method"), said.get("bits"), said.get("checkpoint_format", "gptq")
    if kind != "gptq" or type(bits) is not int or bits not in PACKED or form not in ("gptq", "gptq_v2"):
        found = " ".join((str(kind)[:80], "with", str(bits)[:80], "bits, format", str(form)[:80]))
        raise CamelidError(
            f"{folder / 'config.json'}: quantization_config is {found}; "
            "supported: gptq with 2, 3, 4 or 8 bits, format gptq or gptq_v2"
        )
    return cast(Bits, bits), 0 if form == "gptq_v2" else 1


def _read_weight(
    folder: Path, name: str, tensors: dict[str, Tensor], bits: Bits, offset: int, shape: torch.Size
) -> QuantizedWeight:
    if missing := [part for part in PARTS if name + part not in tensors]:
        raise CamelidError(
            f"{folder}: {name}qweight stands there without {', '.join(missing)}; fetch it again"
        )
    words, zeros, scales, groups = (tensors.pop(name + part) for part in PARTS)
    (outer, inner), count, run = shape, scales.shape[0] if scales.ndim else 0, run_length(bits)
    if count < 1 or inner % count or outer % run or inner % run:
        raise CamelidError(
            f"{folder}: {name}scales has {count} groups of {inner} inputs to {outer} outputs; {bits}-bit weights are "
            f"stored {run} at a time, and groups are of one size"
        )
    whole, real = torch.int32, scales.dtype if scales.is_floating_point() else torch.float32
    kinds = dict(zip(PARTS, (whole, whole, real, whole), strict=True))
    expected = {
        "qweight": (words, (inner * bits // 32, outer)),
        "qzeros": (zeros, (count, outer * bits // 32)),
        "scales": (scales, (count, outer)),
        "g_idx": (groups, (inner,)),
    }
    for part, (tensor, wanted) in expected.items():
        if tuple(tensor.shape) != wanted or tensor.dtype != kinds[part]:
            raise CamelidError(
                f"{folder}: {name}{part} is {tensor.dtype} {list(tensor.shape)}; config.json and scales ask for "
                f"{kinds[part]} {list(wanted)}"
            )
    if not torch.equal(groups.long(), torch.arange(inner) // (inner // count)):
        raise CamelidError(
            f"{folder}: {name}g_idx reorders the groups (desc_act); only ordered ones are supported"
        )
    codes = unpack_integers(words, bits).T.to(torch.uint8).contiguous()
    # Stored minus one, 0 becomes the highest code: adding one wraps it back.
    points = (unpack_integers(zeros.T, bits) + offset) % 2**bits
    return QuantizedWeight(codes, scales.T.contiguous(), points.int().contiguous(), bits)
