"""Fits against published and worked-out constants, and against other optimisers."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import approx_fprime, least_squares

from camelid.scaling.fit import save_fit
from camelid.scaling.fitting import fit_points, predict_losses
from camelid.scaling.forms import FORMS, frontier
from camelid.scaling.huber import fit_huber, objective
from camelid.scaling.laws import CHINCHILLA, LAWS, predict
from camelid.scaling.points import Points
from camelid.scaling.projection import fit_projection
from camelid.scaling.reading import read_runs
from camelid.scaling.saved import load_fit

PUBLISHED = {
    "chinchilla": {"E": 1.69, "A": 406.4, "alpha": 0.34, "B": 410.7, "beta": 0.28},
    "kaplan": {"Nc": 6.4e13, "Dc": 1.8e13, "alpha": 0.076, "beta": 0.103},
    "kaplan-n": {"Nc": 8.8e13, "alpha": 0.076},
    "kaplan-d": {"Dc": 5.4e13, "beta": 0.095},
    "kaplan-c": {"Cc": 1.6e7, "gamma": 0.057},
    "saturating-n": {"E": 1.7, "A": 400.0, "alpha": 0.34},
    "saturating-d": {"E": 1.7, "B": 400.0, "beta": 0.3},
    "saturating-c": {"E": 1.7, "G": 400.0, "gamma": 0.15},
}
"""Hoffmann et al. 2022; Kaplan et al. 2020, table 2 and section 1.2; saturating ones made up."""


def grid(loss=None) -> Points:
    sizes, tokens = np.meshgrid(np.geomspace(1e7, 1e10, 5), np.geomspace(1e9, 1e12, 6))
    blank = np.ones(sizes.size)
    points = Points.of(sizes.ravel(), tokens.ravel(), blank)
    if loss is None:
        return points
    return Points.of(points.parameters, points.tokens, loss(points))


def made(name: str) -> Points:
    law = LAWS[name]
    return grid(lambda points: predict(law, law.theta(PUBLISHED[name]), points))


@pytest.mark.parametrize("name", PUBLISHED)
def test_exact_losses_give_their_constants_back(name):
    constants, height = FORMS[name].fit(made(name))
    assert constants == pytest.approx(PUBLISHED[name], rel=2e-3)
    assert height < 1e-9


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_gradient_is_that_of_finite_differences(name):
    law, points = LAWS[name], made("chinchilla")
    theta = law.theta(PUBLISHED[name]) * 1.01
    ours = objective(theta, law, points, 0.05)[1]
    slopes = approx_fprime(theta, lambda each: objective(each, law, points, 0.05)[0], 1e-7)
    assert ours == pytest.approx(slopes, rel=1e-3, abs=1e-5)


def test_kaplan_law_at_one_point_by_hand():
    [loss] = predict(
        LAWS["kaplan"], LAWS["kaplan"].theta(PUBLISHED["kaplan"]), Points.of([6.4e13], [1.8e13], [1])
    )
    assert loss == pytest.approx(2**0.103)  # both terms are 1


def test_chinchilla_runs_give_the_constants_of_the_replication(shared: Path):
    """Besiroglu et al. 2024: the five highest of 245 losses left out, by the same objective."""
    points = read_runs([shared / "data/scaling/chinchilla/svg_extracted_data.csv"]).points
    assert len(points) == 245
    fit = fit_points("chinchilla", points, drop_highest=5, resamples=0)
    assert (len(fit.points), len(fit.dropped)) == (240, 5)
    wanted = {"A": 477.84, "B": 2143.86, "E": 1.8172, "alpha": 0.3473, "beta": 0.3672}
    assert fit.constants == pytest.approx(wanted, rel=3e-4)
    assert fit.objective == pytest.approx(1.018274e-3, rel=1e-6)
    assert frontier(fit.constants)["a"] == pytest.approx(0.514, abs=1e-3)
    again = fit_points("projection", points, drop_highest=5, resamples=0)
    assert again.constants == pytest.approx(least_squares_constants(fit.points), rel=1e-3)


def least_squares_constants(points: Points) -> dict[str, float]:
    """The same minimum by another way: all five constants at once, from several starts."""
    n, d = np.log(points.parameters), np.log(points.tokens)

    def errors(theta):
        return (
            np.exp(theta[0]) + np.exp(theta[1] - theta[2] * n) + np.exp(theta[3] - theta[4] * d) - points.loss
        )

    starts = [(0.5, 6.0, 0.35, 6.0, 0.3), (0.5, 5.0, 0.3, 8.0, 0.4), (0.6, 8.0, 0.4, 7.0, 0.35)]
    best = min(
        (least_squares(errors, start, xtol=1e-14, ftol=1e-14, gtol=1e-14, max_nfev=4000) for start in starts),
        key=lambda result: result.cost,
    )
    e, a, alpha, b, beta = best.x
    return {"E": np.exp(e), "A": np.exp(a), "alpha": alpha, "B": np.exp(b), "beta": beta}


def test_projection_is_the_least_squares_of_all_constants_at_once():
    exact = made("chinchilla")
    noise = np.random.default_rng(1).normal(0, 0.01, len(exact))
    points = Points.of(exact.parameters, exact.tokens, exact.loss + noise)
    solution = fit_projection(points)
    ours = CHINCHILLA.constants(solution.theta)
    assert ours == pytest.approx(least_squares_constants(points), rel=1e-4)
    residuals = predict(CHINCHILLA, solution.theta, points) - points.loss
    assert solution.objective == pytest.approx((residuals**2).sum(), rel=1e-9)


def test_huber_barely_sees_an_outlier_that_moves_least_squares():
    exact = made("chinchilla")
    loss = exact.loss.copy()
    loss[7] *= 1.3
    points = Points.of(exact.parameters, exact.tokens, loss)
    robust = CHINCHILLA.constants(fit_huber(CHINCHILLA, points).theta)
    squares = CHINCHILLA.constants(fit_projection(points).theta)
    assert robust == pytest.approx(PUBLISHED["chinchilla"], rel=0.02)
    assert squares["A"] != pytest.approx(406.4, rel=0.1)


def test_intervals_cover_the_truth_and_held_out_runs_are_predicted():
    exact = made("chinchilla")
    generator = np.random.default_rng(3)
    points = Points.of(exact.parameters, exact.tokens, exact.loss * np.exp(generator.normal(0, 0.003, 30)))
    fit = fit_points("chinchilla", points, hold_out=4, resamples=40, seed=5)
    for name in ("alpha", "beta", "E"):
        low, high = fit.intervals[name]
        assert low < PUBLISHED["chinchilla"][name] < high
    flops = [each.flops for each in fit.held_out]
    assert min(flops) >= fit.points.flops.max()
    assert all(each.predicted.value == pytest.approx(each.loss, rel=0.02) for each in fit.held_out)
    assert sum(each.hit for each in fit.held_out) >= 3
    assert fit.goodness["rms_error"] == pytest.approx(0.003, abs=0.0015)
    same = fit_points("chinchilla", points, hold_out=4, resamples=40, seed=5)
    assert same.as_json() == fit.as_json()
    [near] = predict_losses(fit, exact.take([0]))
    assert near.low < exact.loss[0] < near.high


def test_a_law_that_bends_has_wider_intervals_beyond_its_runs(tmp_path: Path):
    """Losses that leave the law with compute: the largest runs, predicted by the others, show how far."""

    def bent(points: Points) -> np.ndarray:
        exact = predict(CHINCHILLA, CHINCHILLA.theta(PUBLISHED["chinchilla"]), points)
        return exact * (1 + 0.002 * np.log(points.flops / points.flops.min()) ** 2)

    fit = fit_points("chinchilla", grid(bent), resamples=25)
    assert len(fit.beyond) == 30 // 4
    assert np.abs(fit.beyond).mean() > 2 * np.abs(fit.errors).mean()
    larger = Points.of([1e11], [1e13], [1.0])
    [found], [naive] = (predict_losses(each, larger) for each in (fit, replace(fit, beyond=np.zeros(0))))
    assert found.value == naive.value
    assert found.low <= found.value <= found.high
    assert found.high - found.value > 2 * (naive.high - naive.value)
    save_fit(fit, {}, tmp_path / "fit")
    assert predict_losses(load_fit(tmp_path / "fit"), larger) == [found]


def test_one_error_beyond_the_runs_widens_both_sides():
    """With 7 runs the quarter with the most FLOPs is one run, whose sign says nothing about the next."""
    points = made("chinchilla").take([0, 2, 6, 9, 14, 17, 28])
    fit = fit_points("chinchilla", points, resamples=25)
    for error in (0.05, -0.05):
        [found] = predict_losses(replace(fit, beyond=np.array([error])), Points.of([1e11], [1e13], [1.0]))
        assert found.low < found.value * 0.96
        assert found.high > found.value * 1.04
