"""GGUF architectures: conversion between keys and `ModelSpec`, and the names of our parameters.

Errors name the key or tensor; the caller adds the file.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from camelid.base.errors import CamelidError, shortened
from camelid.formats.gguf.file import GGUFFile, StoredTensor
from camelid.formats.names import LLAMA_NAMES, Naming
from camelid.model.spec import ModelSpec

EMBEDDING, OUTPUT = (f"{LLAMA_NAMES[module].gguf}.weight" for module in ("embed_tokens", "lm_head"))


class Keys:
    """A file's tensors, and the architecture's keys without their prefix."""

    def __init__(self, file: GGUFFile) -> None:
        self.file = file
        self.prefix = f"{file.metadata.get('general.architecture')}."

    def get(self, key: str, default: Any = None) -> Any:
        """The value, of any type."""
        return self.file.metadata.get(self.prefix + key, default)

    def whole(self, key: str, default: int | None = None) -> int:
        """A whole number above 0."""
        value = self.get(key, default)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise CamelidError(f"{self.prefix}{key} is {shortened(value)}; it must be a whole number above 0")
        return value

    def real(self, key: str, default: float | None = None) -> float:
        """A number, as the decimal that was written originally."""
        value = self.get(key, default)
        if not isinstance(value, float | int) or isinstance(value, bool):
            raise CamelidError(f"{self.prefix}{key} is {shortened(value)}; it must be a number")
        # A float32 key was rounded from a decimal: recover it as the shortest decimal that rounds to the key.
        with np.errstate(over="ignore"):
            single = np.float32(value)
        return float(str(single)) if single == value else float(value)

    def expect(self, key: str, wanted: int, why: str) -> None:
        """Raises if the key is present with another value."""
        if (value := self.get(key, wanted)) != wanted:
            raise CamelidError(f"{self.prefix}{key} is {shortened(value)}, not {wanted}: {why}")

    def stored(self, name: str) -> StoredTensor:
        """A tensor's location; raises if it is missing."""
        if name not in self.file.tensors:
            raise CamelidError(f"tensor {shortened(name)} is missing; convert or download the file again")
        return self.file.tensors[name]

    def head_dim(self) -> int:
        """Width divided by the number of heads; raises if it is not a whole number."""
        hidden, heads = self.whole("embedding_length"), self.whole("attention.head_count")
        if hidden % heads and self.get("attention.key_length") is None:
            raise CamelidError(
                f"{self.prefix}embedding_length {hidden} is not a multiple of "
                f"{self.prefix}attention.head_count {heads}"
            )
        return hidden // heads

    def is_tied(self) -> bool:
        """Whether the output matrix is missing or equals the embedding bit for bit."""
        if OUTPUT not in self.file.tensors:
            return True
        output, embedding = self.file.tensors[OUTPUT], self.stored(EMBEDDING)
        same_form = (output.shape, output.format) == (embedding.shape, embedding.format)
        return same_form and np.array_equal(self.file.raw(output.name), self.file.raw(embedding.name))


@dataclass(frozen=True)
class Architecture:
    """One value of `general.architecture`."""

    name: str
    naming: Naming
    write: Callable[[ModelSpec], dict[str, Any]]
    """The keys, without the architecture's prefix."""
    holds: Callable[[ModelSpec], ModelSpec]
    """The nearest model that this architecture can represent."""
    read: Callable[[Keys], ModelSpec] | None = None
    """None if files are only written."""
    extra: Callable[[ModelSpec], dict[str, Tensor]] = lambda spec: {}
    """Further tensors of a file that are not parameters."""
    ignored: tuple[str, ...] = ()
    """Their names."""


def sizes(spec: ModelSpec) -> dict[str, Any]:
    """The keys that every architecture has."""
    return {
        "context_length": spec.context_length,
        "embedding_length": spec.hidden_size,
        "block_count": spec.num_layers,
        "feed_forward_length": spec.feed_forward.width,
        "attention.head_count": spec.num_heads,
    }
