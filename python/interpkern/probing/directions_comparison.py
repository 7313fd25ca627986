"""Two models on the same numbers: whose directions follow n, sqrt n, ln n or the digit count more closely."""

from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas
import torch

from interpkern.errors import ShapeError
from interpkern.files import as_path
from interpkern.probing.correlations import interval, resampled, two_sided, whole
from interpkern.probing.directions import Directions, decoded_features, directions
from interpkern.probing.features import FEATURES
from interpkern.probing.numbers import checked
from interpkern.probing.saved import save_table
from interpkern.validation import FLOATS, Dimensions

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, eq=False)
class DirectionsComparison:
    """Differences between two models, each resample of the numbers being the same for both."""

    table: pandas.DataFrame
    """component, feature, r_a, r_b, difference of |r|, low, high, p_value: component by component."""
    decoded: pandas.DataFrame
    """feature, folds, r2_a, r2_b, difference, low, high, p_value: R^2 on numbers left out, from whole activations."""
    a: Directions
    b: Directions

    def to_pandas(self) -> pandas.DataFrame:
        """One row a feature and kind of fold: `decoded`, which does not depend on how components pair up."""
        return self.decoded.copy()

    def plot(self) -> "Figure":
        """Draw the differences with their intervals: of R^2 on numbers left out, and of |r| of the first components."""
        from interpkern.probing.directions_plots import plot_directions_comparison

        return plot_directions_comparison(self)

    def save(self, directory: str | PathLike[str]) -> Path:
        """Write both tables as parquet: decoded.parquet, and components.parquet."""
        target = as_path("directory", directory)
        target.mkdir(parents=True, exist_ok=True)
        save_table(target / "components.parquet", self.table)
        save_table(target / "decoded.parquet", self.decoded)
        return target


def compare_directions(
    a: Any,
    b: Any,
    numbers: Any,
    *,
    components: int = 20,
    bootstrap: int = 1000,
    confidence: float = 0.95,
    folds: int = 5,
    seed: int = 0,
) -> DirectionsComparison:
    """Compare how two models hold the same numbers, by a bootstrap that draws the same numbers for both.

    Component 3 of one model need not be component 3 of the other, so `decoded` is the table to rely on.

    Shapes:
        a (N, d), b (N, e) floating point, torch or NumPy, row i of both of numbers[i]; numbers (N,).

    Args:
        a, b, numbers: activations of either model and the numbers that they are of.
        components, bootstrap, confidence, folds, seed: as in `directions`; at least one resample.

    Returns:
        DirectionsComparison: differences a - b with intervals and two-sided bootstrap p-values.

    Raises:
        ShapeError, DTypeError or ValueError that names the argument.

    Source:
        Efron and Tibshirani 1993, "An Introduction to the Bootstrap", chapter 16, for paired samples.

    Example:
        >>> numbers = torch.arange(1, 61)
        >>> a = numbers.log()[:, None] * torch.randn(5) + 0.01 * torch.randn(60, 5)
        >>> found = compare_directions(a, torch.randn(60, 7), numbers, bootstrap=99).to_pandas()
        >>> found.query("feature == 'ln n' and folds == 'shuffled'").low.item() > 0
        True
    """
    dimensions = Dimensions()
    for name, acts in (("a", a), ("b", b)):
        dimensions.tensor(name, acts, "N d" if name == "a" else "N e", FLOATS)
    if bootstrap == 0:
        raise ValueError("bootstrap: expected at least 1 resample, as the comparison is one, got 0")
    settings: dict[str, Any] = {"components": components, "bootstrap": bootstrap, "confidence": confidence}
    settings |= {"folds": folds, "seed": seed}
    found = {name: directions(acts, numbers, **settings) for name, acts in (("a", a), ("b", b))}
    return DirectionsComparison(
        table=_components(found["a"], found["b"]),
        decoded=_decoded(a, b, numbers, found["a"].settings),
        a=found["a"],
        b=found["b"],
    )


def _components(a: Directions, b: Directions) -> pandas.DataFrame:
    both = min(a.draws.shape[1], b.draws.shape[1])
    rows = both * len(FEATURES)
    draws = (a.draws[:, :both].abs() - b.draws[:, :both].abs()).flatten(1)
    table = a.table[["component", "feature"]][:rows].copy()
    table["r_a"], table["r_b"] = a.table["r"][:rows], b.table["r"][:rows]
    table["difference"] = table["r_a"].abs() - table["r_b"].abs()
    return _with_interval(table, draws, a.settings["confidence"])


def _decoded(a: Any, b: Any, numbers: Any, settings: Any) -> pandas.DataFrame:
    ours, theirs = (checked(acts, numbers) for acts in (a, b))
    if len(ours.numbers) != len(theirs.numbers):
        raise ShapeError("b: expected as many rows as a")
    samples = resampled(len(ours.numbers), settings["bootstrap"], settings["seed"])
    first, second = decoded_features(ours, settings), decoded_features(theirs, settings)
    tables = []
    for kind in first:
        value = [part[kind].r2(whole(samples.shape[1]))[0] for part in (first, second)]
        columns = {"feature": FEATURES, "folds": kind, "r2_a": value[0], "r2_b": value[1]}
        table = pandas.DataFrame(columns | {"difference": value[0] - value[1]})
        draws = first[kind].r2(samples) - second[kind].r2(samples)
        tables.append(_with_interval(table, draws, settings["confidence"]))
    return pandas.concat(tables, ignore_index=True)


def _with_interval(table: pandas.DataFrame, draws: torch.Tensor, confidence: float) -> pandas.DataFrame:
    low, high = interval(draws, confidence)
    return table.assign(low=low.numpy(), high=high.numpy(), p_value=two_sided(draws).numpy())
