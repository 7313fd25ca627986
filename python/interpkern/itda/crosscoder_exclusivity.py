"""How much of each atom of a cross-coder lies at each site."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy
import pandas
import torch

from interpkern.itda.crosscoder_sites import Site, named
from interpkern.validation import number

if TYPE_CHECKING:
    from matplotlib.figure import Figure

EXCLUSIVE = 0.9
"""Share above which an atom counts as one of a single site, by default."""


@dataclass(frozen=True, eq=False, repr=False)
class Exclusivity:
    """The share that each site has in the squared norm of each atom; they sum to 1.

    Example:
        >>> x = torch.randn(300, 8)
        >>> found = CrosscoderITDA(["a", "b"], k=4).fit({"a": x, "b": 5 * x}).exclusivity()
        >>> found.shares.mean(0)
        tensor([0.5000, 0.5000], dtype=torch.float64)
    """

    sites: tuple[Site, ...]
    shares: torch.Tensor
    """(M, L) float64."""
    labels: torch.Tensor
    """(M, 2) int64, prompt id and position."""

    def __repr__(self) -> str:
        parts = [f"{site!r} {mean:.3f}" for site, mean in zip(self.sites, self.shares.mean(0).tolist(), strict=True)]
        exclusive = int((self.shares.amax(1) > EXCLUSIVE).sum()) if len(self.shares) else 0
        return (
            f"Exclusivity({len(self.shares):,} atoms, mean share {', '.join(parts)}; {exclusive:,} above {EXCLUSIVE})"
        )

    @property
    def effective_sites(self) -> torch.Tensor:
        """(M,) float64, 1 / sum of squared shares: from 1 for an atom of one site to L for one of all alike."""
        return 1 / self.shares.square().sum(1)

    def summary(self, *, above: float = EXCLUSIVE) -> pandas.DataFrame:
        """One row a site: mean_share, its quantiles low (5 %), median and high (95 %), and exclusive atoms.

        Args:
            above: share from which an atom is exclusive to a site, in [0.5, 1).
        """
        limit = number("above", above, 0.5, below=1.0)
        shares = self.shares.numpy()
        low, median, high = numpy.quantile(shares, [0.05, 0.5, 0.95], axis=0)
        columns = {
            "mean_share": shares.mean(0),
            "low": low,
            "median": median,
            "high": high,
            "exclusive": (shares > limit).sum(0),
            "exclusive_share": (shares > limit).mean(0),
        }
        return pandas.DataFrame(columns, index=pandas.Index(self.sites, name="site"))

    def to_pandas(self) -> pandas.DataFrame:
        """One row an atom: prompt_id, position, the share of each site, effective_sites and the site of most."""
        prompts, positions = self.labels.T.numpy()
        most = [self.sites[place] for place in self.shares.argmax(1).tolist()]
        return pandas.DataFrame(
            {
                "prompt_id": prompts,
                "position": positions,
                **share_columns(self.sites, self.shares),
                "effective_sites": self.effective_sites.numpy(),
                "most": most,
            }
        )

    def plot(self) -> "Figure":
        """Draw how the shares of each site are distributed over the atoms."""
        from interpkern.itda.crosscoder_plots import plot_exclusivity

        return plot_exclusivity(self)


def shares_of(site_atoms: Mapping[Site, torch.Tensor]) -> torch.Tensor:
    """(M, L) float64 squared norms at each site, out of those over all sites."""
    squares = torch.stack([atoms.double().square().sum(1) for atoms in site_atoms.values()], 1)
    return (squares / squares.sum(1, keepdim=True)).cpu()


def share_columns(sites: tuple[Site, ...], shares: torch.Tensor) -> dict[str, numpy.ndarray]:
    """share['a'], share['b'], ... for a table."""
    return {named("share", site): column.numpy() for site, column in zip(sites, shares.T, strict=True)}
