"""Capacity: the facts per parameter at which half of the models are solved, by a logistic fit with an interval."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy
import pandas
from scipy.optimize import brentq, minimize_scalar
from scipy.special import expit, log_expit
from scipy.stats import chi2

STEEPEST = 1e4
"""Largest slope in ln(facts per parameter); a step for every practical purpose, reached under complete separation."""
REACH = math.log(100.0)
"""How far beyond the measured range, in ln(facts per parameter), an end of the interval is looked for."""


@dataclass(frozen=True)
class Capacity:
    """P(solved) = 1 / (1 + (x / half)^slope) at x facts per parameter."""

    half: float
    """Facts per parameter at which half of the models are solved; NaN when all of them or none were."""
    low: float
    """Lower end of the interval; 0 when the data set none."""
    high: float
    """Upper end of the interval; infinity when the data set none."""
    slope: float
    dispersion: float
    """Scatter of the groups around the curve relative to binomial, at least 1; it widens the interval."""
    confidence: float

    def probability(self, facts_per_parameter: numpy.ndarray) -> numpy.ndarray:
        """The fitted share of solved models."""
        return expit(-self.slope * (numpy.log(facts_per_parameter) - math.log(self.half)))

    def sentence(self) -> str:
        """What was found, in words."""
        interval = f"{100 * self.confidence:g} % interval {self.low:.2f} to {self.high:.2f}"
        if not math.isnan(self.half):
            return f"half of the models are solved at {self.half:.2f} facts per parameter ({interval})"
        if self.low > 0:
            return f"no size failed often enough to find the capacity: it is above {self.low:.2f} facts per parameter"
        return f"no size succeeded often enough to find the capacity: it is below {self.high:.2f} facts per parameter"

    def to_pandas(self) -> pandas.DataFrame:
        """One row."""
        return pandas.DataFrame([vars(self)])


def fit_capacity(
    facts_per_parameter: Sequence[float], solved: Sequence[int], models: Sequence[int], *, confidence: float = 0.95
) -> Capacity:
    """Fit the share of solved models against ln(facts per parameter) by maximum likelihood.

    The interval is that of the profile likelihood of the midpoint, with a quasi-binomial dispersion: shapes of one size
    differ, and that must show. Under complete separation the likelihood is flat between the last size that was solved
    and the first that was not: the midpoint is its centre and the interval covers it.

    Args:
        facts_per_parameter: (G,) facts / parameters of each group of models, > 0.
        solved: (G,) models of the group with every fact right.
        models: (G,) models in the group.
        confidence: coverage of the interval, in (0, 1).

    Returns:
        Capacity, in facts per parameter.

    Raises:
        ValueError: sizes that differ, a share outside 0 to 1, or nothing to fit.

    Example:
        >>> round(fit_capacity([1.0, 2.0, 4.0], [9, 5, 1], [10, 10, 10]).half, 2)
        2.0
    """
    groups = _groups(facts_per_parameter, solved, models)
    if not 0 < confidence < 1:
        raise ValueError(f"confidence: expected a number between 0 and 1, got {confidence}")
    ceiling, middle, slope = _fit(groups)
    dispersion = _dispersion(groups, middle, slope)
    drop = chi2.ppf(confidence, df=1) / 2 * dispersion
    low, high = (_end(groups, middle, ceiling - drop, direction) for direction in (-1, 1))
    all_or_none = groups.solved.sum() in (0, groups.models.sum())
    half = math.nan if all_or_none else math.exp(middle)
    return Capacity(half, _exp(low), _exp(high), slope, dispersion, confidence)


def ratio(numerator: Capacity, denominator: Capacity) -> tuple[float, float, float]:
    """The ratio of two midpoints from independent models, and its interval from theirs.

    Source: Zou and Donner 2008, "Construction of confidence limits about effect measures" (MOVER), on logarithms.

    Example:
        >>> one = fit_capacity([1.0, 2.0, 4.0], [9, 5, 1], [10, 10, 10])
        >>> round(ratio(one, one)[0], 2)
        1.0
    """
    above, below = (_logarithms(each) for each in (numerator, denominator))
    middle = above[0] - below[0]
    low = middle - math.hypot(above[0] - above[1], below[2] - below[0])
    high = middle + math.hypot(above[2] - above[0], below[0] - below[1])
    return math.exp(middle), math.exp(low), _exp(high)


def _logarithms(capacity: Capacity) -> tuple[float, float, float]:
    half, low, high = (
        math.log(value) if value else -math.inf for value in (capacity.half, capacity.low, capacity.high)
    )
    return half, low, high


@dataclass(frozen=True)
class _Groups:
    x: numpy.ndarray
    solved: numpy.ndarray
    models: numpy.ndarray


def _groups(facts_per_parameter: Sequence[float], solved: Sequence[int], models: Sequence[int]) -> _Groups:
    size, k, n = (numpy.asarray(values, dtype=float) for values in (facts_per_parameter, solved, models))
    if not (size.ndim == 1 and size.shape == k.shape == n.shape and len(size)):
        raise ValueError(f"solved, models: expected one number a group, got {size.shape}, {k.shape} and {n.shape}")
    if not (numpy.isfinite(size).all() and (size > 0).all()):
        raise ValueError("facts_per_parameter: expected finite numbers > 0")
    if not ((k >= 0) & (k <= n) & (n > 0)).all():
        raise ValueError("solved: expected 0 <= solved <= models in every group, and models > 0")
    return _Groups(numpy.log(size), k, n)


def _log_likelihood(groups: _Groups, middle: float, slope: float) -> float:
    z = -slope * (groups.x - middle)
    return float(groups.solved @ log_expit(z) + (groups.models - groups.solved) @ log_expit(-z))


def _profile(groups: _Groups, middle: float) -> tuple[float, float]:
    """The largest log likelihood over the slope, and that slope; it is concave in the slope."""
    found = minimize_scalar(
        lambda t: -_log_likelihood(groups, middle, math.exp(t)),
        bounds=(-5.0, math.log(STEEPEST)),
        method="bounded",
        options={"xatol": 1e-5},
    )
    return -found.fun, math.exp(found.x)


def _fit(groups: _Groups) -> tuple[float, float, float]:
    """Log likelihood, midpoint (a natural logarithm) and slope of the best curve."""
    some_solved = groups.x[groups.solved > 0]
    some_failed = groups.x[groups.solved < groups.models]
    if not len(some_solved) or not len(some_failed):
        middle = groups.x.min() - REACH if not len(some_solved) else groups.x.max() + REACH
    elif some_solved.max() < some_failed.min():
        middle = (some_solved.max() + some_failed.min()) / 2
    else:
        grid = numpy.linspace(groups.x.min() - 1, groups.x.max() + 1, 61)
        start = grid[numpy.argmax([_profile(groups, middle)[0] for middle in grid])]
        width = grid[1] - grid[0]
        bounds = (start - width, start + width)
        middle = minimize_scalar(lambda m: -_profile(groups, m)[0], bounds=bounds, method="bounded").x
    return (_profile(groups, middle)[0], float(middle), _profile(groups, middle)[1])


def _dispersion(groups: _Groups, middle: float, slope: float) -> float:
    """Deviance per degree of freedom, counting only the groups in which the curve leaves anything open."""
    k, n = groups.solved, groups.models
    share = numpy.clip(k / n, 1e-12, 1 - 1e-12)
    saturated = float(k @ numpy.log(share) + (n - k) @ numpy.log(1 - share))
    expected = n * expit(-slope * (groups.x - middle))
    open_groups = int((numpy.minimum(expected, n - expected) >= 0.5).sum())
    deviance = 2 * (saturated - _log_likelihood(groups, middle, slope))
    return max(1.0, deviance / max(open_groups - 2, 1))


def _end(groups: _Groups, middle: float, level: float, direction: int) -> float:
    """Where the profile falls below `level` on one side of the midpoint."""
    far = middle + direction * 2 * REACH

    def above(position: float) -> float:
        return _profile(groups, position)[0] - level

    return direction * math.inf if above(far) >= 0 else brentq(above, middle, far, xtol=1e-5)


def _exp(value: float) -> float:
    return math.inf if value == math.inf else math.exp(value)
