"""`camelid quickstart --reinforce`: its share of the time, its recipe, and its part of the report."""

import json
from pathlib import Path

import pytest

from camelid.align.alarms import LearningStopped
from camelid.cli import main as cli
from camelid.runs.run import read_metrics
from camelid.workflows.quickstart import evaluation, recipes, sizing, steps, world_files
from camelid.workflows.quickstart.budget import Budget
from camelid.workflows.quickstart.job import Job
from camelid.workflows.quickstart.journal import Journal


def test_the_time_is_divided() -> None:
    plain, practised = (Budget(1000.0, 100.0, lambda: 0.0, reinforces) for reinforces in (False, True))
    assert plain.training_ends == plain.closing_begins == 860
    assert plain.for_training == 760
    assert practised.closing_begins == 860
    assert practised.training_ends == 860 - 350
    assert practised.for_training == 410


def test_the_recipe_asks_training_questions_in_the_time_there_is(tmp_path: Path) -> None:
    arguments = {"minutes": 20.0, "seed": 3, "reinforce": True}
    journal, budget = Journal(tmp_path / "out", arguments), Budget(1200.0, reinforces=True)
    job = Job(tmp_path / "out", (), (), None, 3, journal, budget, reinforces=True)
    (tmp_path / "out" / "tune").mkdir()
    rows = [{"step": step, "tokens_per_second": 10_000} for step in (1, 2, 3)]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (tmp_path / "out" / "tune" / "metrics.jsonl").write_text(lines)
    recipe = recipes.reinforce_recipe(job)
    assert recipe.task == ("world/sums/train", "world/comparison/train")
    assert recipe.model == str(tmp_path / "out" / "tune" / "model")
    assert recipe.training.steps == int(0.35 * 1200 * 10_000 / (1.5 * 120 * 128))
    assert job.finished == tmp_path / "out" / "reinforce" / "model"
    assert recipe.seed == 3
    assert recipes.reinforce_recipe(job) == recipe


def test_a_gate_ends_practice_and_not_the_quickstart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(*_: object) -> None:
        raise LearningStopped("every answer was cut")

    monkeypatch.setattr("camelid.align.policy_stage.train_policy", stopped)
    monkeypatch.setattr(recipes, "reinforce_recipe", lambda _: None)
    arguments = {"minutes": 20.0, "seed": 3, "reinforce": True}
    journal, budget = Journal(tmp_path / "out", arguments), Budget(1200.0, reinforces=True)
    job = Job(tmp_path / "out", (), (), None, 3, journal, budget, reinforces=True)
    assert job.practised
    assert job.finished == job.reinforced
    steps._practise(job)
    assert not job.practised
    assert job.finished == job.tuned
    again = Job(tmp_path / "out", (), (), None, 3, Journal(tmp_path / "out", arguments), budget, True)
    assert not again.practised  # a resumed call does not run into the same gate
    assert again.journal.decisions["practice stopped"] == "every answer was cut"


def test_reinforcement_needs_the_world(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    chats = tmp_path / "chats.jsonl"
    chats.write_text('{"instruction": "Hi?", "output": "Hello!"}\n')
    words = ["quickstart", "--out", str(tmp_path / "out"), "--reinforce", "--chats", str(chats)]
    assert cli.main(words) == 2
    assert "--reinforce practises the generated world's questions" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_quickstart_practises_and_shows_what_it_gained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for module in (sizing, recipes, world_files):
        monkeypatch.setattr(module, "CONTEXT", 128)
        monkeypatch.setattr(module, "BATCH_ROWS", 4)
    for name, value in (("PRACTICE", 30), ("PRACTICE_HELD_OUT", 0.2), ("LONGEST_REPLY", 8)):
        monkeypatch.setattr(recipes, name, value)
    monkeypatch.setattr(recipes, "REINFORCE_QUESTIONS", 2)
    monkeypatch.setattr(sizing, "LEAST_PRACTICE", 2)
    monkeypatch.setattr(sizing, "COST_OF_ANSWER", 1e6)
    monkeypatch.setattr(world_files, "VALIDATION_BYTES", 10_000)
    monkeypatch.setattr(world_files, "VALIDATION_CHATS", 20)
    monkeypatch.setattr(world_files, "TASKS", ("sums",))
    monkeypatch.setattr(evaluation, "LONGEST_REPLY", 8)
    monkeypatch.setattr(evaluation, "STORIES", 1)
    monkeypatch.setattr(evaluation, "TALKS", 1)
    out = tmp_path / "out"
    assert cli.main(["quickstart", "--minutes", "0.5", "--out", str(out), "--reinforce"]) == 0
    page = (out / "report.html").read_text()
    for words in ("practised sums and comparison", "reinforced, in steps", "Training: reinforce", "Samples"):
        assert words in page, words
    assert f"In float32:   camelid chat {out / 'reinforce' / 'model'}" in capsys.readouterr().out
    last = read_metrics(out / "reinforce" / "metrics.jsonl")[-1]
    assert last["step"] >= 1
    assert {"reward", "kl", "right"} <= last.keys()
