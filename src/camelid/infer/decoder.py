"""What the engine needs of a model: sequences in slots, extended by tokens, forked, and cut.

Slots are numbered from 0 and the engine keeps those in use dense, so that a batch is a range of them.
"""

from collections.abc import Sequence
from typing import Protocol

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from camelid.model.cache import KeyValueCache
from camelid.model.layers import Source
from camelid.model.transformer import Transformer


class Decoder(Protocol):
    """A model with a cache of its past; `lengths[slot]` tokens of each slot are in it."""

    lengths: list[int]

    def extend(
        self, first_slot: int, tokens: Sequence[Sequence[int]], every: bool = False
    ) -> Float[Tensor, "rows vocab"]:
        """Appends tokens[i] to slot first_slot + i; returns float32 logits after each slot's last token.

        With `every`, logits after every token, slot by slot.
        """
        ...

    def summarise(
        self, logits: Float[Tensor, "rows vocab"]
    ) -> tuple[Int[Tensor, " rows"], Float[Tensor, " rows"]]:
        """The index of each row's largest logit, and the logarithm of its sum of exponentials."""
        ...

    def fork(self, source: int, target: int, length: int) -> None:
        """Makes slot `target` hold the first `length` tokens of `source`."""
        ...

    def truncate(self, slot: int, length: int) -> None:
        """Forgets all but the first `length` tokens of a slot."""
        ...


def padded_rows(
    rows: Sequence[Sequence[int]],
) -> tuple[Int[Tensor, "rows longest"], Bool[Tensor, "rows longest"]]:
    """Rows of tokens filled up with zeros on the right, and where the tokens are."""
    lengths = torch.tensor([len(row) for row in rows])
    padded = torch.zeros(len(rows), int(lengths.max()), dtype=torch.long)
    for row, ids in zip(padded, rows, strict=True):
        row[: len(ids)] = torch.as_tensor(ids)
    return padded, torch.arange(padded.shape[1]) < lengths[:, None]


class TorchDecoder:
    """The `Transformer`'s own forward pass over a `KeyValueCache`; rows of unequal length are padded on the right."""

    def __init__(self, model: Transformer, dtype: torch.dtype, slots: int, capacity: int) -> None:
        self.model, self.dtype = model, dtype
        device = model.embed_tokens.weight.device
        self.cache = KeyValueCache(model.spec, slots, capacity, dtype, device)
        self.lengths = [0] * slots

    @torch.inference_mode()
    def extend(
        self, first_slot: int, tokens: Sequence[Sequence[int]], every: bool = False
    ) -> Float[Tensor, "rows vocab"]:
        """See `Decoder.extend`."""
        padded, present = padded_rows(tokens)
        counts = present.sum(1)
        device = self.cache.lengths.device
        cache = self.cache.rows(first_slot, first_slot + len(tokens))
        ends = cache.lengths + counts.to(device)
        source = self.source(first_slot, len(tokens))
        hidden = self.model.hidden_states(padded.to(device), cache=cache, source=source, dtype=self.dtype)
        # Padding was written behind each row's end, where the row's next tokens overwrite it.
        cache.lengths.copy_(ends)
        for slot, count in enumerate(counts.tolist(), first_slot):
            self.lengths[slot] += count
        wanted = present if every else present & (torch.arange(padded.shape[1]) == counts[:, None] - 1)
        return self.model.unembed(hidden[wanted.to(device)]).float()

    def source(self, first_slot: int, count: int) -> Source | None:
        """What `count` slots attend to beside their own past: nothing, without an encoder."""
        return None

    def summarise(
        self, logits: Float[Tensor, "rows vocab"]
    ) -> tuple[Int[Tensor, " rows"], Float[Tensor, " rows"]]:
        """See `Decoder.summarise`."""
        return logits.argmax(-1), logits.logsumexp(-1)

    def fork(self, source: int, target: int, length: int) -> None:
        """See `Decoder.fork`."""
        for side in (self.cache.keys, self.cache.values):
            side[:, target, :length] = side[:, source, :length]
        self.truncate(target, length)

    def truncate(self, slot: int, length: int) -> None:
        """See `Decoder.truncate`."""
        self.cache.lengths[slot] = length
        self.lengths[slot] = length
