"""Pictures of cross-coders."""

from typing import TYPE_CHECKING

import numpy
from matplotlib.figure import Figure

if TYPE_CHECKING:
    from interpkern.itda.crosscoder_comparison import SeparateComparison
    from interpkern.itda.crosscoder_exclusivity import Exclusivity

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
GREY = "#999999"
BINS = 50


def plot_exclusivity(found: "Exclusivity") -> Figure:
    """A histogram of shares for each site, and the share of a site whose atoms lie at all sites alike."""
    figure = Figure(figsize=(7, 3.5), layout="constrained")
    axes = figure.subplots()
    for place, site in enumerate(found.sites):
        shares = found.shares[:, place].numpy()
        colour = COLOURS[place % len(COLOURS)]
        label = f"{site}: mean {shares.mean():.3f}"
        axes.hist(shares, bins=BINS, range=(0, 1), histtype="step", color=colour, lw=1.5, label=label)
    axes.axvline(1 / len(found.sites), color=GREY, ls="--", lw=1, label="all sites alike")
    axes.set_xlim(0, 1)
    axes.set_xlabel("share of the atom's squared norm")
    axes.set_ylabel("atoms")
    axes.set_title(
        f"{len(found.shares):,} atoms, {float(found.effective_sites.mean()):.2f} sites effectively", fontsize=10
    )
    axes.legend(frameon=False, fontsize=8)
    return figure


def plot_comparison(found: "SeparateComparison") -> Figure:
    """Bars of FVU, a group for each site."""
    table = found.to_pandas().set_index("site")
    names = {
        "shared": "cross-coder",
        "refit": "cross-coder, refit per site",
        "separate": f"separate, {found.k} picks a site",
        "separate_split": f"separate, {found.split_k} picks a site",
    }
    figure = Figure(figsize=(3.5 + 1.2 * len(table), 3.8), layout="constrained")
    axes = figure.subplots()
    places, width = numpy.arange(len(table)), 0.8 / len(names)
    for number, (column, label) in enumerate(names.items()):
        axes.bar(places + (number - 1.5) * width, table[column], width, label=label, color=COLOURS[number])
    axes.set_xticks(places, [str(site) for site in table.index])
    axes.set_ylabel("FVU")
    figure.legend(loc="outside upper center", ncols=2, frameon=False, fontsize=8)
    return figure
