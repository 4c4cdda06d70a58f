"""Decoding with an encoder: a slot's first tokens are its source text, which is read once and attended to ever after."""

from collections.abc import Sequence
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor

from camelid.infer.decoder import TorchDecoder, padded_rows
from camelid.model.layers import CrossAttention, Source
from camelid.model.transformer import Transformer


class EncoderDecoder(TorchDecoder):
    """See `camelid.infer.decoder.Decoder`; a slot's length counts its source and what was said, without the start token.

    capacity: tokens of the longest source, and as many of the longest answer.
    """

    def __init__(
        self, model: Transformer, dtype: torch.dtype, slots: int, capacity: int, start_id: int
    ) -> None:
        super().__init__(model, dtype, slots, capacity + 1)
        spec, device = model.spec, self.cache.keys.device
        shape = (spec.num_layers, slots, capacity, spec.num_kv_heads, spec.head_dim)
        self.keys = torch.zeros(shape, dtype=dtype, device=device)
        self.values = torch.zeros(shape, dtype=dtype, device=device)
        self.source_lengths = torch.zeros(slots, dtype=torch.long, device=device)
        self.start_id = start_id

    @torch.inference_mode()
    def extend(
        self, first_slot: int, tokens: Sequence[Sequence[int]], every: bool = False
    ) -> Float[Tensor, "rows vocab"]:
        """See `Decoder.extend`; slots that are empty take the tokens as their sources, all or none of those given."""
        if self.lengths[first_slot]:
            return super().extend(first_slot, tokens, every)
        self._read(first_slot, tokens)
        logits = super().extend(first_slot, [[self.start_id]] * len(tokens))
        for slot, source in enumerate(tokens, first_slot):
            self.lengths[slot] = len(source)
        return logits

    def fork(self, source: int, target: int, length: int) -> None:
        """See `Decoder.fork`."""
        for side in (self.keys, self.values):
            side[:, target] = side[:, source]
        self.source_lengths[target] = self.source_lengths[source]
        said = self._said(source, length)
        for side in (self.cache.keys, self.cache.values):
            side[:, target, :said] = side[:, source, :said]
        self.truncate(target, length)

    def truncate(self, slot: int, length: int) -> None:
        """See `Decoder.truncate`; an empty slot is ready for another source."""
        self.cache.lengths[slot] = self._said(slot, length) if length else 0
        self.lengths[slot] = length

    def _said(self, slot: int, length: int) -> int:
        return length - int(self.source_lengths[slot]) + 1

    def _read(self, first_slot: int, sources: Sequence[Sequence[int]]) -> None:
        """Encodes the sources and keeps the keys and values that every layer makes of them."""
        device = self.cache.lengths.device
        padded, mask = (tensor.to(device) for tensor in padded_rows(sources))
        rows = slice(first_slot, first_slot + len(sources))
        encoded = self.model.encode(padded, mask, self.dtype)
        for layer, block in enumerate(self.model.layers):
            keys, values = cast(CrossAttention, block.cross_attn).read(encoded, layer)
            self.keys[layer, rows, : padded.shape[1]] = keys
            self.values[layer, rows, : padded.shape[1]] = values
        self.source_lengths[rows] = mask.sum(1)

    def source(self, first_slot: int, count: int) -> Source:
        """What the rows' layers attend to: the kept keys and values, up to the longest source."""
        rows = slice(first_slot, first_slot + count)
        lengths = self.source_lengths[rows]
        longest = int(lengths.max())
        mask = torch.arange(longest, device=lengths.device) < lengths[:, None]
        kept = {
            layer: (self.keys[layer, rows, :longest], self.values[layer, rows, :longest])
            for layer in range(len(self.model.layers))
        }
        # The states themselves are not needed any more.
        return Source(self.keys.new_empty(0), mask, kept)
