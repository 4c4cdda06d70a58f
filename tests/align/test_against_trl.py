"""Losses, their gradients and advantages equal those that TRL's own functions gave for the same
log-probabilities, rewards and values (record_trl.py)."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from camelid.align.columns import ADVANTAGE, OLD, REFERENCE, RETURN, SAMPLED, VALUE
from camelid.align.dpo import dpo_losses, log_ratios
from camelid.align.learning import GRPO, PPO
from camelid.align.meter import Meter
from camelid.align.reward import ranking_losses
from camelid.data.rows.batches import Batch, collate
from camelid.data.rows.examples import Example
from camelid.data.rows.packing import lay_out
from camelid.model.transformer import Transformer
from camelid.recipes.align import DPOSettings, RewardSettings
from camelid.recipes.rollouts import GRPOSettings, PPOSettings

RECORDED = json.loads(Path(__file__).with_name("trl_losses.json").read_text())
LENGTHS = (3, 5, 1, 4)
WIDTH = max(LENGTHS)
GIVEN = {"rtol": 1e-5, "atol": 1e-6}


def case(method: str, name: str) -> dict[str, Tensor]:
    return {key: torch.tensor(value) for key, value in RECORDED[method]["cases"][name].items()}


def answers(columns: Mapping[str, Tensor]) -> Batch:
    """The four answers behind one token each; a target's number is its place in a recorded table."""
    rows = []
    for row, length in enumerate(LENGTHS):
        ids = row * WIDTH + np.arange(length)
        extra = {name: column[row, :length].numpy() for name, column in columns.items()}
        rows.append(lay_out([Example(ids, ids, np.ones(length, np.float32), extra)], WIDTH, 0))
    batch = collate(rows)
    assert isinstance(batch, Batch)
    return batch


class Given:
    """Stands for what a model computes: recorded tables, read by the targets."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, method: str, policy: Tensor, values: Tensor) -> None:
        self.policy, self.values = policy, values
        monkeypatch.setattr(f"camelid.align.{method}.chunked_logprobs", self.logprobs)
        if method == "ppo":
            monkeypatch.setattr("camelid.align.ppo.values_of", lambda *_: self.values.take(self.targets))

    def logprobs(self, hidden: Tensor, weight: Tensor, targets: Tensor, wanted: Tensor) -> Tensor:
        self.targets = targets
        return self.policy.take(targets) * wanted


@pytest.mark.parametrize(
    ("name", "settings"),
    [("plain", {}), ("normalised", {"length_normalised": True}), ("smoothed", {"label_smoothing": 0.2})],
)
def test_dpo(name: str, settings: dict[str, Any]) -> None:
    trl, chosen = case("dpo", name), DPOSettings(beta=0.5, **settings)
    pairs = []
    for first in (0, 2):
        ids = [row * WIDTH + np.arange(LENGTHS[row]) for row in (first, first + 1)]
        references = [trl["reference"].take(torch.from_numpy(at)).numpy() for at in ids]
        pieces = [
            Example(at, at, np.ones(len(at), np.float32), {REFERENCE: reference})
            for at, reference in zip(ids, references, strict=True)
        ]
        pairs.append(lay_out(pieces, 2 * WIDTH, 0))
    batch = collate(pairs)
    assert isinstance(batch, Batch)
    policy = trl["policy"].requires_grad_()
    ratios = log_ratios(policy.take(batch.targets), batch, mean=chosen.length_normalised)
    loss = dpo_losses(*ratios, chosen).mean()
    loss.backward()
    torch.testing.assert_close(loss, trl["loss"], **GIVEN)
    torch.testing.assert_close(policy.grad, trl["gradient"], **GIVEN)


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("answers", {"normalise": "answers"}),
        ("tokens", {"normalise": "tokens", "kl": 0.3}),
        ("higher", {"normalise": "tokens", "kl": 0.3, "clip_high": 0.28}),
    ],
)
def test_grpo(
    name: str, settings: dict[str, Any], model: Transformer, monkeypatch: pytest.MonkeyPatch
) -> None:
    trl, chosen = case("grpo", name), GRPOSettings(group=2, **settings)
    given = Given(monkeypatch, "grpo", trl["policy"].requires_grad_(), torch.empty(0))
    rollout = answers({OLD: trl["old"], SAMPLED: trl["old"], REFERENCE: trl["reference"]})
    batch = GRPO(chosen).taught(rollout, trl["rewards"], {})
    loss = GRPO(chosen).objective(model, torch.float32, Meter())(batch) / batch.weights.sum()
    loss.backward()
    torch.testing.assert_close(loss, trl["loss"], **GIVEN)
    torch.testing.assert_close(given.policy.grad, trl["gradient"], **GIVEN)


@pytest.mark.parametrize(("name", "centring"), [("plain", 0.0), ("centred", 0.01)])
def test_reward(name: str, centring: float) -> None:
    trl = case("reward", name)
    rewards = trl["rewards"].requires_grad_()
    settings = RewardSettings(margin=1.0, centring=centring)
    better, worse = rewards.chunk(2)
    loss = ranking_losses(better, worse, trl["margin"], settings).mean()
    loss.backward()
    torch.testing.assert_close(loss, trl["loss"], **GIVEN)
    torch.testing.assert_close(rewards.grad, trl["gradient"], **GIVEN)


def test_ppo(model: Transformer, monkeypatch: pytest.MonkeyPatch) -> None:
    trl, settings = case("ppo", "plain"), PPOSettings(kl=0.1, discount=0.9, smoothing=0.8, value_weight=0.1)
    given = Given(monkeypatch, "ppo", trl["policy"].requires_grad_(), trl["values"].requires_grad_())
    rollout = answers(
        {OLD: trl["old"], SAMPLED: trl["old"], REFERENCE: trl["reference"], VALUE: trl["before"]}
    )
    batch = PPO(settings).taught(rollout, trl["scores"], {"kl": 0.0})
    torch.testing.assert_close(batch.extra[RETURN], trl["returns"], **GIVEN)
    tokens = sum(LENGTHS)  # TRL whitens by the variance with n - 1, we with n as InstructGPT's predecessors
    theirs = math.sqrt((tokens - 1) / tokens) * batch.extra[ADVANTAGE]
    torch.testing.assert_close(theirs, trl["advantages"] * (batch.weights > 0), **GIVEN)
    batch.extra[ADVANTAGE].copy_(trl["advantages"])
    loss = PPO(settings).objective(model, torch.float32, Meter())(batch) / batch.weights.sum()
    loss.backward()
    torch.testing.assert_close(loss, trl["loss"], **GIVEN)
    torch.testing.assert_close(given.policy.grad, trl["gradient"], **GIVEN)
    torch.testing.assert_close(given.values.grad, trl["values_gradient"], **GIVEN)
