"""What numbers neurons respond to: a sum of cosines with free offsets, fitted for all neurons in closed form."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas
import torch

from interpkern.errors import ShapeError
from interpkern.probing.bases import PERIODS, Basis, check_periods, helix_basis, joint_basis, number_array
from interpkern.validation import FLOATS, Dimensions, boolean

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PROMPTS = 256
"""Prompts that are converted to float64 at once."""


@dataclass(frozen=True, eq=False)
class NeuronFits:
    """For each neuron: intercept + sum over numbers of slope x + sum over periods of A cos(2 pi (x - o) / T)."""

    variables: tuple[str, ...]
    """The numbers, such as a, b, a+b."""
    periods: tuple[float, ...]
    """T, in the unit of the numbers."""
    amplitude: torch.Tensor
    """A, (variables, periods, neurons) float64, >= 0, in the unit of the activations."""
    offset: torch.Tensor
    """o, the same shape, in [0, T): the number that a neuron responds to most."""
    slope: torch.Tensor
    """(variables, neurons); 0 for a number whose line repeats those of the others."""
    intercept: torch.Tensor
    """(neurons,)."""
    r_squared: torch.Tensor
    """(neurons,) share of the variance over prompts; nan for a neuron that does not vary."""
    dropped: tuple[str, ...]
    """Functions that repeat others on these prompts and so have coefficient 0."""

    @property
    def top_period(self) -> torch.Tensor:
        """(neurons,) float64: the period with the largest summed squared amplitude over the numbers."""
        strongest = self.amplitude.square().sum(0).argmax(0)
        return torch.tensor(self.periods, dtype=torch.float64)[strongest]

    def to_pandas(self) -> pandas.DataFrame:
        """One row a neuron: R^2, top period, intercept, slopes, amplitudes and offsets."""
        table = {"neuron": range(len(self.intercept)), "r_squared": self.r_squared.numpy()}
        table |= {"top_period": self.top_period.numpy(), "intercept": self.intercept.numpy()}
        for v, variable in enumerate(self.variables):
            table[f"slope({variable})"] = self.slope[v].numpy()
            for t, period in enumerate(self.periods):
                table[f"amplitude({variable}) {period:g}"] = self.amplitude[v, t].numpy()
                table[f"offset({variable}) {period:g}"] = self.offset[v, t].numpy()
        return pandas.DataFrame(table)

    def plot(self) -> "Figure":
        """Draw how many neurons have which top period, and their R^2."""
        from interpkern.probing.helix_plots import plot_neurons

        return plot_neurons(self)


def fit_neurons(
    activations: Any,
    numbers: Any,
    periods: Sequence[float] = PERIODS,
    *,
    linear: bool = True,
) -> NeuronFits:
    """Fit all neurons at once: cos(w (x - o)) = cos(w o) cos(w x) + sin(w o) sin(w x) is linear in what is unknown.

    One QR decomposition of the functions on the prompts and one matrix product with the activations, in float64, in
    blocks of prompts, so that the activations never exist twice.

    Shapes:
        activations: (P, M) float, prompts by neurons, before or after the nonlinearity.
        numbers: (P,), or a mapping such as {"a": a, "b": b, "a+b": a + b} of (P,) each.

    Args:
        periods: of the cosines, in the unit of the numbers.
        linear: whether each number itself is one of the functions.

    Returns:
        NeuronFits.

    Raises:
        ShapeError, DTypeError or ValueError that names the argument.

    Source:
        Kantamneni and Tegmark 2025, arXiv 2502.00873, section 5.3, where the same function is fitted by gradient
        descent, one neuron at a time.

    Example:
        >>> x = torch.arange(100.0)
        >>> fits = fit_neurons(3 * torch.cos(2 * torch.pi * (x - 4) / 10)[:, None], x)
        >>> round(float(fits.amplitude[0, 2, 0]), 6), round(float(fits.offset[0, 2, 0]), 6), float(fits.top_period)
        (3.0, 4.0, 10.0)
    """
    acts = Dimensions().tensor("activations", activations, "P M", FLOATS, finite=True)
    variables = _variables(numbers, len(acts))
    found = check_periods(periods)
    if not found:
        raise ValueError("periods: expected at least one, got none")
    parts = {name: helix_basis(values, found, linear=boolean("linear", linear)) for name, values in variables.items()}
    basis = joint_basis(variables, parts)
    if len(acts) <= len(basis.names):
        raise ShapeError(f"activations: expected more than {len(basis.names)} prompts, one a function, got {len(acts)}")
    coefficients, r_squared = _solve(basis.matrix, acts)
    return _in_closed_form(basis, coefficients, r_squared, tuple(variables), found)


def _variables(numbers: Any, prompts: int) -> dict[str, torch.Tensor]:
    given = numbers if isinstance(numbers, Mapping) else {"a": numbers}
    if not given:
        raise ValueError("numbers: expected at least one variable, got an empty mapping")
    found = {str(name): number_array(f"numbers[{name!r}]", values) for name, values in given.items()}
    for name, values in found.items():
        if len(values) != prompts:
            raise ShapeError(f"numbers[{name!r}]: expected ({prompts},), one a prompt, got ({len(values)},)")
    return found


def _solve(matrix: torch.Tensor, acts: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(q, M) coefficients and (M,) R^2; the matrix has an intercept."""
    q, r = torch.linalg.qr(matrix)
    inner = matrix.new_zeros(matrix.shape[1], acts.shape[1])
    length = matrix.new_zeros(acts.shape[1])
    for functions, block in zip(q.split(PROMPTS), acts.split(PROMPTS), strict=True):
        exact = block.to("cpu", torch.float64)
        inner.addmm_(functions.mT, exact)
        length += torch.linalg.vector_norm(exact, dim=0).square()
    coefficients = torch.linalg.solve_triangular(r, inner, upper=True)
    # the first column of q is constant, so the other products are those of centred activations
    variation, explained = length - inner[0].square(), inner[1:].square().sum(0)
    return coefficients, torch.where(variation <= 1e-12 * length, torch.nan, explained / variation)


def _in_closed_form(
    basis: Basis,
    coefficients: torch.Tensor,
    r_squared: torch.Tensor,
    variables: tuple[str, ...],
    periods: tuple[float, ...],
) -> NeuronFits:
    """Amplitudes and offsets from the coefficients of cosines and sines."""
    known = {(term.kind, term.variable, term.period): row for term, row in zip(basis.terms, coefficients, strict=True)}
    nothing = torch.zeros_like(coefficients[0])

    def stacked(kind: str) -> torch.Tensor:
        rows = [[known.get((kind, variable, period), nothing) for period in periods] for variable in variables]
        return torch.stack([torch.stack(of_variable) for of_variable in rows])

    cosine, sine = stacked("cos"), stacked("sin")
    turns = torch.tensor(periods, dtype=torch.float64)[:, None]
    offset = torch.remainder(torch.atan2(sine, cosine) * turns / (2 * torch.pi), turns)
    return NeuronFits(
        variables,
        periods,
        amplitude=torch.hypot(cosine, sine),
        offset=torch.where(offset >= turns, torch.zeros_like(offset), offset),
        slope=torch.stack([known.get(("linear", variable, 0.0), nothing) for variable in variables]),
        intercept=known[("intercept", "a", 0.0)],
        r_squared=r_squared,
        dropped=tuple(term.name for term in basis.dropped),
    )
