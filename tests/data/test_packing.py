"""Packed rows: nothing lost, nothing doubled, nothing remembered."""

import hashlib
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from camelid.base.errors import CamelidError, WrongCall
from camelid.data.rows.batches import batches
from camelid.data.rows.examples import Example
from camelid.data.rows.packing import (
    MixedRows,
    PackedDocuments,
    PackedExamples,
    Row,
    Rows,
    best_fit_decreasing,
    shuffled,
)
from camelid.data.rows.shards import TokenShards
from camelid.text.tokenizer import Tokenizer


def example(length: int, first: int) -> Example:
    tokens = np.arange(first, first + length)
    return Example(tokens, tokens + 1, (tokens % 2).astype(np.float32))


def triples(row: Row) -> list[tuple[int, int, float]]:
    """What a row trains, in order, without its padding."""
    real = row.documents != row.documents[-1] if not row.weights[-1] else np.ones(len(row.tokens), bool)
    columns = (row.tokens[real], row.targets[real], row.weights[real])
    return list(zip(*(column.tolist() for column in columns), strict=True))


def equal(left: Row, right: Row) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(vars(left).values(), vars(right).values(), strict=True))


@settings(deadline=None)
@given(context=st.integers(2, 300), seed=st.none() | st.integers(0, 5), epoch=st.integers(0, 3))
def test_an_epoch_shows_every_document_once(
    texts: list[str], tokenizer: Tokenizer, shards: TokenShards, context: int, seed: int | None, epoch: int
):
    rows = PackedDocuments(shards, context, seed)
    first = epoch * rows.per_epoch
    stream = [triple for i in range(first, first + rows.per_epoch) for triple in triples(rows[i])]
    expected = []
    as_written = range(len(texts))
    for index in as_written if seed is None else shuffled(len(texts), seed, epoch):
        whole = [tokenizer.bos_id, *tokenizer.encode(texts[index]), tokenizer.eos_id]
        expected += [(token, target, 1.0) for token, target in pairwise(whole)]
    assert stream == expected


@given(context=st.integers(2, 60))
def test_pieces_are_numbered_and_positions_restart(shards: TokenShards, context: int):
    rows = PackedDocuments(shards, context)
    for index in range(rows.per_epoch):
        row = rows[index]
        starts = np.flatnonzero(np.diff(row.documents, prepend=-1))
        assert np.all(row.positions[starts] == 0)
        assert np.all(np.diff(row.positions)[np.diff(row.documents) == 0] == 1)
        assert row.documents[starts].tolist() == list(range(len(starts)))
        inside = np.flatnonzero(row.positions > 0)
        inside = inside[row.weights[inside] > 0]
        assert np.array_equal(row.tokens[inside], row.targets[inside - 1])


def test_epochs_differ_and_seeds_differ(shards: TokenShards):
    rows, other = PackedDocuments(shards, 32, 1), PackedDocuments(shards, 32, 2)
    assert not equal(rows[0], rows[rows.per_epoch])
    assert not equal(rows[0], other[0])
    assert rows.digest != other.digest
    assert equal(rows[5], PackedDocuments(shards, 32, 1)[5])


@given(lengths=st.lists(st.integers(1, 50), min_size=1, max_size=60))
def test_examples_stay_whole_and_come_once(lengths: list[int]):
    examples = [example(length, 100 * index) for index, length in enumerate(lengths)]
    rows = PackedExamples(examples, 50, pad_id=0, digest="")
    for epoch in range(2):
        seen: Counter[tuple[tuple[int, int, float], ...]] = Counter()
        for index in range(epoch * rows.per_epoch, (epoch + 1) * rows.per_epoch):
            row = rows[index]
            for number in np.unique(row.documents):
                here = row.documents == number
                columns = (row.tokens[here], row.targets[here], row.weights[here])
                seen[tuple(zip(*(column.tolist() for column in columns), strict=True))] += 1
        for one in examples:
            key = tuple(zip(one.tokens.tolist(), one.targets.tolist(), one.weights.tolist(), strict=True))
            assert seen.pop(key) == 1
        assert all(weight == 0 for piece in seen for _, _, weight in piece)


