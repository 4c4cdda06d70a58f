"""Decoding with an encoder: the source text is read once and attended to ever after."""

from collections import OrderedDict, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast
from weakref import WeakValueDictionary

import torch
from jaxtyping import Float
from torch import Tensor

from camelid.engine.blocks import BLOCK_TOKENS, CachedSequence, chain
from camelid.engine.decoder import (
    KEPT_CONTEXTS,
    Extension,
    Predictions,
    TorchDecoder,
    padded_rows,
    power_of_two,
)
from camelid.model.layers import CrossAttention, Source
from camelid.model.transformer import Transformer


@dataclass(eq=False)
class ReadSource:
    """A source text, and what every layer made of it once it is read."""

    ids: tuple[int, ...]
    keys: Float[Tensor, "layers source kv_heads dim"] | None = None
    values: Float[Tensor, "layers source kv_heads dim"] | None = None


class EncoderDecoder(TorchDecoder):
    """A prompt is a source, and a sequence begins with the start token.

    A source is read with its sequence's first extension, together with others that are. What came of it is
    found again by a digest of its tokens, as long as a sequence uses it, and among the last few contexts of
    tokens.
    """

    def __init__(self, model: Transformer, dtype: torch.dtype, tokens: int, start_id: int) -> None:
        super().__init__(model, dtype, tokens)
        self.start_id = start_id
        self._batch: tuple[tuple[object, ...], Source | None] = ((), None)
        self._sources: WeakValueDictionary[bytes, ReadSource] = WeakValueDictionary()
        self._kept: OrderedDict[ReadSource, None] = OrderedDict()

    def begin(
        self, prompt: Sequence[int], generated: Sequence[int] = ()
    ) -> tuple[CachedSequence, Sequence[int]]:
        padding = [-1] * (-len(prompt) % BLOCK_TOKENS)
        *_, root = chain(b"source", [*prompt, *padding])
        source = self._sources.setdefault(root, ReadSource(tuple(prompt)))
        if source in self._kept:
            self._kept.move_to_end(source)
        sequence, tokens = CachedSequence(self.pool, root, source), [self.start_id, *generated]
        return sequence, tokens[sequence.adopt(tokens) :]

    def load(self) -> None:
        super().load()
        self._batch = (), None
        self._sources.clear()
        self._kept.clear()

    def unread(self, sequence: CachedSequence) -> int:
        source = cast(ReadSource, sequence.source)
        return 0 if source.keys is not None else len(source.ids)

    @torch.inference_mode()
    def compute(self, extensions: Sequence[Extension]) -> Predictions:
        """Reads the sources that are not read, then goes on as without."""
        sources = dict.fromkeys(cast(ReadSource, extension.sequence.source) for extension in extensions)
        self._read([source for source in sources if source.keys is None])
        return super().compute(extensions)

    def _read(self, sources: Sequence[ReadSource]) -> None:
        groups: defaultdict[int, list[ReadSource]] = defaultdict(list)
        for source in sources:
            groups[power_of_two(len(source.ids))].append(source)
        for group in groups.values():
            ids, present = (side.to(self.keys.device) for side in padded_rows([each.ids for each in group]))
            encoded = self.model.encode(ids, present, self.dtype)
            layers = enumerate(self.model.layers)
            pairs = [cast(CrossAttention, block.cross_attn).read(encoded, layer) for layer, block in layers]
            # [sources, layers, longest, kv_heads, dim] each
            keys, values = (torch.stack(side, 1) for side in zip(*pairs, strict=True))
            for row, source in enumerate(group):
                length = len(source.ids)
                source.keys, source.values = keys[row, :, :length].clone(), values[row, :, :length].clone()
                self._keep(source)

    def _keep(self, source: ReadSource) -> None:
        self._kept[source] = None
        while sum(len(each.ids) for each in self._kept) > KEPT_CONTEXTS * self.spec.context_length:
            self._kept.popitem(last=False)

    def source(self, extensions: Sequence[Extension]) -> Source:
        """What the rows' layers attend to: the kept keys and values, padded to the longest source."""
        read = tuple(cast(ReadSource, extension.sequence.source) for extension in extensions)
        if self._batch[1] is None or self._batch[0] != read:
            self._batch = read, _batched(read)
        assert self._batch[1] is not None
        return self._batch[1]


def _batched(read: Sequence[ReadSource]) -> Source:
    pairs = [(source.keys, source.values) for source in read if source.keys is not None]
    lengths = torch.tensor([len(source.ids) for source in read], device=pairs[0][0].device)
    mask = torch.arange(int(lengths.max()), device=lengths.device) < lengths[:, None]
    # [source, layers, kv_heads, dim] each, as padding goes along the first axis.
    keys, values = (
        torch.nn.utils.rnn.pad_sequence(
            [cast(Tensor, side).transpose(0, 1) for side in sides], batch_first=True
        )
        for sides in zip(*pairs, strict=True)
    )
    kept = {layer: (keys[:, :, layer], values[:, :, layer]) for layer in range(keys.shape[2])}
    # The states themselves are not needed any more.
    return Source(keys.new_empty(0), mask, kept)
