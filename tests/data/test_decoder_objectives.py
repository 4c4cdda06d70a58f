"""Prefix language modelling and GPT-1's classification: objectives of a decoder that are loss weights
alone."""

from collections import Counter

import numpy as np
import pytest

from camelid.base.errors import WrongCall
from camelid.data.rows.classification import TaskTokens, classification_example
from camelid.data.rows.examples import Example
from camelid.data.rows.packing import PackedExamples
from camelid.data.rows.prefixes import PrefixRows

TOKENS = TaskTokens.after(50)


def packed(lengths: list[int], context: int) -> PackedExamples:
    examples = []
    for length in lengths:
        tokens = np.arange(length)
        examples.append(Example(tokens, tokens + 1, np.full(length, 2, np.float32)))
    return PackedExamples(examples, context, pad_id=0, digest="")


def test_the_beginning_of_each_piece_has_no_weight():
    plain = packed([9, 5, 1], 20)
    split = PrefixRows(plain, seed=1)
    assert (split.context, split.per_epoch) == (20, 1)
    for index in range(50):
        row, before = split[index], plain[index]
        assert np.array_equal(row.tokens, before.tokens)
        for number, length in enumerate((9, 5, 1)):
            weights = row.weights[row.documents == number]
            beginning = int(np.flatnonzero(weights)[0])
            assert beginning <= max(0, length - 2)
            assert weights[beginning:].tolist() == [2.0] * (length - beginning)
        assert not row.weights[row.documents == 3].any()


def test_splits_are_uniform_and_depend_on_seed_and_index_alone():
    split = PrefixRows(packed([5], 5), seed=2)
    weights = [split[index].weights for index in range(4000)]
    counts = Counter(int(np.flatnonzero(one)[0]) for one in weights)
    assert set(counts) == {0, 1, 2, 3}
    assert min(counts.values()) > 850
    again = PrefixRows(packed([5], 5), seed=2)
    assert np.array_equal(again[7].weights, weights[7])
    assert split[7].weights.dtype == np.float32
    assert split.digest == again.digest != PrefixRows(packed([5], 5), seed=3).digest


def test_a_text_and_its_class_by_hand():
    example = classification_example([[5, 6, 7]], [8, 9], TOKENS)
    assert example.tokens.tolist() == [50, 5, 6, 7, 52, 8]
    assert example.targets.tolist() == [5, 6, 7, 52, 8, 9]
    assert example.weights.tolist() == [0.5, 0.5, 0.5, 0.5, 1, 1]


def test_two_texts_and_a_shared_weight_by_hand():
    example = classification_example([[5], [6, 7]], [8], TOKENS, averaged=True)
    assert example.tokens.tolist() == [50, 5, 51, 6, 7, 52]
    assert example.targets.tolist() == [5, 51, 6, 7, 52, 8]
    assert example.weights.tolist() == pytest.approx([0.1] * 5 + [1])


def test_without_the_auxiliary_loss_the_class_alone_is_trained():
    example = classification_example([[5, 6]], [8], TOKENS, lm_weight=0)
    assert example.weights.tolist() == [0, 0, 0, 1]


def test_nothing_to_classify_is_refused():
    with pytest.raises(WrongCall, match="0 texts"):
        classification_example([], [8], TOKENS)
    with pytest.raises(WrongCall, match="answer of 0 tokens"):
        classification_example([[5]], [], TOKENS)
