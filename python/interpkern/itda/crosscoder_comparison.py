"""What sharing a code costs: a cross-coder beside a dictionary for each of its sites."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy
import pandas
import torch

from interpkern.errors import DTypeError
from interpkern.itda import encoding
from interpkern.itda.crosscoder import CrosscoderITDA
from interpkern.itda.crosscoder_sites import Site, entries
from interpkern.itda.dictionary import ITDA
from interpkern.progress import Progress

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class SiteFigures:
    """Fractions of variance unexplained at one site."""

    site: Site
    shared: float
    """Of the cross-coder, whose k picks and coefficients all sites share."""
    refit: float
    """Of its picks, with coefficients of the site's own."""
    separate: float
    """Of a dictionary of the site alone, with k picks of its own."""
    separate_split: float
    """The same with k / L picks, so that all sites together have as many as the cross-coder."""
    atoms: int
    """Of the dictionary of the site alone."""


@dataclass(frozen=True, repr=False)
class SeparateComparison:
    """A cross-coder beside a dictionary for each of its sites.

    Example:
        >>> x = torch.randn(400, 8)
        >>> crosscoder = CrosscoderITDA(["a", "b"], k=4).fit({"a": x, "b": 2 * x})
        >>> found = compare_with_separate(crosscoder, {"a": x, "b": 2 * x}, {"a": x[:100], "b": 2 * x[:100]})
        >>> found.to_pandas().columns.tolist()
        ['site', 'shared', 'refit', 'separate', 'separate_split', 'atoms']
    """

    sites: tuple[SiteFigures, ...]
    atoms: int
    """Of the cross-coder."""
    k: int
    split_k: int
    """Picks a site has when k are divided among all sites."""
    rows: int
    """Rows measured on."""

    def __repr__(self) -> str:
        parts = [f"{s.site!r} {s.shared:.4g} (refit {s.refit:.4g}, separate {s.separate:.4g})" for s in self.sites]
        return f"SeparateComparison(FVU {', '.join(parts)}; {self.atoms:,} atoms, k = {self.k}, {self.rows:,} rows)"

    def to_pandas(self) -> pandas.DataFrame:
        """One row a site, with the fields of SiteFigures."""
        return pandas.DataFrame([asdict(one) for one in self.sites])

    def plot(self) -> "Figure":
        """Draw the four figures of each site side by side."""
        from interpkern.itda.crosscoder_plots import plot_comparison

        return plot_comparison(self)


def compare_with_separate(
    crosscoder: CrosscoderITDA,
    activations: Mapping[Site, Any],
    x: Mapping[Site, Any],
    labels: torch.Tensor | numpy.ndarray | None = None,
    *,
    progress: Progress | bool | None = None,
) -> SeparateComparison:
    """Fit a dictionary to each site alone, of the cross-coder's size and settings, and measure both on other rows.

    Args:
        crosscoder: a fitted one.
        activations: {site: rows} that it was fitted on: tensors, arrays or interpkern.Activations.
        x: {site: rows} to measure on; best others than it was fitted on.
        labels: of `activations`, as in `fit`.
        progress: as in `fit`, for each of the fits.

    Returns:
        SeparateComparison. The separate dictionaries have the threshold that gives as many atoms, or up to 1 % fewer.

    Raises:
        ShapeError, DTypeError or ValueError that names the argument and the site.

    Example:
        >>> train, test = ({"a": torch.randn(n, 8), "b": torch.randn(n, 4)} for n in (400, 200))
        >>> compare_with_separate(CrosscoderITDA(["a", "b"], k=4).fit(train), train, test).rows
        200
    """
    if not isinstance(crosscoder, CrosscoderITDA):
        raise DTypeError(f"crosscoder: expected a fitted CrosscoderITDA, got {type(crosscoder).__name__}")
    sites = crosscoder.sites
    train, test = entries("activations", activations, sites), entries("x", x, sites)
    shared, refit = crosscoder.fvu(test), crosscoder.fvu(test, refit=True)
    k = crosscoder.settings.k
    split_k = max(1, k // len(sites))
    figures = []
    for site in sites:
        separate = _separate(crosscoder, site).fit(train[site], _labels(train[site], labels), progress=progress)
        few = replace(separate._pursuit, k=split_k)
        figures.append(
            SiteFigures(
                site=site,
                shared=shared[site],
                refit=refit[site],
                separate=separate.fvu(test[site]),
                separate_split=encoding.fvu(test[site], separate._built.atoms, separate.mean, few),
                atoms=len(separate),
            )
        )
    return SeparateComparison(tuple(figures), len(crosscoder), k, split_k, len(test[sites[0]]))


def _separate(crosscoder: CrosscoderITDA, site: Site) -> ITDA:
    """One that is yet to be fitted, of the cross-coder's size and settings."""
    settings, pursuit = crosscoder.settings, crosscoder._pursuit
    return ITDA(
        k=settings.k,
        method=settings.method,
        threshold=None,
        centre=crosscoder.means[site],
        max_atoms=len(crosscoder),
        mode=settings.mode,
        order=settings.order,
        nonnegative=settings.nonnegative,
        skip_nonfinite=settings.skip_nonfinite,
        backend=pursuit.backend,
        threads=pursuit.threads,
    )


def _labels(rows: Any, labels: Any) -> Any:
    """Activations bring their own."""
    return labels if isinstance(rows, (torch.Tensor, numpy.ndarray)) else None
