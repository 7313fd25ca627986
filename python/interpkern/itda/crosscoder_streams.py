"""Aligned rows of several sites as one stream: the same tokens one after the other, their sites side by side."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, zip_longest
from typing import Any

import numpy
import torch

from interpkern.errors import DTypeError
from interpkern.itda.crosscoder_sites import (
    Site,
    beside,
    check_counts,
    check_devices,
    check_rows,
    columns_of,
    entries,
    named,
)
from interpkern.itda.rows import Rows, rechunked
from interpkern.itda.settings import check_width
from interpkern.itda.streams import BATCH, Batch, Stream, open_stream


@dataclass(frozen=True, eq=False)
class SiteBatch:
    """Some rows of all sites, checked against each other."""

    name: str
    values: Mapping[Site, torch.Tensor]
    """(n, D_l) each."""
    labels: Any
    """(n, 2), or None."""

    @property
    def widths(self) -> tuple[int, ...]:
        """D_l of each site."""
        return tuple(values.shape[1] for values in self.values.values())


@dataclass(eq=False)
class SiteStream:
    """Rows of several sites in the units of the activations, which can be read once, or again and again."""

    name: str
    """The argument that they came in."""
    sites: tuple[Site, ...]
    read: Callable[[], Iterator[SiteBatch]]
    repeatable: bool
    may_differ: bool
    rows: int | None = None
    """How many there are, if known."""
    sources: Mapping[Site, Any] = field(default_factory=dict)
    """Activations objects, which know their tokens and texts."""
    _begun: Iterator[SiteBatch] | None = None

    def widths(self) -> tuple[int, ...] | None:
        """D_l of each site, from the first rows; None where there are none. The next reading begins with these rows."""
        reading = self._reading()
        first = next(reading, None)
        self._begun = reading if first is None else chain([first], reading)
        return None if first is None else first.widths

    def check_widths(self, widths: Sequence[int], of: str) -> None:
        """Refuse rows of other widths than `of` has."""
        for site, found, wanted in zip(self.sites, self.widths() or widths, widths, strict=True):
            check_width(named(self.name, site), found, wanted, of)

    def batches(self, first_row: int = 0) -> Iterator[Rows]:
        """(n, sum of D_l) float32 rows as they come, numbered from `first_row`, which default labels show."""
        return Stream(self.name, self._joint, self.repeatable, self.may_differ, self.rows).batches(first_row)

    def finite(self, rows: Rows, widths: Sequence[int], *, skip: bool) -> Rows:
        """The rows that are finite at every site where `skip` is set; else all, or an error that names the site."""
        if not skip:
            for site, place in columns_of(self.sites, widths).items():
                rows.with_values(rows.values[:, place]).finite(skip=False, name=named(self.name, site))
        return rows.finite(skip=skip, name=self.name)

    def _joint(self) -> Iterator[Batch]:
        widths: tuple[int, ...] | None = None
        for batch in self._reading():
            widths = batch.widths if widths is None else widths
            for site, found, wanted in zip(self.sites, batch.widths, widths, strict=True):
                check_width(named(batch.name, site), found, wanted, "the first batch")
            check_devices(batch.name, batch.values)
            yield Batch(beside(batch.values), batch.labels)

    def _reading(self) -> Iterator[SiteBatch]:
        begun, self._begun = self._begun, None
        return self.read() if begun is None else begun


def open_sites(activations: Any, labels: Any, sites: tuple[Site, ...], *, name: str = "activations") -> SiteStream:
    """The stream of {site: tensor, array or Activations}, or of an iterable of {site: tensor} batches."""
    if isinstance(activations, Mapping):
        return _side_by_side(name, entries(name, activations, sites), labels)
    if isinstance(activations, (str, bytes, torch.Tensor, numpy.ndarray)) or not isinstance(activations, Iterable):
        raise DTypeError(
            f"{name}: expected {{site: tensor, array or interpkern.Activations}}, or an iterable of ({{site: tensor}},"
            f" labels) batches, got {type(activations).__name__}"
        )
    if labels is not None:
        raise ValueError("labels: expected None with batches; give batches of ({site: tensor}, labels)")
    repeatable = not isinstance(activations, Iterator)
    return SiteStream(name, sites, lambda: _batches(name, activations, sites), repeatable, may_differ=True)


def _side_by_side(name: str, values: Mapping[Site, Any], labels: Any) -> SiteStream:
    """Sites that each come as a whole."""
    arrays = {site for site, value in values.items() if isinstance(value, (torch.Tensor, numpy.ndarray))}
    for site in values.keys() - arrays:
        if not callable(getattr(values[site], "batches", None)):
            raise DTypeError(
                f"{named(name, site)}: expected a tensor, an array or interpkern.Activations, got"
                f" {type(values[site]).__name__}; for batches, give an iterable of ({{site: tensor}}, labels)"
            )
    if labels is not None and not arrays:
        raise ValueError("labels: expected None with activations of this kind; Activations objects have their own")
    streams = {
        site: open_stream(value, labels if site in arrays else None, name=named(name, site))
        for site, value in values.items()
    }
    counts = {site: stream.rows for site, stream in streams.items() if stream.rows is not None}
    check_counts(name, counts)
    labelled = [site for site in values if labels is not None or site not in arrays]
    return SiteStream(
        name,
        tuple(values),
        lambda: _zipped(name, streams, labelled),
        repeatable=all(stream.repeatable for stream in streams.values()),
        may_differ=any(stream.may_differ for stream in streams.values()),
        rows=next(iter(counts.values()), None),
        sources={site: values[site] for site in values if site not in arrays},
    )


def _zipped(name: str, streams: Mapping[Site, Stream], labelled: Sequence[Site]) -> Iterator[SiteBatch]:
    for parts in zip_longest(*(rechunked(stream.batches(), BATCH) for stream in streams.values())):
        rows = dict(zip(streams, parts, strict=True))
        check_counts(name, {site: 0 if part is None else len(part) for site, part in rows.items()})
        for site in labelled[1:]:
            _check_aligned(name, labelled[0], rows[labelled[0]], site, rows[site])
        labels = rows[labelled[0]].labels if labelled else None
        yield SiteBatch(name, {site: part.values for site, part in rows.items()}, labels)


def _check_aligned(name: str, first: Site, rows: Rows, site: Site, others: Rows) -> None:
    differs = (rows.labels != others.labels).any(1)
    if bool(differs.any()):
        at = int(differs.int().argmax())
        raise ValueError(
            f"{named(name, site)}: expected the labels of {named(name, first)}, got {tuple(others.labels[at].tolist())}"
            f" instead of {tuple(rows.labels[at].tolist())} in row {int(rows.numbers[at])}; row i of every site is the"
            " same token, so take them from the same texts and leave the same rows out"
        )


def _batches(name: str, activations: Iterable[Any], sites: tuple[Site, ...]) -> Iterator[SiteBatch]:
    for number, batch in enumerate(activations):
        here = f"{name} (batch {number})"
        parts = batch if isinstance(batch, (tuple, list)) else (batch, None)
        if len(parts) != 2:
            raise DTypeError(f"{here}: expected {{site: tensor}} or ({{site: tensor}}, labels), got {len(parts)} parts")
        yield SiteBatch(here, check_rows(here, parts[0], sites), parts[1])
