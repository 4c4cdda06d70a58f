"""The loop against one plain gradient of the mean loss over a whole batch, and its gates."""

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from camelid.base.errors import CamelidError
from camelid.train.fit import _watched
from camelid.train.loop import Step, training_steps
from camelid.train.objectives import cross_entropy


def steps_of(model, batches, objective=None, **settings):
    """One update per batch by plain gradient descent at rate 1, so that weights move by the gradient."""
    settings = {"micro_batch_size": 2, "gradient_clip": 0.0} | settings
    return training_steps(
        model,
        batches,
        objective or cross_entropy(model),
        torch.optim.SGD(model.parameters(), lr=0.0),
        lambda step: 1.0,
        **settings,
    )


def moved(model, before):
    return {name: before[name] - parameter.detach() for name, parameter in model.named_parameters()}


def copy_of(model):
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


def whole_batch(model, batch):
    """Loss and gradient of the mean over the trained tokens, from the full logits at once."""
    logits = model(batch.tokens, documents=batch.documents, positions=batch.positions)
    nll = F.cross_entropy(logits.flatten(0, 1), batch.targets.flatten(), reduction="none")
    loss = (nll * batch.weights.flatten()).sum() / batch.weights.sum()
    gradients = torch.autograd.grad(loss, list(model.parameters()))
    return loss.detach(), dict(zip(dict(model.named_parameters()), gradients, strict=True))


@pytest.mark.parametrize("micro_batch_size", [1, 2, 3, 4])
def test_accumulated_micro_batches_equal_one_whole_batch(tiny, random_batch, micro_batch_size):
    model, batch = tiny(), random_batch()
    loss, gradients = whole_batch(model, batch)
    before = copy_of(model)
    (step,) = steps_of(model, [batch], micro_batch_size=micro_batch_size)
    assert step.loss == pytest.approx(float(loss), rel=1e-5)
    norm = math.sqrt(sum(float(gradient.square().sum()) for gradient in gradients.values()))
    assert step.grad_norm == pytest.approx(norm, rel=1e-4)
    for name, movement in moved(model, before).items():
        torch.testing.assert_close(movement, gradients[name], rtol=1e-3, atol=2e-6)


def test_a_step_tells_what_it_read(tiny, random_batch):
    batch = random_batch()
    steps = list(steps_of(tiny(), [batch, batch], start=7))
    assert [step.number for step in steps] == [7, 8]
    assert steps[0].tokens == batch.tokens.numel()
    assert steps[0].trained_tokens == int((batch.weights > 0).sum())
    assert steps[0].learning_rate == 1.0


@pytest.mark.parametrize("share", [0.25, 4.0])
def test_clipping_limits_the_movement_and_keeps_its_direction(tiny, random_batch, share):
    model, batch = tiny(), random_batch()
    _, gradients = whole_batch(model, batch)
    norm = math.sqrt(sum(float(gradient.square().sum()) for gradient in gradients.values()))
    before = copy_of(model)
    (step,) = steps_of(model, [batch], gradient_clip=share * norm)
    assert step.grad_norm == pytest.approx(norm, rel=1e-4)
    for name, movement in moved(model, before).items():
        torch.testing.assert_close(movement, gradients[name] * min(1.0, share), rtol=1e-3, atol=2e-6)


def test_a_batch_without_a_trained_token_stops(tiny, random_batch):
    model, batch = tiny(), random_batch()
    before = copy_of(model)
    masked = replace(batch, weights=torch.zeros_like(batch.weights))
    with pytest.raises(CamelidError, match=r"step 3: no trained token in the batch"):
        list(steps_of(model, [masked], start=3))
    assert all((movement == 0).all() for movement in moved(model, before).values())


@pytest.mark.parametrize("odd", [math.nan, math.inf])
def test_a_loss_that_is_no_number_stops_and_leaves_the_weights(tiny, random_batch, odd):
    model, batch = tiny(), random_batch()
    plain = cross_entropy(model)
    calls = []

    def broken(micro_batch):
        calls.append(micro_batch)
        return plain(micro_batch) * (odd if len(calls) == 4 else 1.0)

    steps = steps_of(model, [batch, batch], broken)
    next(steps)
    before = copy_of(model)
    with pytest.raises(CamelidError, match=r"step 1: the loss is (nan|inf)"):
        next(steps)
    assert all((movement == 0).all() for movement in moved(model, before).values())


def watched(losses):
    steps = (Step(number, loss, 1e-3, 1.0, 1, 1, 1.0) for number, loss in enumerate(losses))
    return [step.loss for step in _watched(steps)]


def test_a_loss_that_jumps_and_stays_there_stops():
    with pytest.raises(CamelidError, match=r"step 14: the loss jumped from about 3\.\d+ to 7\.000"):
        watched([3.0] * 10 + [7.0] * 10)


def test_spikes_and_slow_changes_go_on():
    spikes = [3.0] * 10 + [7.0] * 4 + [3.0] * 10 + [9.0] + [3.0] * 5
    assert watched(spikes) == spikes
    falling = [10.0 - 0.1 * step for step in range(90)]
    assert watched(falling) == falling
