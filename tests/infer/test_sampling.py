"""The filters against their definitions, and draws against the distribution."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from camelid.infer.sampling import choose, filtered, keep_min_p, keep_top_k, keep_top_p
from camelid.lm import Sampling

LOGITS = torch.tensor([0.5, 0.2, 0.15, 0.1, 0.05]).log()
vectors = st.lists(st.floats(-20, 20, width=32), min_size=1, max_size=40).map(torch.tensor)


def kept(logits: Tensor) -> list[int]:
    return logits.isfinite().nonzero().flatten().tolist()


def test_worked_examples() -> None:
    assert kept(keep_top_k(LOGITS, 2)) == [0, 1]
    assert kept(keep_top_k(LOGITS, 99)) == [0, 1, 2, 3, 4]
    assert kept(keep_top_p(LOGITS, 0.5)) == [0]
    assert kept(keep_top_p(LOGITS, 0.6)) == [0, 1]
    assert kept(keep_min_p(LOGITS, 0.25)) == [0, 1, 2]
    assert kept(filtered(LOGITS, Sampling(temperature=0.5, top_k=4, min_p=0.1))) == [0, 1]


@given(vectors, st.floats(0.01, 1))
def test_top_p_is_the_smallest_set_that_reaches_p(logits: Tensor, p: float) -> None:
    probabilities = logits.double().softmax(-1)
    inside = keep_top_p(logits, p).isfinite()
    smallest = probabilities[inside].min()
    assert probabilities[inside].sum() >= min(p, 1) - 1e-6
    assert probabilities[inside].sum() - smallest < p + 1e-6
    assert not (~inside).any() or probabilities[~inside].max() <= smallest + 1e-9


@given(vectors, st.floats(0, 1, exclude_max=True))
def test_a_draw_is_never_a_token_that_was_filtered_out(logits: Tensor, uniform: float) -> None:
    sampling = Sampling(temperature=0.7, top_k=3, top_p=0.8, min_p=0.05)
    assert filtered(logits, sampling)[choose(logits, sampling, uniform)].isfinite()


def test_draws_follow_the_distribution() -> None:
    uniforms = (torch.arange(1000) + 0.5) / 1000
    draws = torch.tensor([choose(LOGITS, Sampling(temperature=1.0), float(u)) for u in uniforms])
    assert torch.bincount(draws).tolist() == pytest.approx([500, 200, 150, 100, 50], abs=1)


def test_temperature_zero_is_greedy() -> None:
    assert choose(LOGITS, Sampling(), 0.999) == 0
