"""What functions of the operands do in place of an activation: fits at a position of a layer, patched and scored."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from interpkern.probing.addition_design import Design, Pairs
from interpkern.probing.addition_prompts import Prompts
from interpkern.probing.bases import Basis, helix_basis, joint_basis, polynomial_basis
from interpkern.probing.components import principal_components
from interpkern.probing.fits import (
    BasisFit,
    component_count,
    enough_rows,
    fit_basis,
    r_squared,
    shuffled_predictions,
    shuffles,
)
from interpkern.probing.layer_run import LayerRun

Variables = Mapping[str, torch.Tensor]
NOTHING = 1e-5
"""Logits; where the full patch does less, no share of it is given."""


@dataclass(frozen=True)
class Method:
    """A way to write an activation as a function of numbers."""

    name: str
    kind: str
    """helix, circles or polynomial."""
    variables: tuple[str, ...]
    """The numbers that it is a function of."""

    def basis(self, values: Variables, periods: Sequence[float]) -> Basis:
        """Its functions on some prompts; a polynomial has as many columns as the helix of the same number."""
        chosen = {name: values[name] for name in self.variables}
        return joint_basis(chosen, {name: self._part(column, periods) for name, column in chosen.items()})

    def _part(self, numbers: torch.Tensor, periods: Sequence[float]) -> Basis:
        helix = helix_basis(numbers, periods, linear=self.kind == "helix" or self.kind == "polynomial")
        return polynomial_basis(numbers, helix.columns) if self.kind == "polynomial" else helix


def methods(site: str, operator: str) -> list[Method]:
    """What is tried at a position, the whole helix first."""
    if site != "last":
        return [Method(kind, kind, (site,)) for kind in ("helix", "circles", "polynomial")]
    result = f"a{operator}b"
    every = ("a", "b", result)
    found = [Method(kind, kind, every) for kind in ("helix", "circles", "polynomial")]
    return [*found, Method("helix(a, b)", "helix", ("a", "b")), Method(f"helix({result})", "helix", (result,))]


def variables(prompts: Prompts, design: Design) -> dict[str, torch.Tensor]:
    """The numbers of each prompt: a, b and the result."""
    arithmetic = design.arithmetic
    pairs = zip(prompts.a.tolist(), prompts.b.tolist(), strict=True)
    results = [arithmetic.result(int(a), int(b)) for a, b in pairs]
    return {"a": prompts.a, "b": prompts.b, f"a{arithmetic.operator}b": torch.tensor(results, dtype=torch.float64)}


def operand_means(acts: torch.Tensor, operands: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(N, D) mean activation of each operand, over the prompts (P, D) that have it, and the operands (N,)."""
    numbers, places = operands.unique(return_inverse=True)
    sums = acts.new_zeros(len(numbers), acts.shape[1]).index_add_(0, places, acts)
    return sums / places.bincount()[:, None], numbers


def training_rows(design: Design, site: str, acts: torch.Tensor) -> tuple[torch.Tensor, Variables]:
    """What is fitted at a position: means by operand, or prompts at the last position, without held-out operands."""
    if site != "last":
        means, numbers = operand_means(acts, getattr(design.fitted, site))
        kept = ~torch.isin(numbers, design.held_out)
        return means[kept], {site: numbers[kept]}
    kept = ~torch.isin(design.fitted.a, design.held_out)
    return acts[kept], {name: values[kept] for name, values in variables(design.fitted, design).items()}


@dataclass(frozen=True)
class PatchSettings:
    """What all patches of a study have in common."""

    periods: tuple[float, ...]
    components: int
    controls: int
    seed: int


def patch_site(
    design: Design, site: str, run: LayerRun, acts: torch.Tensor, target: torch.Tensor, settings: PatchSettings
) -> list[dict[str, Any]]:
    """One row a method: the effect of its prediction for the counterfactual operand in place of the activation.

    Args:
        design: the prompts.
        site: a, b or last.
        run: the test prompts from the layer on, replaced at the site.
        acts: (P, D) activations of the fitted prompts at the site.
        target: (T, D) activations of the counterfactual test prompts there: the full patch.
        settings: of the fits.
    """
    pairs = design.tests["b" if site == "b" else "a"]
    rows, values = training_rows(design, site, acts)
    wanted = variables(pairs.counterfactual, design)
    replacements = {"identity": run.at_position.cpu().double(), "full": target}
    fits: dict[str, BasisFit] = {}
    controls = target[:0, None]
    if bool((rows - rows.mean(0)).square().sum() > 1e-12 * rows.square().sum()):
        for method in methods(site, design.arithmetic.operator):
            basis = method.basis(values, settings.periods)
            enough_rows(torch.arange(len(rows)), len(basis.names), f"{method.name} at {site}")
            fits[method.name] = fit_basis(rows, basis, settings.components)
            replacements[method.name] = fits[method.name].predict({name: wanted[name] for name in method.variables})
        size = fits["helix"].basis.columns
        replacements[f"components {size}"] = _projected(rows, target, size)
        orders = shuffles(len(rows), settings.controls, settings.seed)
        controls = shuffled_predictions(fits["helix"], rows, orders, {name: wanted[name] for name in values})
    return _scored(run, pairs, replacements, controls, target, rows.mean(0))


def _projected(rows: torch.Tensor, target: torch.Tensor, size: int) -> torch.Tensor:
    """The actual activation in its main components: what as many dimensions can hold."""
    mean = rows.mean(0)
    _, directions, _ = principal_components(rows, component_count(rows, size))
    return mean + (target - mean) @ directions.mT @ directions


def _scored(
    run: LayerRun,
    pairs: Pairs,
    replacements: Mapping[str, torch.Tensor],
    controls: torch.Tensor,
    target: torch.Tensor,
    mean: torch.Tensor,
) -> list[dict[str, Any]]:
    """Effects of all replacements in one call, the shuffled controls behind the named ones."""
    named = torch.stack(list(replacements.values()))
    effects = run.effects(torch.cat([named, controls]) if len(controls) else named, pairs.answers)
    change = (effects.answer_logits - run.baseline_logits(pairs.answers)).double()
    figures = {
        "delta_logit": change[..., 1].mean(1),
        "logit_difference": (effects.answer_logits[..., 1] - effects.answer_logits[..., 0]).double().mean(1),
        "accuracy": (effects.top == pairs.answers[:, 1]).double().mean(1),
        "kl": effects.kl.double().mean(1),
    }
    full = float(figures["delta_logit"][1])
    figures["share_of_full"] = figures["delta_logit"] / (full if abs(full) > NOTHING else math.nan)
    found = [
        {"method": name, "r_squared": r_squared(target, predicted, mean), "p_value": math.nan}
        | {figure: float(values[place]) for figure, values in figures.items()}
        for place, (name, predicted) in enumerate(replacements.items())
    ]
    found[0]["r_squared"] = math.nan
    if len(controls):
        observed, null = float(figures["delta_logit"][list(replacements).index("helix")]), change[len(named) :, :, 1]
        helix = next(row for row in found if row["method"] == "helix")
        helix["p_value"] = (1 + int((null.mean(1) >= observed).sum())) / (len(null) + 1)
        means = {figure: float(values[len(named) :].mean()) for figure, values in figures.items()}
        found.append({"method": "shuffled", "r_squared": math.nan, "p_value": math.nan} | means)
    return found
