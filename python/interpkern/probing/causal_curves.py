"""Causal tests over layers, from one baseline run."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas
import torch

from interpkern.errors import DTypeError
from interpkern.files import as_path, write_atomically
from interpkern.probing.baseline import Baseline
from interpkern.probing.causal import ablate, patch
from interpkern.probing.causal_results import AblationResult, PatchResult
from interpkern.progress import Progress, reporting
from interpkern.report import parquet

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, eq=False)
class Standing:
    """An ablation among its controls, over layers: changes of the answers' mean logit in units of each layer's spread.

    The mean and the spread are those of direction and controls together, so that under the null that the direction is
    one more of the controls all of them are alike, and p holds over layers.
    """

    layers: tuple[int, ...]
    effect: torch.Tensor
    """(L,) of the direction; negative where the answer's logit falls by more than the average."""
    controls: torch.Tensor
    """(L, controls)."""

    @property
    def layer(self) -> int:
        """Where the direction does most harm compared with its controls."""
        return self.layers[int(self.effect.argmin())]

    @property
    def p_value(self) -> float:
        """That the direction does more harm at its worst layer than random directions do at theirs."""
        return (1 + int((self.controls.amin(0) <= self.effect.min()).sum())) / (self.controls.shape[1] + 1)


@dataclass(frozen=True, eq=False)
class AblationCurve:
    """An ablation at each of several layers."""

    results: tuple[AblationResult, ...]
    """In the order of the layers."""

    @property
    def smallest_p(self) -> float:
        """The smallest p over layers times their number, at most 1 (Bonferroni)."""
        return min(1.0, min(result.p_value for result in self.results) * len(self.results))

    def at(self, layer: int) -> AblationResult:
        """The ablation at a layer."""
        return next(result for result in self.results if result.layer == layer)

    def standing(self, layers: Sequence[int] | None = None) -> Standing:
        """How the direction stands among its controls at some of the layers, by default all."""
        kept = [result for result in self.results if layers is None or result.layer in layers]
        means = [torch.cat([one.delta_logit.mean()[None], one.controls.delta_logit.mean(1)]) for one in kept]
        both = torch.stack(means)
        both = (both - both.mean(1, keepdim=True)) / both.std(1, keepdim=True).clamp_min(1e-12)
        return Standing(tuple(result.layer for result in kept), both[:, 0], both[:, 1:])

    def to_pandas(self) -> pandas.DataFrame:
        """One row a layer: means over prompts, ranks, p-values, bounds and accuracies."""
        return pandas.DataFrame([_row(result) for result in self.results])

    def plot(self) -> "Figure":
        """Draw the effect over layers with controls and bounds."""
        from interpkern.probing.causal_plots import plot_ablation_curve

        return plot_ablation_curve(self)

    def save(self, path: str | Path) -> None:
        """Write the table as parquet."""
        write_atomically(as_path("path", path), parquet(self.to_pandas()))


@dataclass(frozen=True, eq=False)
class PatchCurve:
    """Several kinds of patches at each of several layers."""

    results: Mapping[str, Mapping[int, PatchResult]]
    """By kind and layer."""

    def to_pandas(self) -> pandas.DataFrame:
        """One row a kind and layer with means over prompts; "identity" and "full layer" are the bounds."""
        rows = [
            {"what": kind, "layer": layer} | found.effect.means()
            for kind, by_layer in self.results.items()
            for layer, found in by_layer.items()
        ]
        for layer, found in next(iter(self.results.values())).items():
            bounds = {"identity": found.floor, "full layer": found.ceiling}
            rows += [{"what": name, "layer": layer} | one.means() for name, one in bounds.items() if one is not None]
        return pandas.DataFrame(rows)

    def plot(self) -> "Figure":
        """Draw each kind of patch over layers between the bounds."""
        from interpkern.probing.causal_plots import plot_patch_curve

        return plot_patch_curve(self)

    def save(self, path: str | Path) -> None:
        """Write the table as parquet."""
        write_atomically(as_path("path", path), parquet(self.to_pandas()))


