"""Number lines of the literature: how evenly one direction spaces the numbers, and what PLS makes of it."""

from dataclasses import asdict, dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas
import torch
from scipy import stats

from interpkern.errors import DTypeError, ShapeError
from interpkern.probing.components import principal_components
from interpkern.probing.correlations import correlations, interval, resampled, whole
from interpkern.probing.cross_validation import held_out
from interpkern.probing.numbers import checked, positive_numbers
from interpkern.probing.saved import save_table
from interpkern.random import check_seed
from interpkern.validation import FLOATS, Dimensions, choice, integer, number

if TYPE_CHECKING:
    from matplotlib.figure import Figure

METHODS = ("pca", "pls")
EXPONENTS = torch.linspace(-2, 3, 501, dtype=torch.float64)
"""Scaling exponents that are tried, .01 apart; the best of them is refined by a parabola."""
LOGARITHMIC, LINEAR = (int((EXPONENTS - value).abs().argmin()) for value in (0.0, 1.0))
FOLDS = 5
COUNTS = (1, 2, 5, 10)


@dataclass(frozen=True)
class ScalingExponent:
    """The exponent of positions a + b (n^beta - 1) / beta: 1 is a linear number line, 0 a logarithmic one."""

    beta: float
    low: float
    high: float
    r2: float
    """R^2 of the positions at the best beta."""
    r2_log: float
    """At beta = 0."""
    r2_linear: float
    """At beta = 1."""


def scaling_exponent(
    positions: Any, numbers: Any, *, bootstrap: int = 200, confidence: float = 0.95, seed: int = 0
) -> ScalingExponent:
    """Fit positions along a line with a + b (n^beta - 1) / beta, which at beta = 0 is a + b ln n.

    Below 1 the line is sublinear: it gives small numbers more room than large ones. The positions that numbers at
    r, r^2, r^3, ... take then have gaps that grow by r^beta from one to the next.

    Shapes:
        positions (N,) floating point and numbers (N,) positive, torch or NumPy, with N >= 8.

    Returns:
        ScalingExponent: beta in [-2, 3] with the interval of a bootstrap over numbers, and three R^2.

    Raises:
        ShapeError, DTypeError or ValueError that names the argument.

    Source:
        AlQuabeh et al. 2025, "Number Representations in LLMs: A Computational Parallel to Human Perception", arXiv
        2502.16147, has a scaling rate index beta by geometric regression, for the same question. The formula here is
        ours: a Box-Cox transform of n, so that linear and logarithmic lines are two values of one number.

    Example:
        >>> numbers = torch.arange(1, 361)
        >>> round(scaling_exponent(3 + 2 * numbers.sqrt(), numbers).beta, 3)
        0.5
    """
    values = positive_numbers(numbers)
    dimensions = Dimensions({"N": len(values)}, {"N": "numbers"})
    line = dimensions.tensor("positions", positions, "N", FLOATS).to("cpu", torch.float64)
    draws, level = integer("bootstrap", bootstrap, 0, 100_000), number("confidence", confidence, 0.0, below=1.0)
    if len(line) < 8:
        raise ShapeError(f"positions: expected at least 8, got {len(line)}")
    if float(line.max()) == float(line.min()) or float(values.max()) == float(values.min()):
        name = "positions" if float(line.max()) == float(line.min()) else "numbers"
        raise ValueError(f"{name}: expected values that differ, got {len(line)} times the same")
    return _scaling(line, values, draws, level, check_seed(seed))


def _scaling(line: torch.Tensor, numbers: torch.Tensor, draws: int, confidence: float, seed: int) -> ScalingExponent:
    shapes = _transforms(numbers)
    r2 = correlations(line[:, None], shapes, whole(len(line)))[0, 0].square()
    sampled = correlations(line[:, None], shapes, resampled(len(line), draws, seed))[:, 0].square()
    low, high = interval(torch.stack([_best(row) for row in sampled]) if draws else sampled[:, 0], confidence)
    figures = (float(value) for value in (_best(r2), low, high, r2.nan_to_num(0).max(), r2[LOGARITHMIC], r2[LINEAR]))
    return ScalingExponent(*figures)


def _transforms(numbers: torch.Tensor) -> torch.Tensor:
    """(N, A): the numbers, relative to their geometric mean, at each exponent; scale and offset don't matter."""
    logs = numbers.log() - numbers.log().mean()
    at_zero = EXPONENTS.abs() < 1e-9
    powers = torch.expm1(EXPONENTS * logs[:, None]) / torch.where(at_zero, 1.0, EXPONENTS)
    return torch.where(at_zero, logs[:, None], powers)


