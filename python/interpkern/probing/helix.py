"""Helices in activations: a fit of cosines, sines and a line in the number, and the comparison with other functions."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas
import torch

from interpkern.files import as_path, write_atomically
from interpkern.probing.bases import PERIODS, helix_basis
from interpkern.probing.fits import (
    BasisFit,
    enough_rows,
    fit_basis,
    r_squared,
    rows_of_numbers,
    split_numbers,
)
from interpkern.probing.numbers import refuse_constant
from interpkern.validation import integer, number

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, eq=False)
class HelixFit(BasisFit):
    """A helix through the activations of numbers, and how well it predicts numbers that it was not fitted on."""

    numbers: torch.Tensor
    """(N,) float64, of the rows that were fitted."""
    scores: torch.Tensor
    """(N, C) float64 principal components of the activations."""
    r_squared: float
    """Share of the activations' variance that the fit predicts, on the numbers of the fit."""
    held_out_r_squared: float
    """The same share on `held_out`, by a fit without them."""
    held_out: torch.Tensor
    """Numbers that were held out for `held_out_r_squared`, in rising order."""

    def to_pandas(self) -> pandas.DataFrame:
        """One row a function: its share of the fit's squared length and its coefficient on each component."""
        weights = self.basis.matrix.square().sum(0) * self.coefficients.square().sum(1)
        table = {"function": self.basis.names, "weight": (weights / weights.sum()).numpy()}
        components = {f"PC{place + 1}": column.numpy() for place, column in enumerate(self.coefficients.unbind(1))}
        return pandas.DataFrame(table | components)

    def plot(self) -> "Figure":
        """Draw the plane of each period with the numbers on their circle, and the line."""
        from interpkern.probing.helix_plots import plot_helix

        return plot_helix(self)

    def save(self, path: str | Path) -> Path:
        """Write mean, directions, coefficients, design and numbers as safetensors; names and figures as metadata."""
        from safetensors.torch import save

        tensors = {
            "mean": self.mean,
            "directions": self.directions,
            "coefficients": self.coefficients,
            "design": self.basis.matrix,
            "numbers": self.numbers,
            "held_out": self.held_out,
        }
        about = {
            "functions": "; ".join(self.basis.names),
            "r_squared": repr(self.r_squared),
            "held_out_r_squared": repr(self.held_out_r_squared),
        }
        target = as_path("path", path)
        write_atomically(target, save({name: tensor.contiguous() for name, tensor in tensors.items()}, about))
        return target


def fit_helix(
    acts: Any,
    numbers: Any,
    periods: Sequence[float] = PERIODS,
    *,
    components: int = 100,
    linear: bool = True,
    held_out: float = 0.2,
    seed: int = 0,
) -> HelixFit:
    """Fit activations with a helix in the number: the main components by least squares on [1, n, cos, sin of periods].

    Shapes:
        acts: (N, D) float; numbers: (N,), one for each row. Rows of one number are held out together.

    Args:
        periods: of the circles, in the unit of the numbers.
        components: at most this many principal components are fitted; the rest counts as not predicted.
        linear: whether the number itself is one of the functions.
        held_out: the share of the numbers that `held_out_r_squared` is measured on, in [0, 1); at least one number.
        seed: of the choice of these numbers; the same seed, the same numbers.

    Returns:
        HelixFit of all rows; `predict(numbers)` gives mean + B(n) C V in activation space.

    Raises:
        ShapeError, DTypeError or ValueError that names the argument.

    Source:
        Kantamneni and Tegmark 2025, arXiv 2502.00873, section 4.2; the split is ours and fixed by the seed.

    Example:
        >>> n = torch.arange(100.0)
        >>> circle = torch.stack([torch.cos(n * torch.pi / 5), torch.sin(n * torch.pi / 5)], 1)
        >>> fit = fit_helix(circle @ torch.randn(2, 7), n, periods=(5, 10))
        >>> round(fit.r_squared, 6), round(fit.held_out_r_squared, 6)
        (1.0, 1.0)
    """
    rows, values = rows_of_numbers(acts, numbers)
    refuse_constant(rows)
    components = integer("components", components, 1)
    share = number("held_out", held_out, 0.0, below=1.0)
    fitted, left_out = split_numbers(values, share, integer("seed", seed, 0, 2**63 - 1))
    basis = helix_basis(values, periods, linear=linear)
    part = helix_basis(values[fitted], periods, linear=linear)
    enough_rows(values[fitted], len(part.names), "a helix")
    whole = fit_basis(rows, basis, components)
    partial = fit_basis(rows[fitted], part, components)
    return HelixFit(
        basis,
        whole.mean,
        whole.directions,
        whole.coefficients,
        numbers=values,
        scores=(rows - whole.mean) @ whole.directions.mT,
        r_squared=r_squared(rows, whole.predict(values), whole.mean),
        held_out_r_squared=partial.r_squared_on(rows[left_out], values[left_out]),
        held_out=values[left_out].unique(),
    )
