"""Pictures of scans and of tests for a circle."""

import math
from typing import TYPE_CHECKING

from matplotlib.axes import Axes
from matplotlib.figure import Figure

if TYPE_CHECKING:
    from interpkern.probing.circle_test import CircleTest
    from interpkern.probing.spectrum import Scan

BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "#999999"


def plot_scan(found: "Scan") -> Figure:
    """Power over the periods, and the spectral window below it."""
    figure, (top, bottom) = _panels()
    top.plot(found.periods, found.power, color=BLUE, lw=1)
    peak = found.peak
    top.plot([peak.period], [peak.power], "o", color=ORANGE, label=f"period {peak.period:.3g}: {peak.power:.2%}")
    _finish(found, top, bottom)
    return figure


def plot_test(test: "CircleTest") -> Figure:
    """Power with the band of the null, and the spectral window below it."""
    figure, (top, bottom) = _panels()
    found, band = test.scan, test.null_band
    top.fill_between(found.periods, band[0], band[1], color=GREY, alpha=0.5, lw=0, label=f"{test.null} null, 95 %")
    top.plot(found.periods, found.power, color=BLUE, lw=1)
    label = f"period {test.period:.3g}: p = {test.p_value:.3g}"
    top.axvline(test.period, color=ORANGE, ls="--", lw=1, label=label)
    _finish(found, top, bottom)
    figure.suptitle(test.verdict, fontsize=9, wrap=True)
    return figure


def _panels() -> tuple[Figure, tuple[Axes, Axes]]:
    figure = Figure(figsize=(7, 4.2), layout="constrained")
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    return figure, (top, bottom)


def _finish(found: "Scan", top: Axes, bottom: Axes) -> None:
    bottom.plot(found.periods, found.window, color=GREY, lw=1)
    bottom.set_xscale("log")
    bottom.set_xlabel(f"period ({'nats' if found.coordinate == 'log' else f'units of {found.coordinate}'})")
    bottom.set_ylabel("window")
    top.set_ylabel("share of variance")
    top.set_ylim(bottom=0)
    top.legend(frameon=False, fontsize=8)
    if found.coordinate == "log":
        for k in range(1, 10):
            bottom.axvline(math.log(10) / k, color=GREY, lw=0.5, ls=":", label="ln 10 / k" if k == 1 else None)
        bottom.legend(frameon=False, fontsize=7, loc="upper left")
