"""Pictures of circuits: the table and the matrices that it is made of, and how their figures are spread."""

from typing import TYPE_CHECKING

import numpy
import pandas
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from interpkern.memorisation.neurons import hidden_matrices
from interpkern.validation import integer

if TYPE_CHECKING:
    from interpkern.memorisation.run import MemoriseRun

BLUE, ORANGE, GREY = "#2F7FC1", "#D9661F", "#888888"
COLUMNS = 6


def plot_decomposition(run: "MemoriseRun", model: int = 0, *, neurons: int = 12) -> Figure:
    """Draw a model's table, its logits, and the matrices r_j H_j of its strongest hidden units, which add up to them.

    Args:
        run: of `memorise`.
        model: which of its models.
        neurons: how many hidden units to show.
    """
    one = run[integer("model", model, -len(run), len(run) - 1)]
    added = (one.models.r[:, :, None, None] * hidden_matrices(one.models))[0]
    order = added.var((1, 2), correction=0).argsort(descending=True)[: integer("neurons", neurons, 1)]
    logits = one.models.logits()[0]
    rows = 1 + -(-len(order) // COLUMNS)
    figure = Figure(figsize=(1.6 * COLUMNS, 1.75 * rows), layout="constrained")
    axes = figure.subplots(rows, COLUMNS)
    _matrix(axes[0, 0], one.tables[0].float() - 0.5, "the table", 0.5)
    _matrix(axes[0, 1], logits, "logits", float(logits.abs().quantile(0.95)))
    _matrix(axes[0, 2], torch.where(logits > 0, 0.5, -0.5), "answers", 0.5)
    reach = float(added[order].abs().max())
    for place, unit in zip(axes[1:].flat, order.tolist(), strict=False):
        _matrix(place, added[unit], f"r H, unit {unit}", reach)
    for place in (*axes[0, 3:], *list(axes[1:].flat)[len(order) :]):
        place.set_axis_off()
    return figure


def _matrix(axes: Axes, values: torch.Tensor, title: str, reach: float) -> None:
    axes.imshow(values.numpy(), cmap="RdBu_r", vmin=-reach, vmax=reach, interpolation="nearest")
    axes.set_title(title, fontsize=8)
    axes.set_xticks([])
    axes.set_yticks([])


def plot_circuits(models: pandas.DataFrame, neurons: pandas.DataFrame) -> Figure:
    """How stable rank, active fraction, rectangle fit and single ablations are spread over hidden units."""
    figure = Figure(figsize=(9.0, 5.2), layout="constrained")
    alive = neurons[neurons.active_fraction > 0]
    names = {
        "stable_rank": "stable rank of a unit's matrix",
        "active_fraction": "share of facts at which a unit is active",
        "rectangle": "energy in the best rectangle",
        "ablated_accuracy": "accuracy without one unit",
    }
    for axes, (name, label) in zip(figure.subplots(2, 2).flat, names.items(), strict=True):
        values = alive[name].clip(upper=alive[name].quantile(0.995))
        axes.hist(values, bins=40, color=BLUE)
        axes.axvline(alive[name].mean(), color=ORANGE, lw=1.2, ls="--", label=f"mean {alive[name].mean():.3f}")
        axes.set_xlabel(label)
        axes.set_ylabel("hidden units")
        axes.legend(frameon=False, fontsize=8)
    figure.suptitle(f"{len(models):,} models, {len(neurons):,} hidden units", fontsize=10)
    return figure


def plot_ablations(curves: dict[str, torch.Tensor]) -> Figure:
    """Accuracy against the share of hidden units that are gone: the mean over models for each order."""
    figure = Figure(figsize=(5.6, 3.6), layout="constrained")
    axes = figure.subplots()
    for (name, curve), colour in zip(curves.items(), (BLUE, ORANGE, GREY), strict=False):
        share = numpy.linspace(0, 1, curve.shape[1])
        low, middle, high = (curve.quantile(q, dim=0) for q in (0.05, 0.5, 0.95))
        axes.plot(share, middle, color=colour, marker="o", ms=3, lw=1, label=f"{name} first")
        axes.fill_between(share, low, high, color=colour, alpha=0.15, lw=0)
    axes.axhline(0.5, color=GREY, ls=":", lw=1)
    axes.set_xlabel("share of hidden units taken away")
    axes.set_ylabel("share of facts right")
    axes.legend(frameon=False, fontsize=8)
    return figure


def plot_matching(pairs: pandas.DataFrame) -> Figure:
    """How alike matched units are, in models of one table and of different ones."""
    figure = Figure(figsize=(5.6, 3.2), layout="constrained")
    axes = figure.subplots()
    bins = numpy.linspace(pairs.similarity.min(), pairs.similarity.max() + 1e-9, 31).tolist()
    for same, colour, label in ((False, GREY, "different tables"), (True, BLUE, "one table")):
        values = pairs[pairs.same == same].similarity
        axes.hist(values, bins=bins, density=True, color=colour, alpha=0.6, label=f"{label}: mean {values.mean():.3f}")
    axes.set_xlabel("mean correlation of matched hidden units")
    axes.set_ylabel("density of pairs")
    axes.legend(frameon=False, fontsize=8)
    return figure
