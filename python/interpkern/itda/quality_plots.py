"""Pictures of how well a dictionary explains activations."""

from typing import TYPE_CHECKING

import numpy
from matplotlib.axes import Axes
from matplotlib.figure import Figure

if TYPE_CHECKING:
    from interpkern.itda.quality import Metrics

BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "#999999"
BINS = 50


def plot_metrics(found: "Metrics") -> Figure:
    """Errors against norms on the left, their distribution on the right."""
    figure = Figure(figsize=(10, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    _scatter(left, found)
    _distribution(right, found)
    o = found.ordinary
    figure.suptitle(
        f"FVU {found.all.fvu:.3g}, {o.fvu:.3g} without {found.massive.tokens:,} massive of {found.all.tokens:,} tokens;"
        f" distinct L0 {found.all.distinct_l0:.1f}; dead atoms {found.all.dead_share:.1%}",
        fontsize=10,
    )
    return figure


def _scatter(axes: Axes, found: "Metrics") -> None:
    norms = (found.norms / (found.median_norm or 1.0)).numpy()
    errors = found.errors.numpy()
    massive = norms > found.massive_above
    axes.plot(norms[~massive], errors[~massive], ".", color=BLUE, markersize=2, label="ordinary")
    axes.plot(norms[massive], errors[massive], ".", color=ORANGE, markersize=5, label="massive")
    axes.axvline(found.massive_above, color=GREY, ls="--", lw=1)
    axes.set_xscale("log")
    axes.set_xlabel("norm / median norm")
    axes.set_ylabel("||x - x_hat||² / ||x - mean||²")
    axes.legend(frameon=False)


def _distribution(axes: Axes, found: "Metrics") -> None:
    axes.hist(found.errors.numpy(), bins=BINS, range=(0, float(numpy.quantile(found.errors, 0.995)) or 1.0), color=BLUE)
    median = found.all.median_error
    axes.axvline(median, color="black", ls="--", lw=1, label=f"median {median:.3g}")
    axes.set_xlabel("||x - x_hat||² / ||x - mean||²")
    axes.set_ylabel("tokens")
    axes.legend(frameon=False)
