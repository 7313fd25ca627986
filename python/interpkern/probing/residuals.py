"""What a scan looks at: the main components of activations with the nuisance regressed out, and pairs of columns."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from interpkern.errors import DTypeError
from interpkern.probing.components import principal_components
from interpkern.probing.numbers import Coordinate, Numbered, coordinate, digit_count, last_digit, leading_digit
from interpkern.validation import FLOATS, Dimensions, choice, integer

NUISANCES = ("default", "intercept", "last digit", "leading digit")
WEIGHTS = ("uniform", "1/n")
DEPENDENT = 1e-6
"""A column of which less than this share is its own is taken for a combination of the others."""
ENTRIES = 1 << 21
"""Numbers of one block of columns that are in memory at a time."""


@dataclass(frozen=True, eq=False)
class Residuals:
    """Components of activations at positions on a coordinate, all times root_weights, with the nuisance projected out.

    All tensors are float64.
    """

    positions: torch.Tensor
    """(N,) of the numbers on the coordinate."""
    root_weights: torch.Tensor
    """(N,) square roots of the weights, which sum to N."""
    nuisance: torch.Tensor
    """(N, q) orthonormal columns."""
    components: torch.Tensor
    """(N, C)."""
    explained: float
    """Share of the components' variance that the nuisance explains."""

    @property
    def range(self) -> float:
        """From the lowest position to the highest."""
        return float(self.positions.max() - self.positions.min())

    def project(self, columns: torch.Tensor) -> torch.Tensor:
        """Take the nuisance out of (N, ...) columns, twice, so that rounding leaves none of it."""
        flat = columns.reshape(len(columns), -1)
        for _ in range(2):
            flat = flat - self.nuisance @ (self.nuisance.mT @ flat)
        return flat.reshape(columns.shape)

    def pairs(self, frequencies: torch.Tensor) -> torch.Tensor:
        """(N, 2, F): cosine and sine of each frequency, weighted, with the nuisance projected out."""
        return self.project(waves(self.positions, frequencies) * self.root_weights[:, None, None])

    def blocks(self, frequencies: torch.Tensor) -> Iterator[torch.Tensor]:
        """The frequencies, so many at a time as fit into memory."""
        return iter(frequencies.split(max(1, ENTRIES // (2 * len(self.positions)))))


def residuals(data: Numbered, kind: Coordinate, components: int, nuisance: Any, weights: str = "uniform") -> Residuals:
    """Components of checked activations without their nuisance."""
    rows, width = data.acts.shape
    integer("components", components, 1, min(rows - 1, width))
    positions = coordinate(data.numbers, kind)
    root = torch.ones(rows, dtype=torch.float64)
    if choice("weights", weights, WEIGHTS) == "1/n":
        root = (1 / data.numbers).sqrt()
        root = root * (rows / root.square().sum()).sqrt()
    columns = nuisance_columns(nuisance, data, positions)
    basis = orthonormal(columns * root[:, None])
    scores = principal_components(data.acts, components).scores * root[:, None]
    found = Residuals(positions, root, basis, scores, 0.0)
    left = found.project(scores)
    kept = float(left.square().sum() / scores.square().sum())
    if kept < DEPENDENT**2 or basis.shape[1] >= rows - 2:
        raise ValueError(
            f"nuisance: expected to leave something to explain, got {basis.shape[1]} independent columns for {rows}"
            " numbers that explain the activations in full; pass fewer, say nuisance='intercept'"
        )
    return Residuals(positions, root, basis, left, 1 - kept)


def nuisance_columns(nuisance: Any, data: Numbered, positions: torch.Tensor) -> torch.Tensor:
    """(N, q): what is fitted beside the circle; an array is taken as it is, one row a number, rows sorted by number."""
    if not isinstance(nuisance, str) and not (
        isinstance(nuisance, tuple) and all(isinstance(x, str) for x in nuisance)
    ):
        if isinstance(nuisance, Sequence):
            raise DTypeError(
                f"nuisance: expected {', '.join(NUISANCES)}, a tuple of them or an array, got {nuisance!r}"
            )
        dimensions = Dimensions({"N": len(positions)}, {"N": "acts"})
        return dimensions.tensor("nuisance", nuisance, "N q", FLOATS).to("cpu", torch.float64)
    names = [choice("nuisance", name, NUISANCES) for name in ([nuisance] if isinstance(nuisance, str) else nuisance)]
    columns = [torch.ones_like(positions)]
    if names != ["intercept"]:
        columns += [positions, data.numbers, digit_count(data.numbers)]
    if "last digit" in names:
        columns += [(last_digit(data.numbers) == digit).double() for digit in range(1, 10)]
    if "leading digit" in names:
        columns += [(leading_digit(data.numbers) == digit).double() for digit in range(2, 10)]
    return torch.stack(columns, 1)


def waves(positions: torch.Tensor, frequencies: torch.Tensor) -> torch.Tensor:
    """(N, 2, F): cosine and sine of each frequency at each position."""
    angles = 2 * torch.pi * positions[:, None] * frequencies
    return torch.stack([angles.cos(), angles.sin()], 1)


def orthonormal(columns: torch.Tensor) -> torch.Tensor:
    """(N, r): an orthonormal basis of what independent columns span; r may be smaller than their number."""
    sizes = torch.linalg.vector_norm(columns, dim=0)
    scaled = columns[:, sizes > 0] / sizes[sizes > 0]
    left, values, _ = torch.linalg.svd(scaled, full_matrices=False)
    return left[:, values > 1e-10 * values.max()] if len(values) else columns[:, :0]


def orthonormal_pairs(pairs: torch.Tensor, full: torch.Tensor | float) -> tuple[torch.Tensor, torch.Tensor]:
    """Make the two columns of each (N, 2, F) pair orthonormal; one that depends on the rest becomes 0.

    Args:
        pairs: columns.
        full: the norm that a column had before anything was projected out of it.

    Returns:
        (N, 2, F) columns and (F,) ranks, 0 to 2.
    """
    first, has_first = _unit(pairs[:, 0], full)
    second = pairs[:, 1]
    for _ in range(2):
        second = second - first * (first * second).sum(0)
    second, has_second = _unit(second, full)
    return torch.stack([first, second], 1), has_first.long() + has_second.long()


def _unit(columns: torch.Tensor, full: torch.Tensor | float) -> tuple[torch.Tensor, torch.Tensor]:
    sizes = torch.linalg.vector_norm(columns, dim=0)
    kept = sizes > DEPENDENT * full
    return columns * torch.where(kept, 1 / sizes.clamp(min=1e-300), 0.0), kept
