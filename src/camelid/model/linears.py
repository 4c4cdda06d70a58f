"""The kinds of linear layers, for code that reads a layer's weights instead of calling it.

The decoder in C, quantisation and saving assume that a layer's tensors are all that it computes. That is true
only of the kinds below; any other layer, such as a subclass that adds something to the product, is rejected.
"""

from collections.abc import Iterator
from typing import Literal, cast

from torch import nn

from camelid.base.errors import CamelidError

LinearKind = Literal["plain", "packed", "nf4", "lora"]
"""plain: x W^T + b, where W is `weight` and b is `bias` or None. packed: the same over a
`camelid.quant.packed.PackedLinear`. nf4: over a `camelid.quant.nf4.NF4Linear`. lora: a base layer plus a
low-rank update, to be merged before its weights are read.
"""
WAYS_OUT: dict[LinearKind | None, str] = {
    "packed": "save it in a quantised layout, or unpack it first",
    "nf4": "load the model again, in full precision",
    "lora": "merge its update into its base layer first",
    None: "replace it with an equivalent plain layer first (for a LoRA layer, merge its update into the "
    "base)",
}


def kind_of(module: nn.Module) -> LinearKind | None:
    """The `linear_kind` that a layer's own class declares, else None.

    Subclasses do not inherit it, since they may compute something else.
    """
    if "forward" in vars(module):
        return None  # this instance has its own forward pass
    return "plain" if type(module) is nn.Linear else vars(type(module)).get("linear_kind")


def linears(model: nn.Module) -> dict[str, nn.Module]:
    """All layers in the places of a `Transformer`'s linears, by path, of known and unknown kinds.

    Modules inside of one, such as the base of a LoRA layer, are not listed.
    """
    return dict(_linears_below(model, ""))


def known_linears(model: nn.Module, kinds: tuple[LinearKind, ...], reader: str) -> dict[str, nn.Module]:
    """The same layers; raises `CamelidError` on the first of another kind, on behalf of `reader`."""
    found = linears(model)
    for path, module in found.items():
        if (kind := kind_of(module)) not in kinds:
            raise CamelidError(
                f"{path} is a {type(module).__name__}, whose weight alone is not enough for {reader}; "
                f"{WAYS_OUT[kind]}"
            )
    return found


def plain_linears(model: nn.Module) -> dict[str, nn.Linear]:
    """The plain layers, which can be quantised, by path; raises `CamelidError` on any neither plain nor
    packed.
    """
    found = known_linears(model, ("plain", "packed"), "quantisation")
    return {path: cast(nn.Linear, module) for path, module in found.items() if kind_of(module) == "plain"}


def _linears_below(module: nn.Module, prefix: str) -> Iterator[tuple[str, nn.Module]]:
    for name, child in module.named_children():
        named = name.endswith("_proj") or name == "lm_head"
        if named or isinstance(child, nn.Linear) or kind_of(child) is not None:
            yield prefix + name, child
        else:
            yield from _linears_below(child, f"{prefix}{name}.")
