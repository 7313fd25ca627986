"""The circle test at every layer of a model, and one p-value over layers."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas
import torch

from interpkern.probing.circle_test import CircleTest, circle_test
from interpkern.probing.explanations import APART
from interpkern.probing.numbers import Coordinate, exponent
from interpkern.probing.saved import save_table
from interpkern.probing.verdicts import NEGLIGIBLE
from interpkern.validation import choice

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LEVEL = 0.05
SENSITIVITY = ("strongest", "all", "none")
PREDICTED = 0.5
"""A circle explains at least this share of its power on octaves that it was not fitted on."""
Step = Callable[[], object]


@dataclass(frozen=True, eq=False)
class CircleLayers:
    """A CircleTest of each layer, all with the same frequencies."""

    tests: Mapping[int, CircleTest]
    permutation: Mapping[int, float]
    """p of each layer with the labels permuted, which supports no claim about a circle; empty where not asked for."""

    @property
    def null(self) -> str:
        """Of the tests."""
        return next(iter(self.tests.values())).null

    @property
    def layer(self) -> int:
        """Where a circle stands out most: among the layers where it is believed, else where rows are not duplicated."""
        return max(self.believed or self._distinct or self.tests, key=lambda layer: self._standing(layer)[0])

    @property
    def strongest(self) -> CircleTest:
        """The test of that layer."""
        return self.tests[self.layer]

    @property
    def p_value(self) -> float:
        """Of `strongest`, among the strongest over frequencies and layers of each surrogate."""
        return self.over_layers(self.layer)

    @property
    def believed(self) -> tuple[int, ...]:
        """The layers with p <= .05 over layers under a null that holds, and without doubts."""
        if self.null == "permutation":
            return ()
        return tuple(layer for layer in self.tests if self.over_layers(layer) <= LEVEL and not self.doubts(layer))

    def doubts(self, layer: int) -> tuple[str, ...]:
        """What else than a circle in the coordinate explains what stands out at a layer, whatever its p."""
        test, found = self.tests[layer], []
        wanted = exponent(test.coordinate)
        if abs(test.best_lambda - wanted) > APART:
            found.append(f"the best coordinate has exponent {test.best_lambda:g}, not {wanted:g}")
        if test.extrapolation.gain < PREDICTED * test.power:
            found.append(
                f"fitted without an octave, the circle explains {test.extrapolation.gain:.1%} of it, against"
                f" {test.power:.1%} where it was fitted"
            )
        if test.power < NEGLIGIBLE:
            found.append(f"it is {test.power:.2g} of the variance")
        return (*found, *(warning for warning in test.warnings if "digit" in warning or _of_duplicates(warning)))

    def over_layers(self, layer: int) -> float:
        """p of a layer's statistic among the largest over layers of each surrogate."""
        null = torch.stack([self._standing(other)[1] for other in self.tests]).amax(dim=0)
        return (1 + int((null >= self._standing(layer)[0]).sum())) / (len(null) + 1)

    @property
    def _distinct(self) -> tuple[int, ...]:
        return tuple(layer for layer, test in self.tests.items() if not any(map(_of_duplicates, test.warnings)))

    def _standing(self, layer: int) -> tuple[float, torch.Tensor]:
        """The layer's statistic and those of its surrogates, in standard deviations of the surrogates'."""
        drawn = self.tests[layer].statistics
        scale = drawn.std().clamp_min(1e-12)
        return float((self.tests[layer].statistic - drawn.mean()) / scale), (drawn - drawn.mean()) / scale

    @property
    def detectable(self) -> dict[float, float]:
        """{period: share of the variance} that would have been found with 80 % power, where that was looked for: the
        median over layers, before account is taken of there being several."""
        table = self.detectable_to_pandas()
        return {} if not len(table) else table.groupby("period")["share"].median().to_dict()

    def to_pandas(self) -> pandas.DataFrame:
        """One row a layer: p, the period in nats, the power, and what else may explain it.

        p_over_layers takes account of there being several layers; p_permutation is of the null that supports no claim;
        best_lambda is the exponent of the coordinate in which a circle explains most; predicted is what the circle
        explains of octaves that it was not fitted on.
        """
        rows = [
            {
                "layer": layer,
                "p_value": test.p_value,
                "p_permutation": self.permutation.get(layer, float("nan")),
                "period": test.period,
                "power": test.power,
                "best_lambda": test.best_lambda,
                "predicted": test.extrapolation.gain,
                "p_over_layers": self.over_layers(layer),
                "doubts": "; ".join(self.doubts(layer)),
            }
            for layer, test in self.tests.items()
        ]
        return pandas.DataFrame(rows)

    def detectable_to_pandas(self) -> pandas.DataFrame:
        """One row a layer and period: the smallest circle, as a share of the variance, found with 80 % power."""
        rows = [
            (layer, period, share)
            for layer, test in self.tests.items()
            for period, share in (test.minimum_detectable or {}).items()
        ]
        return pandas.DataFrame(rows, columns=["layer", "period", "share"])

    def plot(self) -> "Figure":
        """Draw p over layers, and the smallest circle that would have been found over periods."""
        from interpkern.probing.log_probe_plots import plot_circles

        return plot_circles(self)

    def save(self, path: str | PathLike[str]) -> Path:
        """Write the table of layers as parquet."""
        return save_table(path, self.to_pandas())


def _of_duplicates(warning: str) -> bool:
    return "duplicated rows" in warning


def circles_by_layer(
    activations: Mapping[int, Any],
    numbers: Any,
    *,
    coordinate: Coordinate = "log",
    null: str = "coloured",
    components: int = 20,
    surrogates: int = 199,
    sensitivity: str = "strongest",
    permutation: bool = True,
    seed: int = 0,
    step: Step | None = None,
) -> CircleLayers:
    """Run `circle_test` at every layer; the p-value over layers compares maxima over frequencies and layers.

    Surrogates of all layers are drawn from one seed; where layers are alike, so are their surrogates, and the p-value
    over layers loses little by there being many.

    Args:
        activations: {layer: (N, D) floats}.
        numbers: (N,) positive.
        coordinate, null, components, surrogates, seed: as for `circle_test`.
        sensitivity: where to look for the smallest circle that would have been seen: strongest, all or none.
        permutation: also give the p-value under permuted labels, for comparison.
        step: called after each layer, and after each search for the smallest circle.

    Raises:
        ShapeError, DTypeError, ValueError: as `circle_test`.
    """
    where = choice("sensitivity", sensitivity, SENSITIVITY)

    def test(layer: int, kind: str, *, planted: bool = False) -> CircleTest:
        return circle_test(
            activations[layer],
            numbers,
            coordinate=coordinate,
            null=kind,
            components=components,
            surrogates=surrogates,
            sensitivity=planted,
            seed=seed,
            progress=False,
        )

    tests, permuted = {}, {}
    for layer in activations:
        tests[layer] = test(layer, null)
        if permutation and null != "permutation":
            permuted[layer] = test(layer, "permutation").p_value
        if step is not None:
            step()
    found = CircleLayers(tests, permuted)
    for layer in {"strongest": (found.layer,), "all": tuple(tests), "none": ()}[where]:
        tests[layer] = test(layer, null, planted=True)
        if step is not None:
            step()
    return CircleLayers(tests, permuted)
