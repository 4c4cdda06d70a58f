"""PPO and GRPO through the command line on a question whose best answers are known, and runs that stop."""

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from camelid.align.held_out import read_answers
from camelid.cli import main as cli
from camelid.formats.load import load_model
from camelid.runs.run import METRICS, latest_checkpoint, read_metrics

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
    "held-out": "0.3",
}
METHODS = {
    "grpo": {"grpo.questions": "4", "grpo.group": "16"},
    "ppo": {"ppo.questions": "64", "ppo.epochs": "2", "ppo.minibatches": "2", "training.steps": "36"},
}
Align = Callable[..., list[str]]


@pytest.fixture
def align(chatty: Path, tmp_path: Path) -> Align:
    """The words of a run of a method on the letters, with settings changed."""
    task = tmp_path / "letters.py"
    task.write_text(LETTERS)

    def words(method: str, out: Path, **changes: str) -> list[str]:
        given = {name.replace("__", ".").replace("_", "-"): value for name, value in changes.items()}
        settings = {"task": str(task), **WORDS, **METHODS[method], **given}
        flags = [word for name, value in settings.items() for word in (f"--{name}", value)]
        return ["align", str(chatty), "--method", method, "--out", str(out), *flags, f"--{method}.allow-cut"]

    return words


@pytest.mark.parametrize("method", ["grpo", "ppo"])
def test_the_policy_finds_the_answers_that_are_rewarded(
    align: Align, tmp_path: Path, capsys: pytest.CaptureFixture[str], method: str
) -> None:
    out = tmp_path / "run"
    assert cli.main(align(method, out)) == 0, capsys.readouterr().err
    records = read_metrics(out / METRICS)
    rewards = [record["reward"] for record in records[1:]]
    assert rewards[0] < 0.3
    assert sum(rewards[-4:]) / 4 > 0.9
    assert records[-1]["validation_right"] == 1
    assert records[1]["kl"] == pytest.approx(0, abs=1e-5)
    assert records[-1]["kl"] > 0.5
    assert records[-1]["entropy"] < records[1]["entropy"]
    assert max(record.get("sampler_difference", 0) for record in records) < 1e-4
    page = (out / "report.html").read_text()
    for words in ("Where the gain comes from", "Alarms", "The 4 most changed rewards", "Entropy"):
        assert words in page
    before, after = (read_answers(out / f"answers-{when}.jsonl") for when in ("before", "after"))
    assert [one.reward for one in before] != [one.reward for one in after] == [1, 1, 1, 1]
    assert not [name for name in load_model(out / "model").state_dict() if "value" in name]


def test_an_adapter_learns_beside_its_own_base(align: Align, chatty: Path, tmp_path: Path) -> None:
    out, adapter = tmp_path / "run", {"lora__rank": "8", "training__learning_rate": "0.05"}
    adapter |= {"training__recompute_activations": "true"}
    assert cli.main(align("grpo", out, **adapter)) == 0
    records = read_metrics(out / METRICS)
    assert records[1]["kl"] == pytest.approx(0, abs=1e-5)
    assert records[-1]["kl"] > 0.1
    assert [records[at]["validation_right"] for at in (0, -1)] == [0, 1]
    ids = torch.tensor([[1, 2, 3]])
    adapted = load_model(chatty, adapter=out / "adapter")
    assert not torch.allclose(adapted(ids), load_model(chatty)(ids), atol=1e-2)


@pytest.mark.parametrize(("method", "killed_at"), [("grpo", 3), ("ppo", 6)])
def test_a_killed_run_resumes_to_the_same_curve(
    align: Align, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str, killed_at: int
) -> None:
    """PPO is killed with half of a rollout's updates made, with an adaptive penalty."""
    steps = {"training__steps": "10", "training__checkpoint_every": str(killed_at)}
    steps |= {"ppo__kl_target": "0.1", "ppo__kl_horizon": "100"} if method == "ppo" else {}
    assert cli.main(align(method, tmp_path / "whole", **steps)) == 0

    class KilledError(BaseException):
        pass

    seen = []

    def killing(*_: object) -> None:
        seen.append(1)
        if len(seen) > killed_at:  # a thread writes the checkpoint
            while latest_checkpoint(tmp_path / "killed") is None:
                time.sleep(0.01)
            raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr("camelid.align.alarms.Watch.see", killing)
        with pytest.raises(KilledError):
            cli.main(align(method, tmp_path / "killed", **steps))
    assert cli.main(align(method, tmp_path / "killed", **steps)) == 0
    whole, resumed = (read_metrics(tmp_path / name / METRICS) for name in ("whole", "killed"))
    untimed = ("loss", "reward", "kl", "entropy", "grad_norm", "answer_tokens", "kl_coefficient")
    assert len(whole) == 11
    for one, other in zip(whole, resumed, strict=True):
        assert {name: one.get(name) for name in untimed} == {name: other.get(name) for name in untimed}
    states = (load_model(tmp_path / name / "model").state_dict() for name in ("whole", "killed"))
    for tensor, same in zip(*(state.values() for state in states), strict=True):
        assert torch.equal(tensor, same)


def test_what_cannot_be_learned_from_stops_the_run(
    align: Align, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("camelid.align.alarms.MOST_WITHOUT_VARIANCE", 2)
    monkeypatch.setattr("camelid.align.alarms.MOST_CUT", 2)
    task = tmp_path / "never.jsonl"
    task.write_text(json.dumps({"question": "Which?", "answer": "never", "grader": "exact"}) + "\n")
    never = {"task": str(task), "held_out": "0"}
    assert cli.main(align("grpo", tmp_path / "never", **never)) == 1
    assert "there is nothing to learn" in capsys.readouterr().err
    assert cli.main(align("grpo", tmp_path / "cut")[:-1]) == 1
    assert "every answer ended at the length limit" in capsys.readouterr().err
    assert cli.main(align("grpo", tmp_path / "far", grpo__largest_kl="0.01")) == 1
    assert "the policy has left its language" in capsys.readouterr().err
    assert cli.main(align("ppo", tmp_path / "odd", ppo__minibatches="5")) == 2
    assert "cannot be divided into 5 minibatches" in capsys.readouterr().err
    assert cli.main(align("ppo", tmp_path / "dropped", lora__rank="4", lora__dropout="0.1")) == 2
    assert "leave out --lora.dropout" in capsys.readouterr().err
    assert cli.main(align("ppo", tmp_path / "none", held_out="0.999")) == 2
    assert "all 12 questions are held out" in capsys.readouterr().err
    for setting, message in (
        ({"calculator": "equations"}, "leave out --calculator"),
        ({"training__compile": "true"}, "leave out --training.compile"),
    ):
        assert cli.main(align("grpo", tmp_path / "refused", **setting)) == 2
        assert message in capsys.readouterr().err