def _best(r2: torch.Tensor) -> torch.Tensor:
    """The exponent of largest R^2, by a parabola through the best on the grid and its neighbours."""
    place = int(r2.nan_to_num(-1).argmax())
    if place in (0, len(r2) - 1):
        return EXPONENTS[place]
    before, top, after = r2[place - 1 : place + 2]
    bend = before - 2 * top + after
    shift = 0.5 * (before - after) / bend if bool(bend < 0) else torch.zeros((), dtype=torch.float64)
    return EXPONENTS[place] + shift.nan_to_num(0).clamp(-1, 1) * (EXPONENTS[1] - EXPONENTS[0])


@dataclass(frozen=True, eq=False)
class NumberLine:
    """Numbers along one direction of their activations."""

    method: str
    """pca, or pls with its number of components."""
    numbers: torch.Tensor
    """(N,) float64, increasing."""
    positions: torch.Tensor
    """(N,) float64, on the whole rising with n."""
    rho: float
    """Spearman's rank correlation of position and number: 1 where the line is in order."""
    scaling: ScalingExponent
    variance_share: float
    """What the direction holds of the variance of the activations; NaN for more than one PLS component."""
    r2_fitted: float
    """R^2 of n by the line on the numbers that it was fitted to."""
    r2_held_out: float
    """The same on numbers left out of the fit, NaN for PCA, which is fitted to no number."""

    def to_pandas(self) -> pandas.DataFrame:
        """One row: method, rho, beta with its interval and R^2, variance_share, r2_fitted, r2_held_out."""
        figures = {"variance_share": self.variance_share, "r2_fitted": self.r2_fitted, "r2_held_out": self.r2_held_out}
        return pandas.DataFrame([{"method": self.method, "rho": self.rho} | asdict(self.scaling) | figures])

    def plot(self) -> "Figure":
        """Draw positions against the numbers on a logarithmic axis, where a logarithmic line is straight."""
        from interpkern.probing.directions_plots import plot_number_line

        return plot_number_line(self)

    def save(self, path: str | PathLike[str]) -> Path:
        """Write number and position of each number as parquet, with the figures beside them."""
        return save_table(
            path,
            self.to_pandas().merge(pandas.DataFrame({"number": self.numbers, "position": self.positions}), how="cross"),
        )


