"""The pictures of the demo."""

from typing import Any

import numpy
import pandas
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from interpkern.memorisation.capacity import Capacity
from interpkern.memorisation.demo_training import KINDS

BLUE, ORANGE, GREEN, GREY = "#2F7FC1", "#D9661F", "#1F9A76", "#888888"
COLOURS = dict(zip(KINDS, (ORANGE, GREEN, BLUE), strict=True))
MARKERS = dict(zip(KINDS, "o^s", strict=True))


def transition_figure(shapes: pandas.DataFrame, capacity: Capacity) -> Figure:
    """Bits per parameter above, share of solved models below, both against facts per parameter."""
    figure = Figure(figsize=(6.4, 6.0), layout="constrained")
    top, bottom = figure.subplots(2, 1, sharex=True)
    shapes = shapes.sort_values("facts_per_P1")
    _bits(top, shapes)
    _solved(bottom, shapes, capacity)
    bottom.set_xlabel("facts per parameter (facts / P1)")
    return figure


def _bits(axes: Axes, shapes: pandas.DataFrame) -> None:
    x, y = shapes.facts_per_P1, shapes.bits_per_P2
    errors = [y - shapes.bits_per_P2_low, shapes.bits_per_P2_high - y]
    axes.plot(x, shapes.facts / shapes.P2, color=GREY, lw=1, ls=":", label="every fact stored (1 bit each)")
    axes.axhline(2, color=GREY, lw=1, ls="--", label="2 bits per parameter")
    axes.errorbar(x, y, yerr=errors, color=BLUE, marker="o", ms=4, lw=0, elinewidth=1.2, capsize=2, label="trained")
    axes.set_ylabel("bits per parameter (bits$_{CE}$ / P2)")
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False)


def _solved(axes: Axes, shapes: pandas.DataFrame, capacity: Capacity) -> None:
    _shares(axes, shapes.facts_per_P1, shapes, BLUE, "o", "trained, 95 % interval")
    if not numpy.isnan(capacity.half):
        curve = numpy.geomspace(shapes.facts_per_P1.min(), shapes.facts_per_P1.max(), 400)
        axes.plot(curve, capacity.probability(curve), color=ORANGE, lw=1.4, label="logistic fit")
        axes.axvspan(capacity.low, capacity.high, color=ORANGE, alpha=0.2, lw=0)
        axes.axvline(capacity.half, color=ORANGE, lw=1, ls="--", label=f"half solved at {capacity.half:.2f}")
        axes.set_xlim(curve[0] - 0.1, curve[-1] + 0.1)
    axes.set_ylabel("share of models with every fact right")
    axes.legend(frameon=False)


def structure_figure(shapes: pandas.DataFrame, capacities: dict[str, Capacity]) -> Figure:
    """Share of solved models against the number of parameters, for real facts and for random ones."""
    figure = Figure(figsize=(6.4, 3.6), layout="constrained")
    axes = figure.subplots()
    for kind, capacity in capacities.items():
        group = shapes[shapes.kind == kind].sort_values("P1")
        _shares(axes, group.P1, group, COLOURS[kind], MARKERS[kind], kind)
        if not numpy.isnan(capacity.half):
            curve = numpy.geomspace(group.P1.min(), group.P1.max(), 400)
            facts = group.facts.iloc[0]
            axes.plot(curve, capacity.probability(facts / curve), color=COLOURS[kind], lw=1.2)
            axes.axvline(facts / capacity.half, color=COLOURS[kind], lw=1, ls="--")
    axes.set_xlabel("parameters (P1)")
    axes.set_ylabel("share of models with every fact right")
    axes.legend(frameon=False, ncols=len(capacities), loc="lower center", bbox_to_anchor=(0.5, 1.0))
    return figure


def _shares(axes: Axes, x: pandas.Series, shapes: pandas.DataFrame, colour: str, marker: str, label: str) -> None:
    share = shapes.solved / shapes.models
    errors = [share - shapes.solved_low, shapes.solved_high - share]
    style: dict[str, Any] = {"color": colour, "marker": marker, "ms": 4, "lw": 0, "elinewidth": 1.2, "capsize": 2}
    axes.errorbar(x, share, yerr=numpy.abs(errors), label=label, **style)
    axes.set_ylim(-0.04, 1.04)
