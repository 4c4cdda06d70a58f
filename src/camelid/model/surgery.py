"""Changes to a model from outside: selecting modules by path, and replacing them."""

import dataclasses
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase

from torch import nn

from camelid.base.errors import CamelidError
from camelid.model.transformer import Transformer


def select(paths: Iterable[str], patterns: Sequence[str]) -> list[str]:
    """The paths that match any of the shell patterns, in order; a pattern that begins with `!` excludes
    paths.

    `*` also matches dots: `layers.*_proj` matches all linears, `!layers.0.*` excludes the first layer. Raises
    `CamelidError` if a pattern matches nothing, or if nothing is left.
    """
    paths = list(paths)
    chosen: set[str] = set()
    for pattern in patterns:
        matching = {path for path in paths if fnmatchcase(path, pattern.removeprefix("!"))}
        if not matching:
            raise CamelidError(f"the pattern {pattern!r} matches nothing; available: {_some(paths)}")
        chosen = chosen - matching if pattern.startswith("!") else chosen | matching
    if not chosen:
        raise CamelidError(f"the patterns {', '.join(patterns)} leave nothing of {_some(paths)}")
    return [path for path in paths if path in chosen]


def replace(model: nn.Module, path: str, module: nn.Module) -> None:
    """Replaces the module at `path`."""
    parent, _, name = path.rpartition(".")
    setattr(model.get_submodule(parent), name, module)


def _some(paths: Sequence[str], shown: int = 8) -> str:
    more = f" and {len(paths) - shown} more" if len(paths) > shown else ""
    return (", ".join(paths[:shown]) or "no paths") + more


def put_head(model: Transformer, head: nn.Module) -> None:
    """Sets the model's output projection, and unties it from the embedding."""
    vars(model).pop("lm_head", None)
    model.add_module("lm_head", head)
    model.spec = dataclasses.replace(model.spec, tie_embeddings=False)
