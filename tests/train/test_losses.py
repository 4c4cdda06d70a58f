"""Chunked cross-entropy against torch's own over the full logits."""

import pytest
import torch
import torch.nn.functional as F

from camelid.train import losses
from camelid.train.losses import chunked_cross_entropy


def example(batch=3, time=7, width=8, vocab=19, seed=0):
    generator = torch.Generator().manual_seed(seed)
    hidden = torch.randn(batch, time, width, generator=generator)
    weight = torch.randn(vocab, width, generator=generator)
    targets = torch.randint(vocab, (batch, time), generator=generator)
    weights = torch.rand(batch, time, generator=generator)
    weights[torch.rand(batch, time, generator=generator) < 0.3] = 0.0
    return hidden, weight, targets, weights


def reference(hidden, weight, targets, weights, z_loss):
    logits = (hidden @ weight.T).flatten(0, 1)
    nll = F.cross_entropy(logits, targets.flatten(), reduction="none")
    return ((nll + z_loss * logits.logsumexp(-1).square()) * weights.flatten()).sum()


@pytest.mark.parametrize("chunk_rows", [1, 4, 1000])
@pytest.mark.parametrize("z_loss", [0.0, 0.1])
def test_loss_and_gradients_equal_the_full_cross_entropy(monkeypatch, chunk_rows, z_loss):
    hidden, weight, targets, weights = example()
    monkeypatch.setattr(losses, "CHUNK_VALUES", chunk_rows * len(weight))
    monkeypatch.setattr(losses, "PIECE_VALUES", 3 * len(weight))
    results = []
    for loss in (chunked_cross_entropy, reference):
        h, w = hidden.clone().requires_grad_(), weight.clone().requires_grad_()
        value = loss(h, w, targets, weights, z_loss)
        (value / 5).backward()
        results.append((value.detach(), h.grad, w.grad))
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_rows_of_weight_zero_change_nothing():
    hidden, weight, targets, weights = example()
    hidden.requires_grad_()
    chunked_cross_entropy(hidden, weight, targets, weights).backward()
    assert (hidden.grad[weights == 0] == 0).all()
    garbage = torch.where((weights == 0)[..., None], torch.full_like(hidden, 1e4), hidden.detach())
    assert chunked_cross_entropy(garbage, weight, targets, weights) == chunked_cross_entropy(
        hidden, weight, targets, weights
    )


def test_no_trained_token_gives_zero_loss_and_gradient():
    hidden, weight, targets, weights = example()
    hidden.requires_grad_()
    loss = chunked_cross_entropy(hidden, weight, targets, torch.zeros_like(weights))
    loss.backward()
    assert loss == 0
    assert (hidden.grad == 0).all()


def test_bfloat16_states_stay_near_the_float32_loss():
    hidden, weight, targets, weights = example(time=64)
    ours = chunked_cross_entropy(hidden.bfloat16(), weight, targets, weights)
    torch.testing.assert_close(ours, reference(hidden, weight, targets, weights, 0.0), rtol=2e-2, atol=0)
    assert ours.dtype == torch.float32
