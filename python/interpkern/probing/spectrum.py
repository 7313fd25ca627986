"""The spectral scan: how much of activations a circle of each period explains beyond the nuisance."""

import math
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy
import pandas
import torch

from interpkern.probing.numbers import Coordinate, checked
from interpkern.probing.residuals import Residuals, orthonormal_pairs, residuals, waves
from interpkern.probing.saved import save_table
from interpkern.validation import REAL_DTYPES, Dimensions

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FEWEST_CYCLES = 3.0
MOST_CYCLES = 60.0
STEPS = 5
"""Frequencies for each cycle over the range: step 1 / (5 range)."""
LN_10 = math.log(10)


@dataclass(frozen=True)
class Peak:
    """Where a scan is highest."""

    frequency: float
    """Cycles a unit of the coordinate."""
    period: float
    """Units of the coordinate: nats for "log"."""
    power: float
    """Share of the variance that the nuisance leaves, in [0, 1]."""

    @property
    def ratio(self) -> float:
        """What a number is multiplied by in one turn, where the coordinate is "log"."""
        return math.exp(min(self.period, 700.0))


@dataclass(frozen=True, eq=False)
class Scan:
    """Power of a circle at each frequency; tensors are float64.

    Example:
        >>> numbers = torch.arange(1, 100)
        >>> found = scan(torch.randn(99, 8), numbers)
        >>> found.to_pandas().columns.tolist()
        ['frequency', 'period', 'power', 'rank', 'window']
    """

    frequencies: torch.Tensor
    """(F,) cycles a unit of the coordinate."""
    power: torch.Tensor
    """(F,) share of the variance left by the nuisance that cosine and sine explain."""
    component_power: torch.Tensor
    """(F, C) the same by component; a row sums to the power."""
    rank: torch.Tensor
    """(F,) int64: how many of the two columns are independent of the nuisance and of each other."""
    window: torch.Tensor
    """(F,) spectral window: power of the positions alone, which shows what leaks into other frequencies."""
    coordinate: Coordinate
    range: float
    """Units of the coordinate from the first number to the last."""
    nuisance_share: float
    """Share of the variance of the components that the nuisance explains."""
    warnings: tuple[str, ...]
    """Sentences on what makes the scan hard to read."""

    @property
    def periods(self) -> torch.Tensor:
        """(F,) units of the coordinate: nats for "log"."""
        return 1 / self.frequencies

    @property
    def peak(self) -> Peak:
        """The frequency of most power."""
        place = int(self.power.argmax())
        frequency = float(self.frequencies[place])
        return Peak(frequency, 1 / frequency, float(self.power[place]))

    def to_pandas(self) -> pandas.DataFrame:
        """One row a frequency."""
        names = ("frequencies", "periods", "power", "rank", "window")
        columns = [getattr(self, name).numpy() for name in names]
        return pandas.DataFrame(dict(zip(("frequency", "period", "power", "rank", "window"), columns, strict=True)))

    def plot(self) -> "Figure":
        """Draw the power and the spectral window over the periods."""
        from interpkern.probing.spectrum_plots import plot_scan

        return plot_scan(self)

    def save(self, path: str | PathLike[str]) -> Path:
        """Write the table of frequencies as parquet."""
        return save_table(path, self.to_pandas())


def scan(
    acts: Any,
    numbers: Any,
    *,
    coordinate: Coordinate = "log",
    components: int = 20,
    nuisance: Any = "default",
    frequencies: Any = None,
    weights: str = "uniform",
) -> Scan:
    """Give, for each frequency, the gain in R^2 over the nuisance by adding a cosine and a sine of the coordinate.

    The activations are their main principal components. Everything is float64 and exact: power is the difference of
    two least-squares fits, with the nuisance and with the nuisance and the pair.

    Shapes:
        acts (N, d) floating point, torch or NumPy; numbers (N,) positive, each once; nuisance (N, q); frequencies (F,).

    Args:
        acts: one row a number, in any order of the numbers.
        numbers: what the rows are of.
        coordinate: "log", "linear", "sqrt", or lambda for (n^lambda - 1) / lambda.
        components: principal components to look at, at most min(N - 1, d).
        nuisance: "default" is intercept, coordinate, n and digit count; "last digit" and "leading digit" add a column a
            digit to it, and a tuple of both adds both; "intercept" is that alone; an array replaces all of them, its
            rows in the order of the numbers.
        frequencies: cycles a unit of the coordinate; by default from 3 cycles over the range of the coordinate in steps
            of a fifth of a cycle up to 60, or N / 4 where that is less, and up to N / 2 for "linear".
        weights: of the numbers, "uniform" or "1/n", which weighs every octave alike.

    Returns:
        Scan: power as a share of the variance that the nuisance leaves.

    Raises:
        ShapeError, DTypeError or ValueError that names the argument.

    Source:
        Zechmeister and Kürster 2009, "The generalised Lomb-Scargle periodogram", with further nuisance columns and
        several channels.

    Example:
        >>> numbers = torch.arange(1, 361)
        >>> angles = 2 * torch.pi * numbers.log() / 0.5
        >>> acts = torch.stack([angles.cos(), angles.sin()], 1) + 0.1 * torch.randn(360, 2)
        >>> round(scan(acts, numbers, components=2).peak.period, 1)
        0.5
    """
    data = checked(acts, numbers)
    components = default_components(components, data.acts.shape)
    left = residuals(data, coordinate, components, nuisance, weights)
    return scan_of(left, frequency_grid(frequencies, left.positions, coordinate), coordinate)


