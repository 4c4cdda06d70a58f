"""The key-value cache: an argument of the forward pass, never hidden state of the model.

Two kinds: rows of one length for each sequence, and blocks that sequences share, looked up in a table.
"""

from typing import Protocol

import torch
from jaxtyping import Float, Int
from torch import Tensor

from camelid.errors import CamelidError
from camelid.model.spec import ModelSpec


class Cache(Protocol):
    """What the forward pass asks of a cache."""

    def positions(self, new_tokens: int) -> Int[Tensor, "batch time"]:
        """Positions of the next `new_tokens` tokens of every sequence."""
        ...

    def extend(
        self,
        layer: int,
        positions: Int[Tensor, "batch time"],
        keys: Float[Tensor, "batch time kv_heads dim"],
        values: Float[Tensor, "batch time kv_heads dim"],
    ) -> tuple[Float[Tensor, "batch past kv_heads dim"], Float[Tensor, "batch past kv_heads dim"]]:
        """Writes one layer's new keys and values at `positions` and returns all up to the longest sequence."""
        ...

    def advance(self, new_tokens: int) -> None:
        """Counts the tokens that the forward pass has written."""
        ...


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

    def advance(self, new_tokens: int) -> None:
        """Counts the tokens that the forward pass has written."""
        self.lengths += new_tokens


class BlockCache:
    """One step's view of keys and values that lie in blocks.

    keys, values: [layers, blocks, block, kv_heads, head_dim]; tables: [batch, width], the blocks of each sequence in
    order; lengths: [batch], tokens already cached.
    """

    def __init__(
        self,
        keys: Float[Tensor, "layers blocks block kv_heads dim"],
        values: Float[Tensor, "layers blocks block kv_heads dim"],
        tables: Int[Tensor, "batch width"],
        lengths: Int[Tensor, " batch"],
    ) -> None:
        self.keys, self.values, self.tables, self.lengths = keys, values, tables, lengths

    def positions(self, new_tokens: int) -> Int[Tensor, "batch time"]:
        """See `Cache.positions`."""
        return self.lengths[:, None] + torch.arange(new_tokens, device=self.lengths.device)

    def extend(
        self,
        layer: int,
        positions: Int[Tensor, "batch time"],
        keys: Float[Tensor, "batch time kv_heads dim"],
        values: Float[Tensor, "batch time kv_heads dim"],
    ) -> tuple[Float[Tensor, "batch past kv_heads dim"], Float[Tensor, "batch past kv_heads dim"]]:
        """See `Cache.extend`."""
        size = self.keys.shape[2]
        blocks, offsets = self.tables.gather(1, positions // size), positions % size
        self.keys[layer][blocks, offsets] = keys.to(self.keys.dtype)
        self.values[layer][blocks, offsets] = values.to(self.values.dtype)
        end = int(positions.max()) + 1
        past_keys, past_values = (
            side[layer][self.tables].flatten(1, 2)[:, :end] for side in (self.keys, self.values)
        )
        return past_keys, past_values

    def advance(self, new_tokens: int) -> None:
        """Nothing: the view lasts for one step, and its maker counts."""
