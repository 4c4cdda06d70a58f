"""ROUGE by hand."""

import pytest

from camelid.tasks.overlap import rouge
from camelid.text.rouge import common_subsequence, places_of


def test_rouge_by_hand() -> None:
    """5 words of 6 and 7; pairs: "the cat", "on the", "the mat"; in order: the cat on the mat."""
    found = rouge("The cat lay on the mat.", "the cat was sitting on the mat")
    assert found["rouge_1"] == pytest.approx(2 * 5 / (6 + 7))
    assert found["rouge_2"] == pytest.approx(2 * 3 / (5 + 6))
    assert found["rouge_l"] == pytest.approx(2 * 5 / (6 + 7))


def test_order_counts_in_rouge_l_alone() -> None:
    found = rouge("mat the", "the mat")
    assert (found["rouge_1"], found["rouge_2"], found["rouge_l"]) == (1.0, 0.0, 0.5)


def test_a_word_counts_as_often_as_it_occurs_in_both() -> None:
    assert rouge("the the the the", "the cat")["rouge_1"] == pytest.approx(2 * 1 / 6)


def test_nothing_shares_nothing() -> None:
    assert set(rouge("", "the cat").values()) == {0.0}
    assert common_subsequence(places_of("abcbdab"), 7, "bdcaba") == 4
