"""Pictures of the law, of quantisation and of constructions."""

from typing import TYPE_CHECKING

import numpy
import pandas
from matplotlib.figure import Figure

if TYPE_CHECKING:
    from interpkern.memorisation.scaling import ScalingLaw

BLUE, ORANGE, GREY = "#2F7FC1", "#D9661F", "#888888"
COLOURS = (BLUE, ORANGE, "#1F9A76", "#8E5EA2", GREY)


def plot_law(law: "ScalingLaw") -> Figure:
    """Stored bits against parameters on the left, bits per parameter on the right."""
    figure = Figure(figsize=(9.0, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    points = law.points.sort_values("parameters")
    curve = numpy.geomspace(points.parameters.min(), points.parameters.max(), 100)
    left.loglog(points.parameters, points.bits, "o", color=BLUE, ms=4)
    left.loglog(curve, law.bits(curve), color=ORANGE, lw=1.2, label=f"exponent {law.exponent:.3f}")
    left.loglog(curve, 2 * curve, color=GREY, lw=1, ls="--", label="2 bits a parameter")
    right.semilogx(points.parameters, points.bits_per_parameter, "o-", color=BLUE, ms=4, lw=1)
    right.axhline(2, color=GREY, lw=1, ls="--")
    right.set_ylim(bottom=0)
    for axes, label in ((left, "bits stored"), (right, "bits stored per parameter")):
        axes.set_xlabel(f"parameters ({law.count})")
        axes.set_ylabel(label)
    left.legend(frameon=False, fontsize=8)
    return figure


def plot_rounding(table: pandas.DataFrame) -> Figure:
    """Bits kept per parameter, and stored bits for each bit of weight, against the bits of a weight."""
    figure = Figure(figsize=(9.0, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    groups = table[table.weight_bits < 32].groupby(["d_model", "d_hidden", "per", "retraining"], sort=False)
    shapes = list(dict.fromkeys(key[:2] for key, _ in groups))
    for (d, h, per, retraining), group in groups:
        colour = COLOURS[shapes.index((d, h))]
        style = {"color": colour, "ls": "-" if retraining else "--", "marker": "o" if per == "row" else "s", "ms": 3}
        label = f"({d}, {h}), per {per}{', retrained' if retraining else ''}"
        left.plot(group.weight_bits, group.bits, lw=1, label=label, **style)
        right.plot(group.weight_bits, group.bits / group.weight_bits, lw=1, **style)
    kept = table[table.weight_bits < 32]
    for axes, label, most in (
        (left, "bits kept per parameter (P2)", kept.bits.max()),
        (right, "stored bits per bit of weight", (kept.bits / kept.weight_bits).max()),
    ):
        axes.set_xlabel("bits of a weight")
        axes.set_ylabel(label)
        axes.set_ylim(0, max(1.15 * most, 1e-3))
    figure.legend(frameon=False, fontsize=8, loc="outside lower center", ncols=4)
    return figure


def plot_constructions(table: pandas.DataFrame) -> Figure:
    """Facts per parameter of each construction against the size of the table."""
    figure = Figure(figsize=(6.4, 3.8), layout="constrained")
    axes = figure.subplots()
    for (name, group), colour in zip(table.groupby("construction", sort=False), COLOURS, strict=False):
        known = group[group.exact == group.tables]
        axes.plot(known.rows, known.bits_per_P1, "o-", color=colour, ms=4, lw=1, label=name)
    for value, label in ((1.58, "the origin's best, 1.58"), (2.0, "limit of the zigzag, 2")):
        axes.axhline(value, color=GREY, lw=1, ls="--" if value < 2 else ":", label=label)
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter("{x:g}")
    axes.set_ylim(bottom=0)
    axes.set_xlabel("m, for tables of m x m facts")
    axes.set_ylabel("facts per parameter (P1)")
    axes.legend(frameon=False, fontsize=8, ncols=2)
    return figure
