"""What the time pays for, with the machine's speed given: shapes and steps worked by hand."""

import json
from types import SimpleNamespace

import pytest

from camelid.scaling.plan import LADDER, TOKENS_PER_PARAMETER, plan_training
from camelid.workflows.quickstart import sizing
from camelid.workflows.quickstart.budget import CLOSING_LEAST, CLOSING_SHARE, TUNING_SHARE, Budget
from camelid.workflows.quickstart.journal import Journal

ROW_TOKENS = sizing.BATCH_ROWS * sizing.CONTEXT


def job_of(tmp_path, minutes=10.0, text=(), base=None, used=0.0):
    arguments = {"minutes": minutes, "text": [], "chats": [], "from": base, "seed": 0}
    journal = Journal(tmp_path / "out", arguments)
    budget = Budget(60 * minutes, used_before=used)
    return SimpleNamespace(out=tmp_path / "out", text=text, base=base, journal=journal, budget=budget)


@pytest.fixture
def speed(monkeypatch):
    """A machine that trains every model at this many tokens a second."""

    def fix(tokens_per_second):
        monkeypatch.setattr(sizing, "training_speed", lambda *_, **__: float(tokens_per_second))

    return fix


def test_the_budget_is_shared_out():
    budget = Budget(600.0, used_before=100.0)
    assert budget.used == pytest.approx(100.0, abs=1.0)
    assert budget.for_closing == 600.0 * CLOSING_SHARE
    assert budget.for_training == pytest.approx(500.0 - 600.0 * CLOSING_SHARE, abs=1.0)
    assert Budget(30.0).for_closing == CLOSING_LEAST
    assert Budget(30.0, used_before=100.0).for_training == 1.0


def test_the_steps_fill_the_time_for_pretraining(tmp_path, speed):
    speed(10_000)
    sizes = sizing.size_pretraining(job_of(tmp_path, minutes=10.0))
    seconds = 600.0 * (1 - CLOSING_SHARE) * (1 - TUNING_SHARE)
    assert sizes["steps"] == pytest.approx(seconds * 10_000 / ROW_TOKENS, rel=0.02)
    assert sizes["tokens_per_second"] == 10_000
    assert sizes["compile"] is True
    assert sizes["vocab_size"] == sizing.WORLD_VOCABULARY
    assert json.loads(json.dumps(sizes)) == sizes


def test_ten_times_the_speed_pays_for_a_larger_model(tmp_path, speed):
    parameters = []
    for tokens_per_second in (1_000, 10_000, 100_000):
        speed(tokens_per_second)
        parameters.append(sizing.size_pretraining(job_of(tmp_path))["parameters"])
    assert parameters == sorted(set(parameters))


def test_little_text_is_read_four_times_and_no_more(tmp_path, speed):
    speed(1_000_000)
    path = tmp_path / "text.txt"
    path.write_bytes(b"x" * 3_600_000)
    sizes = sizing.size_pretraining(job_of(tmp_path, text=(path,)))
    assert sizes["steps"] == 4 * 1_000_000 // ROW_TOKENS
    assert sizes["vocab_size"] == 4096


def test_a_short_time_still_trains_a_little_and_compiles_nothing(tmp_path, speed):
    speed(100)
    sizes = sizing.size_pretraining(job_of(tmp_path, minutes=0.5))
    assert sizes["steps"] == 20
    assert sizes["compile"] is False
    assert sizes["shape"]["hidden_size"] == LADDER[0][0]


def test_tuning_fills_the_time_left_up_to_four_epochs(tmp_path, speed):
    job = job_of(tmp_path, minutes=10.0, used=300.0)
    job.journal.decide("pretrain", lambda: {"compile": False})
    (job.out / "pretrain").mkdir()
    rows = [
        {"step": 0, "validation_loss": 5.0},
        *({"step": n, "tokens_per_second": 8_192.0} for n in (1, 2, 3)),
    ]
    (job.out / "pretrain" / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    many = sizing.size_tuning(job, 100_000, 0, sizing.CONTEXT)
    # One step of 8 x 512 tokens takes half a second; 600 - 300 - 84 seconds are left.
    assert many["steps"] in (431, 432)
    assert many["validations"] == sizing.VALIDATIONS
    # Nine validations of 60 rows each cost as much as 360 rows trained on, 45 steps.
    validated = sizing.size_tuning(job, 100_000, 60, sizing.CONTEXT)
    assert validated["validations"] == sizing.VALIDATIONS
    assert many["steps"] - validated["steps"] in (44, 45, 46)
    # Of 600 rows each costs 400, and 15 % of the time are 518 rows: one at the end beside that before the start.
    rarely = sizing.size_tuning(job, 100_000, 600, sizing.CONTEXT)
    assert rarely["validations"] == 1
    few = sizing.size_tuning(job, 40, 0, sizing.CONTEXT)
    assert few["steps"] == 4 * 40 // 8
    assert few["compile"] is False


@pytest.mark.parametrize("exponent", range(8, 17))
def test_the_plan_is_the_largest_rung_that_sees_enough_tokens(exponent):
    plan = plan_training(1.0, 10.0**exponent, vocab_size=2048, context_length=512)
    enough = []
    for width, layers, heads in LADDER:
        spec = sizing.ModelShape(
            hidden_size=width, num_layers=layers, num_heads=heads, context_length=512
        ).spec(2048)
        tokens = 10.0**exponent / spec.training_flops_per_token(512)
        enough.append(tokens >= TOKENS_PER_PARAMETER * spec.parameter_count())
    best = max((rung for rung, fits in zip(LADDER, enough, strict=True) if fits), default=LADDER[0])
    assert (plan.shape.hidden_size, plan.shape.num_layers, plan.shape.num_heads) == best
