"""The best size by IsoFLOP curves and envelopes, against laws with known optima and published exponents."""

import json
import lzma
from pathlib import Path

import numpy as np
import pytest

from camelid.base.errors import CamelidError
from camelid.report.page import render
from camelid.scaling.fit_page import fit_report
from camelid.scaling.fitting import fit_points
from camelid.scaling.forms import FORMS, frontier
from camelid.scaling.frontier import SAME_BUDGET, Envelope, IsoFlop
from camelid.scaling.points import Points

LAW = {"E": 1.69, "A": 406.4, "B": 410.7, "alpha": 0.34, "beta": 0.28}
TRUE = frontier(LAW)
BUDGETS = np.geomspace(1e18, 1e21, 6)


def loss(n, d):
    return LAW["E"] + LAW["A"] / n ** LAW["alpha"] + LAW["B"] / d ** LAW["beta"]


def best_size(flops: float) -> float:
    return TRUE["G"] * (flops / 6) ** TRUE["a"]


def isoflops(low: float, high: float, sizes: int = 9) -> Points:
    """Runs of sizes between `low` and `high` times the best, at each budget."""
    n = np.concatenate([best_size(c) * np.geomspace(low, high, sizes) for c in BUDGETS])
    d = np.repeat(BUDGETS, sizes) / 6 / n
    return Points.of(n, d, loss(n, d))


def test_the_frontier_of_the_law_is_its_minimum_by_brute_force():
    for flops in BUDGETS:
        n = best_size(flops) * np.linspace(0.5, 2, 30001)
        assert n[np.argmin(loss(n, flops / 6 / n))] == pytest.approx(best_size(flops), rel=1e-4)


@pytest.mark.parametrize("form", ["isoflop", "akima"])
def test_narrow_centred_grids_find_the_exponent_of_the_law(form):
    fit = fit_points(form, isoflops(0.5, 2, 81), resamples=0)
    assert fit.constants["a"] == pytest.approx(TRUE["a"], abs=2e-3)
    assert fit.constants["b"] == pytest.approx(1 - TRUE["a"], abs=2e-3)
    assert fit.constants["g"] * 1e20 ** fit.constants["a"] == pytest.approx(best_size(1e20), rel=0.05)


def test_a_parabola_gives_back_its_vertex():
    n = np.array([1e8, 2e8, 4e8, 8e8, 1.6e9])
    rows = [Points.of(n, c / 6 / n, 3 + 0.1 * np.log(n / (c / 2e10)) ** 2) for c in (6e18, 9e18, 1.2e19)]
    points = Points.of(
        *(np.concatenate([getattr(p, k) for p in rows]) for k in ("parameters", "tokens", "loss"))
    )
    vertices = [best.parameters for best in IsoFlop("parabola").best(points)]
    assert vertices == pytest.approx([3e8, 4.5e8, 6e8], rel=1e-6)


def test_a_drifting_grid_is_warned_of_with_its_bias():
    """Sizes that stay the same while the best moves: off-centre to one side, then to the other."""
    sizes = np.geomspace(best_size(1e18) / 8, best_size(1e21) * 1.5, 9)
    n = np.tile(sizes, len(BUDGETS))
    d = np.repeat(BUDGETS, len(sizes)) / 6 / n
    fit = fit_points("isoflop", Points.of(n, d, loss(n, d)), resamples=0)
    bias = fit.constants["a"] - TRUE["a"]
    assert abs(bias) > 0.01
    assert any("off-centre" in each for each in fit.warnings)
    assert any("not a parabola" in each for each in fit.warnings)
    [said] = [float(each.rsplit(" ", 1)[1]) for each in fit.warnings if "give a wrong by" in each]
    assert said == pytest.approx(bias, abs=2e-3)
    centred = fit_points("isoflop", isoflops(0.4, 2.5), resamples=0).warnings
    assert [each for each in centred if "give a wrong by" not in each] == []


def test_an_envelope_of_training_curves_finds_the_exponent():
    sizes = np.geomspace(1e7, 3e9, 16)
    n = np.repeat(sizes, 60)
    d = np.tile(np.geomspace(1e8, 1e12, 60), len(sizes))
    fit = fit_points("envelope", Points.of(n, d, loss(n, d)), resamples=4)
    assert fit.constants["a"] == pytest.approx(TRUE["a"], abs=0.03)
    assert fit.constants["a"] + fit.constants["b"] == pytest.approx(1, abs=1e-3)
    low, high = fit.intervals["a"]
    assert low < TRUE["a"] + 0.03
    assert high > TRUE["a"] - 0.03
    found = list(Envelope().best(Points.of(n, d, loss(n, d))))
    assert all(each.parameters * each.tokens * 6 == pytest.approx(each.flops, rel=1e-3) for each in found)


def test_budgets_do_not_chain():
    """Runs 4 % apart over a quarter of the scale: each budget within 5 % of its first, none swallows all."""
    flops = 8e19 * 1.04 ** np.arange(8)
    points = Points.of(np.full(8, 1e9), flops / 6e9, np.full(8, 2.0))
    assert [len(runs) for runs in points.by("flops", SAME_BUDGET)] == [2, 2, 2, 2]
    assert list(points.level_of("flops")) == list(range(8))


