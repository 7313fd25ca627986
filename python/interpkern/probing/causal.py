"""Causal tests of a model: its residual replaced, or a direction of it projected out, against controls and bounds."""

from collections.abc import Mapping
from itertools import groupby
from typing import Any

import torch

from interpkern.errors import DTypeError, ShapeError
from interpkern.probing.baseline import Baseline
from interpkern.probing.bridges import checked_bridge, checked_tokens
from interpkern.probing.causal_results import AblationResult, PatchResult
from interpkern.probing.controls import MATCHED, matched_controls, overlap
from interpkern.probing.layer_run import LayerRun, checked_answers, divergence
from interpkern.probing.outcomes import GROUP_BYTES, Asked, Outcome, joined
from interpkern.probing.subspaces import (
    FittedDirection,
    checked_subspace,
    projected_out,
    refuse_overlap,
    removed_share,
)
from interpkern.progress import Progress, reporting
from interpkern.validation import boolean, integer, plain_tensor

FEWEST_CONTROLS = 99
LIKE = 0.5
"""Mean squared cosine with the tested direction above which controls say little."""


def patch(
    model: Any,
    prompts: Any,
    *,
    layer: int,
    position: Any,
    replacement: Any,
    answers: Any,
    counterfactual_answers: Any = None,
    counterfactual_prompts: Any = None,
    batch_size: int = 64,
    baseline: Baseline | None = None,
) -> PatchResult:
    """Run a model with another residual entering a layer at a position.

    Args:
        model: a transformer_lens TransformerBridge (3.9 to 4.x) that predicts tokens.
        prompts: (P, S) int64 token ids, all of one length and without padding.
        layer: the layer whose resid_pre is replaced.
        position: an integer, (P,) int64, or (P, Q) int64 for Q positions of each prompt.
        replacement: (P, D) float, one residual a prompt; (P, Q, D) where position is (P, Q).
        answers: (P,) int64 token ids whose logit `delta_logit` follows.
        counterfactual_answers: (P,) int64 token ids that the replacement should lead to.
        counterfactual_prompts: (P, S) int64 prompts, or their Baseline: their residual there gives the ceiling.
        batch_size: rows in one forward pass.
        baseline: a run of the same prompts that kept this layer, where several patches share one.

    Returns:
        PatchResult: logits, delta_logit, logit_difference (both in logits), kl (nats), accuracy, floor and ceiling.

    Raises:
        ShapeError, DTypeError or ValueError that names the argument.

    Source:
        Kantamneni and Tegmark 2025, "Language Models Use Trigonometry to Do Addition", section 4.2. Their logit
        difference is `effect.counterfactual_delta_logit`.

    Example:
        >>> patch(bridge, prompts, layer=3, position=1, replacement=h, answers=answers).delta_logit  # doctest: +SKIP
    """
    checked_bridge("model", model)
    if baseline is None:
        baseline = Baseline(model, prompts, layers=[layer], batch_size=batch_size, at_once=1)
    run = LayerRun(model, prompts, layer=layer, position=position, baseline=baseline)
    asked = _asked(run, answers, counterfactual_answers)
    logits = run.run(_one_each(run, replacement), name="replacement")
    kl = divergence(run.before, logits.to(run.before)).cpu()
    ceiling = None
    if counterfactual_prompts is not None:
        full = _full_residual(run, model, counterfactual_prompts, position)
        ceiling = asked.outcome(full[None])[0]
    floor = asked.outcome(run.at_position[None])[0]
    effect, before = asked.of_logits(logits, kl), asked.before()
    return PatchResult(run.layer, logits, effect, before, floor, ceiling, run.starts_at_layer)


def _one_each(run: LayerRun, replacement: Any) -> torch.Tensor:
    """One residual a prompt, without a dimension K in front."""
    tensor = plain_tensor("replacement", replacement)
    if tensor.ndim != run.at_position.ndim:
        wanted = tuple(run.at_position.shape)
        raise ShapeError(f"replacement: expected {wanted}, one residual a prompt, got {tuple(tensor.shape)}")
    return tensor


