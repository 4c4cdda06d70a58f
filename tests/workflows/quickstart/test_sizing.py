"""What the time pays for, with the machine's speed and its clock given: shapes and steps worked by hand."""

import json
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from camelid.model.transformer import Transformer
from camelid.recipes.model_shape import ModelShape
from camelid.scaling.plan import SHAPES, SizePlan, plan_training
from camelid.workflows.quickstart import budget, sizing
from camelid.workflows.quickstart.budget import Budget
from camelid.workflows.quickstart.journal import Journal


class Clock:
    """A clock that stands still unless a test moves it."""

    def __init__(self):
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture(autouse=True)
def clock(monkeypatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(budget, "time", clock)
    return clock


def job_of(tmp_path, minutes=10.0, text=(), base=None, used=0.0):
    arguments = {"minutes": minutes, "text": [], "chats": [], "from": base, "seed": 0}
    journal = Journal(tmp_path / "out", arguments)
    return SimpleNamespace(
        out=tmp_path / "out",
        text=text,
        base=base,
        law=None,
        journal=journal,
        budget=Budget(60 * minutes, used_before=used),
    )


@pytest.fixture
def speed(monkeypatch, clock):
    """A machine that trains every model at this many tokens a second; measuring that takes so many seconds
    each time."""

    def fix(tokens_per_second, measuring=0.0):
        def measured(*_, **__):
            clock.now += measuring
            return float(tokens_per_second)

        monkeypatch.setattr(sizing, "training_speed", measured)

    return fix


def test_the_budget_is_shared_out(clock):
    """Of 600 s, 14 % (84 s) are kept for the end; of 30 s, the least that an end needs, 20 s."""
    whole = Budget(600.0, used_before=100.0)
    clock.now += 50.0
    assert (whole.used, whole.for_closing, whole.for_training) == (
        150.0,
        pytest.approx(84.0),
        pytest.approx(366.0),
    )
    short = Budget(30.0)
    assert (short.used, short.for_closing, short.for_training) == (0.0, 20.0, 10.0)
    assert Budget(30.0, used_before=100.0).for_training == 1.0


def test_ten_minutes_at_ten_thousand_tokens_a_second(tmp_path, speed):
    """64 % of the 516 s for training are 330.24 s: 3,302,400 tokens, 806 updates of 8 x 512.

    The reference of 256 x 4 does 28,704,768 FLOPs a token, so these seconds are 9.479e13 FLOPs. They buy a
    model of 192 x 4 (17,694,720 FLOPs a token, 2,164,416 parameters) 2.5 tokens a parameter, and one of 128 x
    4 (9,535,488; 1,066,112) 9.3: more than the 4 asked for.
    """
    speed(10_000)
    sizes = sizing.size_pretraining(job_of(tmp_path, minutes=10.0))
    assert sizes["steps"] == 806
    assert sizes["parameters"] == 1_066_112
    assert [sizes["shape"][key] for key in ("hidden_size", "num_layers", "num_heads")] == [128, 4, 4]
    assert (sizes["tokens_per_second"], sizes["compile"], sizes["vocab_size"]) == (10_000, True, 2048)
    assert json.loads(json.dumps(sizes)) == sizes


def test_what_measuring_takes_is_not_trained(tmp_path, speed):
    """Two measurements of 30 s leave 270.24 s: 2,702,400 tokens, 659 updates."""
    speed(10_000, measuring=30.0)
    assert sizing.size_pretraining(job_of(tmp_path, minutes=10.0))["steps"] == 659


@pytest.mark.parametrize("tokens_per_second", [300, 3_000, 30_000])
def test_the_model_that_is_built_is_the_one_announced(tmp_path, speed, tokens_per_second):
    speed(tokens_per_second)
    sizes = sizing.size_pretraining(job_of(tmp_path))
    model = Transformer(ModelShape(**sizes["shape"]).spec(sizes["vocab_size"]))
    assert sizes["parameters"] == sum(parameter.numel() for parameter in model.parameters())
    assert model.spec.context_length == 512
    # An update of 8 x 512 tokens more would not fit into the 330.24 s.
    seconds = sizes["steps"] * 8 * 512 / sizes["tokens_per_second"]
    assert seconds <= 330.24 < seconds + 8 * 512 / tokens_per_second


def test_ten_times_the_speed_pays_for_a_larger_model(tmp_path, speed):
    parameters = []
    for tokens_per_second in (1_000, 10_000, 100_000):
        speed(tokens_per_second)
        parameters.append(sizing.size_pretraining(job_of(tmp_path))["parameters"])
    assert parameters == sorted(set(parameters))


def test_little_text_is_read_four_times_and_no_more(tmp_path, speed):
    """3.6 MB are a million tokens, and four million are 976 updates of 4,096."""
    speed(1_000_000)
    path = tmp_path / "text.txt"
    path.write_bytes(b"x" * 3_600_000)
    sizes = sizing.size_pretraining(job_of(tmp_path, text=(path,)))
    assert sizes["steps"] == 976
    assert sizes["vocab_size"] == 4096


def test_a_short_time_still_trains_a_little_and_compiles_nothing(tmp_path, speed):
    speed(100)
    sizes = sizing.size_pretraining(job_of(tmp_path, minutes=0.5))
    assert sizes["steps"] == 20
    assert sizes["compile"] is False
    assert sizes["shape"]["hidden_size"] == 64


def test_tuning_fills_the_time_left_up_to_four_epochs(tmp_path):
    job = job_of(tmp_path, minutes=10.0, used=300.0)
    job.journal.decide("pretrain", lambda: {"compile": False})
    (job.out / "pretrain").mkdir()
    rows = [
        {"step": 0, "validation_loss": 5.0},
        *({"step": n, "tokens_per_second": 8_192.0} for n in (1, 2, 3)),
    ]
    (job.out / "pretrain" / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    many = sizing.size_tuning(job, 100_000, 0, 512)
    # One step of 8 x 512 tokens takes half a second; 600 - 300 - 84 = 216 seconds are left.
    assert (many["steps"], many["validations"]) == (432, 8)
    # Nine validations of 60 rows each cost as much as 360 rows trained on, 45 steps.
    validated = sizing.size_tuning(job, 100_000, 60, 512)
    assert (validated["steps"], validated["validations"]) == (432 - 45, 8)
    # Of 600 rows each costs 400, and 15 % of the time are 518 rows: one at the end beside that before the
    # start.
    rarely = sizing.size_tuning(job, 100_000, 600, 512)
    assert (rarely["steps"], rarely["validations"]) == (432 - 100, 1)
    few = sizing.size_tuning(job, 40, 0, 512)
    assert few["steps"] == 20  # four epochs of five batches
    assert few["compile"] is False


def plan(budget: float, vocab_size: int = 2048) -> SizePlan:
    return plan_training(1.0, budget, vocab_size=vocab_size, context_length=512)


@pytest.mark.parametrize(
    ("budget", "width", "parameters", "tokens"),
    [
        # 64 x 2: a layer has 4 x 64 x 64 + 3 x 64 x 192 = 53,248 weights; with 2048 x 64 of the vocabulary
        # 237,568 are multiplied, six times a token, and 12 x 2 x 64 x 512 FLOPs of attention are 786,432:
        # 2,211,840 in all.
        (1e13, 64, 237_568 + 5 * 64, 4_521_123),
        # 20 tokens for each of its 237,888 parameters would cost 1.0523e13; there is nothing smaller.
        (1e9, 64, 237_568 + 5 * 64, 452),
        # 128 x 4, as above: 20 x 1,066,112 tokens cost 2.03319e14; 192 x 4 would cost 20 x 2,164,416 x
        # 17,694,720.
        (2.0332e14, 128, 1_066_112, 21_322_453),
        (7.6598e14, 192, 2_164_416, 43_288_619),
    ],
)
def test_plans_by_hand(budget, width, parameters, tokens):
    found = plan(budget)
    assert (found.shape.hidden_size, found.parameters) == (width, parameters)
    assert found.tokens == pytest.approx(tokens, abs=1)


@given(st.floats(6, 20), st.floats(0, 3), st.sampled_from([512, 2048, 8192]))
def test_a_larger_budget_never_buys_a_smaller_model(exponent, more, vocab_size):
    small, large = plan(10**exponent, vocab_size), plan(10 ** (exponent + more), vocab_size)
    assert small.parameters <= large.parameters
    assert small.shape != large.shape or small.tokens <= large.tokens
    assert small.shape.hidden_size == 64 or small.tokens >= 20 * small.parameters


@pytest.mark.parametrize("rung", SHAPES)
def test_the_operations_paid_for_are_those_that_torch_counts(rung):
    """One row forward and backward, counted by torch product by product, on a device that computes
    nothing."""
    width, layers, heads = rung
    shape = ModelShape(hidden_size=width, num_layers=layers, num_heads=heads, context_length=512)
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        model = Transformer(shape.spec(2048))
        model(torch.zeros(1, 512, dtype=torch.long)).sum().backward()
    assert counter.get_total_flops() == 512 * model.spec.training_flops_per_token(512)
