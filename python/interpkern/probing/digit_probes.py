"""Circular probes of single digits, in base 10 and in others: whether a number is held digit by digit."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas
import torch
from scipy import stats

from interpkern.probing.cross_validation import folds, ridge
from interpkern.probing.numbers import checked
from interpkern.probing.saved import save_table
from interpkern.random import check_seed
from interpkern.validation import integer

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FOLDS = 5
CONFIDENCE = 0.95


@dataclass(frozen=True, eq=False)
class DigitProbes:
    """How often circular probes read each digit of numbers that they were not fitted to."""

    table: pandas.DataFrame
    """base, place (0 the last digit), accuracy, low, high (95 %, Wilson), chance: share of the commonest digit."""
    whole: float
    """Share of the numbers of which every digit is right."""
    predicted: torch.Tensor
    """(N, P) int64: the digits read, place 0 first."""
    digits: torch.Tensor
    """(N, P) int64: the digits of the numbers."""

    def to_pandas(self) -> pandas.DataFrame:
        """One row a place."""
        return self.table.copy()

    def plot(self) -> "Figure":
        """Draw the accuracy at each place beside chance."""
        from interpkern.probing.directions_plots import plot_digit_probes

        return plot_digit_probes(self)

    def save(self, path: str | PathLike[str]) -> Path:
        """Write the table of places as parquet."""
        return save_table(path, self.to_pandas())


def digit_probes(acts: Any, numbers: Any, *, base: int = 10, seed: int = 0) -> DigitProbes:
    """Read each digit of a number from its activation as an angle: two linear maps give cos and sin of 2 pi t / base.

    Shapes:
        acts (N, d) floating point; numbers (N,), positive integers, each once; torch or NumPy.

    Args:
        acts, numbers: activations and the numbers that they are of.
        base: of the digits, at least 2.
        seed: of the five folds; each number's digits are read by probes fitted to the other folds.

    Returns:
        DigitProbes: accuracy at each place of the largest number, 0 being the digit before the point.

    Raises:
        ShapeError, DTypeError or ValueError that names the argument.

    Source:
        Levy and Geva 2025, "Language Models Encode Numbers Using Digit Representations in Base 10", NAACL, arXiv
        2410.11781. Theirs are trained by gradient descent on the squared error to the point of the unit circle; here
        that error is minimised by ridge regression with leave-one-out penalties, which has no training to tune.

    Example:
        >>> numbers = torch.arange(1, 361)
        >>> angle = 2 * torch.pi * numbers / 10
        >>> acts = torch.stack([angle.cos(), angle.sin()], 1) @ torch.randn(2, 5)
        >>> float(digit_probes(acts, numbers).to_pandas().accuracy[0])
        1.0
    """
    rows = checked(acts, numbers)
    if not rows.are_integers:
        raise ValueError("numbers: expected integers, as their digits are read, got fractions")
    digits = digits_of(rows.numbers, integer("base", base, 2, 1 << 20))
    angle = 2 * math.pi * digits.double() / base
    targets = torch.cat([angle.cos(), angle.sin()], 1)
    read = torch.empty_like(targets)
    for kind, out in folds(len(targets), FOLDS, check_seed(seed)):
        if kind == "shuffled":
            kept = torch.ones(len(targets), dtype=torch.bool)
            kept[out] = False
            read[out] = ridge(rows.acts[kept], targets[kept], rows.acts[out])
    cosine, sine = read.tensor_split(2, dim=1)
    predicted = (torch.atan2(sine, cosine) * base / (2 * math.pi)).round().long() % base
    right = predicted == digits
    table = pandas.DataFrame([_row(base, place, right[:, place], digits[:, place]) for place in range(digits.shape[1])])
    return DigitProbes(table, float(right.all(1).double().mean()), predicted, digits)


def compare_digit_bases(
    acts: Any, numbers: Any, *, bases: Iterable[int] = range(2, 21), seed: int = 0
) -> pandas.DataFrame:
    """Probe the digits of the same numbers in several bases: if they are held in base 10, no other is read as well.

    Bases that share a factor with 10 share its last digit in part: in base 5 that of 2n is read from base 10.

    Shapes:
        acts (N, d) floating point; numbers (N,), positive integers, each once.

    Args:
        acts, numbers: activations and the numbers that they are of.
        bases: each at least 2.
        seed: of the folds.

    Returns:
        A table with a row for each base and place, as `DigitProbes.to_pandas`, and `whole`.

    Source:
        Levy and Geva 2025, arXiv 2410.11781.

    Example:
        >>> compare_digit_bases(torch.randn(60, 4), torch.arange(1, 61), bases=(7, 10)).base.tolist()
        [7, 7, 7, 10, 10]
    """
    tables = []
    for base in bases:
        found = digit_probes(acts, numbers, base=base, seed=seed)
        tables.append(found.to_pandas().assign(whole=found.whole))
    if not tables:
        raise ValueError("bases: expected at least one base, got none")
    return pandas.concat(tables, ignore_index=True)


def digits_of(numbers: torch.Tensor, base: int) -> torch.Tensor:
    """(N, P) int64: digits of integers, the last first, with leading zeros to the length of the largest."""
    rest = numbers.long()
    columns: list[torch.Tensor] = []
    while not columns or bool((rest > 0).any()):
        columns.append(rest % base)
        rest = rest // base
    return torch.stack(columns, 1)


def _row(base: int, place: int, right: torch.Tensor, digits: torch.Tensor) -> dict[str, float]:
    ends = stats.binomtest(int(right.sum()), len(right)).proportion_ci(CONFIDENCE, method="wilson")
    return {
        "base": base,
        "place": place,
        "accuracy": float(right.double().mean()),
        "low": float(ends.low),
        "high": float(ends.high),
        "chance": float(digits.bincount().max() / len(digits)),
    }
