"""A picture of what each part of the recipe is worth."""

from typing import TYPE_CHECKING

from matplotlib.figure import Figure

if TYPE_CHECKING:
    from interpkern.itda.evaluation import Evaluation

BLUE, GREY = "#0072B2", "#999999"


def plot_evaluation(found: "Evaluation") -> Figure:
    """A bar for the held-out FVU of each variant, with its change against the paper's recipe."""
    figure = Figure(figsize=(9, 4), layout="constrained")
    axes = figure.subplots()
    names = [variant.name for variant in found.variants]
    colours = [BLUE if variant.activations else GREY for variant in found.variants]
    bars = axes.barh(names, [variant.ordinary.fvu for variant in found.variants], color=colours)
    axes.bar_label(bars, [f"{variant.change:+.1%}" for variant in found.variants], padding=3)
    axes.invert_yaxis()
    axes.margins(x=0.12)
    axes.set_xlabel("held-out FVU, without massive tokens")
    sizes = sorted({variant.atoms for variant in found.variants})
    axes.set_title(
        f"{' to '.join(f'{size:,}' for size in (sizes[0], sizes[-1])[: len(sizes)])} atoms, k = {found.k};"
        " grey: atoms are no activations",
        fontsize=10,
    )
    return figure
