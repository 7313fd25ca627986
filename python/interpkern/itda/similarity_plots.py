"""Pictures of comparisons between dictionaries."""

from typing import TYPE_CHECKING

import numpy
import torch
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

if TYPE_CHECKING:
    from interpkern.itda.layer_matching import LayerMatch
    from interpkern.itda.similarity import Jaccard

BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "#999999"


def plot_jaccard(found: "Jaccard") -> Figure:
    """The similarity on a line, between that of shuffled labels and that of another order."""
    figure = Figure(figsize=(7, 2), layout="constrained")
    axes = figure.subplots()
    null = found.shuffled
    if null is not None:
        axes.axvspan(null.low, null.high, color=GREY, alpha=0.5, lw=0)
        label = f"shuffled labels: {null.expected:.3g} ({null.confidence:.0%} within {null.low:.3g} to {null.high:.3g})"
        axes.axvline(null.expected, color=GREY, label=label)
    for place, value in enumerate(found.other_orders):
        axes.axvline(value, color=ORANGE, ls="--", label=None if place else "same data, another order")
    axes.plot([found.value], [0], "o", color=BLUE, label=f"a and b: {found.value:.3g}")
    axes.set_xlim(-0.02, 1.02)
    axes.set_yticks([])
    axes.set_xlabel("Jaccard similarity of the labels")
    axes.legend(frameon=False, fontsize=8)
    return figure


def plot_layers(found: "LayerMatch") -> Figure:
    """A panel for each measure; a ring marks the best match of a layer, filled where it is the same layer."""
    measures = found.measures
    figure = Figure(figsize=(4.2 * len(measures), 4), layout="constrained")
    for axes, measure in zip(numpy.atleast_1d(figure.subplots(1, len(measures))), measures, strict=True):
        table: torch.Tensor = getattr(found, measure)
        image = axes.imshow(table.numpy(), cmap="viridis", origin="lower", vmin=0)
        best, matched = table.argmax(1), found.matches(measure)
        for layer in range(len(table)):
            fill = ORANGE if bool(matched[layer]) else "none"
            axes.plot(int(best[layer]), layer, "o", markersize=5, markeredgecolor=ORANGE, markerfacecolor=fill)
        axes.set_title(f"{measure}: {found.score(measure):.0%} of layers match", fontsize=10)
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlabel("layer of b")
        axes.set_ylabel("layer of a")
        figure.colorbar(image, ax=axes, shrink=0.8)
    return figure
