"""Quantised models on disk, in the public layouts of `camelid.formats.packed.layouts`."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, cast

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
from camelid.formats.names import Place
from camelid.formats.packed.layouts import (
    LAYOUTS,
    Layout,
    LayoutName,
    Scheme,
    bits_of_head,
    layout_of,
    zero_offset,
)
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
    """Writes a model with packed linears into an existing folder; `dtype` is that of unquantised tensors.

    Raises `CamelidError` if readers of the layout do not support the architecture or its linears, or if the
    layout cannot express them: unsupported bits, zero points below its minimum, mixed bits or group sizes,
    scales that `dtype` cannot hold exactly.
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
        ((name, tensor.detach()) for name, tensor in model.state_dict().items()),
        stored=_packed_tensors(chosen, model, packed),
        dtype=dtype,
        special_ids=special_ids,
        extra_config={"quantization_config": method},
        provenance=provenance,
    )


def load_quantized(folder: Path, dtype: torch.dtype = torch.float32) -> Transformer:
    """Loads a model in a public layout with packed linears; `dtype` is that of all other weights.

    Layouts: GPTQ with 2, 3, 4 or 8 bits, AWQ with 4. Raises `CamelidError` on other methods, versions and
    bits, on reordered groups (`desc_act`), and on damaged tensors.
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
    for name, paths in _by_stored_name(model, plain_linears(model)).items():
        if f"{name}.qweight" in tensors:
            linears = [cast(nn.Linear, model.get_submodule(path)) for path in paths]
            outer = sum(linear.out_features for linear in linears)
            with naming(f"{folder}: {name}"):
                own = head_bits if paths == [HEAD] else bits
                ordered = not method.get("desc_act")
                shape = torch.Size((outer, linears[0].in_features))
                parts = _take_parts(layout, name, tensors, own, shape, ordered)
                added = zero_offset(method, parts["qzeros"], own, offset)
                codes, scales, zeros = layout.read(parts, own, added)
                bias = _take_bias(name, tensors, outer, "bias" in dict(linears[0].named_parameters()))
            for path in paths:
                take = _place(model, path).take
                own_codes, own_bias = take(codes.T).T.contiguous(), None if bias is None else take(bias)
                packed = PackedLinear(own_codes, take(scales), take(zeros), own, shape[1], own_bias)
                replace(model, path, packed)
    return fill(model, folder, tensors, dtype)


def stored_sizes(tensors: Mapping[str, Tensor]) -> Iterator[int]:
    """Maximum number of weights per tensor: a word holds up to sixteen 2-bit codes."""
    for name, tensor in tensors.items():
        yield tensor.numel() * (16 if name.endswith(".qweight") else 1)


def check_quantizable(spec: ModelSpec) -> None:
    """Raises `CamelidError` if the layouts do not support this model's linears."""
    family = family_for(spec)
    if not family.quantizable:
        able = ", ".join(each.architecture for each in FAMILIES if each.quantizable)
        raise CamelidError(
            f"the GPTQ and AWQ layouts do not support the linears of {family.architecture}; supported: {able}"
        )
    if spec.encoder_layers:
        raise CamelidError(
            f"this {family.architecture} has an encoder; only decoder-only models can be quantised"
        )


