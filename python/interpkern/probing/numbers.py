"""Activations with the numbers that they are of: checked, sorted, with digits and coordinates of the numbers."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy
import torch

from interpkern.errors import DTypeError, ShapeError
from interpkern.validation import FLOATS, REAL_DTYPES, Dimensions, choice, number, plain_tensor

FEWEST = 8
LARGEST = 1e100
COORDINATES = {"log": 0.0, "linear": 1.0, "sqrt": 0.5}
Coordinate = str | float
"""A name or the exponent lambda of (n^lambda - 1) / lambda."""


@dataclass(frozen=True, eq=False)
class Numbered:
    """One row of activations for each number, in the order of the numbers."""

    acts: torch.Tensor
    """(N, d) float64."""
    numbers: torch.Tensor
    """(N,) float64, positive, increasing."""

    @property
    def are_integers(self) -> bool:
        """Whether the numbers have digits that mean something."""
        return are_integers(self.numbers)


def checked(acts: Any, numbers: Any) -> Numbered:
    """Check activations and their numbers, and sort the rows by number.

    Shapes:
        acts (N, d), floating point, torch or NumPy, with N >= 8; numbers (N,), positive integers or floats, each once.

    Returns:
        Numbered: both in float64 on the CPU.

    Raises:
        ShapeError, DTypeError or ValueError that names the argument.

    Example:
        >>> checked(torch.randn(9, 4), range(9, 0, -1)).numbers[:3].tolist()
        [1.0, 2.0, 3.0]
    """
    dimensions = Dimensions()
    rows = dimensions.tensor("acts", acts, "N d", FLOATS).to("cpu", torch.float64)
    values = positive_numbers(numbers)
    if len(values) != len(rows):
        raise ShapeError(f"numbers: expected ({len(rows)},) to match acts {tuple(acts.shape)}, got ({len(values)},)")
    if len(rows) < FEWEST:
        raise ShapeError(f"acts: expected at least {FEWEST} rows, one for each number, got {len(rows)}")
    refuse_constant(rows)
    order = values.argsort()
    values = values[order]
    same = values[1:][values[1:] == values[:-1]]
    if len(same):
        raise ValueError(f"numbers: expected each number once, got {same[0]:g} again; average the rows of a number")
    return Numbered(rows[order], values)


def refuse_constant(rows: torch.Tensor) -> None:
    """Refuse (N, D) activations that are the same for all numbers, or whose squares float64 can't hold."""
    if bool((rows == rows[0]).all()):
        raise ValueError("acts: expected rows that differ; all are the same, so there is nothing to explain")
    largest = float((rows - rows[0]).abs().max())
    if not 1 / LARGEST < largest < LARGEST:
        raise ValueError(
            f"acts: expected differences between rows from {1 / LARGEST:g} to {LARGEST:g}, got {largest:.3g};"
            " rescale them"
        )


def positive_numbers(numbers: Any) -> torch.Tensor:
    """(N,) float64 on the CPU, refused unless all are finite and positive."""
    if isinstance(numbers, Sequence) and not isinstance(numbers, str):
        try:
            numbers = numpy.asarray(numbers, dtype=numpy.float64)
        except (TypeError, ValueError):
            raise DTypeError("numbers: expected numbers, got a sequence that holds something else") from None
    values = Dimensions().tensor("numbers", plain_tensor("numbers", numbers), "N", REAL_DTYPES)
    values = values.to("cpu", torch.float64)
    if not bool((values > 0).all()):
        raise ValueError(f"numbers: expected positive numbers, got {float(values.min()):g}; ln n needs n > 0")
    return values


def are_integers(numbers: torch.Tensor) -> bool:
    """Whether all are whole numbers that float64 holds exactly."""
    return bool(((numbers == numbers.round()) & (numbers < 2**53)).all())


def digit_count(numbers: Any) -> torch.Tensor:
    """(N,) float64: decimal digits of each number's whole part, at least 1."""
    values = positive_numbers(numbers)
    powers = torch.tensor([10.0**power for power in range(1, 309)], dtype=torch.float64)
    return torch.searchsorted(powers, values, right=True).double() + 1


def leading_digit(numbers: Any) -> torch.Tensor:
    """(N,) float64: the first decimal digit of each integer, 1 to 9."""
    values = _integers(numbers)
    return torch.tensor([float(str(int(value))[0]) for value in values.tolist()], dtype=torch.float64)


def last_digit(numbers: Any) -> torch.Tensor:
    """(N,) float64: the last decimal digit of each integer, 0 to 9."""
    return _integers(numbers).remainder(10)


def _integers(numbers: Any) -> torch.Tensor:
    values = positive_numbers(numbers)
    if not are_integers(values):
        raise ValueError("numbers: expected integers, as digits are asked for, got fractions; leave the digits out")
    return values


def exponent(value: Any) -> float:
    """The lambda of a coordinate by name or number."""
    if isinstance(value, str):
        return COORDINATES[choice("coordinate", value, tuple(COORDINATES))]
    return number("coordinate", value, -10.0, 10.0)


def coordinate(numbers: Any, kind: Coordinate = "log") -> torch.Tensor:
    """Give the position of each number on a scale: ln n, n, sqrt n, or (n^lambda - 1) / lambda for a number lambda.

    Shapes:
        numbers (N,), positive -> (N,) float64.

    Returns:
        Positions in the unit of the coordinate: nats for "log"; lambda = 0 is "log".

    Raises:
        DTypeError or ValueError that names the argument.

    Example:
        >>> coordinate([1, 4, 9], "sqrt").tolist()
        [1.0, 2.0, 3.0]
    """
    values, power = positive_numbers(numbers), exponent(kind)
    if kind == "linear":
        return values
    if kind == "sqrt":
        return values.sqrt()
    positions = values.log() if power == 0.0 else torch.expm1(power * values.log()) / power
    if not bool(positions.isfinite().all()) or math.isclose(float(positions[0]), float(positions[-1]), rel_tol=1e-12):
        raise ValueError(f"coordinate: expected a lambda that tells these numbers apart, got {power:g}; take -1 to 1")
    return positions
