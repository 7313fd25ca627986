"""Pictures of the studies of capacity."""

from collections.abc import Callable
from typing import Any

import matplotlib
import numpy
import pandas
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.special import expit

BLUE, GREY = "#2F7FC1", "#888888"
STYLE: dict[str, Any] = {"marker": "o", "ms": 4, "lw": 0, "elinewidth": 1.2, "capsize": 2}


def plot_sweep(study: str, shapes: pandas.DataFrame, thresholds: pandas.DataFrame) -> Figure:
    """The picture of a study: what its question asks, with 95 % intervals."""
    figure = Figure(figsize=(9.0, 4.2), layout="constrained")
    PICTURES[study](figure, shapes, thresholds)
    return figure


def _growth(figure: Figure, shapes: pandas.DataFrame, thresholds: pandas.DataFrame) -> None:
    left, right = figure.subplots(1, 2)
    _transitions(left, shapes, thresholds, ["rows"])
    _thresholds(right, thresholds, "rows", "m, for tables of m x m facts")
    if thresholds.half.notna().any():
        right.set_xscale("log", base=2)
    right.xaxis.set_major_formatter("{x:g}")


def _map(figure: Figure, shapes: pandas.DataFrame, thresholds: pandas.DataFrame) -> None:
    m = shapes.rows.max()
    chosen = shapes[shapes.rows == m]
    for axes, values, label in zip(
        figure.subplots(1, 2),
        (chosen.assign(share=chosen.solved / chosen.models).share, chosen.bits_per_P2),
        ("share of models with every fact right", "bits per parameter (bits$_{CE}$ / P2)"),
        strict=True,
    ):
        grid = chosen.assign(value=values).pivot_table(index="d_hidden", columns="d_model", values="value")
        image = axes.imshow(grid, origin="lower", cmap="viridis", vmin=0, aspect="auto")
        axes.set_xticks(range(len(grid.columns)), grid.columns)
        axes.set_yticks(range(len(grid.index)), grid.index)
        for (row, column), value in numpy.ndenumerate(grid.to_numpy()):
            colour = "white" if value < 0.6 * numpy.nanmax(grid) else "black"
            axes.text(column, row, f"{value:.2f}", ha="center", va="center", color=colour, fontsize=8.5)
        axes.set_xlabel("d_model")
        axes.set_ylabel("d_hidden")
        axes.set_title(f"m = {m}: {label}", fontsize=9)
        figure.colorbar(image, ax=axes)


def _budget(figure: Figure, shapes: pandas.DataFrame, thresholds: pandas.DataFrame) -> None:
    lr, steps = thresholds.lr.mode()[0], thresholds.steps.mode()[0]
    left, right = figure.subplots(1, 2, sharey=True)
    _thresholds(left, thresholds[thresholds.lr == lr], "steps", f"updates, at lr {lr:g}")
    _thresholds(right, thresholds[thresholds.steps == steps], "lr", f"learning rate, at {steps:,} updates")
    for axes in (left, right):
        if thresholds.half.notna().any():
            axes.set_xscale("log")
        axes.yaxis.set_tick_params(labelleft=True)


def _embeddings(figure: Figure, shapes: pandas.DataFrame, thresholds: pandas.DataFrame) -> None:
    left, right = figure.subplots(1, 2)
    _transitions(left, shapes, thresholds, ["embedding"])
    _transitions(right, shapes.assign(solved=shapes.learnt), None, ["embedding"])
    right.set_ylabel("share of models that store 95 % of the bits")


def _tables(figure: Figure, shapes: pandas.DataFrame, thresholds: pandas.DataFrame) -> None:
    left, right = figure.subplots(1, 2)
    _transitions(left, shapes[shapes.p == 0.5], thresholds[thresholds.p == 0.5], ["rows", "cols"])
    square = (shapes.rows == shapes.cols, thresholds.rows**2 == thresholds.facts)
    _transitions(right, shapes[square[0]], thresholds[square[1]], ["p"])


def _frozen(figure: Figure, shapes: pandas.DataFrame, thresholds: pandas.DataFrame) -> None:
    axes = figure.subplots()
    _transitions(axes, shapes, thresholds, ["rows", "solver"])
    axes.axvline(2, color=GREY, ls="--", lw=1, label="Cover: 2 facts a weight")
    axes.legend(frameon=False, fontsize=8)


def _points(figure: Figure, shapes: pandas.DataFrame, thresholds: pandas.DataFrame) -> None:
    _transitions(figure.subplots(), shapes, thresholds, ["facts", "d_model"])


def _transitions(axes: Axes, shapes: pandas.DataFrame, thresholds: pandas.DataFrame | None, by: list[str]) -> None:
    """Share of solved models against bits of the table per parameter, with the fitted curves."""
    groups = list(shapes.groupby(by))
    for (key, group), colour in zip(groups, _colours(len(groups)), strict=True):
        names = by if "cols" in by else ["m" if name == "rows" else name for name in by]
        label = ", ".join(f"{name} {value}" for name, value in zip(names, key, strict=True))
        group = group.sort_values("table_bits_per_P1")
        x, share = group.table_bits_per_P1, group.solved / group.models
        axes.plot(x, share, color=colour, marker="o", ms=3, lw=0 if thresholds is not None else 1, label=label)
        known = () if thresholds is None else thresholds[_same(thresholds, by, key)].itertuples()
        for row in known:
            curve = numpy.geomspace(x.min(), x.max(), 200)
            axes.plot(curve, expit(-row.slope * (numpy.log(curve) - numpy.log(row.half))), color=colour, lw=1)
    axes.set_xlabel("bits of the table per parameter (P1)")
    axes.set_ylabel("share of models with every fact right")
    axes.legend(frameon=False, fontsize=8)


def _same(thresholds: pandas.DataFrame, by: list[str], key: tuple) -> pandas.Series:
    there = [(name, value) for name, value in zip(by, key, strict=True) if name in thresholds]
    return numpy.logical_and.reduce([thresholds[name] == value for name, value in there])


def _thresholds(axes: Axes, thresholds: pandas.DataFrame, column: str, label: str) -> None:
    known = thresholds.dropna(subset="half").sort_values(column)
    groups = list(known.groupby("rows")) if column != "rows" else [(None, known)]
    for (rows, group), colour in zip(groups, _colours(len(groups)), strict=True):
        reach = [group.half - group.low, group.high - group.half]
        axes.errorbar(group[column], group.half, yerr=reach, color=colour, label=f"m = {rows}", **STYLE)
    axes.axhline(2, color=GREY, ls="--", lw=1)
    axes.set_xlabel(label)
    axes.set_ylabel("bits of the table per P1 at half solved")
    if column != "rows" and groups:
        axes.legend(frameon=False, fontsize=8)


def _colours(count: int) -> list[Any]:
    return [BLUE] if count == 1 else list(matplotlib.colormaps["viridis"](numpy.linspace(0, 0.9, count)))


PICTURES: dict[str, Callable[[Figure, pandas.DataFrame, pandas.DataFrame], None]] = {
    "growth": _growth,
    "map": _map,
    "budget": _budget,
    "embeddings": _embeddings,
    "tables": _tables,
    "frozen": _frozen,
    "points": _points,
}