def _full_residual(run: LayerRun, model: Any, prompts: Any, position: Any) -> torch.Tensor:
    other = prompts
    if not isinstance(prompts, Baseline):
        tokens = checked_tokens("counterfactual_prompts", model, prompts)
        other = Baseline(model, tokens, layers=[run.layer], batch_size=run.baseline.batch_size)
    if other.tokens.shape != run.baseline.tokens.shape:
        raise ValueError(
            f"counterfactual_prompts: expected {tuple(run.baseline.tokens.shape)} to match prompts, got"
            f" {tuple(other.tokens.shape)}"
        )
    return LayerRun(model, other.tokens, layer=run.layer, position=position, baseline=other).at_position


def ablate(
    model: Any,
    prompts: Any,
    *,
    layer: int,
    position: Any,
    direction: Any,
    answers: Any,
    counterfactual_answers: Any = None,
    controls: int = 99,
    controls_apart: bool | None = False,
    seed: int = 0,
    also: Mapping[str, Any] | None = None,
    fitted_on: Any = None,
    batch_size: int = 64,
    baseline: Baseline | None = None,
    progress: Progress | bool | None = None,
) -> AblationResult:
    """Project a direction out of the residual at some positions, its mean kept, and compare with matched controls.

    Args:
        model: a transformer_lens TransformerBridge (3.9 to 4.x) that predicts tokens.
        prompts: (P, S) int64 token ids, all of one length and without padding.
        layer: the layer whose resid_pre is ablated.
        position: an integer, (P,) int64, or (P, Q) int64 to ablate at Q positions of each prompt, each with its mean.
        direction: (D,) or a subspace (q, D), of any length; or what `fit_direction` gives.
        answers: (P,) int64 token ids whose logit `delta_logit` follows.
        counterfactual_answers: (P,) int64 token ids for `logit_difference`.
        controls: random directions in the span of the data that remove as much variance; 99 or more for p <= .01.
        controls_apart: draw controls orthogonal to the direction, of as many dimensions as it takes to remove as much
            variance; for a wide direction, whose equals are much like it. None draws them so where those of the
            direction's own size would share more than half of it (mean squared cosine).
        seed: of the controls.
        also: further directions by name, such as one for n and one for digits, ablated beside it.
        fitted_on: (P', S) int64 prompts that the direction was fitted on; the test is refused on any of them.
        batch_size: rows in one forward pass.
        baseline: a run of the same prompts that kept this layer, where several tests share one.
        progress: a function of (ablations, ablations in all), True or False for a bar or none; by default a bar on a
            terminal.

    Returns:
        AblationResult: delta_logit (logits), kl (nats), rank among the controls and p_value in (0, 1].

    Raises:
        ShapeError, DTypeError or ValueError that names the argument.

    Example:
        >>> toy = log_multiplier()  # doctest: +SKIP
        >>> known = {"position": toy.operands, "direction": toy.log_direction, "answers": toy.answers}  # doctest: +SKIP
        >>> ablate(toy.bridge, toy.prompts, layer=1, **known).rank  # doctest: +SKIP
        1
    """
    checked_bridge("model", model)
    count, seed = integer("controls", controls, 1), integer("seed", seed, 0)
    if not isinstance(also or {}, Mapping):
        raise DTypeError(f"also: expected {{name: direction}}, got {type(also).__name__}")
    if baseline is None:
        baseline = Baseline(model, prompts, layers=[layer], batch_size=batch_size)
    run = LayerRun(model, prompts, layer=layer, position=position, baseline=baseline, reuse_prefix=True)
    asked = _asked(run, answers, counterfactual_answers)
    known = _fitted_on(run, direction, fitted_on)
    acts = run.acts()
    subspace = _present("direction", direction, acts)
    others = {name: _present(f"also[{name!r}]", value, acts) for name, value in (also or {}).items()}
    apart = None if controls_apart is None else boolean("controls_apart", controls_apart)
    drawn, like = _controls(acts, subspace, count, seed, apart)
    spaces = [subspace, *others.values(), *drawn]
    with reporting(progress, f"ablate at layer {run.layer}", " ablations") as report:
        found = _ablations(asked, acts, spaces, report)
        floor = asked.outcome(run.shaped(acts[None]))[0]
        ceiling = asked.outcome(run.shaped(acts.mean(0).expand_as(acts)[None]))[0]
    removed = [float(removed_share(acts, space[None])[0]) for space in (subspace, *others.values())]
    matched = removed_share(acts, drawn)
    return AblationResult(
        layer=run.layer,
        effect=found[0],
        controls=found[1 + len(others) :],
        before=asked.before(),
        floor=floor,
        ceiling=ceiling,
        also={name: found[1 + place] for place, name in enumerate(others)},
        removed_variance=removed[0],
        control_removed_variance=matched,
        also_removed_variance=dict(zip(others, removed[1:], strict=True)),
        control_dimensions=drawn.shape[1],
        control_overlap=like,
        starts_at_layer=run.starts_at_layer,
        warnings=_warnings(count, removed[0], matched, like, known),
    )


