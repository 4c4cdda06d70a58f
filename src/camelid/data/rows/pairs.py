"""Pairs of source and target for encoder-decoders.

As in `packing`, the pair at an index is a pure function of the data, the seed and the index: there is no
state to save, and nothing depends on the number of processes.
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
    """A source [source time] and three arrays [target time]; target i follows token i, with weight i.

    extra: further arrays of the target's length or scalars for an objective, by name.
    """

    source: NDArray[np.int64]
    tokens: NDArray[np.int64]
    targets: NDArray[np.int64]
    weights: NDArray[np.float32]
    extra: Mapping[str, NDArray[np.generic]] = field(default_factory=dict)


class PairRows(Protocol):
    """An infinite sequence of pairs; an epoch has `per_epoch`, no source exceeds `context` tokens."""

    context: int
    per_epoch: int
    digest: str

    def __getitem__(self, index: int) -> Pair:
        """The pair at `index`, counted across all epochs."""


def pair(
    source: Sequence[int] | NDArray[np.integer], target: Sequence[int] | NDArray[np.integer], start_id: int
) -> Pair:
    """A pair whose targets all have weight 1; the decoder reads them shifted right, after `start_id`.

    T5 starts with its padding token.
    """
    targets = np.asarray(target, dtype=np.int64)
    tokens = np.concatenate([[start_id], targets[:-1]]).astype(np.int64)
    return Pair(np.asarray(source, dtype=np.int64), tokens, targets, np.ones(len(targets), dtype=np.float32))


class DenoisedDocuments:
    """Documents in a new seeded order each epoch, end to end without separators, cut and corrupted.

    A row is as much text as makes a source of at most `context` tokens; each epoch corrupts it differently.
    The last row of an epoch is shorter. seed None: in the order in which they were written, corrupted as with
    seed 0. T5's released code joins 128 documents (of those above 65,536 tokens a random range), and none for
    `prefix_lm` and `deshuffle`; here every token occurs once an epoch, and only the last row is short. Raises
    `CamelidError` if rows of this length need more sentinels than the vocabulary has.
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
    """Pairs one by one, in a new seeded order each epoch."""

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
