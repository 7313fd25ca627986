"""Pictures of the main directions of activations of numbers."""

from typing import TYPE_CHECKING

import matplotlib
import numpy
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from interpkern.probing.features import FEATURES

if TYPE_CHECKING:
    import pandas

    from interpkern.probing.digit_probes import DigitProbes
    from interpkern.probing.directions import Directions
    from interpkern.probing.directions_comparison import DirectionsComparison
    from interpkern.probing.number_lines import NumberLine

BLUE, ORANGE = "#0072B2", "#D55E00"
COLOURS = (BLUE, ORANGE, "#009E73", "#CC79A7")
SHOWN = 6
"""Components in the table; most structure of numbers is in the first few."""


def plot_directions(found: "Directions") -> Figure:
    """The numbers along the first components, coloured by ln n, and the table of r with its intervals."""
    figure = Figure(figsize=(12, 4.6), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1, 1.35))
    _scatter(left, found)
    _table(right, found)
    figure.suptitle(_title(found), fontsize=10)
    return figure


def _title(found: "Directions") -> str:
    low, high = float(found.numbers[0]), float(found.numbers[-1])
    return f"{len(found.numbers)} numbers from {low:g} to {high:g}"


def _scatter(axes: Axes, found: "Directions") -> None:
    scores = found.scores.numpy()
    second = scores[:, 1] if scores.shape[1] > 1 else numpy.zeros(len(scores))
    points = axes.scatter(scores[:, 0], second, c=found.numbers.log().numpy(), cmap="viridis", s=12)
    for place in numpy.unique(numpy.geomspace(1, len(scores), 9).astype(int) - 1):
        axes.annotate(f"{float(found.numbers[place]):g}", (scores[place, 0], second[place]), fontsize=7)
    shares = found.table.drop_duplicates("component")["eigenvalue_share"].tolist()
    axes.set_xlabel(f"component 1 ({shares[0]:.0%} of the variance)")
    axes.set_ylabel(f"component 2 ({shares[1]:.0%})" if len(shares) > 1 else "there is no second component")
    axes.figure.colorbar(points, ax=axes, label="ln n")


def _table(axes: Axes, found: "Directions") -> None:
    """|r| of each component with each feature; the largest of a component is in bold."""
    axes.set_axis_off()
    table = found.table[found.table["component"] <= SHOWN]
    cells = [_cell(*row) for row in table[["r", "low", "high"]].itertuples(index=False)]
    strength = table["r"].abs().fillna(-1).to_numpy().reshape(-1, len(FEATURES))
    text = numpy.array(cells).reshape(-1, len(FEATURES))
    drawn = axes.table(
        cellText=text.tolist(),
        rowLabels=[f"component {row + 1}" for row in range(len(text))],
        colLabels=[f"r with {name}" for name in FEATURES],
        loc="center",
        cellLoc="center",
        edges="horizontal",
    )
    for row, column in enumerate(strength.argmax(1)):
        drawn[row + 1, int(column)].set_text_props(weight="bold")
    for cell in drawn.get_celld().values():
        cell.set(edgecolor=matplotlib.rcParams["axes.edgecolor"], facecolor="none")
    drawn.auto_set_font_size(False)
    drawn.set_fontsize(8)
    drawn.scale(1, 1.6)
    axes.set_title(f"r with the {found.settings['confidence']:.0%} interval of a bootstrap over numbers", fontsize=9)


def _cell(r: float, low: float, high: float) -> str:
    if not numpy.isfinite(r):
        return "does not vary"
    return f"{r:.3f}" if not numpy.isfinite(low) else f"{r:.3f} ({low:.2f} to {high:.2f})"


def plot_directions_comparison(found: "DirectionsComparison") -> Figure:
    """Differences of two models with their intervals: above zero where the first follows a feature more closely."""
    figure = Figure(figsize=(11, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    folds = found.decoded["folds"].unique()
    for place, kind in enumerate(folds):
        rows = found.decoded[found.decoded["folds"] == kind]
        _differences(left, rows, [row + 0.2 * (place - (len(folds) - 1) / 2) for row in range(len(rows))], kind, place)
    left.set_xticks(range(len(FEATURES)), FEATURES)
    left.set_ylabel("difference of R² on numbers left out")
    first = found.table[found.table["component"] <= SHOWN]
    for place, name in enumerate(FEATURES):
        rows = first[first["feature"] == name]
        _differences(right, rows, (rows["component"] + 0.15 * (place - 1.5)).tolist(), name, place)
    right.set_xlabel("component")
    right.set_ylabel("difference of |r|")
    for axes in (left, right):
        axes.axhline(0, color="0.6", linewidth=0.8)
        axes.legend(frameon=False, fontsize=8)
    figure.suptitle("first model minus second, with the interval of a bootstrap over numbers", fontsize=10)
    return figure


def _differences(axes: Axes, rows: "pandas.DataFrame", places: list[float], label: str, colour: int) -> None:
    spread = [rows["difference"] - rows["low"], rows["high"] - rows["difference"]]
    spread = [side.clip(lower=0) for side in spread]
    axes.errorbar(places, rows["difference"], yerr=spread, fmt="o", ms=4, capsize=2, color=COLOURS[colour], label=label)


def plot_number_line(line: "NumberLine") -> Figure:
    """Positions against n on a logarithmic axis, with the fitted curve."""
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    numbers, positions = line.numbers.numpy(), line.positions.numpy()
    axes.plot(numbers, positions, ".", color=BLUE)
    beta = line.scaling.beta
    curve = numpy.log(numbers) if abs(beta) < 1e-9 else (numbers / numbers[-1]) ** beta / beta
    slope, offset = numpy.polyfit(curve, positions, 1)
    axes.plot(numbers, offset + slope * curve, color=ORANGE, label=f"beta {beta:.2f}")
    axes.set_xscale("log")
    axes.set_xlabel("n")
    axes.set_ylabel(f"position ({line.method})")
    scaling = line.scaling
    axes.set_title(f"rho {line.rho:.3f}, beta {beta:.2f} ({scaling.low:.2f} to {scaling.high:.2f})", fontsize=10)
    axes.legend(frameon=False)
    return figure


def plot_digit_probes(found: "DigitProbes") -> Figure:
    """A bar a place, with its interval, and chance as a line across it."""
    figure = Figure(figsize=(5, 3.5), layout="constrained")
    axes = figure.subplots()
    table = found.table
    spread = [table["accuracy"] - table["low"], table["high"] - table["accuracy"]]
    axes.bar(table["place"], table["accuracy"], yerr=spread, color=BLUE, capsize=3, label="numbers left out")
    axes.hlines(table["chance"], table["place"] - 0.4, table["place"] + 0.4, color=ORANGE, label="commonest digit")
    axes.set_xticks(table["place"].tolist())
    axes.set_ylim(0, 1.05)
    axes.set_xlabel(f"place of the digit in base {table['base'].iloc[0]}, 0 the last")
    axes.set_ylabel("share read right")
    axes.legend(frameon=False)
    return figure
