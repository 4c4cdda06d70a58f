"""GRPO: advantages and the loss by hand, sampler against trainer, a question whose best answer is known."""

import json
import statistics
from pathlib import Path

import pytest
import torch

from camelid.align.grpo import ADVANTAGE, SAMPLED, Meter, advantages, clipped, grpo
from camelid.align.rollouts import Rollouts, asked_by
from camelid.base.errors import CamelidError, WrongCall
from camelid.cli import main as cli
from camelid.data.rows.batches import Batch
from camelid.engine.engine import Engine
from camelid.formats.load import load_model, load_tokenizer
from camelid.lm.sampling import Sampling
from camelid.prompting.programs import chain_of_thought, direct
from camelid.recipes.align import GRPOSettings
from camelid.runs.run import read_metrics
from camelid.tasks.task import load_task

REWARDS = torch.tensor([[1.0, 0.0, 0.0, 1.0], [0.5, 0.5, 0.5, 0.5]])


def test_advantages_by_hand() -> None:
    spread = statistics.stdev([1, 0, 0, 1]) + 1e-4
    found = advantages(REWARDS, GRPOSettings())
    assert found[0].tolist() == pytest.approx([0.5 / spread, -0.5 / spread, -0.5 / spread, 0.5 / spread])
    assert found[1].tolist() == [0, 0, 0, 0]  # nothing to learn where all are equal
    plain = GRPOSettings(divide_by_spread=False)
    assert advantages(REWARDS, plain)[0].tolist() == [0.5, -0.5, -0.5, 0.5]
    others = plain.model_copy(update={"baseline": "leave_one_out"})
    assert advantages(REWARDS, others)[0].tolist() == pytest.approx([1 - 1 / 3, -2 / 3, -2 / 3, 1 - 1 / 3])


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


@pytest.mark.parametrize("normalise", ["tokens", "answers"])
def test_the_trainer_computes_what_the_sampler_drew(chatty: Path, task: Path, normalise: str) -> None:
    model, tokenizer = load_model(chatty), load_tokenizer(chatty)
    settings = GRPOSettings.model_validate({"questions": 3, "group": 4, "normalise": normalise})
    questions = asked_by(direct(sampling=Sampling(max_new_tokens=5)), load_task(task))
    with Engine(model, tokenizer) as engine:
        rollouts = Rollouts(engine, questions, settings, seed=0)
        batch = next(rollouts.batches_from(0))
        again = next(Rollouts(engine, questions, settings, seed=0).batches_from(0))
        later = next(Rollouts(engine, questions, settings, seed=0).batches_from(1))
    assert isinstance(batch, Batch)
    assert torch.equal(batch.tokens, again.tokens)
    assert batch.tokens.shape != later.tokens.shape or not torch.equal(batch.tokens, later.tokens)
    logprobs = model(batch.tokens).log_softmax(-1).gather(-1, batch.targets[..., None])[..., 0]
    drawn = batch.weights > 0
    assert (logprobs - batch.extra[SAMPLED])[drawn].abs().max() < 1e-4
    assert batch.weights.sum().item() == pytest.approx(12 if normalise == "answers" else drawn.sum().item())
    batch.extra[ADVANTAGE][drawn] = 1.0
    meter = Meter()
    loss = grpo(model, torch.float32, settings, meter)(batch)
    assert loss.item() == pytest.approx(-batch.weights.sum().item(), rel=1e-3)  # all ratios are 1
    assert 0 < meter.read() < 1e-4
    assert meter.read() == 0
    batch.extra[SAMPLED][drawn] += 0.01
    with pytest.raises(CamelidError, match=r"differ by up to 0\.01 nats"):
        grpo(model, torch.float32, settings, meter)(batch)


def test_a_program_that_asks_twice_is_refused(task: Path) -> None:
    with pytest.raises(WrongCall, match="asks 2 times"):
        asked_by(chain_of_thought(), load_task(task))


LETTERS = """
from camelid.tasks.item import Grade, Item
from camelid.tasks.task import Task

def begins_with_a_letter(item, reply):
    return {"accuracy": Grade(reply, reply[:1].islower())}

items = tuple(Item(id=str(n), question=f"{n}: which letter?", answer="a") for n in range(12))
TASK = Task("letters", "1", items, begins_with_a_letter)
"""


WORDS = {
    "max-new-tokens": "1",
    "training.steps": "12",
    "training.learning-rate": "0.02",
    "training.schedule": "constant",
    "training.micro-batch-size": "32",
    "training.dtype": "float32",
    "training.compile": "false",
    "training.validate-every": "12",
    "grpo.questions": "4",
    "grpo.group": "16",
    "held-out": "0.3",
}


def test_the_policy_finds_the_answers_that_are_rewarded(
    chatty: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    task, out = tmp_path / "letters.py", tmp_path / "run"
    task.write_text(LETTERS)
    flags = [word for name, value in WORDS.items() for word in (f"--{name}", value)]
    words = ["align", str(chatty), "--method", "grpo", "--task", str(task), "--out", str(out), *flags]
    assert cli.main(words) == 0, capsys.readouterr().err
    records = read_metrics(out / "metrics.jsonl")
    rewards = [record["reward"] for record in records[1:]]
    assert rewards[0] < 0.3
    assert sum(rewards[-3:]) / 3 > 0.9
    assert records[-1]["validation_right"] == 1
    assert max(record.get("sampler_difference", 0) for record in records) < 1e-4
    assert "Reward" in (out / "report.html").read_text()


def test_rewards_without_variance_stop_the_run(
    chatty: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("camelid.align.rollouts.MOST_WITHOUT_VARIANCE", 2)
    task = tmp_path / "never.jsonl"
    task.write_text('{"question": "Which?", "answer": "never", "grader": "exact"}\n')
    flags = [word for name, value in WORDS.items() for word in (f"--{name}", value)]
    words = ["align", str(chatty), "--method", "grpo", "--task", str(task), "--out", str(tmp_path / "run")]
    assert cli.main([*words, *flags, "--held-out", "0"]) == 1
    assert "there is nothing to learn" in capsys.readouterr().err
