"""The kinds of linear layers, for whoever reads a layer's weights instead of calling it.

The decoder in C, quantisation and saving take a layer's tensors for the whole of what it computes. That holds for the kinds
that they know; any other layer, a subclass that adds something to the product for instance, is refused.
"""

from collections.abc import Iterator
from typing import Literal, cast

from torch import nn

from camelid.base.errors import CamelidError

LinearKind = Literal["plain", "packed", "lora"]
"""plain: x W^T + b, where W is `weight` and b is `bias` or None. packed: the same over a `camelid.quant.packed.PackedLinear`.
lora: a base layer and a low-rank update beside it, which its readers want merged into the base."""
WAYS_OUT: dict[LinearKind | None, str] = {
    "packed": "save it in a quantised layout, or unpack it first",
    "lora": "merge its update into its base layer first",
    None: "put a plain layer that computes the same in its place first (of a LoRA layer: the base with the update merged)",
}


def kind_of(module: nn.Module) -> LinearKind | None:
    """What the class of a layer says of itself in `linear_kind`; None where it says nothing.

    It speaks for itself only: subclasses do not inherit it, since they may compute something else.
    """
    if "forward" in vars(module):
        return None  # one instance's own forward pass
    return "plain" if type(module) is nn.Linear else vars(type(module)).get("linear_kind")


def linears(model: nn.Module) -> dict[str, nn.Module]:
    """The layers that stand where a `Transformer` has linear ones, by path, of known and unknown kinds.

    What stands inside of one, such as the base of a LoRA layer, is a part of it.
    """
    return dict(_linears_below(model, ""))


def known_linears(model: nn.Module, kinds: tuple[LinearKind, ...], reader: str) -> dict[str, nn.Module]:
    """The same; raises `CamelidError` that names the first layer of another kind, on behalf of `reader`."""
    found = linears(model)
    for path, module in found.items():
        if (kind := kind_of(module)) not in kinds:
            raise CamelidError(
                f"{path} is a {type(module).__name__}, which {reader} cannot take for its weight alone: {WAYS_OUT[kind]}"
            )
    return found


def plain_linears(model: nn.Module) -> dict[str, nn.Linear]:
    """The layers that can be quantised, by path: the plain ones; raises `CamelidError` on those neither plain nor packed."""
    found = known_linears(model, ("plain", "packed"), "quantisation")
    return {path: cast(nn.Linear, module) for path, module in found.items() if kind_of(module) == "plain"}


def _linears_below(module: nn.Module, prefix: str) -> Iterator[tuple[str, nn.Module]]:
    for name, child in module.named_children():
        named = name.endswith("_proj") or name == "lm_head"
        if named or isinstance(child, nn.Linear) or kind_of(child) is not None:
            yield prefix + name, child
        else:
            yield from _linears_below(child, f"{prefix}{name}.")
