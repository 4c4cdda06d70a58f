"""Making a model's linears small: which ones, in what groups."""

from collections.abc import Sequence

import torch
from torch import nn

from camelid.errors import CamelidError, WrongCall
from camelid.model.layers import Linear
from camelid.model.surgery import linears, replace, select
from camelid.model.transformer import Transformer
from camelid.quant.packed import PackedLinear, pack
from camelid.quant.round_to_nearest import Bits, round_to_nearest

ALL_LINEARS = ("layers.*_proj",)
"""The linears of all layers; the embedding and the output projection stay."""
GROUP_SIZES = (64, 32, 16, 8)
"""4-bit group sizes in the order in which they are tried where none is asked for."""


def quantize_model(
    model: Transformer,
    bits: Bits,
    group_size: int | None = None,
    selector: Sequence[str] = ALL_LINEARS,
    scale_dtype: torch.dtype = torch.bfloat16,
) -> Transformer:
    """Replaces the linears that `selector` matches (see `camelid.model.surgery.select`) by packed ones, in place.

    group_size: inputs that share a scale, -1 for all of them; by default -1 at 8 bits, and at 4 bits the largest of
    64, 32, 16 and 8 that divides the inputs of every linear. Raises `CamelidError` that names a linear whose shape
    does not fit, before anything is changed.
    """
    if bits not in (4, 8):
        raise WrongCall(f"bits is {bits}; allowed: 4, 8")
    found = linears(model)
    chosen = {path: found[path] for path in select(found, selector)}
    group_size = _fitting_group(
        {path: linear.weight.shape for path, linear in chosen.items()}, bits, group_size
    )
    for path, linear in chosen.items():
        group = linear.in_features if group_size == -1 else group_size
        weight = round_to_nearest(linear.weight.detach(), bits, group, scale_dtype)
        bias = dict(linear.named_parameters()).get("bias")
        replace(model, path, pack(weight, None if bias is None else bias.detach()))
    return model


def unpack_model(model: Transformer) -> Transformer:
    """Replaces packed linears by ordinary ones of the same float32 weights, in place."""
    for path, module in list(model.named_modules()):
        if isinstance(module, PackedLinear):
            linear = Linear(module.in_features, module.out_features, bias=module.bias is not None)
            linear.weight = nn.Parameter(module.quantized().dequantize())
            if module.bias is not None:
                linear.bias = nn.Parameter(module.bias.float())
            replace(model, path, linear)
    return model


def _fitting_group(shapes: dict[str, torch.Size], bits: int, group_size: int | None) -> int:
    block = 32 // bits
    for path, (outer, inner) in shapes.items():
        if outer % block or inner % block:
            raise CamelidError(
                f"{path} is {outer} x {inner}; {bits}-bit weights are stored {block} at a time, so both sizes must be "
                f"multiples of {block}: leave it out with --select '{ALL_LINEARS[0]}' '!{path}'"
            )
    if group_size is None and bits == 8:
        return -1
    fitting = [size for size in GROUP_SIZES if all(inner % size == 0 for _, inner in shapes.values())]
    if group_size is None:
        return fitting[0] if fitting else -1
    for path, (_, inner) in shapes.items():
        if group_size != -1 and (group_size < 1 or inner % group_size):
            raise CamelidError(
                f"{path} has {inner} inputs, no multiple of group size {group_size}; "
                f"sizes that fit the whole model: {', '.join(map(str, [*fitting, -1]))} (-1: one group a row)"
            )
    return group_size
