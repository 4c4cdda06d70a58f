"""How one architecture of transformers maps to a `ModelSpec`: its config.json, and where its file keeps our parameters."""

from collections.abc import Callable
from dataclasses import dataclass, field
from re import Pattern, compile
from typing import Any, NamedTuple

import torch
from torch import Tensor

from camelid.formats.hugging_face.families.config import Config
from camelid.model.spec import ModelSpec


class Place(NamedTuple):
    """Where one of our parameters stands on disk."""

    name: str
    part: int = 0
    """Its number among the parameters that the tensor holds behind each other."""
    parts: int = 1
    transposed: bool = False
    """Stored as [inputs, outputs]."""
    pairs: int = 0
    """Where not 0: rows of each head of this size stand in pairs that are rotated together, ours in halves."""

    def stored_shape(self, own: torch.Size) -> torch.Size:
        """The shape on disk, where each part has the shape `own`."""
        whole = (own[0] * self.parts, *own[1:])
        return torch.Size(whole[::-1] if self.transposed else whole)

    def put(self, parts: list[Tensor]) -> Tensor:
        """The tensor on disk."""
        joined = (
            torch.cat([self._paired(part) for part in parts]) if len(parts) > 1 else self._paired(parts[0])
        )
        return joined.T if self.transposed and joined.ndim == 2 else joined

    def take(self, stored: Tensor) -> Tensor:
        """Our parameter out of the tensor on disk; a view wherever the order of values allows one."""
        whole = stored.T if self.transposed and stored.ndim == 2 else stored
        part = whole.chunk(self.parts)[self.part] if self.parts > 1 else whole
        if not self.pairs:
            return part
        return part.view(-1, self.pairs // 2, 2, *part.shape[1:]).transpose(1, 2).reshape(part.shape)

    def _paired(self, part: Tensor) -> Tensor:
        if not self.pairs:
            return part
        return part.view(-1, 2, self.pairs // 2, *part.shape[1:]).transpose(1, 2).reshape(part.shape)


@dataclass(frozen=True)
class Family:
    """One architecture: the reader and the writer of its config.json, and the places of its tensors.

    A spec that reader and writer do not give back as it was cannot be expressed by this architecture.
    """

    architecture: str
    model_type: str
    read: Callable[[Config], ModelSpec]
    write: Callable[[ModelSpec], dict[str, Any]]
    place: Callable[[ModelSpec, str], Place]
    ignored: Pattern[str] = field(default=compile(r".*rotary_emb\.inv_freq"))
    """Tensors that some files hold and every reader leaves alone."""
    optional_prefix: str = ""
    """What some files leave out before every name."""
    quantizable: bool = True
    """Whether the public quantised layouts have a place for this architecture's linears."""
