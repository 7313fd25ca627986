"""Functions of a number that activations are fitted with: helices and polynomials, no column repeating others."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from interpkern.errors import DTypeError
from interpkern.validation import REAL_DTYPES, Dimensions, boolean, integer, number

PERIODS = (2, 5, 10, 100)
"""The periods of the addition paper."""
DEPENDENT = 1e-8
"""A column is dropped where the earlier ones leave less than this share of its length."""


@dataclass(frozen=True)
class Term:
    """One function of a number."""

    kind: str
    """intercept, linear, cos, sin or chebyshev."""
    period: float = 0.0
    """Of cos and sin, in the numbers' own unit."""
    degree: int = 0
    """Of a Chebyshev polynomial."""
    interval: tuple[float, float] = (0.0, 1.0)
    """Where a Chebyshev polynomial is scaled to."""
    variable: str = "a"
    """Which number it is a function of, where there are several."""

    @property
    def name(self) -> str:
        """As it is shown: `1`, `a`, `cos 10`, `T3(b)`."""
        if self.kind in ("cos", "sin"):
            of = "" if self.variable == "a" else f"({self.variable})"
            return f"{self.kind}{of} {self.period:g}"
        if self.kind == "chebyshev":
            return f"T{self.degree}({self.variable})"
        return "1" if self.kind == "intercept" else self.variable

    def values(self, numbers: torch.Tensor) -> torch.Tensor:
        """(N,) float64 of (N,) float64 numbers."""
        if self.kind == "intercept":
            return torch.ones_like(numbers)
        if self.kind == "linear":
            return numbers.clone()
        if self.kind == "chebyshev":
            low, high = self.interval
            return torch.special.chebyshev_polynomial_t((2 * numbers - low - high) / (high - low), self.degree)
        # whole turns are taken off first, so that an integer is as exact at 300 as at 3
        angle = 2 * torch.pi * torch.remainder(numbers, self.period) / self.period
        return torch.cos(angle) if self.kind == "cos" else torch.sin(angle)


@dataclass(frozen=True)
class Basis:
    """A design matrix whose columns are linearly independent on the numbers that it was made for."""

    matrix: torch.Tensor
    """(N, q) float64."""
    terms: tuple[Term, ...]
    """What its columns are."""
    dropped: tuple[Term, ...]
    """What was asked for and repeats earlier columns on these numbers, such as sin of period 2 on integers."""

    @property
    def names(self) -> tuple[str, ...]:
        """The name of each column."""
        return tuple(term.name for term in self.terms)

    @property
    def columns(self) -> int:
        """Functions besides the intercept."""
        return sum(term.kind != "intercept" for term in self.terms)

    @property
    def condition(self) -> float:
        """The condition number of the matrix with its columns scaled to length 1."""
        return condition(self.matrix)

    def at(self, numbers: Any) -> torch.Tensor:
        """The same columns at other numbers, (n, q) float64; a mapping of (n,) where there are several variables."""
        return _evaluate(self.terms, _variables(numbers))


def helix_basis(
    numbers: Any, periods: Sequence[float] = PERIODS, *, linear: bool = True, intercept: bool = True
) -> Basis:
    """The generalised helix: an intercept, the number itself, and a cosine and a sine of each period.

    Columns that vanish or repeat earlier ones on the numbers at hand are left out and listed in `dropped`: on integers
    the sine of period 2 is zero, and with it the design's condition number would be 1e14.

    Shapes:
        numbers: (N,) integers or floats, in any order, repeats allowed.

    Returns:
        Basis with a matrix (N, q) float64.

    Raises:
        ShapeError, DTypeError or ValueError that names the argument.

    Source:
        Kantamneni and Tegmark 2025, "Language Models Use Trigonometry to Do Addition", arXiv 2502.00873, section 4.

    Example:
        >>> helix_basis(torch.arange(100)).names
        ('1', 'a', 'cos 2', 'cos 5', 'sin 5', 'cos 10', 'sin 10', 'cos 100', 'sin 100')
    """
    values = number_array("numbers", numbers)
    terms = [Term("intercept")] if boolean("intercept", intercept) else []
    terms += [Term("linear")] if boolean("linear", linear) else []
    for period in check_periods(periods):
        terms += [Term("cos", period), Term("sin", period)]
    return _independent({"a": values}, terms)


def polynomial_basis(numbers: Any, degree: int, *, intercept: bool = True) -> Basis:
    """Polynomials up to a degree, as Chebyshev polynomials over the numbers' range: the span of powers, conditioned.

    Shapes:
        numbers: (N,) integers or floats.

    Returns:
        Basis with a matrix (N, q) float64.

    Raises:
        ShapeError, DTypeError or ValueError that names the argument.

    Example:
        >>> polynomial_basis(torch.arange(100), 3).names
        ('1', 'T1(a)', 'T2(a)', 'T3(a)')
    """
    values = number_array("numbers", numbers)
    degree = integer("degree", degree, 0, 1000)
    interval = (float(values.min()), float(values.max()))
    if interval[0] == interval[1]:
        raise ValueError(f"numbers: expected at least two different numbers, got {interval[0]:g} alone")
    terms = [Term("intercept")] if boolean("intercept", intercept) else []
    terms += [Term("chebyshev", degree=power, interval=interval) for power in range(1, degree + 1)]
    return _independent({"a": values}, terms)


