"""Quantised models on disk, in the public layouts of `camelid.formats.packed.layouts`."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from camelid.base.errors import CamelidError, naming
from camelid.formats.hugging_face.checkpoint import (
    WIDENED,
    blank_model,
    fill,
    read_config,
    read_spec,
    read_tensors,
    write_checkpoint,
)
from camelid.formats.hugging_face.families import FAMILIES, family_for
from camelid.formats.hugging_face.tensor_files import dtype_name
from camelid.formats.packed.layouts import LAYOUTS, Layout, LayoutName, Scheme, bits_of_head, layout_of
from camelid.model.linears import known_linears, plain_linears
from camelid.model.spec import ModelSpec
from camelid.model.surgery import replace
from camelid.model.transformer import Transformer
from camelid.quant.choices import Bits
from camelid.quant.packed import PackedLinear, packed_linears
from camelid.quant.packing import packing_multiple

HEAD = "lm_head"
PARTS = ("qweight", "qzeros", "scales", "g_idx")


def save_quantized(
    folder: Path,
    model: Transformer,
    *,
    dtype: torch.dtype = torch.bfloat16,
    special_ids: Mapping[str, Any] | None = None,
    provenance: Mapping[str, Any] | None = None,
    layout: LayoutName = "gptq",
) -> None:
    """Writes a model with packed linears into an existing folder; `dtype` is that of all that is not quantised.

    Raises `CamelidError` on architectures and linears of another kind than a reader of the layouts takes, and where the
    layout cannot say what the linears are: other bits, a zero point below its least, bits or group sizes that differ,
    scales that `dtype` does not hold exactly.
    """
    check_quantizable(model.spec)
    known_linears(model, ("plain", "packed"), "saving")
    packed = packed_linears(model)
    chosen = LAYOUTS[layout]
    method = _method(chosen, model, packed)
    _check_expressible(chosen, packed, dtype)
    write_checkpoint(
        folder,
        model.spec,
        _tensors(chosen, model, packed),
        dtype=dtype,
        special_ids=special_ids,
        extra_config={"quantization_config": method},
        provenance=provenance,
    )


def load_quantized(folder: Path, dtype: torch.dtype = torch.float32) -> Transformer:
    """The model of a folder in a public layout, its linears packed; `dtype` of all other weights.

    Layouts: GPTQ with 2, 3, 4 or 8 bits, AWQ with 4. Raises `CamelidError` on other methods, versions and bits, on
    reordered groups (`desc_act`), and on damaged tensors.
    """
    folder = Path(folder)
    method = read_config(folder)["quantization_config"]
    with naming(folder / "config.json"):
        layout = layout_of(method)
        bits, offset = layout.check(method)
        head_bits = bits_of_head(method, bits)
    spec = read_spec(folder)
    tensors = read_tensors(folder)
    with naming(folder):
        model = blank_model(spec, stored_sizes(tensors))
        check_quantizable(spec)
    for path, linear in plain_linears(model).items():
        name = _stored_name(model, path)
        if f"{name}.qweight" in tensors:
            with naming(f"{folder}: {name}"):
                own = head_bits if path == HEAD else bits
                parts = _take_parts(layout, name, tensors, own, linear.weight.shape)
                packed_codes, scales, zeros = layout.read(parts, own, offset)
                bias = _take_bias(name, tensors, linear)
            replace(model, path, PackedLinear(packed_codes, scales, zeros, own, linear.in_features, bias))
    return fill(model, folder, tensors, dtype)


def stored_sizes(tensors: Mapping[str, Tensor]) -> Iterator[int]:
    """How many weights each tensor can hold at most: codes of 2 bits in a word are sixteen."""
    for name, tensor in tensors.items():
        yield tensor.numel() * (16 if name.endswith(".qweight") else 1)


def check_quantizable(spec: ModelSpec) -> None:
    """Raises `CamelidError` where the layouts have no place for this model's linears, or some go unseen."""
    family = family_for(spec)
    if not family.quantizable:
        able = ", ".join(each.architecture for each in FAMILIES if each.quantizable)
        raise CamelidError(
            f"{family.architecture} keeps its weights in another form than the GPTQ and AWQ layouts have a place for; supported: {able}"
        )
    if spec.encoder_layers:
        raise CamelidError(
            f"this {family.architecture} has an encoder; only models that are decoders alone can be quantised"
        )


@torch.no_grad()
def round_the_rest(model: Transformer, dtype: torch.dtype) -> int:
    """Rounds all that is not quantised to `dtype`, in place, and gives how many values that changed.

    Raises `CamelidError` where a value is too large for `dtype`.
    """
    biases = {
        f"{path}.bias": module.bias
        for path, module in packed_linears(model).items()
        if module.bias is not None
    }
    changed = 0
    for name, tensor in {**dict(model.named_parameters()), **biases}.items():
        rounded = tensor.to(dtype).to(tensor.dtype)
        if not torch.equal(rounded.isfinite(), tensor.isfinite()):
            raise CamelidError(
                f"{name} has values up to {tensor.abs().max():.3g}, too large for {dtype_name(dtype)}"
            )
        changed += int((rounded != tensor).sum())
        tensor.data = rounded
    return changed


def _tensors(
    layout: Layout, model: Transformer, packed: Mapping[str, PackedLinear]
) -> Iterator[tuple[str, Tensor]]:
    for name, tensor in model.state_dict().items():
        yield name, tensor.detach()
    for path, module in packed.items():
        for part, tensor in layout.write(module).items():
            yield f"{path}.{part}", tensor
        if module.bias is not None:
            yield f"{path}.bias", module.bias


