"""What a quickstart says first: stages that fell short, and tuning that harmed."""

import json
from types import SimpleNamespace

import pytest

from camelid.tasks.graders import STRICT
from camelid.train.validation import ValidationLoss
from camelid.workflows.quickstart import budget, evaluation, shortfall, working_clock
from camelid.workflows.quickstart.budget import Budget
from camelid.workflows.quickstart.evaluation import ModelResult, questions_in_time
from camelid.workflows.quickstart.job import PRACTICE_STOPPED
from camelid.workflows.quickstart.working_clock import WorkingClock


def model(name, loss, rights, n=50):
    """A model with this loss and these numbers of right answers, of `n` each."""
    evaluations = tuple(
        SimpleNamespace(task=task, results=[SimpleNamespace(metric=STRICT, value=right / n, n=n)])
        for task, right in rights
    )
    return ModelResult(name, None, ValidationLoss(loss, 1.0), evaluations)


def job_of(tmp_path, made, planned):
    for stage, updates in made.items():
        (tmp_path / stage).mkdir()
        (tmp_path / stage / "metrics.jsonl").write_text(json.dumps({"step": updates}) + "\n")
    decisions = {stage: {"steps": steps} for stage, steps in planned.items()}
    return SimpleNamespace(
        out=tmp_path,
        text=(),
        chats=(),
        seed=3,
        law=None,
        reinforces=False,
        pretrained=tmp_path / "pretrain" / "model",
        journal=SimpleNamespace(decisions=decisions),
        budget=SimpleNamespace(seconds=720.0),
    )


def test_stages_that_fell_short_are_named_with_the_command_that_mends_it(tmp_path):
    job = job_of(tmp_path, {"pretrain": 400, "tune": 10}, {"pretrain": 800, "tune": 600})
    results = SimpleNamespace(models=(model("before tuning", 3.0, []), model("16-bit", 2.0, [])))
    first, second = shortfall.notes(job, results)
    assert first.startswith("Pretraining made 400 of 800 planned updates")
    assert f"camelid quickstart --minutes 24 --out {tmp_path}-longer --seed 3" in first
    assert second.startswith("Tuning made 10 of 600 planned updates")
    assert f"camelid tune {tmp_path}/tune/recipe.yaml --out {tmp_path}-tune" in second


def test_nothing_is_said_where_all_went_as_planned(tmp_path):
    job = job_of(tmp_path, {"pretrain": 641, "tune": 600}, {"pretrain": 800, "tune": 600})
    results = SimpleNamespace(models=(model("before tuning", 3.0, []), model("16-bit", 2.0, [])))
    assert shortfall.notes(job, results) == []


def test_the_command_keeps_the_law_and_the_practice(tmp_path):
    job = job_of(tmp_path, {}, {})
    job.law, job.reinforces = tmp_path / "sweep", True
    assert shortfall.again(job, 24, tmp_path / "more") == (
        f"camelid quickstart --minutes 24 --out {tmp_path}/more --seed 3 --law {tmp_path}/sweep --reinforce"
    )


def test_practice_that_a_gate_stopped_is_said_with_its_reason(tmp_path):
    job = job_of(tmp_path, {"tune": 600}, {"tune": 600})
    job.journal.decisions[PRACTICE_STOPPED] = "every answer ended at the length limit"
    results = SimpleNamespace(models=(model("before tuning", 3.0, []), model("16-bit", 2.0, [])))
    assert shortfall.notes(job, results) == [
        "Practice stopped, so the finished model is the tuned one: every answer ended at the length limit."
    ]


def test_tuning_that_harmed_is_said_first(tmp_path):
    """One hundred of one hundred before, two of a hundred after: the case of the issue."""
    job = job_of(tmp_path, {"tune": 10}, {"tune": 600})
    before = model("before tuning", 3.0, [("facts", 50), ("weekdays", 50)])
    after = model("16-bit", 2.0, [("facts", 0), ("facts", 1), ("weekdays", 1), ("weekdays", 0)])
    first, second = shortfall.notes(job, SimpleNamespace(models=(before, after)))
    assert first.startswith(
        "Tuning made the model worse: it answers 2% of the questions right, before tuning 100%"
    )
    assert second.startswith("Tuning made 10 of 600")


@pytest.mark.parametrize(
    ("rights", "loss", "harm"),
    [
        (
            [("facts", 40)],
            2.0,
            None,
        ),  # 50 before: 40 are fewer by 20 points, but of 60 questions 10 is no accident
        ([("facts", 49)], 2.0, None),
        ([("facts", 50)], 3.1, "its loss on held-out conversations rose from 3.000 to 3.100 nats per token"),
    ],
)
def test_chance_is_no_harm(rights, loss, harm):
    before = model("before tuning", 3.0, [("facts", 45)])
    assert shortfall.tuning_harm(before, model("16-bit", loss, rights)) == harm


def test_a_slower_machine_asks_fewer_questions(monkeypatch):
    """Of 12 minutes, 100.8 s are for closing; 48 questions need about 70 s of them at the planned speed."""
    now = [0.0]
    twelve = Budget(720.0, clock=lambda: now[0])
    now[0] = 630.0
    assert questions_in_time(twelve, 1.0) == 48
    assert questions_in_time(twelve, 0.5) == 24
    now[0] = 720.0 - evaluation.EVALUATION_SHARE * twelve.for_closing / 4
    assert questions_in_time(twelve, 1.0) == 12
    now[0] = 800.0
    assert questions_in_time(twelve, 1.0) == 2


def test_time_while_the_process_is_stopped_does_not_count(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(working_clock, "time", SimpleNamespace(monotonic=lambda: now[0]))
    clock = WorkingClock()
    for passed in (0.5, 0.5, 1200.0, 0.5):  # twenty minutes between Ctrl-Z and fg
        now[0] += passed
        clock()
    assert clock() == pytest.approx(1.5 + working_clock.LONGEST)


def test_the_clock_is_read_while_others_work():
    with WorkingClock() as clock:
        assert clock._thread.is_alive()
    assert not clock._thread.is_alive()


def test_the_end_of_training_leaves_time_for_closing():
    assert budget.Budget(600.0).training_ends == pytest.approx(516.0)