def number_line(
    acts: Any, numbers: Any, *, method: str = "pca", components: int = 1, bootstrap: int = 200, seed: int = 0
) -> NumberLine:
    """Project activations onto one direction and say how it orders and spaces the numbers.

    PCA takes a direction without asking for numbers. PLS asks for the direction that goes with n, so what it finds is
    spaced more evenly than what is there, the more so the more components it has; with as many as there are numbers it
    makes a perfect linear number line of noise. `r2_held_out` says what is left of that on other numbers.

    Shapes:
        acts (N, d) floating point, numbers (N,) positive, each once; torch or NumPy.

    Args:
        acts, numbers: activations and the numbers that they are of.
        method: pca, or pls, partial least squares regression of n.
        components: for pca which component, 1 the largest; for pls how many are summed to the fitted n.
        bootstrap, seed: of the interval of beta.

    Returns:
        NumberLine: Spearman's rho, beta with its interval, R^2.

    Raises:
        ShapeError, DTypeError or ValueError that names the argument.

    Source:
        AlQuabeh et al. 2025, arXiv 2502.16147: PCA and PLS projections, monotonicity by Spearman's rho, sublinearity by
        beta (defined in `scaling_exponent`). R^2 on numbers left out is ours.

    Example:
        >>> numbers = torch.arange(1, 201)
        >>> acts = numbers.log()[:, None] * torch.randn(6) + 0.01 * torch.randn(200, 6)
        >>> line = number_line(acts, numbers)
        >>> line.rho > 0.99, abs(line.scaling.beta) < 0.1
        (True, True)
    """
    rows = checked(acts, numbers)
    choice("method", method, METHODS)
    most = min(len(rows.acts) - 1, rows.acts.shape[1])
    count = integer("components", components, 1, most)
    target = rows.numbers[:, None]
    share = held = torch.nan
    if method == "pca":
        found = principal_components(rows.acts, count)
        positions = found.scores[:, -1]
        share = float(found.variances[-1] / rows.acts.var(0, correction=0).sum())
    else:
        positions = partial_least_squares(rows.acts, target, rows.acts, count)[:, 0]
        share = _share(rows.acts, target) if count == 1 else share
        held = _held_out(rows.acts, target, min(count, len(rows.acts) * (FOLDS - 1) // FOLDS - 2), seed)
    if float(positions.std()) == 0:
        raise ValueError(f"components: expected a component along which rows differ, got {count}; take fewer")
    rho = float(stats.spearmanr(positions.numpy(), rows.numbers.numpy()).statistic)
    return NumberLine(
        method=method if method == "pca" else f"pls {count}",
        numbers=rows.numbers,
        positions=positions if rho >= 0 else -positions,
        rho=abs(rho),
        scaling=scaling_exponent(positions, rows.numbers, bootstrap=bootstrap, seed=seed),
        variance_share=share,
        r2_fitted=float(correlations(positions[:, None], target, whole(len(target))).square()),
        r2_held_out=held,
    )


def compare_number_lines(
    acts: Any, numbers: Any, *, components: tuple[int, ...] | None = None, bootstrap: int = 200, seed: int = 0
) -> pandas.DataFrame:
    """Show how PLS hides the spacing: the lines of PCA and of PLS, of the activations and of the same rows shuffled.

    Shapes:
        acts (N, d) floating point, numbers (N,) positive, each once; torch or NumPy.

    Args:
        acts, numbers: activations and the numbers that they are of.
        components: of PLS, each at most min(N - 1, d); by default 1, 2, 5 and 10, as far as there are so many.
        bootstrap, seed: of the intervals; the seed is also that of the shuffle.

    Returns:
        A table with a row for each line: rows ("given" or "shuffled") and the columns of `NumberLine.to_pandas`. Where
        shuffled rows give as large an rho and r2_fitted, those of the given rows show nothing.

    Source:
        That PLS obscures the spacing is said in AlQuabeh et al. 2025, arXiv 2502.16147; the shuffled rows are ours.

    Example:
        >>> numbers = torch.arange(1, 41)
        >>> compare_number_lines(torch.randn(40, 60), numbers, components=(1, 10)).rows.tolist()
        ['given', 'given', 'given', 'shuffled', 'shuffled', 'shuffled']
    """
    rows = checked(acts, numbers)
    most = min(len(rows.acts) - 1, rows.acts.shape[1])
    if components is None:
        components = tuple(count for count in COUNTS if count <= most)
    elif not isinstance(components, tuple) or not components:
        raise DTypeError(f"components: expected a tuple of integers from 1 to {most}, got {components!r:.60}")
    generator = torch.Generator().manual_seed(check_seed(seed) % (1 << 63))
    shuffled = rows.acts[torch.randperm(len(rows.acts), generator=generator)]
    tables = []
    for name, given in (("given", rows.acts), ("shuffled", shuffled)):
        for method, count in (("pca", 1), *(("pls", count) for count in components)):
            line = number_line(
                given, rows.numbers, method=method, components=count, bootstrap=bootstrap, seed=seed
            ).to_pandas()
            line.insert(0, "rows", name)
            tables.append(line)
    return pandas.concat(tables, ignore_index=True)


def partial_least_squares(
    inputs: torch.Tensor, targets: torch.Tensor, other: torch.Tensor, components: int
) -> torch.Tensor:
    """(n, 1) predictions of a target (N, 1) at other inputs (n, d) by PLS1 with so many components.

    Source:
        Wold et al. 1984, "The Collinearity Problem in Linear Regression", in the orthogonal-scores form (NIPALS).
    """
    centre, mean = inputs.mean(0), targets.mean(0)
    x, y, new = inputs - centre, targets - mean, other - centre
    predicted = mean.expand(len(other), 1).clone()
    for _ in range(components):
        weight = x.mT @ y
        if float(weight.norm()) <= 1e-12 * float(inputs.norm() * targets.norm()):
            break
        weight = weight / weight.norm()
        score, new_score = x @ weight, new @ weight
        square = score.square().sum()
        loading = x.mT @ score / square
        slope = (score.mT @ y) / square
        predicted = predicted + new_score * slope
        x, new, y = x - score @ loading.mT, new - new_score @ loading.mT, y - score * slope
    return predicted


def _share(acts: torch.Tensor, target: torch.Tensor) -> float:
    """What the first PLS direction holds of the variance."""
    centred = acts - acts.mean(0)
    direction = centred.mT @ (target - target.mean())
    return float((centred @ direction / direction.norm()).square().sum() / centred.square().sum())


def _held_out(acts: torch.Tensor, target: torch.Tensor, components: int, seed: int) -> float:
    """R^2 of n on shuffled numbers left out."""

    def predict(inputs: torch.Tensor, targets: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        return partial_least_squares(inputs, targets, other, components)

    return float(held_out(acts, target, predict, count=FOLDS, seed=seed)["shuffled"].r2(whole(len(acts))))
