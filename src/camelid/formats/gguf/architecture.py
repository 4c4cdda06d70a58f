"""What a GGUF architecture is: how its keys become a `ModelSpec` and back, and where its file keeps our parameters.

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
    """The architecture's own keys of a file, without its name before them, and the file's tensors."""

    def __init__(self, file: GGUFFile) -> None:
        self.file = file
        self.prefix = f"{file.metadata.get('general.architecture')}."

    def get(self, key: str, default: Any = None) -> Any:
        """What stands there, of whatever type."""
        return self.file.metadata.get(self.prefix + key, default)

    def whole(self, key: str, default: int | None = None) -> int:
        """A whole number above 0."""
        value = self.get(key, default)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise CamelidError(f"{self.prefix}{key} is {shortened(value)}; a whole number above 0 is needed")
        return value

    def real(self, key: str, default: float | None = None) -> float:
        """A number, as the decimal that its author wrote."""
        value = self.get(key, default)
        if not isinstance(value, float | int) or isinstance(value, bool):
            raise CamelidError(f"{self.prefix}{key} is {shortened(value)}; a number is needed")
        # A float32 key is the nearest one to the decimal that the author wrote, which is the shortest that gives it.
        with np.errstate(over="ignore"):
            single = np.float32(value)
        return float(str(single)) if single == value else float(value)

    def expect(self, key: str, wanted: int, why: str) -> None:
        """Refuses another value than the one wanted, where there is one."""
        if (value := self.get(key, wanted)) != wanted:
            raise CamelidError(f"{self.prefix}{key} is {shortened(value)}, not {wanted}: {why}")

    def stored(self, name: str) -> StoredTensor:
        """Where a tensor stands; raises where it is missing."""
        if name not in self.file.tensors:
            raise CamelidError(f"tensor {shortened(name)} is missing; convert or fetch the file again")
        return self.file.tensors[name]

    def head_dim(self) -> int:
        """The heads' share of the width; raises where they do not divide it."""
        hidden, heads = self.whole("embedding_length"), self.whole("attention.head_count")
        if hidden % heads and self.get("attention.key_length") is None:
            raise CamelidError(
                f"{self.prefix}embedding_length {hidden} is not a multiple of {self.prefix}attention.head_count {heads}"
            )
        return hidden // heads

    def is_tied(self) -> bool:
        """No output matrix, or one that repeats the embedding bit for bit, as some converters write it."""
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
    """The keys, without the architecture's name before them."""
    holds: Callable[[ModelSpec], ModelSpec]
    """The nearest model that a file of this architecture can hold."""
    read: Callable[[Keys], ModelSpec] | None = None
    """None where files are only written."""
    extra: Callable[[ModelSpec], dict[str, Tensor]] = lambda spec: {}
    """Tensors that a file holds beside our parameters."""
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
