"""The figures of a group of tokens, from sums over chunks of rows."""

from dataclasses import dataclass

import numpy
import torch
from numpy.typing import NDArray

from interpkern.ops.sparse_code import SparseCode

ROUNDING = 1e-12
"""Variance, relative to the sum of squares, that is left of rows which are all the same."""


@dataclass(frozen=True)
class Figures:
    """The figures of one group of tokens; NaN where the group is empty or has no variance."""

    tokens: int
    fvu: float
    """Fraction of variance unexplained: sum ||x - x_hat||^2 / sum ||x - mean of the group||^2."""
    median_error: float
    """Median over tokens of ||x - x_hat||^2 / ||x - mean of the dictionary||^2, 0 for tokens that are the mean."""
    distinct_l0: float
    """Mean number of different atoms with a coefficient other than 0."""
    dead_atoms: int
    """Atoms that no token of the group uses."""
    dead_share: float
    """The same as a share of all atoms."""
    negative_share: float
    """Coefficients below 0, as a share of those other than 0; mp may give an atom several."""


class Sums:
    """What the figures of a group are made of, added up a chunk at a time."""

    def __init__(self, atoms: int, width: int) -> None:
        self.tokens = self.distinct = self.picks = self.negative = 0
        self.error = self.square = 0.0
        self.total = torch.zeros(width, dtype=torch.float64)
        self.uses = torch.zeros(atoms, dtype=torch.int64)

    def add(self, centred: torch.Tensor, squared_error: NDArray[numpy.float64], code: SparseCode) -> None:
        """Take in some rows, less the mean of the dictionary, with their errors and codes."""
        self.tokens += len(centred)
        self.error += float(squared_error.sum())
        self.square += float(centred.square().sum())
        self.total += centred.sum(0)
        picked = code.indices >= 0
        self.distinct += int(code.distinct().sum())
        self.picks += int(picked.sum())
        self.negative += int((code.coefficients[picked] < 0).sum())
        self.uses += torch.bincount(code.indices[picked].long(), minlength=len(self.uses))

    def __add__(self, other: "Sums") -> "Sums":
        both = Sums(len(self.uses), len(self.total))
        for name in vars(self):
            setattr(both, name, getattr(self, name) + getattr(other, name))
        return both

    def figures(self, errors: NDArray[numpy.float64]) -> Figures:
        """The figures; `errors` are those of the group's tokens."""
        variance = self.square - float(self.total.square().sum()) / max(self.tokens, 1)
        dead = int((self.uses == 0).sum())
        return Figures(
            tokens=self.tokens,
            fvu=self.error / variance if variance > ROUNDING * self.square else numpy.nan,
            median_error=float(numpy.median(errors)) if self.tokens else numpy.nan,
            distinct_l0=_share(self.distinct, self.tokens),
            dead_atoms=dead,
            dead_share=_share(dead, len(self.uses)),
            negative_share=_share(self.negative, self.picks),
        )


def _share(part: int, whole: int) -> float:
    return part / whole if whole else numpy.nan
