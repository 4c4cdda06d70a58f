"""The gradient noise scale (McCandlish et al. 2018, arXiv:1812.06162, appendix A.1).

A batch of B tokens has a gradient G_B with E|G_B|^2 = |G|^2 + tr(S) / B, where G is the true gradient and S
the covariance of a single token's. Two sizes of batches give both unknowns. tr(S) / |G|^2 is the simple noise
scale, a batch size in tokens: far below it, twice the batch saves nearly half of the updates.
"""

from typing import NamedTuple


class NoiseTerms(NamedTuple):
    """Unbiased estimates of |G|^2 and tr(S) from one update; both can be negative.

    Their ratio is biased: average each over many updates first (`report.training.noise_scale`).
    """

    gradient_square: float
    gradient_trace: float


def noise_terms(small: float, large: float, small_size: float, large_size: float) -> NoiseTerms | None:
    """The terms of two squared norms |G_B|^2, of batches of so many tokens; None if these are equal.

    square = (B_large |G_large|^2 - B_small |G_small|^2) / (B_large - B_small)
    trace = (|G_small|^2 - |G_large|^2) / (1 / B_small - 1 / B_large)
    """
    if not 0 < small_size < large_size:
        return None
    square = (large_size * large - small_size * small) / (large_size - small_size)
    return NoiseTerms(square, (small - large) / (1 / small_size - 1 / large_size))


def noise_of_part(part: float, whole: float, part_size: float, whole_size: float) -> NoiseTerms | None:
    """The terms of the norms of an update's gradient and of the part of it that its first tokens add."""
    if not part_size:
        return None
    return noise_terms((part * whole_size / part_size) ** 2, whole**2, part_size, whole_size)