@torch.no_grad()
def round_the_rest(model: Transformer, dtype: torch.dtype) -> int:
    """Rounds all unquantised tensors to `dtype` in place; returns the number of changed values.

    Raises `CamelidError` if a value is too large for `dtype`.
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


def _packed_tensors(
    layout: Layout, model: Transformer, packed: Mapping[str, PackedLinear]
) -> Iterator[tuple[str, Tensor]]:
    """The tensors of packed linears by their names on disk, their rows in the order on disk."""
    for name, paths in _by_stored_name(model, packed).items():
        place, modules = _place(model, paths[0]), [packed[path] for path in paths]
        if len(modules) < place.parts:
            raise CamelidError(
                f"{name} on disk holds {place.parts} linears, but only {', '.join(paths)} are quantised; "
                "select all or none of them"
            )
        biases = [module.bias for module in modules if module.bias is not None]
        joined = PackedLinear(
            place.put([module.packed_codes.T for module in modules]).T.contiguous(),
            place.put([module.scales for module in modules]),
            place.put([module.zeros for module in modules]),
            modules[0].bits,
            modules[0].in_features,
            place.put(biases) if biases else None,
        )
        for part, tensor in layout.write(joined).items():
            yield f"{name}.{part}", tensor
        if joined.bias is not None:
            yield f"{name}.bias", joined.bias


def _check_expressible(layout: Layout, packed: Mapping[str, PackedLinear], dtype: torch.dtype) -> None:
    """Raises `CamelidError` naming the first linear whose scales or zero points do not fit the layout."""
    if dtype not in layout.dtypes:
        able = ", ".join(dtype_name(each) for each in layout.dtypes)
        raise CamelidError(f"the {layout.name} layout stores scales as {able}, not {dtype_name(dtype)}")
    for path, module in packed.items():
        if low := int((module.zeros < layout.lowest_zero).sum()):
            raise CamelidError(
                f"{path}: {low} of its zero points are 0, but the {layout.name} layout stores them "
                "minus one, so the "
                "minimum is 1; use the awq layout, which stores them as they are"
            )
        scales = module.scales
        if lost := int((scales.to(dtype).to(scales.dtype) != scales).sum()):
            out = (
                f"store them with --dtype {dtype_name(scales.dtype)}"
                if scales.dtype in layout.dtypes
                else "quantise the model again with --dtype float16"
            )
            raise CamelidError(
                f"{path}: {lost} of its {dtype_name(scales.dtype)} scales would change if stored as "
                f"{dtype_name(dtype)}, "
                f"but the codes were chosen for the exact scales; {out}"
            )


def _method(layout: Layout, model: Transformer, packed: Mapping[str, PackedLinear]) -> dict[str, Any]:
    """The `quantization_config`."""
    if not packed:
        raise CamelidError("the model has no packed linears to save; quantise it first")
    head = packed.get(HEAD)
    packed = {path: module for path, module in packed.items() if path != HEAD}
    if not packed:
        raise CamelidError("only the output projection is packed; the layers' linears must be packed too")
    if head is not None and head.group_size != head.in_features:
        raise CamelidError(
            f"the output projection has groups of {head.group_size}; only one group per row can be saved"
        )
    # One group per row is written as -1, for any row length.
    whole_rows = all(module.group_size == module.in_features for module in packed.values())
    kinds = {(module.bits, -1 if whole_rows else module.group_size) for module in packed.values()}
    if len(kinds) > 1:
        raise CamelidError(
            f"the layout allows one (bits, group size) per model, this one has {sorted(kinds)}"
        )
    [(bits, group_size)] = kinds
    if bits not in layout.bits:
        raise CamelidError(
            f"the weights have {bits} bits, but the {layout.name} layout supports only "
            f"{', '.join(map(str, layout.bits))}; "
            "export --to gptq, or quantise the model again with --bits 4"
        )
    symmetric = all(bool((module.zeros == 2 ** (bits - 1)).all()) for module in packed.values())
    left = [path for path in plain_linears(model) if path.startswith("layers.")]
    names, kept = ([*_by_stored_name(model, paths)] for paths in (packed, left))
    return layout.describe(
        Scheme(bits, group_size, symmetric, names, kept, None if head is None else head.bits)
    )


def _place(model: Transformer, path: str) -> Place:
    """Where the weight of the linear at a path is on disk."""
    return family_for(model.spec).place(model.spec, f"{path}.weight")


def _by_stored_name(model: Transformer, paths: Iterable[str]) -> dict[str, list[str]]:
    """The linears at these paths by their name on disk, several in their order there."""
    found: dict[str, list[str]] = {}
    for path in sorted(paths, key=lambda path: _place(model, path).part):
        found.setdefault(_place(model, path).name.removesuffix(".weight"), []).append(path)
    return found


def _take_parts(
    layout: Layout, name: str, tensors: dict[str, Tensor], bits: Bits, shape: torch.Size, ordered: bool
) -> dict[str, Tensor]:
    """Pops a linear's tensors from those of the folder, and checks shapes and dtypes.

    ordered: the groups are in order, so `g_idx`, which then says nothing, may be missing.
    """
    outer, inner = shape
    names = layout.shapes(outer, inner, 1, bits)
    implied = {"g_idx"} if ordered else set[str]()
    if missing := [part for part in names if f"{name}.{part}" not in tensors and part not in implied]:
        raise CamelidError(f"qweight without {', '.join(missing)}; download the model again")
    parts = {part: tensors.pop(f"{name}.{part}") for part in names if f"{name}.{part}" in tensors}
    scales, run = parts["scales"], packing_multiple(bits)
    count = scales.shape[0] if scales.ndim else 0
    if count < 1 or inner % count or outer % run or inner % run:
        raise CamelidError(
            f"scales has {count} groups of {inner} inputs to {outer} outputs; {bits}-bit weights "
            f"are stored {run} at a "
            "time, and all groups must have one size"
        )
    if "g_idx" in names and "g_idx" not in parts:
        parts["g_idx"] = torch.arange(inner, dtype=torch.int32) // (inner // count)
    real = scales.dtype if scales.is_floating_point() else torch.float32
    for part, wanted in layout.shapes(outer, inner, count, bits).items():
        kind = real if part == "scales" else torch.int32
        if tuple(parts[part].shape) != wanted or parts[part].dtype != kind:
            raise CamelidError(
                f"{part} is {dtype_name(parts[part].dtype)} {list(parts[part].shape)}; config.json "
                "and scales require "
                f"{dtype_name(kind)} {list(wanted)}"
            )
    return parts


def _take_bias(name: str, tensors: dict[str, Tensor], outer: int, has_bias: bool) -> Tensor | None:
    """Pops a linear's bias from the folder's tensors and checks it; None if the model has none.

    AutoGPTQ wrote zeros in that case.
    """
    bias = tensors.pop(f"{name}.bias", None)
    if bias is None:
        if has_bias:
            raise CamelidError("its bias is missing; download the model again")
        return None
    if tuple(bias.shape) != (outer,) or bias.dtype not in WIDENED:
        raise CamelidError(
            f"bias is {dtype_name(bias.dtype)} {list(bias.shape)}; it must be floating-point [{outer}]"
        )
    if not has_bias and bias.float().any():
        raise CamelidError("its bias is not zero, but config.json declares none")
    return bias if has_bias else None
