"""Curves of resampled models: what the capacity would have been with other seeds."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy
from numpy.typing import NDArray
from scipy.special import expit, logit

from interpkern.memorisation.capacity import Capacity

DRAWS = 1000
ITERATIONS = 60
LONGEST_STEP = 2.0
PENALTY = 1e-5
FARTHEST = 20.0
"""Largest logarithm of a threshold."""

Array = NDArray[numpy.float64]


class Curves(NamedTuple):
    """P(solved) = 1 / (1 + (x / half)^slope) of each resample."""

    halves: Array
    """(draws,) facts per parameter; infinity where a resample does not fall with size."""
    slopes: Array
    """(draws,)"""


def bootstrap_curves(
    facts_per_parameter: Sequence[float],
    solved: Sequence[int],
    models: Sequence[int],
    fitted: Capacity,
    *,
    draws: int = DRAWS,
    seed: int = 0,
) -> Curves:
    """Give the threshold and the slope of each of `draws` resamples of the models of every group.

    Models are drawn with replacement within their group, so a group of which all models or none are solved never
    changes: with fewer than two groups in between there is nothing to resample, and the spread says nothing.

    Args:
        facts_per_parameter, solved, models: the groups, as `fit_capacity` takes them.
        fitted: what it found.
        draws: how many.
        seed: of NumPy's generator.

    Returns:
        Curves, float64; NaN everywhere where the fit found nothing.

    Source:
        Efron 1979, "Bootstrap methods: another look at the jackknife".

    Example:
        >>> x, k, n = [1.0, 2.0, 4.0], [9, 5, 1], [10, 10, 10]
        >>> numpy.median(bootstrap_curves(x, k, n, fit_capacity(x, k, n)).halves).round(1)
        2.0
    """
    x, k, n = (numpy.asarray(values, dtype=float) for values in (numpy.log(facts_per_parameter), solved, models))
    if numpy.isnan(fitted.half) or len(x) < 2:
        return Curves(*numpy.full((2, draws), numpy.nan))
    shares = numpy.random.default_rng(seed).binomial(n.astype(int), k / n, size=(draws, len(k))) / n
    centre = float(numpy.average(x, weights=n))
    offset, slope = _logistic(x - centre, shares, n)
    with numpy.errstate(divide="ignore", invalid="ignore"):
        halves = numpy.exp(numpy.clip(centre + offset / slope, -FARTHEST, FARTHEST))
    return Curves(numpy.where(slope > 0, halves, numpy.inf), slope)


def _logistic(x: Array, shares: Array, weights: Array) -> tuple[Array, Array]:
    """Newton's method for all draws: share = expit(a - b x), concave in (a, b), from the flat curve.

    The penalty keeps b finite where a draw is completely separated, and a / b is then the middle of the gap.
    """
    mean = numpy.average(shares, axis=1, weights=weights)
    a, b = logit(numpy.clip(mean, 1e-3, 1 - 1e-3)), numpy.zeros(len(shares))
    for _ in range(ITERATIONS):
        p = expit(a[:, None] - b[:, None] * x)
        off, curve = weights * (shares - p), weights * p * (1 - p)
        g_a, g_b = off.sum(1), -(off @ x) - PENALTY * b
        aa, ab, bb = curve.sum(1) + PENALTY, -(curve @ x), curve @ (x * x) + PENALTY
        determinant = aa * bb - ab * ab
        step_a, step_b = (bb * g_a - ab * g_b) / determinant, (aa * g_b - ab * g_a) / determinant
        length = numpy.maximum(1.0, numpy.maximum(abs(step_a), abs(step_b) / (1 + abs(b))) / LONGEST_STEP)
        a, b = a + step_a / length, b + step_b / length
    return a, b
