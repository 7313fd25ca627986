"""How alike two sets of activations of the same tokens are: linear CKA and SVCCA, from sums over chunks of rows."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy
import torch

from interpkern.errors import DTypeError, ShapeError
from interpkern.itda.streams import check_values
from interpkern.validation import number

CHUNK = 2048
"""Rows that are held in float64 at a time."""


def cka(x: Any, y: Any) -> float:
    """Give the linear centred kernel alignment of two sets of activations of the same tokens.

    With centred columns it is ||X^T Y||_F^2 / (||X^T X||_F ||Y^T Y||_F): 1 for activations that differ by a rotation,
    a scale and an offset.

    Shapes:
        x (N, D), y (N, E), floating point, torch or NumPy (a memory map is read piece by piece); row i of both is of
        the same token. The sums are float64.

    Returns:
        A share in [0, 1].

    Raises:
        ShapeError, DTypeError or ValueError that names the argument, also where all its rows are the same.

    Source:
        Kornblith, Norouzi, Lee and Hinton 2019, "Similarity of Neural Network Representations Revisited", section 3.

    Example:
        >>> x = torch.randn(100, 8)
        >>> round(cka(x, 3 * x + 1), 6)
        1.0
    """
    a, b = Spread.of("x", x), Spread.of("y", y)
    return cka_of(a, b, cross_products(a, b))


def svcca(x: Any, y: Any, variance: float = 0.99) -> float:
    """Give the mean canonical correlation of the main directions of two sets of activations of the same tokens.

    Of either set the fewest principal directions are kept that explain `variance` of its variance. Where there are not
    many more rows than directions kept, canonical correlations are high whatever the data.

    Shapes:
        x (N, D), y (N, E), as in `cka`.

    Args:
        x, y: activations, row i of both of the same token.
        variance: share of the variance to keep, in (0, 1].

    Returns:
        The mean over min(directions of x, directions of y) correlations, in [0, 1].

    Raises:
        ShapeError, DTypeError or ValueError that names the argument.

    Source:
        Raghu, Gilmer, Yosinski and Sohl-Dickstein 2017, "SVCCA: Singular Vector Canonical Correlation Analysis for Deep
        Learning Dynamics and Interpretability", section 2.

    Example:
        >>> x = torch.randn(100, 8)
        >>> round(svcca(x, x @ torch.randn(8, 8), variance=1.0), 6)
        1.0
    """
    share = check_variance(variance)
    a, b = Spread.of("x", x), Spread.of("y", y)
    return svcca_of(a.directions(share), b.directions(share), cross_products(a, b))


def check_variance(value: Any) -> float:
    """A share of variance to keep, in (0, 1]."""
    share = number("variance", value, 0.0, 1.0)
    if share == 0.0:
        raise ValueError("variance: expected a number in (0, 1], got 0")
    return share


@dataclass(frozen=True, eq=False)
class Spread:
    """Activations with their mean and the products of their centred columns."""

    name: str
    values: Any
    """(N, D) as the caller gave it."""
    mean: torch.Tensor
    """(D,) float64."""
    products: torch.Tensor
    """(D, D) float64, the sum over rows."""

    @classmethod
    def of(cls, name: str, values: Any) -> "Spread":
        """Read the rows twice, a chunk at a time."""
        if not isinstance(values, (torch.Tensor, numpy.ndarray)):
            raise DTypeError(f"{name}: expected a tensor or an array (N, D), got {type(values).__name__}")
        width = check_values(name, values[:0]).shape[1]
        if len(values) < 2:
            raise ShapeError(f"{name}: expected at least 2 rows, got {len(values)}")
        total = torch.zeros(width, dtype=torch.float64)
        for part in _chunks(name, values):
            total += part.sum(0)
        mean = total / len(values)
        products = torch.zeros(width, width, dtype=torch.float64)
        for part in _chunks(name, values):
            centred = part - mean
            products.addmm_(centred.mT, centred)
        if not float(products.diagonal().sum()) > 0:
            raise ValueError(f"{name}: expected rows that differ; their variance is 0")
        return cls(name, values, mean, products)

    def centred(self) -> Iterator[torch.Tensor]:
        """The centred rows as float64, a chunk at a time."""
        return (part - self.mean for part in _chunks(self.name, self.values))

    def directions(self, variance: float) -> torch.Tensor:
        """(D, k) float64: the main directions, scaled such that the projections of the rows are orthonormal."""
        power, vectors = torch.linalg.eigh(self.products)
        power, vectors = power.flip(0).clamp(min=0), vectors.flip(1)
        noise = float(power[0]) * len(power) * torch.finfo(torch.float64).eps
        explained = power.cumsum(0) / power.sum()
        kept = min(int((explained < variance).sum()) + 1, int((power > noise).sum()))
        return vectors[:, :kept] / power[:kept].sqrt()


def cross_products(a: Spread, b: Spread) -> torch.Tensor:
    """(D, E) float64 sums of the products of the centred columns of a and b."""
    if len(a.values) != len(b.values):
        raise ShapeError(
            f"{b.name}: expected {len(a.values)} rows to match {a.name}, got {len(b.values)}; row i of both must be of"
            " the same token"
        )
    products = torch.zeros(len(a.mean), len(b.mean), dtype=torch.float64)
    for left, right in zip(a.centred(), b.centred(), strict=True):
        products.addmm_(left.mT, right)
    return products


def cka_of(a: Spread, b: Spread, cross: torch.Tensor) -> float:
    """Linear CKA from sums of products."""
    return float(cross.norm() ** 2 / (a.products.norm() * b.products.norm()))


def svcca_of(a: torch.Tensor, b: torch.Tensor, cross: torch.Tensor) -> float:
    """SVCCA from the directions kept and the sums of products."""
    return float(torch.linalg.svdvals(a.mT @ cross @ b).clamp(max=1).mean())


def _chunks(name: str, values: Any) -> Iterator[torch.Tensor]:
    for start in range(0, len(values), CHUNK):
        part = check_values(name, values[start : start + CHUNK]).to("cpu", torch.float64)
        if not bool(part.isfinite().all()):
            raise ValueError(f"{name}: expected finite numbers, got NaN or infinity; leave such rows out")
        yield part
