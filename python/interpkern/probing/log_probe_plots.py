"""Pictures of the log probe: components coloured by ln n, scales and circles over layers."""

from typing import TYPE_CHECKING, Any

import numpy
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

if TYPE_CHECKING:
    from interpkern.probing.circle_layers import CircleLayers
    from interpkern.probing.log_probe import LogProbe
    from interpkern.probing.magnitude import Magnitude

BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#888888"
SCALES: dict[str, tuple[str, Any]] = {
    "log": (BLUE, numpy.log),
    "sqrt": (ORANGE, numpy.sqrt),
    "linear": (GREEN, numpy.asarray),
}
LEVEL = 0.05


def plot_components(found: "LogProbe") -> Figure:
    """The first two components of the magnitude layer coloured by ln n, and its magnitude component against n."""
    magnitude = found.magnitude
    directions = found.directions[magnitude.layer]
    scores, numbers = directions.scores.numpy(), directions.numbers.numpy()
    figure = Figure(figsize=(8.4, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1.1, 1))
    second = scores[:, 1] if scores.shape[1] > 1 else numpy.zeros(len(scores))
    points = left.scatter(scores[:, 0], second, c=numpy.log(numbers), cmap="viridis", s=12)
    for place in numpy.unique(numpy.geomspace(1, len(numbers), 9).astype(int) - 1):
        left.annotate(f"{numbers[place]:g}", (scores[place, 0], second[place]), fontsize=7)
    left.set_xlabel("component 1")
    left.set_ylabel("component 2")
    left.set_title(f"layer {magnitude.layer}", fontsize=10)
    figure.colorbar(points, ax=left, label="ln n")
    _against_numbers(right, numbers, scores[:, magnitude.component - 1], magnitude)
    return figure


def _against_numbers(axes: Axes, numbers: numpy.ndarray, component: numpy.ndarray, found: "Magnitude") -> None:
    axes.plot(numbers, component, ".", color=GREY, ms=3)
    for name, (colour, scale) in SCALES.items():
        slope, offset = numpy.polyfit(scale(numbers), component, 1)
        label = f"{name}, R² {found.r_squared[name]:.3f}"
        axes.plot(numbers, offset + slope * scale(numbers), color=colour, lw=1.4, label=label)
    axes.set_xscale("log")
    axes.set_xlabel("n")
    axes.set_ylabel(f"component {found.component}")
    axes.set_title(f"exponent {found.exponent:.2f} [{found.low:.2f}, {found.high:.2f}]", fontsize=10)
    axes.legend(frameon=False, fontsize=8)


def plot_layers(found: "LogProbe") -> Figure:
    """Over layers: how well numbers can be read on each scale, and the exponent of the best component."""
    figure = Figure(figsize=(8.4, 3.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    decoded = found.decoded_to_pandas()
    for name, (colour, _) in SCALES.items():
        feature = {"log": "ln n", "sqrt": "sqrt n", "linear": "n"}[name]
        own = decoded[(decoded["feature"] == feature) & (decoded["folds"] == "interpolation")]
        left.plot(own["layer"], own["r2"].clip(lower=0), color=colour, marker="o", ms=3, lw=1.2, label=feature)
    left.set_ylabel("R² on blocks of numbers left out")
    left.set_ylim(0, 1)
    left.legend(frameon=False, fontsize=8, title="read by ridge")
    table = found.magnitude.layers
    spread = [(table["exponent"] - table["low"]).clip(lower=0), (table["high"] - table["exponent"]).clip(lower=0)]
    strong = table["r"] >= 0.5
    for rows, colour in ((strong, BLUE), (~strong, GREY)):
        some = [side[rows] for side in spread]
        right.errorbar(table["layer"][rows], table["exponent"][rows], some, fmt="o", ms=3, lw=1, color=colour)
    for name, exponent in (("log", 0.0), ("sqrt", 0.5), ("linear", 1.0)):
        right.axhline(exponent, color=SCALES[name][0], lw=1, ls="--", label=name)
    right.set_ylabel("exponent of the best component")
    right.set_ylim(-1.05, 2.05)
    right.legend(frameon=False, fontsize=8)
    for axes in (left, right):
        _layer_axis(axes)
    return figure


def plot_circles(found: "CircleLayers") -> Figure:
    """Over layers: p of the strongest circle under both nulls; over periods: the circle that would have been seen."""
    figure = Figure(figsize=(8.4, 3.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    table = found.to_pandas()
    left.plot(table["layer"], table["p_value"], color=BLUE, marker="o", ms=3, lw=1.2, label=f"{found.null} null")
    if table["p_permutation"].notna().any():
        left.plot(table["layer"], table["p_permutation"], color=GREY, marker="x", ms=4, lw=1, label="labels permuted")
    left.axhline(LEVEL, color=ORANGE, lw=1, ls="--")
    left.set_yscale("log")
    left.set_ylim(top=1.2)
    left.set_ylabel("p of the strongest circle")
    left.legend(frameon=False, fontsize=8)
    _layer_axis(left)
    _detectable(right, found)
    return figure


def _detectable(axes: Axes, found: "CircleLayers") -> None:
    table = found.detectable_to_pandas()
    if not len(table):
        axes.set_axis_off()
        return
    finite = table["share"].replace(numpy.inf, numpy.nan)
    for layer, rows in table.assign(share=finite).groupby("layer"):
        style: dict[str, Any] = {"color": GREY, "lw": 0.7}
        if layer == found.layer:
            style = {"color": BLUE, "lw": 1.8, "zorder": 3, "label": f"layer {layer}"}
        axes.plot(rows["period"], 100 * rows["share"], marker="o", ms=3, **style)
    axes.set_xlabel("period (nats)")
    axes.set_ylabel("smallest circle found (% of variance)")
    axes.set_ylim(bottom=0)
    axes.set_xscale("log")
    ticks = sorted(table["period"].unique())
    axes.set_xticks(ticks, [f"{tick:.3g}" for tick in ticks])
    axes.minorticks_off()
    axes.legend(frameon=False, fontsize=8)


def _layer_axis(axes: Axes) -> None:
    axes.set_xlabel("layer")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