def scan_of(left: Residuals, grid: torch.Tensor, coordinate: Coordinate) -> Scan:
    """Scan what the nuisance leaves at (F,) frequencies."""
    per_component, rank = powers(left, grid)
    return Scan(
        frequencies=grid,
        power=per_component.sum(1),
        component_power=per_component,
        rank=rank,
        window=spectral_window(left, grid),
        coordinate=coordinate,
        range=left.range,
        nuisance_share=left.explained,
        warnings=tuple(scan_warnings(grid, rank, left)),
    )


def default_components(components: int, shape: torch.Size) -> int:
    """The number asked for; the default of 20 gives way where there are fewer."""
    return min(components, shape[0] - 1, shape[1]) if components == 20 else components


def frequency_grid(frequencies: Any, positions: torch.Tensor, coordinate: Coordinate) -> torch.Tensor:
    """(F,) float64 cycles a unit: those given, or enough of them to meet every circle of 3 cycles and more."""
    spread = float(positions.max() - positions.min())
    if frequencies is None:
        most = len(positions) / 2 if coordinate == "linear" else min(MOST_CYCLES, len(positions) / 4)
        steps = max(1, round((most - FEWEST_CYCLES) * STEPS))
        return (FEWEST_CYCLES + torch.arange(steps + 1, dtype=torch.float64) / STEPS) / spread
    if isinstance(frequencies, (list, tuple)):
        frequencies = numpy.asarray(frequencies)
    grid = Dimensions().tensor("frequencies", frequencies, "F", REAL_DTYPES).to("cpu", torch.float64)
    if not bool((grid > 0).all()):
        raise ValueError(f"frequencies: expected cycles a unit of the coordinate above 0, got {float(grid.min()):g}")
    return grid


def powers(left: Residuals, frequencies: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(F, C) power by component and (F,) rank, a block of frequencies at a time."""
    total = left.components.square().sum()
    full = left.root_weights.norm()
    power, ranks = [], []
    for block in left.blocks(frequencies):
        columns, rank = orthonormal_pairs(left.pairs(block), full)
        products = torch.einsum("njf,nc->jfc", columns, left.components)
        power.append(products.square().sum(0) / total)
        ranks.append(rank)
    return torch.cat(power), torch.cat(ranks)


def spectral_window(left: Residuals, frequencies: torch.Tensor) -> torch.Tensor:
    """(F,) squared size of the weighted mean of exp(2 pi i f u): 1 where all numbers are at the same phase."""
    weights = left.root_weights.square() / left.root_weights.square().sum()
    parts = [torch.einsum("n,njf->jf", weights, waves(left.positions, block)) for block in left.blocks(frequencies)]
    return torch.cat(parts, 1).square().sum(0)


def scan_warnings(grid: torch.Tensor, rank: torch.Tensor, left: Residuals) -> list[str]:
    """Sentences on frequencies that can't be told from the nuisance or from a trend."""
    found = []
    slow = int((grid * left.range < FEWEST_CYCLES * (1 - 1e-9)).sum())
    if slow:
        found.append(
            f"{slow} of {len(grid)} frequencies make fewer than 3 cycles over the numbers: a trend explains such a"
            " circle as well"
        )
    deficient = grid[rank < 2]
    if len(deficient):
        found.append(
            f"{len(deficient)} frequencies have rank below 2, the first at period {float(1 / deficient[0]):.4g}: cosine"
            " or sine vanishes at these numbers or is a combination of the nuisance"
        )
    if left.explained > 0.99:
        found.append(f"the nuisance explains {left.explained:.1%} of the variance: power is a share of the little left")
    return found


def near_leading_digit(period: float, tolerance: float = 0.03) -> int | None:
    """The k of the nearest ln 10 / k, k <= 9, where a log period is that to within `tolerance`."""
    k = max(1, round(LN_10 / period))
    return k if k <= 9 and abs(period * k / LN_10 - 1) <= tolerance else None
