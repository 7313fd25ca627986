"""Laws of size: stored bits against parameters, and the threshold against the size of the table."""

import math
import os
from dataclasses import dataclass
from pathlib import Path

import numpy
import pandas
from matplotlib.figure import Figure
from numpy.typing import NDArray

from interpkern.files import as_path, write_atomically
from interpkern.memorisation.lab_plots import plot_law
from interpkern.memorisation.sweep_tables import SHAPE
from interpkern.report import parquet

DRAWS = 1000
TAILS = (2.5, 97.5)
FEWEST_MODELS, FEWEST_SIZES = 4, 3


@dataclass(frozen=True)
class ScalingLaw:
    """bits = scale * parameters^exponent, through the best shape of each size of table."""

    exponent: float
    low: float
    """Lower end of the 95 % interval of the exponent, from resampled seeds."""
    high: float
    scale: float
    decades: float
    """Of parameters that the points span, in powers of ten."""
    count: str
    """How parameters are counted: P1 or P2."""
    points: pandas.DataFrame
    """One row a size of table: its best shape, parameters, mean bits and bits per parameter."""
    last_exponent: float
    """Between the two largest sizes of table alone: a power law would have the same everywhere."""
    last_low: float
    """Lower end of its 95 % interval."""
    last_high: float

    def bits(self, parameters: NDArray[numpy.float64]) -> NDArray[numpy.float64]:
        """What the law gives."""
        return numpy.asarray(self.scale * parameters**self.exponent)

    def sentence(self) -> str:
        """What was found, in words."""
        return (
            f"stored bits grow as {self.count}^{self.exponent:.3f} (95 % interval {self.low:.3f} to {self.high:.3f})"
            f" over {self.decades:.1f} decades of parameters; between the two largest tables the exponent is"
            f" {self.last_exponent:.3f} ({self.last_low:.3f} to {self.last_high:.3f})"
        )

    def to_pandas(self) -> pandas.DataFrame:
        """The points."""
        return self.points

    def plot(self) -> Figure:
        """Draw the points and the law through them."""
        return plot_law(self)

    def save(self, directory: str | os.PathLike[str]) -> Path:
        """Write law.parquet, the points; returns the directory."""
        target = as_path("directory", directory)
        target.mkdir(parents=True, exist_ok=True)
        write_atomically(target / "law.parquet", parquet(self.points))
        return target


def has_law(models: pandas.DataFrame) -> bool:
    """Whether there are models enough for `scaling_law`."""
    counts = models.groupby(SHAPE).facts.agg(["first", "size"])
    return counts[counts["size"] >= FEWEST_MODELS]["first"].nunique() >= FEWEST_SIZES


def scaling_law(models: pandas.DataFrame, *, count: str = "P2", draws: int = DRAWS, seed: int = 0) -> ScalingLaw:
    """Fit stored bits (by cross-entropy) against parameters, through the best shape of each size of table.

    The best is the one that stores most bits for each parameter. The interval is that of resampled seeds: in every draw
    the models of each shape are drawn again with replacement, and the best shapes are chosen and fitted anew. That a
    power law is the right curve is not in it.

    Args:
        models: one row a model, as `Sweep.to_pandas` gives them.
        count: P1 or P2.
        draws: resamples.
        seed: of NumPy's generator.

    Returns:
        ScalingLaw.

    Raises:
        ValueError: fewer than three sizes of table.
    """
    generator = numpy.random.default_rng(seed)
    if not has_law(models):
        wanted = f"{FEWEST_SIZES} sizes of table with {FEWEST_MODELS} models a shape"
        raise ValueError(f"models: expected at least {wanted} or more")
    kept = [(key, group) for key, group in models.groupby(SHAPE, sort=False) if len(group) >= FEWEST_MODELS]
    sizes = numpy.array([int(group.facts.iloc[0]) for _, group in kept])
    parameters = numpy.array([float(group[count].iloc[0]) for _, group in kept])
    values = [group.bits_ce.to_numpy() for _, group in kept]
    means = numpy.array([each.mean() for each in values])
    resampled = numpy.stack(
        [each[generator.integers(len(each), size=(draws, len(each)))].mean(1) for each in values], axis=1
    )
    best = _best(sizes, means, parameters)
    exponent, scale = _line(parameters[best], means[best])
    chosen = [(_best(sizes, draw, parameters), draw) for draw in resampled]
    (low, last_low), (high, last_high) = numpy.nanpercentile(
        [[_line(parameters[at], draw[at])[0] for at in (best, best[-2:])] for best, draw in chosen], TAILS, axis=0
    )
    points = pandas.DataFrame([dict(zip(SHAPE, kept[at][0], strict=True)) for at in best])
    points = points.assign(
        facts=sizes[best],
        parameters=parameters[best],
        models=[len(values[at]) for at in best],
        bits=means[best],
        bits_per_parameter=means[best] / parameters[best],
    )
    decades = math.log10(points.parameters.max() / points.parameters.min())
    last = _line(parameters[best[-2:]], means[best[-2:]])[0]
    return ScalingLaw(
        exponent, float(low), float(high), scale, decades, count, points, last, float(last_low), float(last_high)
    )


def _best(sizes: NDArray, bits: NDArray, parameters: NDArray) -> list[int]:
    """The shape of each size that stores most bits per parameter, and something at all."""
    rate = numpy.where(bits > 0, bits / parameters, -numpy.inf)
    return [
        int(numpy.flatnonzero(sizes == size)[rate[sizes == size].argmax()])
        for size in numpy.unique(sizes)
        if rate[sizes == size].max() > 0
    ]


def _line(parameters: NDArray, bits: NDArray) -> tuple[float, float]:
    """Exponent and scale of the least-squares line through the logarithms; NaN where all points have one place."""
    if len(numpy.unique(parameters)) < 2:
        return math.nan, math.nan
    slope, offset = numpy.polyfit(numpy.log(parameters), numpy.log(bits), 1)
    return float(slope), math.exp(offset)


def threshold_growth(thresholds: pandas.DataFrame, *, draws: int = DRAWS, seed: int = 0) -> pandas.DataFrame:
    """By how much the threshold grows from each size of table to the next, for each doubling of m.

    Intervals are those of the two thresholds, as normal distributions with their bootstrap's width.

    Returns:
        One row for each pair of neighbouring sizes: `rows`, `to`, `per_doubling`, `low`, `high`.
    """
    known = thresholds[numpy.isfinite(thresholds[["half", "low", "high"]]).all(axis=1)].sort_values("rows")
    deviation = (known.high - known.low).to_numpy() / (2 * 1.96)
    generator = numpy.random.default_rng(seed)
    drawn = known.half.to_numpy() + deviation * generator.normal(size=(draws, len(known)))
    doublings = numpy.diff(numpy.log2(known.rows.to_numpy(dtype=float)))
    low, high = numpy.percentile(numpy.diff(drawn, axis=1) / doublings, TAILS, axis=0)
    return pandas.DataFrame(
        {
            "rows": known.rows.to_numpy()[:-1],
            "to": known.rows.to_numpy()[1:],
            "per_doubling": numpy.diff(known.half.to_numpy()) / doublings,
            "low": low,
            "high": high,
        }
    )