def fills_of_best_fit(lengths: list[int], context: int) -> list[int]:
    """How full the bins end up, by the rule as it is said: longest first, into the fullest bin that has room.

    Which one is taken among equally full bins changes what they hold, and never how full they become.
    """
    fills: list[int] = []
    for length in sorted(lengths, reverse=True):
        fitting = [bin for bin, fill in enumerate(fills) if fill + length <= context]
        if fitting:
            fills[max(fitting, key=lambda bin: fills[bin])] += length
        else:
            fills.append(length)
    return sorted(fills)


def fewest_bins(lengths: list[int], context: int) -> int:
    """The optimum, by trying every bin for every length."""

    def place(rest: list[int], fills: tuple[int, ...]) -> int:
        if not rest:
            return len(fills)
        first, *others = rest
        tried = [place(others, (*fills, first))]
        for bin, fill in enumerate(fills):
            if fill + first <= context:
                tried.append(place(others, (*fills[:bin], fill + first, *fills[bin + 1 :])))
        return min(tried)

    return place(lengths, ())


@given(lengths=st.lists(st.integers(1, 20), max_size=200))
def test_best_fit_decreasing_is_the_rule_that_its_name_says(lengths: list[int]):
    bins = best_fit_decreasing(lengths, 20)
    assert sorted(index for members in bins for index in members) == list(range(len(lengths)))
    assert sorted(sum(lengths[index] for index in members) for members in bins) == fills_of_best_fit(
        lengths, 20
    )


@settings(deadline=None, max_examples=200)
@given(lengths=st.lists(st.integers(1, 20), max_size=7))
def test_best_fit_decreasing_beside_the_optimum(lengths: list[int]):
    """Up to seven lengths never cost more than one bin above the fewest possible."""
    assert fewest_bins(lengths, 20) <= len(best_fit_decreasing(lengths, 20)) <= fewest_bins(lengths, 20) + 1


@given(cuts=st.lists(st.sets(st.integers(1, 19), max_size=4), min_size=1, max_size=60))
def test_bins_cut_up_are_packed_again_within_the_bound(cuts: list[set[int]]):
    """Full bins cut into pieces: their number is the optimum, and Johnson's bound is 11/9 of it and 4."""
    pieces = [end - start for inner in cuts for start, end in pairwise([0, *sorted(inner), 20])]
    assert len(cuts) <= len(best_fit_decreasing(pieces, 20)) <= 11 / 9 * len(cuts) + 4


def test_where_best_fit_decreasing_misses_the_optimum():
    """Two bins hold 5 + 3 + 2 and 4 + 4 + 2; beside the five, the rule puts a four."""
    lengths = [5, 4, 4, 3, 2, 2]
    assert fewest_bins(lengths, 10) == 2
    assert best_fit_decreasing(lengths, 10) == [[0, 1], [2, 3, 4], [5]]


def test_best_fit_takes_the_fullest_bin():
    assert best_fit_decreasing([6, 5, 4, 3, 2], 10) == [[0, 2], [1, 3, 4]]


@given(st.integers(0, 300), st.integers(0, 3), st.integers(0, 3))
def test_shuffled_is_a_permutation(count: int, seed: int, epoch: int):
    assert sorted(shuffled(count, seed, epoch).tolist()) == list(range(count))


def splitmix64(state: int) -> int:
    """The mixing of SplitMix64 (Steele et al. 2014, figure 16) in whole numbers."""
    word = 2**64 - 1
    state = (state ^ state >> 30) * 0xBF58476D1CE4E5B9 & word
    state = (state ^ state >> 27) * 0x94D049BB133111EB & word
    return state ^ state >> 31


