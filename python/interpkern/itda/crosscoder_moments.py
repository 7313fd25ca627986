"""Means and scales of the sites, which depend on the rows and never on their batches."""

from dataclasses import dataclass
from typing import Any

import numpy
import torch
from numpy.typing import NDArray

from interpkern.errors import DTypeError
from interpkern.itda.construction import CHUNK, Digest
from interpkern.itda.crosscoder_sites import Site, Space, entries, named
from interpkern.itda.crosscoder_streams import SiteStream
from interpkern.itda.devices import column_squares, column_sums
from interpkern.itda.rows import rechunked
from interpkern.itda.settings import check_width
from interpkern.validation import FLOATS, Dimensions

ROUNDING = 1e-12
"""Variance, relative to the mean square, that rounding leaves of rows which are all the same."""

Means = tuple[torch.Tensor, ...]


@dataclass(frozen=True, eq=False)
class Moments:
    """Sums over all rows, a column each, added up in float64 in chunks of one size."""

    rows: int
    total: NDArray[numpy.float64]
    squares: NDArray[numpy.float64]
    widths: tuple[int, ...]
    digest: str | None
    """The hash of the rows, where a second reading may give others."""

    def means(self) -> Means:
        """(D_l,) float32 each."""
        return tuple(torch.from_numpy(part / self.rows).float() for part in self._parts(self.total))

    def scales(self, means: Means) -> tuple[float, ...]:
        """Root mean square of all numbers of each site, less its mean; 0 for a site that never changes."""
        found = []
        for total, squares, mean in zip(self._parts(self.total), self._parts(self.squares), means, strict=True):
            centre = mean.double().numpy()
            square = (squares - 2 * centre * total + self.rows * centre**2).sum()
            numbers = self.rows * len(centre)
            found.append(float(numpy.sqrt(square / numbers)) if square > ROUNDING * squares.sum() else 0.0)
        return tuple(found)

    def _parts(self, joint: NDArray[numpy.float64]) -> list[NDArray[numpy.float64]]:
        return numpy.split(joint, numpy.cumsum(self.widths)[:-1])


def moments_of(stream: SiteStream, *, skip: bool) -> Moments:
    """Read the stream once."""
    widths = stream.widths()
    if widths is None:
        raise ValueError(f"{stream.name}: expected at least one row, got none")
    total, squares, count = numpy.zeros(sum(widths)), numpy.zeros(sum(widths)), 0
    digest = Digest() if stream.may_differ else None
    for raw in rechunked(stream.batches(), CHUNK):
        rows = stream.finite(raw, widths, skip=skip)
        total += column_sums(rows.values)
        squares += column_squares(rows.values)
        count += len(rows)
        if digest is not None:
            digest.update(rows)
    if count == 0:
        raise ValueError(f"{stream.name}: expected at least one row that is finite at every site, got none")
    return Moments(count, total, squares, widths, None if digest is None else digest.hex())


def check_centre(value: Any, sites: tuple[Site, ...]) -> bool | Means:
    """`centre` as True, False, or a (D_l,) float32 vector of its own for each site."""
    if isinstance(value, (bool, numpy.bool_)):
        return bool(value)
    try:
        found = entries("centre", value, sites)
    except DTypeError:
        raise DTypeError(f"centre: expected True, False or {{site: (D,) tensor}}, got {type(value).__name__}") from None
    return tuple(_vector(named("centre", site), one) for site, one in found.items())


def _vector(name: str, value: Any) -> torch.Tensor:
    vector = Dimensions().tensor(name, value, "D", FLOATS).to("cpu", torch.float32, copy=True)
    if not bool(vector.isfinite().all()):
        raise ValueError(f"{name}: expected numbers within float32; scale the activations")
    return vector


@dataclass(frozen=True, eq=False)
class Standard:
    """What callers say of means, scales and weights."""

    sites: tuple[Site, ...]
    centre: bool | Means
    scales: tuple[float, ...] | None
    """None takes the root mean square."""
    weights: tuple[float, ...]

    @property
    def reads(self) -> bool:
        """Whether the rows must be read for it before the first can be tested."""
        return self.centre is True or self.scales is None

    def space(self, stream: SiteStream, *, skip: bool) -> tuple[Space | None, str | None]:
        """How to lay the sites side by side, and the hash of the rows read for it; None where there are no rows."""
        moments = moments_of(stream, skip=skip) if self.reads else None
        widths = stream.widths() if moments is None else moments.widths
        if widths is None:
            return None, None
        means = self._means(moments, widths)
        scales = self.scales if moments is None or self.scales is not None else moments.scales(means)
        assert scales is not None
        digest = None if moments is None else moments.digest
        return Space(self.sites, means, scales, self.weights), digest

    def _means(self, moments: Moments | None, widths: tuple[int, ...]) -> Means:
        if self.centre is True:
            assert moments is not None
            return moments.means()
        means = tuple(torch.zeros(width) for width in widths) if self.centre is False else self.centre
        for site, mean, width in zip(self.sites, means, widths, strict=True):
            check_width(named("centre", site), len(mean), width, "the activations")
        return means