def _controls(
    acts: torch.Tensor, subspace: torch.Tensor, count: int, seed: int, apart: bool | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Controls (count, q, D) and their overlap (count,) with the subspace."""
    drawn = matched_controls(acts, subspace, count, seed, apart=bool(apart))
    like = overlap(drawn, subspace)
    if apart is None and float(like.mean()) > LIKE:
        return _controls(acts, subspace, count, seed, True)
    return drawn, like


def _ablations(asked: Asked, acts: torch.Tensor, spaces: list[torch.Tensor], report: Progress | None) -> Outcome:
    """(K, P) outcomes of projecting out each of K subspaces, a group of one size at a time."""
    size, done = max(1, GROUP_BYTES // (acts.numel() * acts.element_size())), 0
    parts = []
    for _, alike in groupby(spaces, len):
        left = list(alike)
        while left:
            group, left = left[:size], left[size:]
            parts.append(asked.outcome(asked.run.shaped(projected_out(acts, torch.stack(group)))))
            done += len(group)
            if report is not None:
                report(done, len(spaces))
    return joined(parts)


def _asked(run: LayerRun, answers: Any, counterfactual: Any) -> Asked:
    vocabulary, prompts = run.baseline.logits.shape[1], len(run.positions)
    wanted = checked_answers("answers", answers, prompts, vocabulary, several=False)
    if counterfactual is not None:
        counterfactual = checked_answers("counterfactual_answers", counterfactual, prompts, vocabulary, several=False)
    return Asked(run, wanted, counterfactual)


def _present(name: str, direction: Any, acts: torch.Tensor) -> torch.Tensor:
    """(q, D) rows, refused where the activations have no variance along them."""
    subspace = checked_subspace(name, direction, acts.shape[-1])
    if len(acts) < 2 or not float(removed_share(acts, subspace[None])[0]) > 1e-12:
        raise ValueError(
            f"{name}: expected a direction along which the residuals of the prompts differ; nothing would be removed at"
            " this layer and position"
        )
    return subspace


def _fitted_on(run: LayerRun, direction: Any, fitted_on: Any) -> bool:
    """Whether the prompts of the fit are known, and none of them is tested."""
    if fitted_on is None and isinstance(direction, FittedDirection):
        fitted_on = direction.fitted_on
    if fitted_on is None:
        return False
    refuse_overlap(run.baseline.tokens.cpu(), fitted_on)
    return True


def _warnings(count: int, removed: float, matched: torch.Tensor, like: torch.Tensor, known: bool) -> tuple[str, ...]:
    off = float((matched / removed - 1).abs().max())
    found = {
        f"{count} controls give no p below {1 / (count + 1):.2g}; use {FEWEST_CONTROLS} or more": count
        < FEWEST_CONTROLS,
        f"controls remove up to {off:.0%} more or less variance than the direction, for which the data's span has"
        " no match": off > MATCHED,
        f"the direction holds {removed:.0%} of the variance, and controls that match it share {float(like.mean()):.0%}"
        " of it (squared cosine): a rank among them says little; take controls_apart": float(like.mean()) > LIKE,
        "whether the direction was fitted on other prompts is unknown: give fitted_on": not known,
    }
    return tuple(text for text, holds in found.items() if holds)
