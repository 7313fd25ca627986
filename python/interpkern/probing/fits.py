"""Least squares of activations on functions of a number, in principal components, and the same with rows shuffled."""

from dataclasses import dataclass
from typing import Any

import torch

from interpkern.errors import ShapeError
from interpkern.probing.bases import Basis, least_squares, number_array
from interpkern.probing.components import principal_components
from interpkern.validation import FLOATS, Dimensions


@dataclass(frozen=True, eq=False)
class BasisFit:
    """Activations as mean + B(n) C V: a basis of numbers, coefficients, and principal directions."""

    basis: Basis
    """The functions, with their values on the numbers of the fit."""
    mean: torch.Tensor
    """(D,) float64."""
    directions: torch.Tensor
    """V, (C, D) orthonormal rows."""
    coefficients: torch.Tensor
    """C, (q, C)."""

    def predict(self, numbers: Any) -> torch.Tensor:
        """(n, D) activations at (n,) numbers, in the unit of the activations."""
        return self.mean + self.basis.at(numbers) @ self.coefficients @ self.directions

    def r_squared_on(self, acts: torch.Tensor, numbers: Any) -> float:
        """The share of the variance of (n, D) activations about the fit's mean that is predicted; nan without any."""
        return r_squared(acts, self.predict(numbers), self.mean)


def fit_basis(acts: torch.Tensor, basis: Basis, components: int) -> BasisFit:
    """Fit (N, D) float64 activations in at most `components` principal components by a basis on their N numbers."""
    count = component_count(acts, components)
    scores, directions, _ = principal_components(acts, count)
    return BasisFit(basis, acts.mean(0), directions, least_squares(basis.matrix, scores))


def shuffled_predictions(fit: BasisFit, acts: torch.Tensor, orders: torch.Tensor, numbers: Any) -> torch.Tensor:
    """What the same fit predicts when activations belong to the wrong numbers: (K, n, D).

    Only the pairing in the fit is shuffled, by `orders` (K, N) permutations; the numbers that are predicted from, and
    every array that came in, stay as they are. As a null it holds on numbers outside the fit: on its own numbers the
    true pairing has seen the answer.
    """
    scores = (acts - fit.mean) @ fit.directions.mT
    q, r = torch.linalg.qr(fit.basis.matrix)
    coefficients = torch.linalg.solve_triangular(r, q.mT @ scores[orders], upper=True)
    return fit.mean + fit.basis.at(numbers) @ coefficients @ fit.directions


def shuffles(rows: int, count: int, seed: int) -> torch.Tensor:
    """(count, rows) permutations of the rows."""
    generator = torch.Generator().manual_seed(seed)
    return torch.stack([torch.randperm(rows, generator=generator) for _ in range(count)])


def component_count(acts: torch.Tensor, components: int) -> int:
    """At most `components`, and no more than centred rows span."""
    return max(1, min(components, len(acts) - 1, acts.shape[1]))


def r_squared(acts: torch.Tensor, predicted: torch.Tensor, mean: torch.Tensor) -> float:
    """1 - |acts - predicted|^2 / |acts - mean|^2; nan where the activations don't vary."""
    total = float((acts - mean).square().sum())
    if not total > 1e-20 * float(acts.square().sum()):
        return float("nan")
    return 1 - float((acts - predicted).square().sum()) / total


def rows_of_numbers(acts: Any, numbers: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """(N, D) activations and their (N,) numbers, both in float64 on the CPU; a number may have several rows."""
    rows = Dimensions().tensor("acts", acts, "N D", FLOATS).to("cpu", torch.float64)
    values = number_array("numbers", numbers)
    if len(values) != len(rows):
        raise ShapeError(f"numbers: expected ({len(rows)},) to match acts {tuple(rows.shape)}, got ({len(values)},)")
    return rows, values


def split_numbers(numbers: torch.Tensor, share: float, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """(N,) bool masks of the rows to fit and of those held out, by whole numbers: all rows of a number stay together.

    The same numbers and seed give the same split, whatever the order of the rows; the smallest and the largest number
    are always fitted, so that what is held out lies between fitted numbers.
    """
    distinct = numbers.unique()
    inner = distinct[1:-1]
    count = min(len(inner), max(1, round(share * len(distinct))))
    chosen = inner[torch.randperm(len(inner), generator=torch.Generator().manual_seed(seed))[:count]]
    held_out = torch.isin(numbers, chosen)
    return ~held_out, held_out


def enough_rows(rows: torch.Tensor, columns: int, what: str) -> None:
    """Refuse to fit as many functions as there are numbers."""
    distinct = len(rows.unique())
    if distinct <= columns:
        raise ValueError(
            f"numbers: expected more than {columns} different numbers to fit {what} with {columns} columns, got"
            f" {distinct}; give more numbers or fewer periods"
        )
