"""PPO: formulas by hand, the objective against plain forward passes, and pretraining text beside answers."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pytest
import torch

from camelid.align.columns import ADVANTAGE, OLD, RETURN, SAMPLED, TEXT, VALUE
from camelid.align.critic import add_value_head, remove_value_head
from camelid.align.learning import PPO
from camelid.align.meter import Meter
from camelid.align.ppo import (
    adapted_penalty,
    explained_variance,
    generalised_advantages,
    ppo,
    token_rewards,
    value_losses,
    whitened,
)
from camelid.align.pretraining_text import PretrainingText
from camelid.data.rows.batches import Batch, collate
from camelid.data.rows.examples import Example
from camelid.data.rows.packing import lay_out
from camelid.model.transformer import Transformer
from camelid.recipes.rollouts import PPOSettings

COLUMNS, LOW = (SAMPLED, OLD, ADVANTAGE, RETURN, VALUE), {OLD: 5.0}
ANSWERED = torch.tensor([[False, True, True, True], [True, True, False, False]])


def test_rewards_of_tokens_by_hand() -> None:
    log_ratio = torch.tensor([[9.0, 0.5, -0.25, 1.0], [2.0, -1.0, 9.0, 9.0]])
    found = token_rewards(torch.tensor([1.0, -2.0]), log_ratio, ANSWERED, 0.1)
    by_hand = [[0, -0.05, 0.025, 1 - 0.1], [-0.2, -2 + 0.1, 0, 0]]
    torch.testing.assert_close(found, torch.tensor(by_hand))


def test_generalised_advantages_by_hand() -> None:
    rewards = torch.tensor([[0.0, 1.0, 0.0, 2.0], [0.5, -1.0, 0.0, 0.0]])
    values = torch.tensor([[0.0, 0.5, 1.0, 1.5], [0.25, 0.5, 0.0, 0.0]])
    found = generalised_advantages(rewards, values, ANSWERED, 0.9, 0.8)
    last = 2.0 - 1.5
    middle = 0.0 + 0.9 * 1.5 - 1.0 + 0.9 * 0.8 * last
    first = 1.0 + 0.9 * 1.0 - 0.5 + 0.9 * 0.8 * middle
    end = -1.0 - 0.5
    begin = 0.5 + 0.9 * 0.5 - 0.25 + 0.9 * 0.8 * end
    torch.testing.assert_close(found, torch.tensor([[0, first, middle, last], [begin, end, 0, 0]]))


def test_without_discount_and_with_all_smoothing_returns_are_sums_of_rewards() -> None:
    generator = torch.Generator().manual_seed(0)
    rewards = torch.randn(2, 4, generator=generator) * ANSWERED
    values = torch.randn(2, 4, generator=generator) * ANSWERED
    returns = generalised_advantages(rewards, values, ANSWERED, 1.0, 1.0) + values
    for row, left, mask in zip(returns, rewards, ANSWERED, strict=True):
        expected = [left[place:].sum() if mask[place] else 0.0 for place in range(4)]
        assert row.tolist() == pytest.approx([float(each) for each in expected], abs=1e-6)


def test_whitening_by_hand() -> None:
    values = torch.tensor([[100.0, 1.0, 2.0, 3.0], [4.0, 5.0, 100.0, 100.0]])
    expected = [(each - 3) / math.sqrt(2 + 1e-8) for each in (1, 2, 3, 4, 5)]
    assert whitened(values, ANSWERED)[ANSWERED].tolist() == pytest.approx(expected)
    kept = whitened(values, ANSWERED, keep_mean=True)
    assert kept[ANSWERED].tolist() == pytest.approx([each + 3 for each in expected])
    assert not kept[~ANSWERED].any()


def test_values_are_clipped_by_hand() -> None:
    values, old = torch.tensor([1.5, 1.5, 0.9, 1.1]), torch.ones(4)
    returns = torch.tensor([2.0, 1.2, 2.0, 2.0])
    by_hand = [0.8**2 / 2, 0.3**2 / 2, 1.1**2 / 2, 0.9**2 / 2]  # the first would gain by moving too far
    assert value_losses(values, old, returns, 0.2).tolist() == pytest.approx(by_hand)


def test_the_penalty_adapts_by_hand() -> None:
    settings = PPOSettings(kl_target=6.0, kl_horizon=1000)
    assert adapted_penalty(0.1, 6.6, 50, settings) == pytest.approx(0.1 * (1 + 0.1 * 0.05))
    assert adapted_penalty(0.1, 60.0, 50, settings) == pytest.approx(0.1 * (1 + 0.2 * 0.05))
    assert adapted_penalty(0.1, 0.0, 50, settings) == pytest.approx(0.1 * (1 - 0.2 * 0.05))
    assert adapted_penalty(0.1, 60.0, 50, PPOSettings()) == 0.1


def test_explained_variance_by_hand() -> None:
    returns = torch.tensor([1.0, 2.0, 3.0])
    assert explained_variance(returns, returns) == 1
    assert explained_variance(torch.full((3,), 7.0), returns) == pytest.approx(0)
    assert explained_variance(torch.tensor([3.0, 2.0, 1.0]), returns) == pytest.approx(1 - 4)
    assert explained_variance(returns, torch.ones(3)) == 0  # nothing to explain


@pytest.fixture
def valued(model: Transformer) -> Transformer:
    """A model with a head that values something."""
    copy = Transformer(model.spec)
    copy.load_state_dict(model.state_dict())
    add_value_head(copy)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        copy.get_parameter("value_weight").copy_(torch.randn(model.spec.hidden_size, generator=generator))
        copy.get_parameter("value_bias").fill_(0.5)
    return copy.eval()


def rollout(names: Sequence[str] = COLUMNS, low: Mapping[str, float] = LOW) -> Batch:
    """Two answers with random columns of these names, some of them so much lower."""
    generator = np.random.default_rng(0)
    rows = []
    for prompt, answer in (((3, 4), (5, 6, 7)), ((9,), (1, 2))):
        whole = np.array([*prompt, *answer])
        weights = np.zeros(len(whole) - 1, np.float32)
        weights[len(prompt) - 1 :] = 1
        extra = {name: generator.normal(size=len(weights)).astype(np.float32) * weights for name in names}
        for name, by in low.items():
            extra[name] -= by * weights
        rows.append(lay_out([Example(whole[:-1], whole[1:], weights, {**extra, TEXT: 0 * weights})], 5, 0))
    batch = collate(rows)
    assert isinstance(batch, Batch)
    return batch


def test_the_objective_is_the_sum_of_its_parts_at_each_token(valued: Transformer) -> None:
    batch, settings, meter = rollout(), PPOSettings(importance_cap=1.5), Meter()
    found = ppo(valued, torch.float32, settings, meter)(batch)
    hidden = valued(batch.tokens, output="hidden").detach()
    logprobs = valued.unembed(hidden).detach().log_softmax(-1)
    head = valued.get_parameter("value_weight").detach()
    policy = value = 0.0
    for row, place in (batch.weights > 0).nonzero().tolist():
        at = {name: float(column[row, place]) for name, column in batch.extra.items()}
        ratio = math.exp(float(logprobs[row, place, batch.targets[row, place]]) - at[OLD])
        surrogate = min(ratio * at[ADVANTAGE], min(max(ratio, 0.8), 1.2) * at[ADVANTAGE])
        policy -= surrogate * min(math.exp(at[OLD] - at[SAMPLED]), 1.5)
        worth = float(hidden[row, place] @ head) + 0.5
        limited = at[VALUE] + min(max(worth - at[VALUE], -0.2), 0.2)
        value += max((worth - at[RETURN]) ** 2, (limited - at[RETURN]) ** 2) / 2
    assert found.item() == pytest.approx(policy + 0.1 * value, rel=1e-4)
    measured = meter.read()
    assert measured["policy_loss"] == pytest.approx(policy / 5, rel=1e-4)
    assert measured["value_loss"] == pytest.approx(value / 5, rel=1e-4)
    assert 0 <= measured["clip_fraction"] <= 1
    assert meter.read() == {}


def test_pretraining_text_counts_as_much_as_it_should(valued: Transformer) -> None:
    ids = np.arange(40, dtype=np.int64) % 11
    settings = PPOSettings(pretraining_weight=0.5, pretraining_rows=3)
    learning = PPO(settings, PretrainingText(ids, seed=0))
    plain = rollout()
    batch = learning.completed(plain, 4)
    assert len(batch.tokens) == 5
    assert torch.equal(batch.tokens[2:, 1:], batch.targets[2:, :-1])
    assert torch.equal(batch.tokens, learning.completed(plain, 4).tokens)
    assert not torch.equal(batch.tokens, learning.completed(plain, 5).tokens)
    total = float(batch.weights.sum())
    assert total == pytest.approx(1.5 * float(plain.weights.sum()))
    objective = ppo(valued, torch.float32, settings, Meter())
    logprobs = valued(batch.tokens[2:]).log_softmax(-1)
    nll = -logprobs.gather(-1, batch.targets[2:, :, None]).mean()
    both = objective(plain) / 5 + 0.5 * nll
    assert objective(batch).item() / total == pytest.approx(both.item() / 1.5, rel=1e-4)


def test_the_head_comes_and_goes(model: Transformer) -> None:
    copy = Transformer(model.spec)
    add_value_head(copy)
    assert {*copy.state_dict()} - {*model.state_dict()} == {"value_weight", "value_bias"}
    remove_value_head(copy)
    assert {*copy.state_dict()} == {*model.state_dict()}
