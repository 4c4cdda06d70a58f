"""Policies rewarded by a Python function and by a reward model, on prompts without a grader and with one."""

import json
from pathlib import Path

import pytest
import torch

from camelid.align.held_out import read_answers
from camelid.base.errors import CamelidError
from camelid.cli import main as cli
from camelid.engine.reward_model import RewardModel
from camelid.formats.load import load_model
from camelid.formats.reward import save_reward_model
from camelid.model.reward import put_reward_head
from camelid.runs.run import METRICS, read_metrics
from camelid.text.conversation import Conversation
from camelid.text.tokenizer import Tokenizer

WORDS = {
    "max-new-tokens": "4",
    "training.steps": "8",
    "training.learning-rate": "0.02",
    "training.dtype": "float32",
    "training.validate-every": "8",
    "held-out": "0.3",
}
REWARDS = """
def letters(prompt, completion, **columns):
    return sum(each.islower() for each in completion) / max(1, len(completion))

def nothing(prompt, completion, **columns):
    return None
"""


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    path = tmp_path / "prompts.jsonl"
    path.write_text("".join(json.dumps({"prompt": f"{n}: which number?"}) + "\n" for n in range(12)))
    return path


def words(base: Path, method: str, out: Path, **changes: str) -> list[str]:
    sizes = {"grpo.questions": "4", "grpo.group": "8"} if method == "grpo" else {"ppo.questions": "32"}
    given = {name.replace("__", ".").replace("_", "-"): value for name, value in changes.items()}
    flags = [word for name, value in (WORDS | sizes | given).items() for word in (f"--{name}", value)]
    return ["align", str(base), "--method", method, "--out", str(out), *flags, f"--{method}.allow-cut"]


def test_a_function_rewards_prompts(
    chatty: Path, tmp_path: Path, prompts: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "rewards.py").write_text(REWARDS)
    out, function = tmp_path / "run", f"{tmp_path / 'rewards.py'}:letters"
    asked = {"prompts": str(prompts)}
    assert cli.main(words(chatty, "grpo", out, rewarded_by=function, **asked)) == 0, capsys.readouterr().err
    records = read_metrics(out / METRICS)
    assert records[-1]["reward"] > records[1]["reward"] + 0.1
    assert records[-1]["validation_reward"] > records[0]["validation_reward"]
    assert "right" not in records[-1]
    assert {one.right for one in read_answers(out / "answers-after.jsonl")} == {None}
    bad = function.replace("letters", "nothing")
    assert cli.main(words(chatty, "grpo", tmp_path / "none", rewarded_by=bad, **asked)) == 1
    assert "nothing" in (said := capsys.readouterr().err)
    assert "of prompt '" in said
    assert "which number?" in said
    assert cli.main(words(chatty, "grpo", tmp_path / "alone", **asked)) == 2
    assert "give --rewarded-by FILE.py:NAME" in capsys.readouterr().err


def rater_in(folder: Path, base: Path, tokenizer: Tokenizer) -> Path:
    """A reward model with random weights."""
    model = put_reward_head(load_model(base))
    with torch.no_grad():
        for parameter in model.lm_head.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0)))
    folder.mkdir()
    save_reward_model(folder, model, special_ids={}, provenance={})
    tokenizer.save(folder)
    return folder


def test_a_reward_model_rewards_a_task_whose_grader_watches(
    chatty: Path,
    tmp_path: Path,
    tokenizer: Tokenizer,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    task, out = tmp_path / "task.jsonl", tmp_path / "run"
    rows = [{"question": f"{n}: which?", "answer": "5", "grader": "exact"} for n in range(12)]
    task.write_text("".join(json.dumps(row) + "\n" for row in rows))
    rater = rater_in(tmp_path / "rater", chatty, tokenizer)
    changes = {"rewarded_by": str(rater), "training__steps": "16", "training__learning_rate": "0.005"}
    assert cli.main(words(chatty, "ppo", out, task=str(task), **changes)) == 0, capsys.readouterr().err
    records = read_metrics(out / METRICS)
    assert records[-1]["reward"] > records[1]["reward"]
    assert records[-1]["right"] == 0  # the gold grade beside the reward
    page = (out / "report.html").read_text()
    for words_of_the_page in ("against the distance from the reference", "Samples", "Alarms"):
        assert words_of_the_page in page
    (out / "report.html").unlink()
    assert cli.main(["report", str(out)]) == 0
    assert (out / "report.html").read_text() == page
    after = read_answers(out / "answers-after.jsonl")
    asked = [Conversation.of((f"Q: {one.question}\nA:", one.answer)) for one in after]
    assert RewardModel.load(rater).score(asked) == pytest.approx([one.reward for one in after], abs=1e-4)
    monkeypatch.setattr("camelid.engine.reward_model.free_memory", lambda *_: 1000)
    with pytest.raises(CamelidError, match="does not fit into memory: its weights take"):
        RewardModel.load(rater)


def test_prompts_without_room_for_an_answer_stop_the_run_or_are_dropped(
    chatty: Path,
    base: Path,
    tmp_path: Path,
    tokenizer: Tokenizer,
    prompts: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The policy holds 128 tokens, the reward model 64."""
    (tmp_path / "rewards.py").write_text(REWARDS)
    function, rater = f"{tmp_path / 'rewards.py'}:letters", str(rater_in(tmp_path / "rater", base, tokenizer))
    for question, reward, whose in (("w" * 120, function, "model"), ("w" * 60, rater, "reward model")):
        long = tmp_path / "long.jsonl"
        long.write_text(prompts.read_text() + json.dumps({"id": "7", "prompt": question}) + "\n")
        out = tmp_path / "run"
        asked = {"prompts": str(long), "rewarded_by": reward, "training__steps": "1"}
        assert cli.main(words(chatty, "grpo", out, **asked)) == 1
        said = capsys.readouterr().err
        assert f"{long}:13: " in said
        assert f"tokens and an answer of up to 4 exceed the {whose}'s context of" in said
        assert not out.exists()
    assert cli.main(words(chatty, "grpo", out, too_long="drop", **asked)) == 0
    assert "1 of 13 prompts dropped" in capsys.readouterr().err
    every = {**asked, "max_new_tokens": "100", "too_long": "drop"}
    assert cli.main(words(chatty, "grpo", tmp_path / "none", **every)) == 1
    assert "all 13 prompts are too long" in capsys.readouterr().err