def joint_basis(variables: Mapping[str, Any], bases: Mapping[str, Basis]) -> Basis:
    """One basis of several numbers: the columns of each, side by side, with one intercept.

    Args:
        variables: the numbers (N,) of each variable, such as {"a": a, "b": b, "a+b": a + b}.
        bases: a basis of each, by the same names.

    Returns:
        Basis over all variables; what repeats earlier columns, such as a + b after a and b, is dropped.

    Example:
        >>> a, b = torch.arange(9) % 3, torch.arange(9) // 3
        >>> joint_basis({"a": a, "b": b}, {"a": polynomial_basis(a, 1), "b": polynomial_basis(b, 1)}).names
        ('1', 'T1(a)', 'T1(b)')
    """
    if set(variables) != set(bases):
        raise ValueError(f"bases: expected one for each of {', '.join(variables)}, got {', '.join(bases)}")
    terms = dict.fromkeys(
        term if term.kind == "intercept" else replace(term, variable=name)
        for name, basis in bases.items()
        for term in (*basis.terms, *basis.dropped)
    )
    return _independent(_variables(variables), list(terms))


def condition(matrix: torch.Tensor) -> float:
    """The condition number of a (N, q) matrix whose columns are scaled to length 1; inf where one vanishes."""
    lengths = matrix.norm(dim=0)
    if not bool((lengths > 0).all()):
        return float("inf")
    values = torch.linalg.svdvals(matrix / lengths)
    return float(values[0] / values[-1])


def least_squares(matrix: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """(q, C) coefficients of independent columns (N, q) for targets (N, C), by QR."""
    q, r = torch.linalg.qr(matrix)
    return torch.linalg.solve_triangular(r, q.mT @ targets, upper=True)


def number_array(name: str, value: Any) -> torch.Tensor:
    """(N,) finite numbers as float64 on the CPU; ranges and sequences of Python numbers are taken too."""
    if isinstance(value, (range, list, tuple)):
        try:
            value = torch.tensor(value, dtype=torch.float64)
        except (TypeError, ValueError, RuntimeError):
            raise DTypeError(f"{name}: expected (N,) numbers, got {value!r:.60}") from None
    return Dimensions().tensor(name, value, "N", REAL_DTYPES).to("cpu", torch.float64)


def check_periods(periods: Any) -> tuple[float, ...]:
    """Positive finite periods without repeats."""
    if isinstance(periods, (torch.Tensor,)) or hasattr(periods, "tolist"):
        periods = periods.tolist()
    if not isinstance(periods, (list, tuple, range)):
        raise DTypeError(f"periods: expected a sequence of positive numbers, got {periods!r:.60}")
    found = tuple(number(f"periods[{place}]", period, 0.0) for place, period in enumerate(periods))
    if 0.0 in found:
        raise ValueError("periods: expected positive numbers, got 0; leave it out")
    if len(set(found)) < len(found):
        raise ValueError(f"periods: expected each period once, got {found}")
    return found


def _variables(numbers: Any) -> dict[str, torch.Tensor]:
    given = numbers if isinstance(numbers, Mapping) else {"a": numbers}
    return {name: number_array(f"numbers[{name!r}]", value) for name, value in given.items()}


def _evaluate(terms: Sequence[Term], variables: Mapping[str, torch.Tensor]) -> torch.Tensor:
    rows = next(iter(variables.values()))
    if not terms:
        return rows.new_empty(len(rows), 0)
    return torch.stack([term.values(variables.get(term.variable, rows)) for term in terms], dim=1)


def _independent(variables: Mapping[str, torch.Tensor], terms: Sequence[Term]) -> Basis:
    """The terms of which no earlier ones are a combination, by Gram-Schmidt, twice for rounding's sake."""
    matrix = _evaluate(terms, variables)
    kept: list[int] = []
    spanned = matrix.new_empty(len(matrix), 0)
    for place, column in enumerate(matrix.unbind(dim=1)):
        left = column
        for _ in range(2):
            left = left - spanned @ (spanned.mT @ left)
        length = float(left.norm())
        # a sine of integers that rounding alone keeps from zero is measured against length 1 a number
        if length > DEPENDENT * max(float(column.norm()), len(column) ** 0.5):
            spanned = torch.cat([spanned, (left / length)[:, None]], dim=1)
            kept.append(place)
    dropped = tuple(term for place, term in enumerate(terms) if place not in kept)
    return Basis(matrix[:, kept], tuple(terms[place] for place in kept), dropped)
