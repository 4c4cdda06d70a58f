"""Quantises the linears of a model: which ones, in what groups."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Literal

import torch
from jaxtyping import Int
from torch import Tensor, nn

from camelid.base.cores import share_cores
from camelid.base.errors import CamelidError, WrongCall, naming
from camelid.base.mapped_pages import let_go
from camelid.base.memory import return_freed_memory
from camelid.model.layers import Linear, OutputProjection
from camelid.model.linears import known_linears, plain_linears
from camelid.model.surgery import put_head, replace, select
from camelid.model.transformer import Transformer
from camelid.quant.awq import clipped, smooth
from camelid.quant.choices import ALL_LINEARS, Bits
from camelid.quant.gptq import gptq
from camelid.quant.moments import Moments, layer_by_layer
from camelid.quant.packed import PACKED, pack, packed_linears
from camelid.quant.packing import packing_multiple
from camelid.quant.round_to_nearest import QuantizedWeight, round_to_nearest

LAST = "mlp.down_proj"
NEVER_CLIPPED = ("q_proj", "k_proj")
"""Linears that AWQ's published code does not clip: their outputs become attention scores."""
GROUP_SIZES = (64, 32, 16, 8)
"""Default group sizes below 8 bits, in order of preference."""


@dataclass(frozen=True)
class Calibrated:
    """A calibrated method: GPTQ or AWQ, the rows of tokens, and GPTQ's settings (see `camelid.quant.gptq`).

    Without `true_sequential`, as always in AWQ, all linears of a layer see the inputs of the unquantised
    layer.
    """

    method: Literal["gptq", "awq"]
    tokens: Int[Tensor, "rows time"]
    act_order: bool = True
    static_groups: bool = True
    true_sequential: bool = True
    damping: float = 0.01
    dtype: torch.dtype = torch.float32
    """Of the activations during calibration."""
    grown: dict[str, float] = field(default_factory=dict)
    """Output: the final damping, by path, of the linears where GPTQ had to increase it."""


def choose_groups(
    model: Transformer,
    bits: Bits,
    group_size: int | None = None,
    selector: Sequence[str] = ALL_LINEARS,
) -> dict[str, int]:
    """The linears that `quantize_model` replaces, by path, and the number of inputs that share a scale in
    each.

    Raises `WrongCall` on other bits and on linears outside the layers, and `CamelidError` on a linear whose
    shape does not fit. The model may be on the meta device.
    """
    if bits not in PACKED:
        raise WrongCall(f"bits is {bits}; allowed: {', '.join(map(str, PACKED))}")
    found = plain_linears(model)
    paths = select(found, selector)
    if outside := [path for path in paths if not path.startswith("layers.")]:
        raise WrongCall(
            f"--select also matches {outside[0]}, but it is for the linears in layers; narrow it, "
            "for example to "
            f"{ALL_LINEARS[0]!r}, and quantise the output projection with --head-bits 8"
        )
    shapes = {path: found[path].weight.shape for path in paths}
    fitting = fitting_group(shapes, bits, group_size)
    return {path: inner if fitting == -1 else fitting for path, (_, inner) in shapes.items()}


@torch.no_grad()
def quantize_model(
    model: Transformer,
    bits: Bits,
    group_size: int | None = None,
    selector: Sequence[str] = ALL_LINEARS,
    scale_dtype: torch.dtype = torch.bfloat16,
    calibrated: Calibrated | None = None,
    progress: Callable[[str], None] = lambda message: None,
) -> Transformer:
    """Replaces the linears that `selector` matches (see `camelid.model.surgery.select`) with packed ones, in
    place.

    group_size: inputs that share a scale, -1 for all of them; by default -1 at 8 bits, else the largest of
    64, 32, 16 and 8 that divides the inputs of every linear. Without `calibrated`, weights are rounded to the
    nearest code. Raises what `choose_groups` does, and `CamelidError` on a linear whose weights are not
    finite, before anything is changed.
    """
    groups = choose_groups(model, bits, group_size, selector)
    found = plain_linears(model)
    for path in groups:
        linear = found[path]
        if broken := int((~linear.weight.isfinite()).sum()):
            raise CamelidError(
                f"{path}: {broken} of its {linear.weight.numel():,} weights are NaN or infinite; "
                f"fetch or train the model again, or exclude it with --select '{ALL_LINEARS[0]}' '!{path}'"
            )
        let_go(linear.weight)
    if calibrated is None:
        for path, group in groups.items():
            _put(model, path, round_to_nearest(found[path].weight.detach(), bits, group, scale_dtype))
        return model
    pending: list[tuple[tuple[str, ...], Moments]] = []
    sequential = calibrated.method == "gptq" and calibrated.true_sequential
    steps = layer_by_layer(model, calibrated.tokens, dtype=calibrated.dtype, true_sequential=sequential)
    for layer, names, moments in share_cores(steps):
        progress(f"layer {layer + 1} of {len(model.layers)}")
        return_freed_memory()
        paths = tuple(path for name in names if (path := f"layers.{layer}.{name}") in groups)
        if calibrated.method == "gptq":
            for path in paths:
                with naming(path):
                    _put(
                        model,
                        path,
                        _gptq(found[path], path, moments, bits, groups[path], scale_dtype, calibrated),
                    )
            continue
        # Smooth a whole layer before rounding any of it: a linear may absorb the inverse scales of another.
        if len(paths) == len(names):
            block = model.layers[layer]
            smooth(block, names, moments, bits, groups[paths[0]])
        pending.append((paths, moments))
        if names[-1] == LAST:
            for paths, moments in pending:
                for path in paths:
                    _put(model, path, _awq(found[path], path, moments, bits, groups[path], scale_dtype))
            pending.clear()
    return model


