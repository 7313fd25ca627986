"""Pictures of helices, comparisons of bases, Fourier spectra and neurons."""

from typing import TYPE_CHECKING

import numpy
import torch
from matplotlib.figure import Figure

if TYPE_CHECKING:
    from interpkern.probing.basis_comparison import BasisComparison
    from interpkern.probing.fourier import Fourier
    from interpkern.probing.helix import HelixFit
    from interpkern.probing.neurons import NeuronFits

BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#999999"
COLOURS = {"helix": BLUE, "circles": GREEN, "polynomial": ORANGE, "components": GREY}


def plot_helix(fit: "HelixFit") -> Figure:
    """The activations in the directions of each circle, coloured by the place on it, and along the line's direction."""
    pairs = _circles(fit)
    line = [place for place, term in enumerate(fit.basis.terms) if term.kind == "linear"]
    panels = len(pairs) + len(line)
    figure = Figure(figsize=(3.2 * max(panels, 1), 3.2), layout="constrained")
    axes = numpy.atleast_1d(figure.subplots(1, max(panels, 1)))
    numbers = fit.numbers.numpy()
    for axis, (period, rows) in zip(axes, pairs, strict=False):
        # least squares back from activations to the functions: the coordinates on the circle that the fit reads off
        read = fit.scores @ torch.linalg.pinv(fit.coefficients)[:, rows]
        axis.scatter(*read.mT.numpy(), c=numbers % period, cmap="twilight", s=9)
        axis.set_title(f"period {period:g}", fontsize=10)
        axis.set_xlabel("cos")
        axis.set_ylabel("sin")
        axis.set_aspect("equal", adjustable="datalim")
    for axis in axes[len(pairs) :][: len(line)]:
        read = fit.scores @ torch.linalg.pinv(fit.coefficients)[:, line[0]]
        axis.plot(numbers, read.numpy(), ".", color=BLUE)
        axis.set_title("line", fontsize=10)
        axis.set_xlabel("number")
    figure.suptitle(f"helix: R² {fit.r_squared:.3f}, on unseen numbers {fit.held_out_r_squared:.3f}", fontsize=10)
    return figure


def _circles(fit: "HelixFit") -> list[tuple[float, list[int]]]:
    """Periods that have both a cosine and a sine, with their rows in the coefficients."""
    rows: dict[float, list[int]] = {}
    for place, term in enumerate(fit.basis.terms):
        if term.kind in ("cos", "sin"):
            rows.setdefault(term.period, []).append(place)
    return [(period, places) for period, places in rows.items() if len(places) == 2]


def plot_comparison(found: "BasisComparison") -> Figure:
    """R^2 on unseen numbers against the number of functions; the chosen candidate is ringed."""
    figure = Figure(figsize=(6, 3.6), layout="constrained")
    axes = figure.subplots()
    for kind, colour in COLOURS.items():
        rows = [row for row in found.rows if row.candidate.kind == kind]
        style = "-o" if kind in ("polynomial", "components") else "o"
        x, y = [row.columns for row in rows], [row.r_squared for row in rows]
        axes.plot(x, y, style, color=colour, markersize=4, label=kind)
    axes.plot(found.best.columns, found.best.r_squared, "o", ms=11, mfc="none", mec="black")
    axes.annotate(
        found.best.candidate.name,
        (found.best.columns, found.best.r_squared),
        (5, -14),
        fontsize=8,
        textcoords="offset points",
    )
    axes.set_ylim(min(-0.05, max(-1.0, min(row.r_squared for row in found.rows))), 1.05)
    axes.set_xlabel("functions besides the intercept")
    axes.set_ylabel("R² on unseen numbers")
    axes.legend(frameon=False, fontsize=8)
    return figure


def plot_fourier(found: "Fourier") -> Figure:
    """The share of power against frequency; the five highest peaks carry their period."""
    figure = Figure(figsize=(7, 3), layout="constrained")
    axes = figure.subplots()
    frequencies, share = found.frequencies.numpy(), found.share.numpy()
    axes.vlines(frequencies, 0, share, color=BLUE, lw=1)
    for place in numpy.argsort(share)[::-1][:5]:
        axes.annotate(f"{1 / frequencies[place]:.3g}", (frequencies[place], share[place]), fontsize=8, ha="center")
    axes.set_ylim(0)
    axes.set_xlabel("frequency in cycles a number (the labels are periods)")
    axes.set_ylabel("share of power")
    return figure


def plot_neurons(fits: "NeuronFits") -> Figure:
    """How many neurons have which period strongest, and how much of each neuron the fit explains."""
    figure = Figure(figsize=(7, 3), layout="constrained")
    left, right = figure.subplots(1, 2)
    known = fits.r_squared.isfinite()
    counts = [int((fits.top_period[known] == period).sum()) for period in fits.periods]
    left.bar([f"{period:g}" for period in fits.periods], counts, color=BLUE)
    left.set_xlabel("period of the largest amplitude")
    left.set_ylabel("neurons")
    right.hist(fits.r_squared[known].numpy(), bins=30, range=(0, 1), color=BLUE)
    right.set_xlabel("R²")
    return figure
