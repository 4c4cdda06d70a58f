"""Projections of scores to a larger size, as PaLM's section 6.2 makes them."""

import pytest

from camelid.scaling.uneven import project


def test_palm_s_projection_by_hand():
    """Two sizes a factor e^2 apart with 20 and 30 points project 40 at e^2 times the second."""
    sizes = [1.0, 7.389056, 54.59815]
    smooth, jump, flat = (project(sizes, [20.0, 30.0, last]) for last in (41.0, 51.0, 30.0))
    assert smooth.projected == pytest.approx(40.0)
    assert (smooth.discontinuous, jump.discontinuous, flat.discontinuous) == (False, True, False)
    assert flat.excess == pytest.approx(-10.0)


def test_more_sizes_are_fitted_by_a_line():
    assert project([1, 2, 4, 8], [10, 13, 16, 19]).excess == pytest.approx(0.0)
