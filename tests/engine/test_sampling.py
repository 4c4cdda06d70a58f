"""The filters against their definitions, and draws against the distribution."""

import math

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from transformers import RepetitionPenaltyLogitsProcessor

from camelid.engine.sampling import (
    apply_penalties,
    draw,
    filter_logits,
    keep_min_p,
    keep_top_k,
    keep_top_p,
    probabilities,
    sampling_probabilities,
)
from camelid.lm.sampling import Sampling

LOGITS = np.log(np.array([0.5, 0.2, 0.15, 0.1, 0.05], dtype=np.float32))
vectors = st.lists(st.floats(-20, 20, width=32), min_size=1, max_size=40).map(
    lambda row: np.array(row, dtype=np.float32)
)


def kept(logits: np.ndarray) -> list[int]:
    return np.isfinite(logits).nonzero()[0].tolist()


def test_worked_examples() -> None:
    assert kept(keep_top_k(LOGITS, 2)) == [0, 1]
    assert kept(keep_top_k(LOGITS, 99)) == [0, 1, 2, 3, 4]
    assert kept(keep_top_p(LOGITS, 0.5)) == [0]
    assert kept(keep_top_p(LOGITS, 0.6)) == [0, 1]
    assert kept(keep_min_p(LOGITS, 0.25)) == [0, 1, 2]
    assert kept(filter_logits(LOGITS, Sampling(temperature=0.5, top_k=4, min_p=0.1))) == [0, 1]


@given(vectors, st.floats(0.01, 1))
def test_top_p_is_the_smallest_set_that_reaches_p(logits: np.ndarray, p: float) -> None:
    shares = probabilities(logits)
    inside = np.isfinite(keep_top_p(logits, p))
    smallest = shares[inside].min()
    assert shares[inside].sum() >= p - 1e-9
    assert shares[inside].sum() - smallest < p + 1e-9
    assert inside.all() or shares[~inside].max() <= smallest


def sorted_top_p(logits: np.ndarray, p: float) -> np.ndarray:
    """The definition: the whole vocabulary sorted, and its probabilities added up one by one."""
    order = np.argsort(-logits, kind="stable")
    ordered = probabilities(logits)[order]
    inside = np.empty(len(logits), dtype=bool)
    inside[order] = np.cumsum(ordered) - ordered < p
    return np.where(inside, logits, np.float32(-np.inf))


@pytest.mark.parametrize("p", [1e-6, 0.1, 0.5, 0.9, 0.95, 0.999, 1 - 1e-7, 1 - 1e-12, 1.0])
@pytest.mark.parametrize("size", [1, 7, 4096])
def test_top_p_is_that_of_a_full_sort_to_the_bit(size: int, p: float) -> None:
    rng = np.random.default_rng(size)
    for scale in (0.0, 0.01, 1.0, 4.0, 30.0):
        logits = (scale * rng.normal(size=size)).astype(np.float32)
        few = np.where(rng.random(size) < 0.9, np.float32(-np.inf), logits)
        few[0] = 0
        # Tied logits, by halves and by tens, and what is left after other filters.
        for row in (logits, np.round(2 * logits) / 2, np.round(logits, -1), keep_top_k(logits, 50), few):
            assert np.array_equal(keep_top_p(row, p), sorted_top_p(row, p))


@given(vectors, st.floats(1e-3, 1))
def test_top_p_is_that_of_a_full_sort(logits: np.ndarray, p: float) -> None:
    assert np.array_equal(keep_top_p(logits, p), sorted_top_p(logits, p))


@given(vectors, st.floats(0, 1, exclude_max=True))
def test_a_draw_is_never_a_token_that_was_filtered_out(logits: np.ndarray, uniform: float) -> None:
    sampling = Sampling(temperature=0.7, top_k=3, top_p=0.8, min_p=0.05)
    assert np.isfinite(
        filter_logits(logits, sampling)[draw(sampling_probabilities(logits, sampling), uniform).token]
    )


def test_draws_follow_the_distribution() -> None:
    draws = [
        draw(sampling_probabilities(LOGITS, Sampling(temperature=1.0)), (i + 0.5) / 1000).token
        for i in range(1000)
    ]
    assert np.bincount(draws).tolist() == pytest.approx([500, 200, 150, 100, 50], abs=1)


def test_temperature_zero_is_greedy() -> None:
    assert draw(sampling_probabilities(LOGITS, Sampling()), 0.999) == (0, 0.0)


@pytest.mark.parametrize("penalty", [1.3, 0.7])
def test_the_repetition_penalty_is_that_of_transformers(penalty: float) -> None:
    processor = RepetitionPenaltyLogitsProcessor(penalty)
    logits = np.random.default_rng(0).normal(size=50).astype(np.float32)
    prompt, said = [3, 4, 4], [9, 3]
    theirs = processor(torch.tensor([prompt + said]), torch.tensor(logits[None]))[0].numpy()
    assert np.array_equal(apply_penalties(logits, Sampling(repetition_penalty=penalty), prompt, said), theirs)


def test_presence_frequency_and_bias_by_hand() -> None:
    sampling = Sampling(presence_penalty=0.5, frequency_penalty=0.25, logit_bias={1: 2.0, 3: -math.inf})
    changed = apply_penalties(np.zeros(5, dtype=np.float32), sampling, [0], [4, 2, 4])
    assert changed.tolist() == [0, 2, -0.75, -math.inf, -1]
    assert hash(sampling) == hash(
        Sampling(presence_penalty=0.5, frequency_penalty=0.25, logit_bias=((3, -math.inf), (1, 2.0)))
    )


def test_without_them_logits_are_untouched() -> None:
    assert apply_penalties(LOGITS, Sampling(), [0], [1]) is LOGITS


@given(st.lists(st.floats(0, 1), min_size=1, max_size=700).filter(any), st.floats(0, 1, exclude_max=True))
@example([5e-324], 0.99)
def test_a_draw_in_two_looks_is_one_over_all(weights: list[float], uniform: float) -> None:
    every = np.array(weights)
    found, logprob = draw(every, uniform)
    assert every[found] > 0
    cumulative = every.cumsum()
    assert logprob == pytest.approx(math.log(every[found] / cumulative[-1]), abs=1e-9)
    target, slack = uniform * cumulative[-1], 1e-9 * cumulative[-1]
    assert cumulative[found] - every[found] - slack <= target <= cumulative[found] + slack
