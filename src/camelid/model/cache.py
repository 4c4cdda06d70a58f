"""The key-value cache: an argument of the forward pass, never hidden state of the model."""

from copy import copy

import torch
from jaxtyping import Float, Int
from torch import Tensor

from camelid.errors import CamelidError
from camelid.model.spec import ModelSpec


class KeyValueCache:
    """Keys and values of every layer for `batch` sequences, each with its own length.

    keys, values: [layers, batch, capacity, kv_heads, head_dim]; lengths: [batch], tokens already cached.
    """

    def __init__(
        self,
        spec: ModelSpec,
        batch: int,
        capacity: int,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        shape = (spec.num_layers, batch, capacity, spec.num_kv_heads, spec.head_dim)
        self.keys = torch.zeros(shape, dtype=dtype, device=device)
        self.values = torch.zeros(shape, dtype=dtype, device=device)
        self.lengths = torch.zeros(batch, dtype=torch.long, device=device)
        self.capacity = capacity

    def rows(self, first: int, last: int) -> "KeyValueCache":
        """The sequences first..last-1, in the same memory."""
        part = copy(self)
        part.keys, part.values = self.keys[:, first:last], self.values[:, first:last]
        part.lengths = self.lengths[first:last]
        return part

    def positions(self, new_tokens: int) -> Int[Tensor, "batch time"]:
        """Positions of the next `new_tokens` tokens of every sequence; raises where they do not fit."""
        end = int(self.lengths.max()) + new_tokens
        if end > self.capacity:
            raise CamelidError(
                f"the cache holds {self.capacity} tokens and would need {end}; make it larger or the prompt shorter"
            )
        return self.lengths[:, None] + torch.arange(new_tokens, device=self.lengths.device)

    def extend(
        self,
        layer: int,
        positions: Int[Tensor, "batch time"],
        keys: Float[Tensor, "batch time kv_heads dim"],
        values: Float[Tensor, "batch time kv_heads dim"],
    ) -> tuple[Float[Tensor, "batch past kv_heads dim"], Float[Tensor, "batch past kv_heads dim"]]:
        """Writes one layer's new keys and values at `positions` and returns all up to the longest sequence."""
        rows = torch.arange(positions.shape[0], device=positions.device)[:, None]
        self.keys[layer][rows, positions] = keys.to(self.keys.dtype)
        self.values[layer][rows, positions] = values.to(self.values.dtype)
        end = int(positions.max()) + 1
        return self.keys[layer, :, :end], self.values[layer, :, :end]

    def advance(self, new_tokens: int | Int[Tensor, " batch"]) -> None:
        """Counts the tokens that the forward pass has written; padded rows pass their true counts."""
        self.lengths += new_tokens
