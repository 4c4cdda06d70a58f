"""Accuracy against the number of samples: closed forms against all subsets, counted one by one."""

import random
from itertools import combinations

import pytest

from camelid.prompting.ensembles import elect, ranked
from camelid.workflows.verifier_curves import (
    Sampled,
    chance_of_any,
    chance_of_best,
    chance_of_vote,
    counts_up_to,
)


def drawn(seed: int, count: int = 6) -> Sampled:
    dice = random.Random(seed)
    answers = tuple(dice.choice(["1", "2", None]) for _ in range(count))
    scores = tuple(dice.choice([0.1, 0.5, 0.9, None]) for _ in range(count))
    return Sampled(tuple(answer == "1" for answer in answers), answers, scores)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("n", [1, 2, 4, 6])
def test_chances_are_the_shares_of_all_subsets(seed: int, n: int) -> None:
    question = drawn(seed)
    best, possible, votes = [], [], []
    for subset in combinations(range(6), n):
        first = subset[ranked([question.scores[at] for at in subset])[0]]
        best.append(question.right[first])
        possible.append(any(question.right[at] for at in subset))
        winner = elect([question.answers[at] for at in subset], [1.0] * n)
        votes.append(winner is not None and question.right[subset[winner]])
    assert chance_of_best(question, n) == pytest.approx(sum(best) / len(best))
    assert chance_of_any(question, n) == pytest.approx(sum(possible) / len(possible))
    assert chance_of_vote(question, n, None) == pytest.approx(sum(votes) / len(votes))


def test_one_voter_is_the_best_of_n() -> None:
    question = drawn(3)
    answered = Sampled(question.right, tuple(answer or "0" for answer in question.answers), question.scores)
    for n in (1, 3, 6):
        assert chance_of_vote(answered, n, 1) == pytest.approx(chance_of_best(answered, n))


def test_samples_that_cannot_be_rated_come_last() -> None:
    assert ranked([None, 0.1, None, 0.9, 0.1]) == [3, 1, 4, 0, 2]


def test_numbers_of_samples() -> None:
    assert [counts_up_to(most) for most in (2, 8, 40)] == [[1, 2], [1, 2, 4, 8], [1, 2, 4, 8, 16, 32, 40]]
