"""Pictures of causal tests: an effect among its controls, between its floor and its ceiling."""

from typing import TYPE_CHECKING, Any

import numpy
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

if TYPE_CHECKING:
    from interpkern.probing.causal_curves import AblationCurve, PatchCurve
    from interpkern.probing.causal_results import AblationResult, PatchResult

BLUE, ORANGE, GREY, GREEN, PURPLE = "#0072B2", "#D55E00", "#999999", "#009E73", "#CC79A7"
COLOURS = (BLUE, ORANGE, GREEN, PURPLE, "#E69F00", "#56B4E9")
DELTA = "change of the answer's logit"
KL = "KL from the baseline (nats)"


def plot_ablation(found: "AblationResult") -> Figure:
    """The direction among its controls, by the logit of the answer and by KL."""
    figure = Figure(figsize=(9, 3.2), layout="constrained")
    ranks = {"delta_logit": (found.rank, found.p_value, DELTA), "kl": (found.kl_rank, found.kl_p_value, KL)}
    for axes, (metric, (rank, p, label)) in zip(figure.subplots(1, 2), ranks.items(), strict=True):
        controls = getattr(found.controls, metric).mean(1).numpy()
        axes.hist(controls, bins=20, color=GREY, label=f"{len(controls)} controls")
        for place, (name, outcome) in enumerate(found.also.items()):
            axes.axvline(outcome.means()[metric], color=COLOURS[2 + place % 4], ls="--", label=name)
        axes.axvline(found.effect.means()[metric], color=BLUE, lw=2, label=f"direction: rank {rank}, p = {p:.2g}")
        _bounds(axes.axvline, found.floor.means()[metric], found.ceiling.means()[metric], "whole residual")
        axes.set_xlabel(label)
        axes.legend(frameon=False, fontsize=8)
    figure.suptitle(f"layer {found.layer}, {found.removed_variance:.1%} of the variance removed", fontsize=10)
    return figure


def plot_patch(found: "PatchResult") -> Figure:
    """The effect on each prompt, sorted, between the floor and the ceiling."""
    figure = Figure(figsize=(6, 3.2), layout="constrained")
    axes = figure.subplots()
    metric = "delta_logit" if bool(found.effect.counterfactual_delta_logit.isnan().all()) else "logit_difference"
    values = getattr(found.effect, metric)
    order = values.argsort()
    axes.plot(values[order].numpy(), ".", color=BLUE, label="patch")
    axes.plot(getattr(found.before, metric)[order].numpy(), color=GREY, lw=1, label="before, and with identity")
    if found.ceiling is not None:
        axes.plot(getattr(found.ceiling, metric)[order].numpy(), ".", color=ORANGE, ms=3, label="full layer")
    axes.set_xlabel("prompts, sorted by the effect of the patch")
    axes.set_ylabel(DELTA if metric == "delta_logit" else "logit of answer' less answer")
    axes.legend(frameon=False, fontsize=8)
    return figure


def plot_ablation_curve(found: "AblationCurve") -> Figure:
    """Over layers: the direction, the middle 90 % of its controls, and the bounds."""
    figure = Figure(figsize=(9, 3.4), layout="constrained")
    layers = [result.layer for result in found.results]
    for axes, (metric, label) in zip(figure.subplots(1, 2), {"delta_logit": DELTA, "kl": KL}.items(), strict=True):
        controls = numpy.stack([getattr(result.controls, metric).mean(1).numpy() for result in found.results])
        low, high = numpy.quantile(controls, [0.05, 0.95], axis=1)
        axes.fill_between(layers, low, high, color=GREY, alpha=0.4, lw=0, label="controls, middle 90 %")
        for place, name in enumerate(found.results[0].also):
            values = [result.also[name].means()[metric] for result in found.results]
            axes.plot(layers, values, "--", color=COLOURS[2 + place % 4], label=name)
        axes.plot(
            layers, [result.effect.means()[metric] for result in found.results], "o-", color=BLUE, label="direction"
        )
        axes.plot(
            layers, [result.floor.means()[metric] for result in found.results], color="black", lw=0.8, label="identity"
        )
        values = [result.ceiling.means()[metric] for result in found.results]
        axes.plot(layers, values, ":", color=ORANGE, label="whole residual")
        axes.set_xlabel("layer")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_ylabel(label)
        axes.legend(frameon=False, fontsize=8)
    return figure


def plot_patch_curve(found: "PatchCurve") -> Figure:
    """Over layers: each kind of patch, identity and the full layer."""
    table = found.to_pandas()
    known = bool(table["logit_difference"].notna().any())
    metrics = {"counterfactual_delta_logit" if known else "delta_logit": DELTA + ("'" if known else ""), "kl": KL}
    figure = Figure(figsize=(9, 3.4), layout="constrained")
    for axes, (metric, label) in zip(figure.subplots(1, 2), metrics.items(), strict=True):
        for place, (name, rows) in enumerate(table.groupby("what", sort=False)):
            bound = name in ("identity", "full layer")
            colour = {"identity": "black", "full layer": ORANGE}.get(str(name), COLOURS[place % len(COLOURS)])
            axes.plot(rows["layer"], rows[metric], ":" if bound else "o-", color=colour, label=name)
        axes.set_xlabel("layer")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_ylabel(label)
        axes.legend(frameon=False, fontsize=8)
    return figure


def _bounds(line: Any, floor: float, ceiling: float, name: str) -> None:
    line(floor, color="black", lw=0.8, label="identity")
    line(ceiling, color=ORANGE, ls=":", label=name)
