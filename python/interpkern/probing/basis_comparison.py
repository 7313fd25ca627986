"""Which functions of a number activations follow: helices of all subsets of periods, polynomials, components."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas
import torch

from interpkern.probing.bases import PERIODS, Basis, check_periods, helix_basis, least_squares, polynomial_basis
from interpkern.probing.components import principal_components
from interpkern.probing.fits import (
    component_count,
    enough_rows,
    r_squared,
    rows_of_numbers,
    split_numbers,
)
from interpkern.probing.numbers import refuse_constant
from interpkern.probing.saved import save_table
from interpkern.validation import integer, number

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Candidate:
    """A set of functions that activations may follow."""

    kind: str
    """helix (with a line), circles (without), polynomial, or components (the ceiling for as many dimensions)."""
    periods: tuple[float, ...]
    """Of a helix or circles."""
    size: int
    """Degree of a polynomial, number of components."""

    @property
    def name(self) -> str:
        """As it is shown."""
        if self.kind in ("polynomial", "components"):
            return f"{self.kind} {self.size}"
        return f"{self.kind} {', '.join(f'{period:g}' for period in self.periods)}" if self.periods else "line"

    def basis(self, numbers: torch.Tensor) -> Basis:
        """Its functions on some numbers."""
        if self.kind == "polynomial":
            return polynomial_basis(numbers, self.size)
        return helix_basis(numbers, self.periods, linear=self.kind == "helix")


@dataclass(frozen=True)
class Scored:
    """A candidate with its figures."""

    candidate: Candidate
    columns: int
    """Functions besides the intercept; dimensions, for components."""
    selection_r_squared: float
    """Cross-validated on the numbers that the choice is made on."""
    r_squared: float
    """On the numbers that no choice and no fit has seen."""


@dataclass(frozen=True)
class BasisComparison:
    """Candidates with their R^2, the one chosen on some numbers, and its R^2 on others."""

    rows: tuple[Scored, ...]
    best: Scored
    """The simplest helix, circles or polynomial within one standard error of the highest selection R^2."""
    reported_on: torch.Tensor
    """Numbers that `r_squared` is measured on, in rising order."""

    def to_pandas(self) -> pandas.DataFrame:
        """One row a candidate, best selection R^2 first."""
        table = pandas.DataFrame(
            {
                "functions": row.candidate.name,
                "kind": row.candidate.kind,
                "columns": row.columns,
                "selection_r_squared": row.selection_r_squared,
                "r_squared": row.r_squared,
                "chosen": row is self.best,
            }
            for row in self.rows
        )
        return table.sort_values("selection_r_squared", ascending=False, kind="stable").reset_index(drop=True)

    def plot(self) -> "Figure":
        """Draw R^2 on unseen numbers against the number of functions."""
        from interpkern.probing.helix_plots import plot_comparison

        return plot_comparison(self)

    def save(self, path: str | PathLike[str]) -> Path:
        """Write the table of candidates as parquet."""
        return save_table(path, self.to_pandas())


def compare_bases(
    acts: Any,
    numbers: Any,
    periods: Sequence[float] = PERIODS,
    *,
    components: int = 100,
    folds: int = 5,
    reported: float = 0.3,
    seed: int = 0,
) -> BasisComparison:
    """Compare helices of every subset of periods, with and without a line, polynomials of as many columns, components.

    The numbers are divided once: on one part candidates are scored by cross-validation and one is chosen, on the
    other part all are reported. Components see the activation that they approximate and not only the number: they are
    a ceiling and never chosen.

    Shapes:
        acts: (N, D) float; numbers: (N,), one for each row.

    Args:
        periods: whose subsets are tried, at most 8.
        components: at most this many principal components are fitted.
        folds: of the cross-validation, at least 2.
        reported: share of the numbers kept for the report, in (0, 1).
        seed: of the division and of the folds.

    Returns:
        BasisComparison; R^2 of the whole activation, about the mean of the fit.

    Raises:
        ShapeError, DTypeError or ValueError that names the argument.

    Source:
        Kantamneni and Tegmark 2025, arXiv 2502.00873, section 4 and appendix; choice and report on separate numbers
        are ours.

    Example:
        >>> n = torch.arange(100.0)
        >>> circle = torch.stack([torch.cos(n * torch.pi / 5), torch.sin(n * torch.pi / 5)], 1)
        >>> compare_bases(circle, n).best.candidate.name
        'circles 10'
    """
    rows, values = rows_of_numbers(acts, numbers)
    refuse_constant(rows)
    components, seed = integer("components", components, 1), integer("seed", seed, 0, 2**62)
    selected, left = split_numbers(values, number("reported", reported, 0.0, below=1.0), seed)
    folds = integer("folds", folds, 2, max(2, len(values[selected].unique()) - 2))
    candidates = _candidates(values[selected], check_periods(periods))
    parts = _folds(values[selected], folds, seed)
    within = [_scores(rows[selected], values[selected], part, ~part, candidates, components) for part in parts]
    final = _scores(rows, values, selected, left, candidates, components)
    per_fold = torch.tensor(within, dtype=torch.float64)
    scored = tuple(
        Scored(candidate, _columns(candidate, values[selected]), float(mean), value)
        for candidate, mean, value in zip(candidates, per_fold.mean(0), final, strict=True)
    )
    return BasisComparison(scored, _chosen(scored, per_fold), values[left].unique())


def _candidates(numbers: torch.Tensor, periods: tuple[float, ...]) -> list[Candidate]:
    """All, those with fewer functions first among equals."""
    if len(periods) > 8:
        raise ValueError(f"periods: expected at most 8, got {len(periods)}; 2^8 subsets are enough for one table")
    subsets = [subset for size in range(len(periods) + 1) for subset in combinations(periods, size)]
    found = [Candidate("helix", subset, 0) for subset in subsets]
    found += [Candidate("circles", subset, 0) for subset in subsets if subset]
    sizes = sorted({_columns(candidate, numbers) for candidate in found})
    enough_rows(numbers, 2 * (sizes[-1] + 1), "the largest helix, twice over for cross-validation,")
    return [*found, *(Candidate(kind, (), size) for kind in ("polynomial", "components") for size in sizes)]


def _columns(candidate: Candidate, numbers: torch.Tensor) -> int:
    return candidate.size or candidate.basis(numbers).columns


def _folds(numbers: torch.Tensor, folds: int, seed: int) -> list[torch.Tensor]:
    """(N,) bool masks of the rows to fit, one a fold, by whole numbers; the smallest and largest are always fitted."""
    distinct = numbers.unique()[1:-1]
    order = torch.randperm(len(distinct), generator=torch.Generator().manual_seed(seed + 1))
    return [~torch.isin(numbers, distinct[part]) for part in order.chunk(folds)]


def _scores(
    acts: torch.Tensor,
    numbers: torch.Tensor,
    fitted: torch.Tensor,
    tested: torch.Tensor,
    candidates: Sequence[Candidate],
    components: int,
) -> list[float]:
    """R^2 of each candidate on the tested rows."""
    known, wanted = acts[fitted], acts[tested]
    mean = known.mean(0)
    _, directions, _ = principal_components(known, component_count(known, components))
    scores = (known - mean) @ directions.mT
    found = []
    for candidate in candidates:
        if candidate.kind == "components":
            kept = directions[: candidate.size]
            predicted = mean + (wanted - mean) @ kept.mT @ kept
        else:
            basis = candidate.basis(numbers[fitted])
            predicted = mean + basis.at(numbers[tested]) @ least_squares(basis.matrix, scores) @ directions
        found.append(r_squared(wanted, predicted, mean))
    return found


def _chosen(scored: Sequence[Scored], per_fold: torch.Tensor) -> Scored:
    """The fewest columns within one standard error of the highest: folds can't tell more columns of noise from none."""
    means = per_fold.mean(0)
    allowed = [place for place, row in enumerate(scored) if row.candidate.kind != "components"]
    top = max(allowed, key=lambda place: float(means[place]))
    error = float(per_fold[:, top].std() / len(per_fold) ** 0.5)
    near = [place for place in allowed if float(means[place]) >= float(means[top]) - error]
    return scored[min(near, key=lambda place: (scored[place].columns, -float(means[place])))]
