"""Pairs and their batches: every token once an epoch, the same rows for any number of processes."""

import numpy as np
import pytest
import torch

from camelid.base.errors import CamelidError
from camelid.data.rows.batches import batches, collate
from camelid.data.rows.denoising import Denoising, Marks, draws
from camelid.data.rows.packing import shuffled
from camelid.data.rows.pairs import DenoisedDocuments, Pair, ShuffledPairs, pair
from camelid.data.rows.shards import TokenShards
from camelid.text.tokenizer import Tokenizer

MARKS = Marks(np.arange(399, 299, -1), eos_id=1, vocab_size=400)
START = 2


def rows(
    shards: TokenShards, kind: str = "span", seed: int | None = 3, context: int = 32
) -> DenoisedDocuments:
    return DenoisedDocuments(shards, Denoising(kind), context, seed, marks=MARKS, start_id=START)


def equal(one: Pair, other: Pair) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(vars(one).values(), vars(other).values(), strict=True))


def test_the_decoder_reads_its_targets_one_place_later():
    made = pair([5, 6, 1], [7, 8, 1], start_id=0)
    assert made.source.tolist() == [5, 6, 1]
    assert made.tokens.tolist() == [0, 7, 8]
    assert made.targets.tolist() == [7, 8, 1]
    assert made.weights.tolist() == [1, 1, 1]


@pytest.mark.parametrize("seed", [None, 3])
@pytest.mark.parametrize("epoch", [0, 2])
def test_an_epoch_shows_every_token_once(
    texts: list[str], tokenizer: Tokenizer, shards: TokenShards, seed: int | None, epoch: int
):
    """The targets of deshuffling are the text itself, so its rows tell what the chunks are."""
    source = rows(shards, "deshuffle", seed)
    first = epoch * source.per_epoch
    chunks = [source[index].targets[:-1] for index in range(first, first + source.per_epoch)]
    order = range(len(texts)) if seed is None else shuffled(len(texts), seed, epoch)
    expected = [index for number in order for index in tokenizer.encode(texts[number])]
    assert np.concatenate(chunks).tolist() == expected
    assert {len(chunk) for chunk in chunks[:-1]} == {31}


def test_a_row_is_the_corruption_of_its_chunk(shards: TokenShards):
    corrupted, whole = rows(shards), rows(shards, "deshuffle", context=Denoising().raw_length(32) + 1)
    for index in range(corrupted.per_epoch):
        source, target = Denoising().corrupt(whole[index].targets[:-1], draws(3, index), MARKS)
        assert equal(corrupted[index], pair(source, target, START))
        assert len(source) == 32 or index == corrupted.per_epoch - 1


def test_epochs_and_seeds_differ_and_digests_name_them(shards: TokenShards):
    source, other = rows(shards), rows(shards, seed=4)
    assert not equal(source[0], source[source.per_epoch])
    assert not equal(source[0], other[0])
    assert equal(source[5], rows(shards)[5])
    assert len({made.digest for made in (source, other, rows(shards, "iid"), rows(shards, context=40))}) == 4
    assert rows(shards).digest == source.digest


def test_batches_do_not_depend_on_the_number_of_processes(shards: TokenShards):
    source = rows(shards, "iid")
    alone = batches(source, 6)
    together = [batches(source, 6, rank=rank, world=3) for rank in range(3)]
    for step in range(3):
        whole, parts = next(alone), [next(part) for part in together]
        read = [part.source[row][part.source_mask[row]] for part in parts for row in range(2)]
        assert all(torch.equal(row, whole.source[i][whole.source_mask[i]]) for i, row in enumerate(read))
        assert sum(float(part.weights.sum()) for part in parts) == float(whole.weights.sum())
        resumed = next(batches(source, 6, start_step=step))
        assert torch.equal(resumed.targets, whole.targets)


def test_a_batch_is_padded_to_its_longest():
    batch = collate([pair([5, 6, 1], [7, 1], 0), pair([5, 1], [7, 8, 9, 1], 0)])
    assert batch.source.tolist() == [[5, 6, 1], [5, 1, 0]]
    assert batch.source_mask.tolist() == [[True, True, True], [True, True, False]]
    assert batch.tokens.tolist() == [[0, 7, 0, 0], [0, 7, 8, 9]]
    assert batch.targets.tolist() == [[7, 1, 0, 0], [7, 8, 9, 1]]
    assert batch.weights.tolist() == [[1, 1, 0, 0], [1, 1, 1, 1]]
    assert {name: value.dtype for name, value in vars(batch).items() if name != "extra"} == {
        "source": torch.int64,
        "source_mask": torch.bool,
        "tokens": torch.int64,
        "targets": torch.int64,
        "weights": torch.float32,
    }
    halves = batch.to("cpu").split(1)
    assert [half.targets.tolist() for half in halves] == [[[7, 1, 0, 0]], [[7, 8, 9, 1]]]


def test_pairs_come_once_an_epoch_in_an_order_of_their_own():
    pairs = [pair([number, 1], [number, 1], 0) for number in range(10, 30)]
    source = ShuffledPairs(pairs, seed=1)
    epochs = [[int(source[index].source[0]) for index in range(start, start + 20)] for start in (0, 20)]
    assert epochs[0] != epochs[1]
    assert all(sorted(epoch) == list(range(10, 30)) for epoch in epochs)
    assert source.context == 2
    assert source.digest != ShuffledPairs(pairs, seed=2).digest != ShuffledPairs(pairs[1:], seed=2).digest


def test_too_few_sentinels_stop_before_the_first_row(shards: TokenShards):
    few = Marks(MARKS.sentinels[:1], 1, 400)
    with pytest.raises(CamelidError, match="needs 2 sentinels"):
        DenoisedDocuments(shards, Denoising(), 32, marks=few, start_id=0)
