"""The gradient noise scale against distributions whose answer is known."""

import pytest
import torch

from camelid.data.rows.batches import Batch
from camelid.report.training import noise_scale
from camelid.train.loop import training_steps
from camelid.train.noise import noise_of_part, noise_terms

MEAN, SPREAD, WIDTH = 0.25, 1.0, 16
"""Of each value of a token's gradient: |G|^2 = 1 and tr(S) = 16."""


def test_the_terms_are_those_of_the_formula():
    """By hand: |G|^2 = 2 and tr(S) = 12 give norms of 2 + 12 / 4 and 2 + 12 / 24."""
    assert noise_terms(5.0, 2.5, 4, 24) == pytest.approx((2.0, 12.0))
    assert noise_terms(5.0, 5.0, 4, 4) is None
    # The first 4 of 24 tokens add a sixth of their own mean gradient to that of the update.
    assert noise_of_part(5.0**0.5 / 6, 2.5**0.5, 4, 24) == pytest.approx((2.0, 12.0))
    assert noise_of_part(1.0, 1.0, 0, 24) is None


def test_a_run_measures_the_noise_of_a_known_distribution():
    """Each token's loss is w x with x drawn independently, so that its gradient is x."""
    model = torch.nn.Linear(WIDTH, 1, bias=False)
    generator = torch.Generator().manual_seed(0)

    def batches(count, rows=8):
        for _ in range(count):
            x = MEAN + SPREAD * torch.randn(rows, 1, WIDTH, generator=generator)
            zeros = torch.zeros(rows, 1, dtype=torch.long)
            yield Batch(zeros, zeros, torch.ones(rows, 1), zeros, zeros, {"x": x})

    steps = training_steps(
        model,
        batches(600),
        lambda batch: (model(batch.extra["x"])[..., 0] * batch.weights).sum(),
        torch.optim.SGD(model.parameters(), lr=0.0),
        lambda step: 0.0,
        micro_batch_size=2,
        gradient_clip=0.1,
    )
    terms = [step.noise for step in steps]
    assert sum(each.gradient_square for each in terms) / len(terms) == pytest.approx(1.0, rel=0.15)
    assert sum(each.gradient_trace for each in terms) / len(terms) == pytest.approx(16.0, rel=0.1)
    records = [{"step": number, **each._asdict()} for number, each in enumerate(terms)]
    shown, scales = noise_scale(records)
    assert shown[0] >= 19
    assert sum(scales[100:]) / len(scales[100:]) == pytest.approx(16.0, rel=0.2)


def test_one_micro_batch_measures_nothing():
    model = torch.nn.Linear(1, 1, bias=False)
    zeros = torch.zeros(2, 1, dtype=torch.long)
    batch = Batch(zeros, zeros, torch.ones(2, 1), zeros, zeros)
    settings = {"micro_batch_size": 2, "gradient_clip": 1.0}
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    [step] = training_steps(
        model, [batch], lambda _: model.weight.sum(), optimizer, lambda _: 0.0, **settings
    )
    assert step.noise is None
    assert noise_scale([{"step": 1}]) == ([], [])
