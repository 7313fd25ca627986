"""The sites of a cross-coder: where its activations come from, and how they lie side by side in one row."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch

from interpkern.errors import DTypeError, ShapeError
from interpkern.itda.settings import check_width
from interpkern.itda.streams import check_values
from interpkern.validation import is_finite, number

Site = str | int
"""A name, or the number of a layer."""
SMALLEST_FACTOR, LARGEST_FACTOR = 1e-30, 1e30
"""Weight over scale that float32 can work with."""


@dataclass(frozen=True, eq=False)
class Space:
    """How rows of several sites become one: less the mean, over the scale, times the weight, side by side."""

    sites: tuple[Site, ...]
    means: tuple[torch.Tensor, ...]
    """(D_l,) float32 each."""
    scales: tuple[float, ...]
    """In the units of the activations, one number a site."""
    weights: tuple[float, ...]

    def __post_init__(self) -> None:
        for site, weight, scale in zip(self.sites, self.weights, self.scales, strict=True):
            if not (scale > 0 and SMALLEST_FACTOR <= weight / scale <= LARGEST_FACTOR):
                raise ValueError(
                    f"scales[{site!r}]: expected a number above 0 that float32 can divide by, got {scale:g} at weight"
                    f" {weight:g}; a site whose rows are all the same has none, so leave it out or give its scale"
                )

    @cached_property
    def widths(self) -> tuple[int, ...]:
        """D_l of each site."""
        return tuple(len(mean) for mean in self.means)

    @cached_property
    def columns(self) -> dict[Site, slice]:
        """Where each site lies in a joint row."""
        return columns_of(self.sites, self.widths)

    @cached_property
    def mean(self) -> torch.Tensor:
        """(sum of D_l,) float32."""
        return torch.cat(self.means)

    @cached_property
    def factors(self) -> torch.Tensor:
        """(sum of D_l,) float32, weight over scale."""
        parts = zip(self.means, self.weights, self.scales, strict=True)
        return torch.cat([torch.full_like(mean, weight / scale) for mean, weight, scale in parts])

    def only(self, sites: Sequence[Site]) -> "Space":
        """That of some of the sites."""
        at = [self.sites.index(site) for site in sites]
        means, scales, weights = (tuple(part[i] for i in at) for part in (self.means, self.scales, self.weights))
        return Space(tuple(sites), means, scales, weights)  # type: ignore[arg-type]

    def select(self, joint: torch.Tensor, sites: Sequence[Site]) -> torch.Tensor:
        """The columns of some of the sites, in their order; the rows themselves where these are all sites."""
        return joint if tuple(sites) == self.sites else torch.cat([joint[:, self.columns[site]] for site in sites], 1)

    def enter(self, raw: torch.Tensor) -> torch.Tensor:
        """(n, sum of D_l) float32 rows in the units of the activations, as joint rows."""
        return (raw - self.mean.to(raw.device)) * self.factors.to(raw.device)

    def leave(self, site: Site, values: torch.Tensor) -> torch.Tensor:
        """(n, D_l) columns of one site, back in the units of the activations."""
        at = self.sites.index(site)
        return values * (self.scales[at] / self.weights[at]) + self.means[at].to(values.device)


def columns_of(sites: Sequence[Site], widths: Sequence[int]) -> dict[Site, slice]:
    """Where each site lies in a row of all of them."""
    places, start = {}, 0
    for site, width in zip(sites, widths, strict=True):
        places[site] = slice(start, start + width)
        start += width
    return places


def check_sites(value: Any) -> tuple[Site, ...]:
    """`value` as distinct names or numbers, one at least."""
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise DTypeError(f"sites: expected a list of names, such as ['layer 3', 'layer 7'], got {type(value).__name__}")
    for site in value:
        if isinstance(site, bool) or not isinstance(site, (str, int)):
            raise DTypeError(f"sites: expected names or whole numbers, got {site!r}")
    if not value or len(set(value)) < len(value):
        raise ValueError(f"sites: expected at least one and all different, got {list(value)}")
    return tuple(value)


def check_chosen(value: Any, sites: tuple[Site, ...]) -> tuple[Site, ...]:
    """Some of the sites, in the order of all of them; None takes all."""
    if value is None:
        return sites
    chosen = check_sites(value)
    unknown = [site for site in chosen if site not in sites]
    if unknown:
        raise ValueError(f"sites: expected some of {shown(sites)}, got {shown(unknown)}")
    return tuple(site for site in sites if site in chosen)


def entries(name: str, value: Any, sites: Sequence[Site], *, known: Iterable[Site] = ()) -> dict[Site, Any]:
    """The entries of `sites`, in their order; entries of other sites are passed over where they are `known`."""
    if not isinstance(value, Mapping):
        raise DTypeError(f"{name}: expected {{site: ...}} with {shown(sites)}, got {type(value).__name__}")
    missing = [site for site in sites if site not in value]
    if missing:
        raise ValueError(f"{name}: lacks {shown(missing)}; expected one entry for each of {shown(sites)}")
    unknown = [site for site in value if site not in sites and site not in known]
    if unknown:
        raise ValueError(f"{name}: has {shown(unknown)}, which is no site of this cross-coder; expected {shown(sites)}")
    return {site: value[site] for site in sites}


def numbers_by_site(name: str, value: Any, sites: Sequence[Site]) -> tuple[float, ...]:
    """A finite number above 0 for each site."""
    found = entries(name, value, sites)
    numbers = tuple(number(named(name, site), found[site], 0.0) for site in sites)
    for site, one in zip(sites, numbers, strict=True):
        if one == 0:
            raise ValueError(f"{named(name, site)}: expected a number above 0, got 0; leave the site out instead")
    return numbers


def check_rows(
    name: str, value: Any, sites: Sequence[Site], *, known: Iterable[Site] = (), widths: Sequence[int] | None = None
) -> dict[Site, torch.Tensor]:
    """{site: (n, D_l)} floating point, with the same number of rows at every site."""
    rows = {
        site: check_values(named(name, site), one) for site, one in entries(name, value, sites, known=known).items()
    }
    check_counts(name, {site: len(values) for site, values in rows.items()})
    check_devices(name, rows)
    for values, site, width in zip(rows.values(), sites, widths or (), strict=False):
        check_width(named(name, site), values.shape[1], width, "the atoms")
    return rows


def check_counts(name: str, counts: Mapping[Site, int]) -> None:
    """Refuse sites of different numbers of rows."""
    first = next(iter(counts), None)
    for site, count in counts.items():
        if first is not None and count != counts[first]:
            raise ShapeError(
                f"{named(name, site)}: expected {counts[first]} rows to match {named(name, first)}, got {count}; row i"
                " of every site is the same token"
            )


def check_devices(name: str, rows: Mapping[Site, torch.Tensor]) -> None:
    """Refuse sites on different devices."""
    first = next(iter(rows))
    for site, values in rows.items():
        if values.device != rows[first].device:
            raise ValueError(
                f"{named(name, site)}: expected device {rows[first].device} to match {named(name, first)}, got"
                f" {values.device}; move one with .to()"
            )


def beside(rows: Mapping[Site, torch.Tensor]) -> torch.Tensor:
    """(n, sum of D_l) float32 where the rows lie."""
    parts = [values.to(torch.float32) for values in rows.values()]
    return parts[0].contiguous() if len(parts) == 1 else torch.cat(parts, 1)


def check_finite(name: str, rows: Mapping[Site, torch.Tensor]) -> None:
    """Refuse rows with NaN or infinity, or beyond float32, by the name of their site."""
    for site, values in rows.items():
        if not is_finite(values.float() if values.dtype == torch.float64 else values):
            raise ValueError(
                f"{named(name, site)}: expected finite numbers within float32, got NaN or infinity; leave such rows out"
            )


def named(name: str, site: Site) -> str:
    """x['layer 3']."""
    return f"{name}[{site!r}]"


def shown(sites: Iterable[Site]) -> str:
    """Names for a message."""
    return ", ".join(repr(site) for site in sites)
