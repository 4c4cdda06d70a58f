"""Decoding with an encoder: the source text is read once and attended to ever after."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor

from camelid.engine.blocks import BLOCK_TOKENS, CachedSequence, chain
from camelid.engine.decoder import Extension, TorchDecoder
from camelid.model.layers import CrossAttention, Source
from camelid.model.transformer import Transformer


@dataclass(frozen=True, eq=False)
class ReadSource:
    """What every layer made of one source text."""

    keys: Float[Tensor, "layers source kv_heads dim"]
    values: Float[Tensor, "layers source kv_heads dim"]


class EncoderDecoder(TorchDecoder):
    """See `camelid.engine.decoder.Decoder`; a prompt is a source, and a sequence begins with the start token."""

    def __init__(self, model: Transformer, dtype: torch.dtype, tokens: int, start_id: int) -> None:
        super().__init__(model, dtype, tokens)
        self.start_id = start_id
        self._batch: tuple[tuple[object, ...], Source | None] = ((), None)

    def begin(self, prompt: Sequence[int], said: Sequence[int] = ()) -> tuple[CachedSequence, Sequence[int]]:
        """See `Decoder.begin`; reads the source."""
        padding = [-1] * (-len(prompt) % BLOCK_TOKENS)
        *_, root = chain(b"source", [*prompt, *padding])
        sequence, tokens = CachedSequence(self.pool, root, self._read(prompt)), [self.start_id, *said]
        return sequence, tokens[sequence.adopt(tokens) :]

    @torch.inference_mode()
    def _read(self, prompt: Sequence[int]) -> ReadSource:
        ids = torch.tensor([list(prompt)], device=self.keys.device)
        encoded = self.model.encode(ids, torch.ones_like(ids, dtype=torch.bool), self.dtype)
        layers = enumerate(self.model.layers)
        pairs = [cast(CrossAttention, block.cross_attn).read(encoded, layer) for layer, block in layers]
        keys, values = (torch.cat(side) for side in zip(*pairs, strict=True))
        return ReadSource(keys, values)

    def source(self, extensions: Sequence[Extension]) -> Source:
        """What the rows' layers attend to: the kept keys and values, padded to the longest source."""
        read = tuple(cast(ReadSource, extension.sequence.source) for extension in extensions)
        if self._batch[1] is None or self._batch[0] != read:
            self._batch = read, _batched(read)
        assert self._batch[1] is not None
        return self._batch[1]


def _batched(read: Sequence[ReadSource]) -> Source:
    lengths = torch.tensor([source.keys.shape[1] for source in read], device=read[0].keys.device)
    mask = torch.arange(int(lengths.max()), device=lengths.device) < lengths[:, None]
    # [source, layers, kv_heads, dim] each, as padding goes along the first axis.
    keys, values = (
        torch.nn.utils.rnn.pad_sequence([side.transpose(0, 1) for side in sides], batch_first=True)
        for sides in zip(*((source.keys, source.values) for source in read), strict=True)
    )
    kept = {layer: (keys[:, :, layer], values[:, :, layer]) for layer in range(keys.shape[2])}
    # The states themselves are not needed any more.
    return Source(keys.new_empty(0), mask, kept)
