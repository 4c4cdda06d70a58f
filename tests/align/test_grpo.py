"""GRPO: advantages and the clipped loss by hand, and the programs that it takes."""

import json
import math
import statistics
from pathlib import Path

import pytest
import torch
from test_ppo import rollout

from camelid.align.columns import ADVANTAGE, OLD, REFERENCE, SAMPLED
from camelid.align.grpo import group_advantages, grpo
from camelid.align.meter import Meter
from camelid.align.questions import asked_by
from camelid.align.surrogate import clipped
from camelid.base.errors import WrongCall
from camelid.model.transformer import Transformer
from camelid.prompting.programs import chain_of_thought, direct
from camelid.recipes.rollouts import GRPOSettings
from camelid.tasks.task import load_task

REWARDS = torch.tensor([[1.0, 0.0, 0.0, 1.0], [0.5, 0.5, 0.5, 0.5]])


def test_advantages_by_hand() -> None:
    spread = statistics.stdev([1, 0, 0, 1]) + 1e-4
    found = group_advantages(REWARDS, GRPOSettings())
    assert found[0].tolist() == pytest.approx([0.5 / spread, -0.5 / spread, -0.5 / spread, 0.5 / spread])
    assert found[1].tolist() == [0, 0, 0, 0]  # nothing to learn where all are equal
    plain = GRPOSettings(divide_by_spread=False)
    assert group_advantages(REWARDS, plain)[0].tolist() == [0.5, -0.5, -0.5, 0.5]
    others = plain.model_copy(update={"baseline": "leave_one_out"})
    assert group_advantages(REWARDS, others)[0].tolist() == pytest.approx(
        [1 - 1 / 3, -2 / 3, -2 / 3, 1 - 1 / 3]
    )


def test_the_ratio_is_clipped_where_it_would_gain() -> None:
    settings = GRPOSettings(clip_low=0.2, clip_high=0.3)
    ratio = torch.tensor([1.5, 1.5, 0.5, 0.5, 1.1])
    advantage = torch.tensor([1.0, -1.0, 1.0, -1.0, 2.0])
    assert clipped(ratio, advantage, settings).tolist() == pytest.approx([-1.3, 1.5, -0.5, 0.8, -2.2])


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("task") / "one.jsonl"
    rows = [{"question": f"{n}: which number?", "answer": "5", "grader": "exact"} for n in range(12)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_the_objective_is_the_sum_of_its_parts_at_each_token(model: Transformer) -> None:
    batch = rollout((SAMPLED, OLD, ADVANTAGE, REFERENCE), {SAMPLED: 4.0, OLD: 4.0, REFERENCE: 4.0})
    settings = GRPOSettings(importance_cap=1.5, kl=0.3, clip_high=0.4)
    found = grpo(model, torch.float32, settings, Meter())(batch)
    logprobs = model(batch.tokens).detach().log_softmax(-1)
    by_hand = 0.0
    for row, place in (batch.weights > 0).nonzero().tolist():
        at = {name: float(column[row, place]) for name, column in batch.extra.items()}
        now = float(logprobs[row, place, batch.targets[row, place]])
        ratio, behind = math.exp(now - at[OLD]), at[REFERENCE] - now
        surrogate = min(ratio * at[ADVANTAGE], min(max(ratio, 0.8), 1.4) * at[ADVANTAGE])
        by_hand -= surrogate * min(math.exp(at[OLD] - at[SAMPLED]), 1.5)
        by_hand += 0.3 * (math.exp(behind) - behind - 1)
    assert found.item() == pytest.approx(by_hand, rel=1e-4)


def test_equal_rewards_teach_nothing_whatever_their_mean_rounds_to() -> None:
    rewards = torch.tensor([[0.83] * 5, [13.7] * 5])
    assert torch.equal(group_advantages(rewards, GRPOSettings(group=5)), torch.zeros(2, 5))


def test_a_program_that_asks_twice_is_refused(task: Path) -> None:
    with pytest.raises(WrongCall, match="asks 2 times"):
        asked_by(chain_of_thought(), load_task(task))


def test_a_question_is_shown_as_it_is_written_and_held_out_by_what_it_asks(tmp_path: Path) -> None:
    path = tmp_path / "task.jsonl"
    path.write_text(json.dumps({"question": "Has  Ann a dog?", "answer": "yes", "grader": "exact"}) + "\n")
    [asked] = asked_by(direct(), load_task(path))
    assert (asked.text, asked.question) == ("Has  Ann a dog?", "has ann a dog?")
