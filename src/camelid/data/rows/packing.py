"""Rows of fixed length made of documents and conversations, addressed by index.

A row is a pure function of the data, the seed and the index: there is no state to save, rows can be read in
any order, and nothing depends on the number of processes. In a row, `documents` numbers the pieces and
`positions` restarts in each, so attention never crosses from one piece to another.
"""

import bisect
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from camelid.base.errors import CamelidError, WrongCall
from camelid.data.rows.examples import Example
from camelid.data.rows.shards import TokenShards


@dataclass(frozen=True)
class Row:
    """One row of a batch: five arrays [time]; `weights` is 0 on padding, which is a separate document.

    shared: [time], how many tokens a piece leaves out, because they are the first of the last piece that
    leaves out none; None: no piece does.

    extra: further arrays [time] or scalars for an objective, by name.
    """

    tokens: NDArray[np.int64]
    targets: NDArray[np.int64]
    weights: NDArray[np.float32]
    documents: NDArray[np.int64]
    positions: NDArray[np.int64]
    extra: Mapping[str, NDArray[np.generic]] = field(default_factory=dict)
    shared: NDArray[np.int64] | None = None


class Rows(Protocol):
    """An infinite sequence of rows; `per_epoch` of them contain every document once."""

    context: int
    per_epoch: int
    digest: str

    def __getitem__(self, index: int) -> Row:
        """The row at `index`, counted across all epochs."""


