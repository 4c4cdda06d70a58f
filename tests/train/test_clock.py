"""Runs that end by the clock: decisions on a fake machine, no cliff in the rate, and resumed runs that repeat
them."""

import json
from itertools import pairwise

import pytest
import torch

from camelid.recipes.training import Training
from camelid.train.clock import ClockedRun, TimeLimit, TimePlan
from camelid.train.schedule import learning_rate


def training(steps=320, **settings):
    settings = {"warmup_fraction": 0.05, "decay_fraction": 0.4, "min_learning_rate_ratio": 0.05} | settings
    return Training(
        steps=steps,
        context_length=64,
        global_batch_tokens=64,
        schedule="wsd",
        learning_rate=1.0,
        **settings,
    )


class Machine:
    """Updates that each take the seconds that `pace` gives for them."""

    def __init__(self, folder, seconds, pace, steps=320):
        self.now, self.pace = 0.0, pace
        self.run = ClockedRun(folder, training(steps), TimeLimit(seconds, lambda: self.now))

    def train(self, start=0, stop=None):
        """Number and rate of each update made."""
        made = []
        for number in self.run.until_end(range(start, 10**6), start):
            if number == stop:
                break
            made.append((number, self.run.plan.rate(number)))
            self.now += self.pace(number)
            self.run.decide(number + 1)
        return made


def test_without_a_limit_the_recipe_decides(tmp_path):
    run = ClockedRun(tmp_path, training(40), None)
    assert [run.decide(updates) for updates in (1, 2, 40)] == [40, 40, 40]
    assert list(run.until_end(range(100), 30)) == list(range(10))
    assert not (tmp_path / "plan.json").exists()


def test_an_undisturbed_run_has_the_rates_of_wsd(tmp_path):
    machine = Machine(tmp_path, 320.0, lambda _: 1.0)
    settings = training()
    made = machine.train()
    for number, rate in made:
        expected = learning_rate(
            number,
            steps=320,
            warmup=settings.total_warmup_steps,
            peak=1.0,
            floor_ratio=0.05,
            schedule="wsd",
            decay_fraction=0.4,
        )
        assert rate == pytest.approx(expected, abs=0.02)
    assert len(made) == 320


@pytest.mark.parametrize("slow_from", [0, 20, 100, 200, 290])
@pytest.mark.parametrize("factor", [2.0, 5.0])
def test_the_time_is_kept_where_the_machine_becomes_slower(tmp_path, slow_from, factor):
    machine = Machine(tmp_path, 320.0, lambda number: factor if number >= slow_from else 1.0)
    made = machine.train()
    assert machine.now <= 320.0 * 1.1
    assert machine.now >= 320.0 * 0.9
    rates = [rate for _, rate in made]
    assert rates[-1] < 0.2  # the run ends low, not at its peak
    drops = [before - after for before, after in pairwise(rates)]
    assert max(drops) < 0.2  # and it goes there in small steps


def test_a_pause_of_the_speed_is_made_up_for(tmp_path):
    """Ten slow updates of 32 s in the middle: what is left is given to the rest, and the end stays in
    time."""
    machine = Machine(tmp_path, 640.0, lambda number: 32.0 if 100 <= number < 110 else 1.0)
    assert len(machine.train()) == pytest.approx(320, rel=0.05)


def test_the_rate_never_rises_after_warm_up(tmp_path):
    machine = Machine(tmp_path, 300.0, lambda number: 1.0 + (number % 37) / 20)
    rates = [rate for _, rate in machine.train()][20:]
    assert all(after <= before + 1e-9 for before, after in pairwise(rates))


def test_a_run_out_of_time_still_falls_to_a_low_rate(tmp_path):
    machine = Machine(tmp_path, 50.0, lambda _: 1.0)
    rates = [rate for _, rate in machine.train()]
    assert rates[-1] < 0.4


