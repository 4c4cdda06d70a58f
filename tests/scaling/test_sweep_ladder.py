"""The ladder of a sweep: its sizes and costs, and the rules for its learning rates."""

import csv
import gzip
from pathlib import Path

import numpy as np
import pytest

from camelid.base.errors import WrongCall
from camelid.scaling.ladder import (
    Rung,
    check_ladder,
    design_ladder,
    fit_ladder_to_time,
    ladder_seconds,
    ladder_shape,
)
from camelid.scaling.rates import step_law, transferred_rate
from camelid.workflows.sweep.coordinates import coordinate_check

WIDTHS, SIZES = (32, 48, 64, 80, 96), {"vocab_size": 512, "context": 128, "batch_tokens": 1024}
SPEEDS = {32: 40_000.0, 48: 30_000.0, 64: 20_000.0, 80: 15_000.0, 96: 12_000.0, 112: 9_000.0}


def test_a_ladder_by_hand():
    rungs = design_ladder(WIDTHS, 112, 10, **SIZES)
    *fitted, held = rungs
    # 32 x 2: each layer 4 x 32 x 32 + 3 x 32 x 96 and two norms of 32; 512 x 32 of the vocabulary; a norm.
    assert fitted[0].parameters == 2 * (4096 + 9216 + 64) + 16_384 + 32 == 43_168
    assert [rung.tokens for rung in fitted[:4]] == [211 * 1024, 422 * 1024, 843 * 1024, 1686 * 1024]
    assert len({rung.parameters for rung in fitted}) == 5
    widest = [rung for rung in fitted if rung.shape.hidden_size == 96]
    assert max(widest, key=lambda rung: rung.flops).tokens == pytest.approx(
        10 * widest[0].parameters, rel=0.01
    )
    most = max(rung.flops for rung in fitted)
    assert held.held_out
    assert held.flops == pytest.approx(3 * most, rel=0.01)
    assert held.flops == held.tokens * held.shape.spec(512).training_flops_per_token(128)
    assert all(rung.tokens % 1024 == 0 for rung in rungs)
    assert len({rung.name for rung in rungs}) == len(rungs)
    assert [Rung.of(rung.as_json()) for rung in rungs] == rungs


def test_the_time_decides_the_tokens():
    for seconds in (600.0, 1800.0):
        rungs = fit_ladder_to_time(seconds, SPEEDS, WIDTHS, 112, **SIZES)
        assert 0.97 * seconds < ladder_seconds(rungs, SPEEDS) <= seconds
    by_hand = sum(rung.tokens / SPEEDS[rung.shape.hidden_size] + 12 for rung in rungs)
    assert ladder_seconds(rungs, SPEEDS) == pytest.approx(by_hand)
    *fitted, held = sorted(rung.tokens / SPEEDS[rung.shape.hidden_size] + 12 for rung in rungs)
    assert held == rungs[-1].tokens / SPEEDS[112] + 12
    two = ladder_seconds(rungs, SPEEDS, 2) - held
    assert sum(fitted) / 2 <= two <= sum(fitted) / 2 + fitted[-1] / 2
    assert ladder_seconds(rungs, SPEEDS, 99) == pytest.approx(fitted[-1] + held)
    more = fit_ladder_to_time(1800.0, SPEEDS, WIDTHS, 112, parallel=2, **SIZES)
    assert more[-1].tokens > rungs[-1].tokens
    assert fit_ladder_to_time(1e9, SPEEDS, WIDTHS, 112, **SIZES) == design_ladder(WIDTHS, 112, 20, **SIZES)
    with pytest.raises(WrongCall, match="minutes of training on this machine"):
        fit_ladder_to_time(60.0, SPEEDS, WIDTHS, 112, **SIZES)


def test_rungs_of_a_few_updates_are_left_out():
    rungs = design_ladder(WIDTHS, 112, 2, **SIZES)
    assert min(rung.tokens for rung in rungs) >= 50 * 1024
    assert [rung.tokens for rung in rungs if rung.shape.hidden_size == 32] == [
        84 * 1024,
        169 * 1024,
        337 * 1024,
    ]
    with pytest.raises(WrongCall, match="only 5 models would make 50 updates"):
        check_ladder(design_ladder(WIDTHS, 112, 0.25, **SIZES))


def test_impossible_widths_are_refused():
    with pytest.raises(WrongCall, match="must be a multiple of 16"):
        ladder_shape(40, 128)
    for widths, held in (((64, 32, 96), 112), (WIDTHS, 96), ((32, 32, 64), 80)):
        with pytest.raises(WrongCall, match="must ascend"):
            design_ladder(widths, held, 10, **SIZES)


def test_the_rate_transfers_by_the_coordinate_check():
    """Hidden states move alike at rates that fall as 1 / width, and further in wide models at one rate."""
    widths = (32, 64, 128)
    ours = coordinate_check(widths, lambda width: transferred_rate(8e-3, 64, width))
    constant = coordinate_check(widths, lambda width: 8e-3)
    assert transferred_rate(8e-3, 64, 128) == 4e-3
    assert ours.passed
    assert not constant.passed
    assert constant.slope > ours.slope + 0.5


def test_step_law_is_that_of_its_bootstrap_and_near_the_best_of_its_runs(shared: Path):
    """Li et al. 2025: the mean of their 1,000 fits, and of 1,911 runs the best at each of 17 N and D."""
    folder = shared / "data/scaling/steplaw"
    with gzip.open(folder / "1004_fitted_lr_bs_scaling_model_parameters.csv.gz", "rt") as file:
        fits = list(csv.DictReader(file))
    mean = {name: np.mean([float(fit[name]) for fit in fits]) for name in fits[0]}
    n, d = 5e8, 2e10
    rate, batch = step_law(n, d)
    theirs = mean["lr_intercept"] + mean["lr_coefN"] * np.log(n) + mean["lr_coefD"] * np.log(d)
    assert np.log(rate) == pytest.approx(theirs, abs=0.02)
    assert np.log(batch) == pytest.approx(mean["bs_intercept"] + mean["bs_coefD"] * np.log(d), abs=0.02)
    best: dict[tuple[float, float], tuple[float, float, float]] = {}
    with gzip.open(folder / "dense_lr_bs_loss.csv.gz", "rt") as file:
        for row in csv.DictReader(file):
            key = float(row["N"]), float(row["D"])
            run = float(row["smooth loss"]), float(row["lr"]), 2048 * float(row["bs"])
            best[key] = min(best.get(key, run), run)
    assert len(best) == 17
    distances = [np.log2(step_law(*key)[0] / rate) for key, (_, rate, _) in best.items()]
    assert np.median(np.abs(distances)) < 0.5  # the grid of rates has steps of the square root of 2
    distances = [np.log2(step_law(*key)[1] / batch) for key, (_, _, batch) in best.items()]
    assert np.median(np.abs(distances)) < 0.5