def _check_expressible(layout: Layout, packed: Mapping[str, PackedLinear], dtype: torch.dtype) -> None:
    """Raises `CamelidError` that names the first linear whose scales or zero points the layout cannot hold."""
    if dtype not in layout.dtypes:
        able = ", ".join(dtype_name(each) for each in layout.dtypes)
        raise CamelidError(f"the {layout.name} layout keeps scales as {able}, not {dtype_name(dtype)}")
    for path, module in packed.items():
        if low := int((module.zeros < layout.lowest_zero).sum()):
            raise CamelidError(
                f"{path}: {low} of its zero points are 0, and the {layout.name} layout stores them minus one, so 1 is "
                "the least; take the awq layout, which stores them as they are"
            )
        scales = module.scales
        if lost := int((scales.to(dtype).to(scales.dtype) != scales).sum()):
            out = (
                f"store them with --dtype {dtype_name(scales.dtype)}"
                if scales.dtype in layout.dtypes
                else "quantise the model again with --dtype float16"
            )
            raise CamelidError(
                f"{path}: {lost} of its {dtype_name(scales.dtype)} scales would be changed by storing them as {dtype_name(dtype)}, "
                f"and the codes were chosen for them as they are; {out}"
            )


def _method(layout: Layout, model: Transformer, packed: Mapping[str, PackedLinear]) -> dict[str, Any]:
    """The `quantization_config`."""
    if not packed:
        raise CamelidError("the model has no packed linears to save; quantise it first")
    head = packed.get(HEAD)
    packed = {path: module for path, module in packed.items() if path != HEAD}
    if not packed:
        raise CamelidError("the layers have no packed linears to save beside the output projection")
    if head is not None and head.group_size != head.in_features:
        raise CamelidError(
            f"the output projection has groups of {head.group_size}; only whole rows can be saved"
        )
    # One group for a whole row is written as -1, whatever the rows' lengths.
    whole_rows = all(module.group_size == module.in_features for module in packed.values())
    kinds = {(module.bits, -1 if whole_rows else module.group_size) for module in packed.values()}
    if len(kinds) > 1:
        raise CamelidError(f"the layout has one (bits, group size) for a model, this one has {sorted(kinds)}")
    [(bits, group_size)] = kinds
    if bits not in layout.bits:
        raise CamelidError(
            f"the weights have {bits} bits, and the {layout.name} layout holds {', '.join(map(str, layout.bits))} alone; "
            "export --to gptq, or quantise the model again with --bits 4"
        )
    symmetric = all(bool((module.zeros == 2 ** (bits - 1)).all()) for module in packed.values())
    left = [path for path in plain_linears(model) if path.startswith("layers.")]
    names, kept = ([_stored_name(model, path) for path in paths] for paths in (packed, left))
    return layout.describe(
        Scheme(bits, group_size, symmetric, names, kept, None if head is None else head.bits)
    )


def _stored_name(model: Transformer, path: str) -> str:
    """The name on disk of the linear at a path."""
    return family_for(model.spec).place(model.spec, f"{path}.weight").name.removesuffix(".weight")


def _take_parts(
    layout: Layout, name: str, tensors: dict[str, Tensor], bits: Bits, shape: torch.Size
) -> dict[str, Tensor]:
    """Takes a linear's tensors out of those of the folder, their shapes and types checked."""
    outer, inner = shape
    names = layout.shapes(outer, inner, 1, bits)
    if missing := [part for part in names if f"{name}.{part}" not in tensors]:
        raise CamelidError(f"qweight stands there without {', '.join(missing)}; fetch it again")
    parts = {part: tensors.pop(f"{name}.{part}") for part in names}
    scales, run = parts["scales"], packing_multiple(bits)
    count = scales.shape[0] if scales.ndim else 0
    if count < 1 or inner % count or outer % run or inner % run:
        raise CamelidError(
            f"scales has {count} groups of {inner} inputs to {outer} outputs; {bits}-bit weights are stored {run} at a "
            "time, and groups are of one size"
        )
    real = scales.dtype if scales.is_floating_point() else torch.float32
    for part, wanted in layout.shapes(outer, inner, count, bits).items():
        kind = real if part == "scales" else torch.int32
        if tuple(parts[part].shape) != wanted or parts[part].dtype != kind:
            raise CamelidError(
                f"{part} is {dtype_name(parts[part].dtype)} {list(parts[part].shape)}; config.json and scales ask for "
                f"{dtype_name(kind)} {list(wanted)}"
            )
    return parts


def _take_bias(name: str, tensors: dict[str, Tensor], linear: nn.Linear) -> Tensor | None:
    """Takes a linear's bias out of the tensors of the folder, checked; None where the model has none.

    AutoGPTQ wrote one of zeros there.
    """
    bias, has_bias = tensors.pop(f"{name}.bias", None), "bias" in dict(linear.named_parameters())
    if bias is None:
        if has_bias:
            raise CamelidError("its bias is missing; fetch the model again")
        return None
    if tuple(bias.shape) != (linear.out_features,) or bias.dtype not in WIDENED:
        raise CamelidError(
            f"bias is {dtype_name(bias.dtype)} {list(bias.shape)}; [{linear.out_features}] in floating point is asked for"
        )
    if not has_bias and bias.float().any():
        raise CamelidError("its bias is not zero, and config.json gives it none")
    return bias if has_bias else None