@pytest.mark.parametrize("stop", [11, 95, 160, 250])
def test_a_resumed_run_repeats_the_decisions(tmp_path, stop):
    """Stopped at an update and resumed from an earlier one, on a machine that is now faster: the same rates
    up to there."""
    first = Machine(tmp_path, 320.0, lambda number: 1.7)
    before = first.train(stop=stop)
    decided = dict(first.run.plan.decided)
    again = Machine(tmp_path, 320.0, lambda number: 1.2)
    again.now = first.now
    start = stop * 2 // 3
    after = again.train(start=start)
    assert after[: stop - start] == before[start:]
    assert {at: end for at, end in again.run.plan.decided.items() if at in decided} == decided
    assert json.loads((tmp_path / "plan.json").read_text())["decided"]


def test_the_plan_by_hand():
    """After 100 of 320 updates at 2 s each and 200 s left, 100 more fit; of 200, 16 of them warm-up, the last
    74 fall."""
    plan = TimePlan(training())
    assert plan.propose(100, 200.0, 2.0) == 200
    assert plan.propose(100, 1e9, 2.0) == 320
    assert plan.propose(100, -5.0, 2.0) == 105
    plan.decided[100] = 200
    assert (plan.end(), plan.end(99)) == (200, 320)
    assert plan.rate(126) == 1.0
    assert plan.rate(163) == pytest.approx(0.05 + 0.95 * 0.5)
    plan.decided[163] = 183  # from half the height to the floor in 20 updates instead of 37
    assert plan.rate(173) == pytest.approx(0.05 + 0.95 * 0.25)
    assert plan.rate(162) == pytest.approx(0.05 + 0.95 * 38 / 74)


def test_fit_ends_by_the_clock_and_resumes_exactly(tmp_path):
    """A real run of a small model: killed after a decision and resumed, it has the curve of the unbroken
    one."""
    from camelid.data.rows.batches import Batch
    from camelid.model.spec import ModelSpec
    from camelid.model.transformer import Transformer
    from camelid.recipes.tokenizer import TokenizerRecipe  # any recipe names a run
    from camelid.runs.run import Run, read_metrics
    from camelid.train.fit import Setup, fit
    from camelid.train.objectives import cross_entropy
    from camelid.train.parallel import ProcessGroup

    spec = ModelSpec.llama(vocab_size=16, hidden_size=8, num_layers=1, num_heads=1, context_length=64)
    settings = training(64, checkpoint_every=8, validate_every=64, dtype="float32", compile=False)

    def batches_from(step):
        while True:
            tokens = torch.randint(16, (1, 64), generator=torch.Generator().manual_seed(step))
            positions = torch.arange(64)[None]
            yield Batch(tokens, tokens.roll(-1, 1), torch.ones(1, 64), torch.zeros_like(tokens), positions)
            step += 1

    def run_to(folder, now, killed_at=None):
        def clock():
            now[0] += 1.0
            if killed_at is not None and now[0] >= killed_at:
                raise InterruptedError
            return now[0]

        recipe = TokenizerRecipe(out=folder, data={"train": ["x.txt"]})
        model = Transformer(spec).initialize(0)
        with Run.create(folder, recipe) as run:
            objective = cross_entropy(model, torch.float32)
            setup = Setup(ProcessGroup(), torch.float32, 1)
            fit(run, model, batches_from, objective, settings, setup, limit=TimeLimit(40.0, clock))
        return model

    whole = run_to(tmp_path / "whole", [0.0])
    steps = len(read_metrics(tmp_path / "whole" / "metrics.jsonl")) - 1
    assert 36 <= steps <= 44  # 40 of the planned 64
    now = [0.0]
    with pytest.raises(InterruptedError):
        run_to(tmp_path / "broken", now, killed_at=23)
    now[0] = 16.0  # the checkpoint's time: the updates after it are made again
    resumed = run_to(tmp_path / "broken", now)
    assert read_metrics(tmp_path / "broken" / "metrics.jsonl")[-1]["step"] == steps
    for one, other in zip(whole.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(one, other)