class DocumentStream:
    """Documents of these lengths end to end, in a new seeded order each epoch.

    A lookup takes O(log documents) once the epoch's order is computed (16 bytes per document, kept for the
    last two epochs). seed None: in the order in which they were written, in every epoch (a curriculum).
    """

    def __init__(self, lengths: NDArray[np.int64], seed: int | None):
        self.length = int(lengths.sum())
        self._lengths = lengths
        self._seed = seed
        self._order = lru_cache(maxsize=2)(self._order_of_epoch)

    def pieces(self, epoch: int, start: int, stop: int) -> Iterator[tuple[int, int, int]]:
        """The contents of the epoch's range [start, stop): document, and its start and stop."""
        order, ends = self._order(epoch)
        stop = min(stop, self.length)
        rank = int(np.searchsorted(ends, start, side="right"))
        while start < stop:
            end = min(int(ends[rank]), stop)
            first = int(ends[rank - 1]) if rank else 0
            yield int(order[rank]), start - first, end - first
            start, rank = end, rank + 1

    def _order_of_epoch(self, epoch: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        count = len(self._lengths)
        order = np.arange(count) if self._seed is None else shuffled(count, self._seed, epoch)
        return order, np.cumsum(self._lengths[order])


class PackedDocuments:
    """Documents in a new seeded order each epoch, end to end, cut every `context` tokens.

    A document cut by the end of a row continues in the next row as a separate piece; the target at the cut is
    the true next token. The last row of an epoch is padded. seed None: in the order in which they were
    written, in every epoch (a curriculum).
    """

    def __init__(self, shards: TokenShards, context: int, seed: int | None = 0):
        _check_context(context)
        self.context = context
        self._stream = DocumentStream(shards.lengths + shards.lead, seed)
        self.per_epoch = -(-self._stream.length // context)
        self.digest = digest_of("documents", shards.digest, context, seed)
        self._shards = shards

    def __getitem__(self, index: int) -> Row:
        epoch, row = divmod(index, self.per_epoch)
        stretch = self._stream.pieces(epoch, row * self.context, (row + 1) * self.context)
        return lay_out([self._shards.piece(*piece) for piece in stretch], self.context, self._shards.pad_id)


class PackedExamples:
    """Whole examples packed into rows by best-fit decreasing; none is split, the rest is padding.

    Which examples share a row is fixed; the rows come in a new seeded order each epoch.
    Best-fit decreasing: Johnson et al. 1974 (SIAM J. Comput. 3), at most 11/9 of the fewest rows possible.
    """

    def __init__(self, examples: Sequence[Example], context: int, seed: int = 0, *, pad_id: int, digest: str):
        _check_context(context)
        self.context = context
        self._examples = examples
        self._bins = best_fit_decreasing([len(example) for example in examples], context)
        self.per_epoch = len(self._bins)
        self.digest = digest_of("examples", digest, context, seed)
        self._pad_id = pad_id
        self._order = lru_cache(maxsize=2)(lambda epoch: shuffled(len(self._bins), seed, epoch))

    def __getitem__(self, index: int) -> Row:
        epoch, row = divmod(index, self.per_epoch)
        members = self._bins[int(self._order(epoch)[row])]
        return lay_out([self._examples[member] for member in members], self.context, self._pad_id)


class MixedRows:
    """Several row sources in fixed shares, interleaved as evenly as possible.

    The schedule repeats after `PERIOD` rows; each row comes from the source that is furthest behind its
    share, so every range is close to the shares, and each source is read in its own order. An epoch ends when
    every source has given all of its rows at least once.
    """

    PERIOD = 1000

    def __init__(self, sources: Mapping[str, Rows], shares: Mapping[str, float]):
        if set(sources) != set(shares) or not sources:
            raise WrongCall(f"shares name {sorted(shares)}, the sources are {sorted(sources)}")
        if min(shares.values()) <= 0:
            raise WrongCall(f"shares must be above 0: {dict(shares)}")
        if len(contexts := {rows.context for rows in sources.values()}) > 1:
            raise WrongCall(f"the sources have different contexts: {sorted(contexts)}")
        self._sources = list(sources.values())
        (self.context,) = contexts
        weights = np.array([shares[name] for name in sources]) / sum(shares.values())
        self._schedule = _even_schedule(weights, self.PERIOD)
        self._counts = np.bincount(self._schedule, minlength=len(weights))
        if not self._counts.all():
            raise WrongCall(f"a share below 1/{self.PERIOD} would never be sampled: {dict(shares)}")
        turns = np.eye(len(weights), dtype=np.int64)[self._schedule]
        self._seen = np.cumsum(turns, axis=0) - turns
        self.per_epoch = max(
            -(-rows.per_epoch * self.PERIOD // int(count))
            for rows, count in zip(self._sources, self._counts, strict=True)
        )
        self.digest = digest_of("mixture", *(rows.digest for rows in self._sources), *weights.tolist())

    def __getitem__(self, index: int) -> Row:
        period, turn = divmod(index, self.PERIOD)
        source = int(self._schedule[turn])
        return self._sources[source][period * int(self._counts[source]) + int(self._seen[turn, source])]


def best_fit_decreasing(lengths: Sequence[int], context: int) -> list[list[int]]:
    """Indices of `lengths` in bins of at most `context`: longest first, each into the fullest bin that fits.

    Raises `CamelidError` for a length above `context`.
    """
    bins: list[list[int]] = []
    with_space: dict[int, list[int]] = {}
    spaces: list[int] = []  # the keys of `with_space`, ascending
    for index in sorted(range(len(lengths)), key=lambda index: (-lengths[index], index)):
        length = lengths[index]
        if length > context:
            raise CamelidError(f"example {index} has {length} tokens, the context is {context}")
        at = bisect.bisect_left(spaces, length)
        if at == len(spaces):
            bins.append([])
            space, chosen = context, len(bins) - 1
        else:
            space = spaces[at]
            chosen = with_space[space].pop()
            if not with_space[space]:
                del with_space[space], spaces[at]
        bins[chosen].append(index)
        left = space - length
        if left not in with_space:
            with_space[left] = []
            bisect.insort(spaces, left)
        with_space[left].append(chosen)
    return bins


def shuffled(count: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """A permutation of `range(count)`, the same on every machine and numpy version.

    Sorts by SplitMix64 (Steele et al. 2014, OOPSLA) of the index, keyed by seed and epoch.
    """
    key = int.from_bytes(hashlib.blake2b(f"{seed}/{epoch}".encode(), digest_size=8).digest())
    word = np.arange(count, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(key)
    word = (word ^ (word >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    word = (word ^ (word >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.argsort(word ^ (word >> np.uint64(31)), kind="stable")


def lay_out(pieces: Sequence[Example], context: int, pad_id: int, shared: Sequence[int] | None = None) -> Row:
    """The pieces one after the other in a row, and padding after them.

    shared: how many of its first tokens each piece leaves out, by default none; see `Row`.
    """
    row = Row(
        tokens=np.full(context, pad_id, dtype=np.int64),
        targets=np.full(context, pad_id, dtype=np.int64),
        weights=np.zeros(context, dtype=np.float32),
        documents=np.full(context, len(pieces), dtype=np.int64),
        positions=np.zeros(context, dtype=np.int64),
        shared=np.zeros(context, dtype=np.int64) if shared is not None else None,
        extra={name: np.zeros(context, dtype=np.float32) for name in pieces[0].extra},
    )
    start = 0
    for number, (piece, before) in enumerate(zip(pieces, shared or [0] * len(pieces), strict=True)):
        place = slice(start, start + len(piece) - before)
        row.tokens[place] = piece.tokens[before:]
        row.targets[place] = piece.targets[before:]
        row.weights[place] = piece.weights[before:]
        row.documents[place] = number
        row.positions[place] = np.arange(before, len(piece))
        if row.shared is not None:
            row.shared[place] = before
        for name, column in row.extra.items():
            column[place] = piece.extra[name][before:]
        start = place.stop
    row.positions[start:] = np.arange(context - start)
    return row


def _even_schedule(weights: NDArray[np.float64], period: int) -> NDArray[np.int64]:
    schedule = np.empty(period, dtype=np.int64)
    lag = np.zeros(len(weights))
    for turn in range(period):
        lag += weights
        schedule[turn] = np.argmax(lag)
        lag[schedule[turn]] -= 1
    return schedule


def _check_context(context: int) -> None:
    if context < 2:
        raise WrongCall(f"context is {context}; a row needs at least 2 tokens")


def digest_of(*parts: object) -> str:
    """A digest of the parts; equal parts give equal digests."""
    return hashlib.blake2b(repr(parts).encode(), digest_size=16).hexdigest()