def test_several_runs_of_a_size_make_one_curve_that_falls():
    """Halfway through a long schedule the loss is above the end of a short one with as many FLOPs."""
    n, d = np.repeat(np.geomspace(1e7, 3e9, 8), 30), np.tile(np.geomspace(1e8, 1e12, 30), 8)
    single = Points.of(n, d, loss(n, d))
    longer = Points.of(n, d * 1.2, loss(n, d * 1.2) * 1.1)  # of runs that are not at their end
    both = Points.of(
        *(np.concatenate([getattr(p, k) for p in (single, longer)]) for k in ("parameters", "tokens", "loss"))
    )
    curve, zigzag = FORMS["envelope"].fit(single)[0], FORMS["envelope"].fit(both)[0]
    assert zigzag["a"] == pytest.approx(curve["a"], abs=0.01)
    assert max(best.loss for best in Envelope().best(both)) <= max(b.loss for b in Envelope().best(single))


def test_an_envelope_is_resampled_by_whole_curves():
    n, d = np.repeat([1e7, 1.001e7, 3e7, 9e7, 2.7e8, 8.1e8], 5), np.tile(np.geomspace(1e8, 1e10, 5), 6)
    points = Points.of(n, d, loss(n, d))
    drawn = Envelope().draw(points, np.random.default_rng(0))
    left = sorted(set(drawn.parameters))
    assert len(drawn.levels("parameters")) == 4  # of 5: the first two are one size
    assert [int((drawn.parameters == size).sum()) for size in left] == [5] * len(left)
    other = Envelope().draw(points, np.random.default_rng(1))
    assert sorted(set(other.parameters)) != left


def test_intervals_cover_the_estimates_of_other_noisy_runs():
    """80 % of the runs vary less than other runs would: unstretched, 64 % would be covered, not 90 %."""
    exact, generator = isoflops(0.35, 2.8), np.random.default_rng(0)

    def noisy() -> Points:
        noise = np.exp(generator.normal(0, 1e-3, len(exact)))
        return Points.of(exact.parameters, exact.tokens, exact.loss * noise)

    others = [FORMS["akima"].fit(noisy())[0] for _ in range(100)]
    fits = [fit_points("akima", noisy(), resamples=40, seed=seed) for seed in range(4)]
    for name in ("a", "b", "g", "h"):
        scale = np.log if name in "gh" else float
        values = np.array([scale(each[name]) for each in others])
        reach = np.mean([np.ptp([scale(end) for end in fit.intervals[name]]) for fit in fits]) / 2
        assert 0.85 < (np.abs(values - values.mean()) < reach).mean() < 0.98


def test_the_page_of_a_frontier_draws_the_best_sizes():
    page = render(fit_report(fit_points("isoflop", isoflops(0.4, 2.5), resamples=0), {}))
    assert "Best size" in page
    assert "log10 parameters" in page


def test_runs_that_give_no_frontier_are_refused():
    with pytest.raises(CamelidError, match="0 budgets have at least 4 sizes with the lowest loss between"):
        FORMS["isoflop"].check(isoflops(2, 8))
    with pytest.raises(CamelidError, match="the envelope has 0 sizes"):
        FORMS["envelope"].check(isoflops(0.5, 2))
    with pytest.raises(CamelidError, match="gives the best sizes, not losses"):
        fit_points("isoflop", isoflops(0.3, 3), hold_out=1, resamples=0)


@pytest.mark.parametrize(("row", "exponent"), [(0, 0.8338), (4, 0.4970)])
def test_porian_runs_give_their_exponents(shared: Path, row: int, exponent: float):
    """Kaplan's exponent with Kaplan's settings, and Chinchilla's after tuning (Porian et al. 2024)."""
    with lzma.open(shared / "data/scaling/porian/summary_df.jsonl.xz", "rt") as lines:
        record = [json.loads(line) for line in lines][row]
    published = record["fit_results"]["basic"]
    assert published["n_exponent"] == pytest.approx(exponent, abs=1e-4)
    table = record["optimal_pairs"]
    budgets = [dict(zip(table["columns"], each, strict=True)) for each in table["rows"]]
    budgets = [each for each in budgets if each["n"] is not None]
    columns = {
        name: np.concatenate([each[key] for each in budgets])
        for name, key in (("parameters", "n_vals"), ("tokens", "t_vals"))
    }
    losses = np.concatenate([each["loss_vals"]["values"] for each in budgets])
    flops = np.concatenate([[each["flops"]] * len(each["n_vals"]) for each in budgets])
    fit = fit_points("akima", Points.of(**columns, loss=losses, flops=flops), resamples=0)
    assert fit.constants["a"] == pytest.approx(published["n_exponent"], abs=7e-3)
    best = {each.flops: each.parameters for each in IsoFlop("akima").best(fit.points)}
    theirs = {each["flops"]: each["n"] for each in budgets}
    distance = [abs(np.log(size / theirs[flops])) for flops, size in zip(theirs, best.values(), strict=True)]
    assert np.median(distance) < 0.05