def test_splitmix64_is_the_published_one():
    """The first outputs for the seed 1234567, as in the tests of Rosetta Code and of many libraries."""
    gamma = 0x9E3779B97F4A7C15
    assert [splitmix64((1234567 + (n + 1) * gamma) % 2**64) for n in range(3)] == [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
    ]


@given(st.integers(0, 100), st.integers(0, 3), st.integers(0, 3))
def test_shuffled_sorts_by_splitmix64(count: int, seed: int, epoch: int):
    key = int.from_bytes(hashlib.blake2b(f"{seed}/{epoch}".encode(), digest_size=8).digest(), "big")
    gamma = 0x9E3779B97F4A7C15
    expected = sorted(range(count), key=lambda index: splitmix64((key + index * gamma) % 2**64))
    assert shuffled(count, seed, epoch).tolist() == expected


def test_shuffled_never_changes():
    assert shuffled(8, 0, 0).tolist() == [0, 1, 2, 5, 3, 7, 4, 6]


def test_batches_do_not_depend_on_the_number_of_processes(shards: TokenShards):
    rows = PackedDocuments(shards, 16)
    alone = batches(rows, 6)
    together = [batches(rows, 6, rank=rank, world=3) for rank in range(3)]
    for _ in range(3 * rows.per_epoch // 6):
        whole, parts = next(alone), [next(part) for part in together]
        for name in vars(whole).keys() - {"extra", "shared"}:
            assert torch.equal(getattr(whole, name), torch.cat([getattr(part, name) for part in parts]))


def test_a_resumed_run_sees_the_unbroken_order(shards: TokenShards):
    rows = PackedDocuments(shards, 16)
    unbroken = batches(rows, 4)
    for _ in range(7):
        next(unbroken)
    resumed = batches(PackedDocuments(shards, 16), 4, start_step=7)
    for _ in range(10):
        assert torch.equal(next(unbroken).tokens, next(resumed).tokens)


def test_a_batch_has_the_promised_types(shards: TokenShards):
    batch = next(batches(PackedDocuments(shards, 16), 4))
    assert batch.shared is None
    assert {name: each.dtype for name, each in vars(batch).items() if name not in ("extra", "shared")} == {
        "tokens": torch.int64,
        "targets": torch.int64,
        "weights": torch.float32,
        "documents": torch.int64,
        "positions": torch.int64,
    }
    assert [part.tokens.shape for part in batch.split(3)] == [(3, 16), (1, 16)]
    assert torch.equal(torch.cat([part.weights for part in batch.split(3)]), batch.weights)


def test_a_mixture_keeps_its_shares(shards: TokenShards):
    one: Rows = PackedDocuments(shards, 16)
    other: Rows = PackedExamples([example(9, 1000 + 10 * i) for i in range(5)], 16, pad_id=0, digest="x")
    mixed = MixedRows({"text": one, "chat": other}, {"text": 3, "chat": 1})
    from_other = [bool(np.any(mixed[i].tokens >= 1000)) for i in range(2000)]
    assert sum(from_other) == 500
    assert all(sum(from_other[start : start + 8]) == 2 for start in range(0, 2000, 8))
    texts = [mixed[i] for i in range(2000) if not from_other[i]]
    assert all(equal(row, one[i]) for i, row in enumerate(texts))


def test_impossible_calls_are_refused(shards: TokenShards):
    rows = PackedDocuments(shards, 16)
    with pytest.raises(WrongCall, match="multiple of the 4"):
        next(batches(rows, 6, world=4))
    with pytest.raises(WrongCall, match="context"):
        PackedDocuments(shards, 1)
    with pytest.raises(CamelidError, match="the context is 16"):
        PackedExamples([example(17, 0)], 16, pad_id=0, digest="")
    with pytest.raises(WrongCall, match="shares"):
        MixedRows({"a": rows}, {"b": 1})


def test_shards_are_mapped_not_read(shards: TokenShards):
    assert all(isinstance(array.base, np.memmap) for array in shards._shards)
