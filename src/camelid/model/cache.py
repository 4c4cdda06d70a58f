"""The key-value cache, an argument of the forward pass and not a state of the model."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from camelid.base.errors import CamelidError


@dataclass(frozen=True)
class LayerCache:
    """One layer's part of a `KeyValueCache`, and where a forward pass writes to it.

    Separate tensors per layer, because compiled code would copy a whole layer out of a common one to write a
    token.
    """

    keys: Float[Tensor, "blocks block kv_heads dim"]
    values: Float[Tensor, "blocks block kv_heads dim"]
    tables: Int[Tensor, "batch width"]
    blocks: Int[Tensor, "batch time"]
    offsets: Int[Tensor, "batch time"]
    fresh: bool
    """Whether the cache was empty before, so that the new keys are all there are."""

    def write(
        self, keys: Float[Tensor, "batch time kv_heads dim"], values: Float[Tensor, "batch time kv_heads dim"]
    ) -> None:
        """Writes the new tokens' keys and values to their slots."""
        self.keys[self.blocks, self.offsets] = keys.to(self.keys.dtype)
        self.values[self.blocks, self.offsets] = values.to(self.values.dtype)

    def read(
        self,
    ) -> tuple[Float[Tensor, "batch capacity kv_heads dim"], Float[Tensor, "batch capacity kv_heads dim"]]:
        """Keys and values of all blocks of each sequence."""
        return self.keys[self.tables].flatten(1, 2), self.values[self.tables].flatten(1, 2)


class KeyValueCache:
    """Keys and values of all layers in blocks, with the block table of each sequence of a batch.

    keys, values: [layers, blocks, block, kv_heads, head_dim]; tables: [batch, width], the blocks of each
    sequence in order; lengths: [batch], tokens already cached; fresh: whether all lengths are known to be 0.
    Sequences may share blocks that none of them writes to. Nothing here synchronises with a GPU to read
    lengths.
    """

    def __init__(
        self,
        keys: Float[Tensor, "layers blocks block kv_heads dim"],
        values: Float[Tensor, "layers blocks block kv_heads dim"],
        tables: Int[Tensor, "batch width"],
        lengths: Int[Tensor, " batch"],
        *,
        fresh: bool = False,
    ) -> None:
        self.keys, self.values, self.tables, self.lengths = keys, values, tables, lengths
        self.fresh = fresh

    @property
    def capacity(self) -> int:
        """Tokens for which a sequence has blocks; all are attended to, future ones masked by position."""
        return self.tables.shape[1] * self.keys.shape[2]

    def positions(self, new_tokens: int) -> Int[Tensor, "batch time"]:
        """Positions of the next `new_tokens` tokens of every sequence.

        Raises `CamelidError` if they do not fit, only on a CPU: a GPU would have to synchronise.
        """
        if (
            self.lengths.device.type == "cpu"
            and (end := int(self.lengths.max()) + new_tokens) > self.capacity
        ):
            raise CamelidError(
                f"the cache holds {self.capacity} tokens and would need {end}; "
                "make it larger or the prompt shorter"
            )
        return self.lengths[:, None] + torch.arange(new_tokens, device=self.lengths.device)

    def layers(self, positions: Int[Tensor, "batch time"]) -> list[LayerCache]:
        """The parts of all layers, for a forward pass over tokens at `positions`."""
        size = self.keys.shape[2]
        blocks, offsets = self.tables.gather(1, positions // size), positions % size
        return [
            LayerCache(keys, values, self.tables, blocks, offsets, self.fresh)
            for keys, values in zip(self.keys, self.values, strict=True)
        ]

    def advance(self, new_tokens: int) -> None:
        """Counts the tokens that the forward pass has written."""
        self.lengths, self.fresh = self.lengths + new_tokens, False