def _gptq(
    linear: nn.Linear,
    path: str,
    moments: Moments,
    bits: Bits,
    group: int,
    scale_dtype: torch.dtype,
    settings: Calibrated,
) -> QuantizedWeight:
    return gptq(
        linear.weight.detach(),
        moments.second,
        bits,
        group,
        act_order=settings.act_order,
        static_groups=settings.static_groups,
        damping=settings.damping,
        scale_dtype=scale_dtype,
        grew=partial(settings.grown.__setitem__, path),
    )


def _awq(
    linear: nn.Linear, path: str, moments: Moments, bits: Bits, group: int, scale_dtype: torch.dtype
) -> QuantizedWeight:
    weight = linear.weight.detach()
    if path.endswith(NEVER_CLIPPED):
        return round_to_nearest(weight, bits, group, scale_dtype)
    return clipped(weight, moments.second, bits, group, scale_dtype)


def _put(model: Transformer, path: str, weight: QuantizedWeight) -> None:
    parameters = dict(model.get_submodule(path).named_parameters())
    bias = parameters.get("bias")
    let_go(parameters["weight"])
    replace(model, path, pack(weight, None if bias is None else bias.detach()))


@torch.no_grad()
def quantize_head(
    model: Transformer, bits: Bits = 8, scale_dtype: torch.dtype = torch.bfloat16
) -> Transformer:
    """Rounds the output projection in place, with one scale per row; a tied one becomes a separate weight.

    The embedding is unchanged: a token reads one row of it, but all of the output projection. Raises
    `CamelidError` if the sizes are not multiples of `packing_multiple`.
    """
    check_head(model, bits)
    weight = model.head.weight
    put_head(model, pack(round_to_nearest(weight.detach(), bits, weight.shape[1], scale_dtype)))
    return model


def check_head(model: Transformer, bits: Bits) -> None:
    """Raises `CamelidError` if `quantize_head` would."""
    known_linears(model, ("plain", "packed"), "quantisation")
    (outer, inner), block = model.head.weight.shape, packing_multiple(bits)
    if outer % block or inner % block:
        raise CamelidError(
            f"the output projection is {outer} x {inner}; {bits}-bit weights are stored {block} at a time, "
            "so "
            f"both sizes must be multiples of {block}; remove --head-bits"
        )


def unpack_model(model: Transformer) -> Transformer:
    """Replaces packed linears with plain ones of the same weights in float32, in place."""
    for path, module in packed_linears(model).items():
        kind = OutputProjection if path == "lm_head" else Linear
        linear = kind(module.in_features, module.out_features, bias=module.bias is not None)
        linear.weight = nn.Parameter(module.quantized().dequantize())
        if module.bias is not None:
            linear.bias = nn.Parameter(module.bias.float())
        replace(model, path, linear)
    return model


def fitting_group(shapes: Mapping[str, torch.Size], bits: int, group_size: int | None = None) -> int:
    """The group size for linears of these shapes [outer, inner], -1 for whole rows; for the default see
    `quantize_model`.

    Raises `CamelidError` on a linear that does not fit, with a fix that covers all of them.
    """
    if misfits := _misfits(shapes, bits):
        (outer, inner), block = shapes[misfits[0]], packing_multiple(bits)
        raise CamelidError(
            f"{misfits[0]} is {outer} x {inner}; {bits}-bit weights are stored {block} at a time, "
            "so both sizes "
            f"must be multiples of {block}; {_ways_out(shapes, misfits)}"
        )
    if group_size is None and bits == 8:
        return -1
    common = math.gcd(*(inner for _, inner in shapes.values()))
    if group_size is None:
        return next((size for size in GROUP_SIZES if common % size == 0), -1)
    for path, (_, inner) in shapes.items():
        if group_size != -1 and (group_size < 1 or inner % group_size):
            fitting = [size for size in range(common, GROUP_SIZES[-1] - 1, -1) if common % size == 0]
            raise CamelidError(
                f"{path} has {inner} inputs, not a multiple of group size {group_size}; "
                "sizes that fit the whole "
                f"model: {', '.join(map(str, [*fitting, -1]))} (-1: one group per row)"
            )
    return group_size


def _misfits(shapes: Mapping[str, torch.Size], bits: int) -> list[str]:
    """The linears whose codes do not fill int32 words exactly."""
    return [path for path, shape in shapes.items() if any(size % packing_multiple(bits) for size in shape)]


def _ways_out(shapes: Mapping[str, torch.Size], misfits: Sequence[str]) -> str:
    """How to fix linears that do not fit: exclude all of their kinds, or use other bits."""
    ways = []
    if len(misfits) < len(shapes):
        # All layers are alike: exclude "layers.3.mlp.up_proj" as "!*.mlp.up_proj".
        kinds = dict.fromkeys(f"'!*.{path.split('.', 2)[2]}'" for path in misfits)
        ways.append(f"exclude what does not fit with --select '{ALL_LINEARS[0]}' {' '.join(kinds)}")
    if fitting := [str(bits) for bits in PACKED if not _misfits(shapes, bits)]:
        ways.append(f"use --bits {' or '.join(fitting)}")
    return ", or ".join(ways) or "no number of bits fits these linears"