def ablation_curve(
    model: Any,
    prompts: Any,
    *,
    position: Any,
    directions: Mapping[int, Any],
    answers: Any,
    counterfactual_answers: Any = None,
    controls: int = 99,
    controls_apart: bool | None = False,
    seed: int = 0,
    also: Mapping[str, Mapping[int, Any]] | None = None,
    fitted_on: Any = None,
    batch_size: int = 64,
    progress: Progress | bool | None = None,
) -> AblationCurve:
    """Ablate a direction at each of several layers, each with controls of its own and bounds.

    Args:
        model, prompts, position, answers, counterfactual_answers: as for `ablate`.
        directions: {layer: (D,), (q, D) or what `fit_direction` gives}.
        controls, controls_apart, seed, fitted_on, batch_size: as for `ablate`.
        also: {name: {layer: direction}} further directions, for every layer of `directions`.
        progress: a function of (layers, layers in all), True or False for a bar or none; by default a bar on a
            terminal.

    Returns:
        AblationCurve of an AblationResult a layer.

    Raises:
        ShapeError, DTypeError or ValueError that names the argument.

    Example:
        >>> fitted = {layer: fit_direction(acts[layer], values) for layer in (5, 10, 20)}  # doctest: +SKIP
        >>> ablation_curve(bridge, prompts, position=1, directions=fitted, answers=answers).plot()  # doctest: +SKIP
    """
    layers = _layers("directions", directions)
    for name, by_layer in (also or {}).items():
        if _layers(f"also[{name!r}]", by_layer) != layers:
            raise ValueError(f"also[{name!r}]: expected the layers {layers} of directions, got {sorted(by_layer)}")
    baseline = Baseline(model, prompts, layers=layers, batch_size=batch_size)
    results = []
    with reporting(progress, "ablation curve", " layers") as report:
        for layer in layers:
            found = ablate(
                model,
                prompts,
                layer=layer,
                position=position,
                direction=directions[layer],
                answers=answers,
                counterfactual_answers=counterfactual_answers,
                controls=controls,
                controls_apart=controls_apart,
                seed=seed,
                also={name: by_layer[layer] for name, by_layer in (also or {}).items()},
                fitted_on=fitted_on,
                baseline=baseline,
                progress=False,
            )
            results.append(found)
            if report is not None:
                report(len(results), len(layers))
    return AblationCurve(tuple(results))


def patch_curve(
    model: Any,
    prompts: Any,
    *,
    position: Any,
    replacements: Mapping[str, Mapping[int, Any]],
    answers: Any,
    counterfactual_answers: Any = None,
    counterfactual_prompts: Any = None,
    batch_size: int = 64,
    progress: Progress | bool | None = None,
) -> PatchCurve:
    """Patch several kinds of residuals at each of several layers, with identity and full-layer bounds.

    Args:
        model, prompts, position, answers, counterfactual_answers, counterfactual_prompts, batch_size: as for `patch`.
        replacements: {kind: {layer: (P, D)}}, such as a helix and a polynomial, the same layers for each.
        progress: a function of (patches, patches in all), True or False for a bar or none; by default a bar on a
            terminal.

    Returns:
        PatchCurve of a PatchResult a kind and layer.

    Raises:
        ShapeError, DTypeError or ValueError that names the argument.

    Example:
        >>> kinds = {"helix": {5: h[5], 10: h[10]}}  # doctest: +SKIP
        >>> patch_curve(bridge, prompts, position=1, replacements=kinds, answers=answers).plot()  # doctest: +SKIP
    """
    if not isinstance(replacements, Mapping) or not replacements:
        raise DTypeError(f"replacements: expected {{kind: {{layer: (P, D)}}}}, got {type(replacements).__name__}")
    layers = _layers("replacements", next(iter(replacements.values())))
    for kind, by_layer in replacements.items():
        if _layers(f"replacements[{kind!r}]", by_layer) != layers:
            raise ValueError(
                f"replacements[{kind!r}]: expected the layers {layers} of the others, got {sorted(by_layer)}"
            )
    baseline = Baseline(model, prompts, layers=layers, batch_size=batch_size, at_once=1)
    other = None
    if counterfactual_prompts is not None:
        other = Baseline(model, counterfactual_prompts, layers=layers, batch_size=batch_size, at_once=1)
    results: dict[str, dict[int, PatchResult]] = {kind: {} for kind in replacements}
    with reporting(progress, "patch curve", " patches") as report:
        for number, (layer, kind) in enumerate((layer, kind) for layer in layers for kind in replacements):
            results[kind][layer] = patch(
                model,
                prompts,
                layer=layer,
                position=position,
                replacement=replacements[kind][layer],
                answers=answers,
                counterfactual_answers=counterfactual_answers,
                counterfactual_prompts=other,
                baseline=baseline,
            )
            if report is not None:
                report(number + 1, len(layers) * len(replacements))
    return PatchCurve(results)


def _layers(name: str, by_layer: Any) -> list[int]:
    if not isinstance(by_layer, Mapping) or not by_layer:
        raise DTypeError(f"{name}: expected a mapping with one entry a layer, got {type(by_layer).__name__}")
    return sorted(by_layer)


def _row(result: AblationResult) -> dict[str, float]:
    effect = {f"{name}": value for name, value in result.effect.means().items()}
    bounds = {
        f"{bound}_{metric}": getattr(result, bound).means()[metric]
        for bound in ("floor", "ceiling")
        for metric in ("delta_logit", "kl", "correct")
    }
    tests = {name: float(getattr(result, name)) for name in ("rank", "p_value", "kl_rank", "kl_p_value")}
    about = {"before_correct": float(result.before.accuracy), "removed_variance": result.removed_variance}
    return {"layer": result.layer} | effect | tests | about | bounds
