"""Pairs for a model with an encoder and a decoder: what it reads, and what it is to write.

As in `packing`, what stands at an index is a pure function of the data, the seed and the index: there is no state to
save, and nothing depends on the number of processes.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from camelid.data.rows.denoising import Denoising, Marks, draws
from camelid.data.rows.packing import DocumentStream, digest_of, shuffled
from camelid.data.rows.shards import TokenShards


@dataclass(frozen=True)
class Pair:
    """A source [source time] and three arrays of the target's length: `targets[i]` follows `tokens[i]` and counts `weights[i]`.

    extra: arrays of the target's length or scalars that an objective reads besides, by name.
    """

    source: NDArray[np.int64]
    tokens: NDArray[np.int64]
    targets: NDArray[np.int64]
    weights: NDArray[np.float32]
    extra: Mapping[str, NDArray[np.generic]] = field(default_factory=dict)


class PairRows(Protocol):
    """An endless sequence of pairs; `per_epoch` of them show all data once, no source exceeds `context` tokens."""

    context: int
    per_epoch: int
    digest: str

    def __getitem__(self, index: int) -> Pair:
        """The pair at `index`, counted through all epochs."""


def pair(
    source: Sequence[int] | NDArray[np.integer], target: Sequence[int] | NDArray[np.integer], start_id: int
) -> Pair:
    """Source and target as they end, all of the target of weight 1; the decoder reads it shifted right behind `start_id`.

    T5 starts with its padding token.
    """
    targets = np.asarray(target, dtype=np.int64)
    tokens = np.concatenate([[start_id], targets[:-1]]).astype(np.int64)
    return Pair(np.asarray(source, dtype=np.int64), tokens, targets, np.ones(len(targets), dtype=np.float32))


class DenoisedDocuments:
    """Documents in a seeded order, new in each epoch, laid end to end without separators, cut and corrupted.

    A row is as much text as makes a source of at most `context` tokens; it is corrupted anew in each epoch. The last
    row of an epoch is shorter. seed None: in the order in which they were written, corrupted as with seed 0.
    T5 as released lays 128 documents end to end, of those above 65,536 tokens a random stretch,
    and for `prefix_lm` and `deshuffle` none; here every token comes once an epoch, and only its last row is short.
    Raises `CamelidError` where rows of this length need more sentinels than the vocabulary has.
    """

    def __init__(
        self,
        shards: TokenShards,
        denoising: Denoising,
        context: int,
        seed: int | None = 0,
        *,
        marks: Marks,
        start_id: int,
    ):
        self._text_length = denoising.raw_length(context)
        denoising.check_sentinels(self._text_length, len(marks.sentinels))
        self.context = context
        self._stream = DocumentStream(shards.lengths, seed)
        self.per_epoch = -(-self._stream.length // self._text_length)
        ids = (marks.sentinels.tolist(), marks.eos_id, marks.vocab_size, start_id)
        self.digest = digest_of("denoised", shards.digest, denoising, context, seed, *ids)
        self._shards, self._denoising, self._marks = shards, denoising, marks
        self._seed, self._start_id = seed or 0, start_id

    def __getitem__(self, index: int) -> Pair:
        epoch, row = divmod(index, self.per_epoch)
        stretch = self._stream.pieces(epoch, row * self._text_length, (row + 1) * self._text_length)
        text = np.concatenate([self._shards.document(number)[start:stop] for number, start, stop in stretch])
        source, target = self._denoising.corrupt(text, draws(self._seed, index), self._marks)
        return pair(source, target, self._start_id)


class ShuffledPairs:
    """Pairs one by one, in a seeded order that is new in each epoch."""

    def __init__(self, pairs: Sequence[Pair], seed: int = 0):
        self.context = max(len(one.source) for one in pairs)
        self.per_epoch = len(pairs)
        self.digest = digest_of("pairs", _content(pairs), seed)
        self._pairs = pairs
        self._order = lru_cache(maxsize=2)(lambda epoch: shuffled(len(pairs), seed, epoch))

    def __getitem__(self, index: int) -> Pair:
        epoch, row = divmod(index, self.per_epoch)
        return self._pairs[int(self._order(epoch)[row])]


def _content(pairs: Sequence[Pair]) -> str:
    content = hashlib.blake2b(digest_size=16)
    for one in pairs:
        for array in (one.source, one.tokens, one.targets, one.weights):
            content.update(len(array).to_bytes(8) + array.tobytes())
    return content.hexdigest()
