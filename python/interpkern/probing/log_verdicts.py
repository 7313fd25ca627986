"""The four questions of the log probe, each with an answer, an effect, a p-value, and what would have been seen."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from interpkern.probing.magnitude import NAMED, Magnitude
from interpkern.probing.multiplication import LINE, LOG_LINE
from interpkern.text_tables import Column

if TYPE_CHECKING:
    from interpkern.probing.causal_results import AblationResult
    from interpkern.probing.circle_layers import CircleLayers
    from interpkern.probing.multiplication import Multiplication

LEVEL = 0.05
QUESTIONS = (
    "Is there a magnitude direction?",
    "Is it log rather than sqrt, linear or digit count?",
    "Is there a circle in ln n?",
    "Does the model use any of it when it multiplies?",
)


@dataclass(frozen=True)
class Verdict:
    """One question and what the data say."""

    question: str
    answer: str
    """Yes, no or no evidence, with what that means here."""
    effect: str
    """Effect size, in words with figures."""
    p_value: float
    """NaN where nothing was tested."""
    null: str
    """The null that p is under."""
    detectable: str
    """The smallest effect that would have been found at .05 with 80 % power."""

    @property
    def chance(self) -> str:
        """p and its null; empty where nothing was tested."""
        return "" if math.isnan(self.p_value) else f"p = {self.p_value:.3g}: {self.null}"

    def __str__(self) -> str:
        rest = [part for part in (self.effect, self.chance, self.detectable) if part]
        return ". ".join([f"{self.question} {self.answer}", *rest]) + "."


COLUMNS = (
    Column("question", 52, lambda verdict: verdict.question, left=True),
    Column("answer", 24, lambda verdict: verdict.answer, left=True),
    Column("effect size", 40, lambda verdict: verdict.effect, left=True),
    Column("p under which null", 40, lambda verdict: verdict.chance, left=True),
    Column("would have been seen", 40, lambda verdict: verdict.detectable, left=True),
)
"""One row a Verdict."""


def magnitude_verdict(found: Magnitude) -> Verdict:
    """Whether a component follows the size of numbers."""
    is_there = found.p_value <= LEVEL
    return Verdict(
        QUESTIONS[0],
        f"yes: component {found.component} of layer {found.layer}" if is_there else "no evidence",
        f"|r| = {found.r:.3f}, {found.r_within:.3f} among numbers of one digit count;"
        f" {found.eigenvalue_share:.1%} of the layer's variance",
        found.p_value,
        "numbers permuted within each digit count, largest of all components, scales and layers",
        f"|r| >= {found.detectable_r:.2f} among numbers of one digit count",
    )


def scale_verdict(found: Magnitude) -> Verdict:
    """On which scale it does."""
    share = found.r_squared
    figures = ", ".join(f"{name} {share[name]:.3f}" for name in ("log", "sqrt", "linear", "digits"))
    effect = (
        f"exponent {found.exponent:.2f} [{found.low:.2f}, {found.high:.2f}] (0 log, .5 sqrt, 1 linear); R²: {figures}"
    )
    return Verdict(
        QUESTIONS[1],
        _scale_answer(found),
        effect,
        found.p_log,
        "that the exponent is 0, deviations drawn in blocks of neighbours",
        f"an exponent {found.detectable_exponent:.2f} from 0",
    )


def _scale_answer(found: Magnitude) -> str:
    if found.p_value > LEVEL:
        return "no magnitude direction, so no scale"
    if found.p_digits > LEVEL:
        return "undecided: digit count explains it as well"
    if not found.scales:
        return f"no: {_between(found.exponent)}"
    if found.scales == ("log",):
        return "yes: log"
    among = " and ".join(found.scales)
    if "log" in found.scales:
        return f"undecided between {among}"
    return f"no: {among}" if len(found.scales) == 1 else f"no: {among} both fit"


def _between(exponent: float) -> str:
    """Where an exponent lies that is none of the named ones."""
    below = [name for name, value in NAMED.items() if value < exponent]
    above = [name for name, value in NAMED.items() if value > exponent]
    if not below:
        return "more bent than log"
    return f"between {below[-1]} and {above[0]}" if above else "bent the other way than linear"


def circle_verdict(found: "CircleLayers") -> Verdict:
    """Whether there is a circle in ln n at any layer."""
    test, layers = found.strongest, len(found.tests)
    where = f"layer {found.layer}, period {test.period:.3g} nats (a factor of {test.ratio:.3g})"
    return Verdict(
        QUESTIONS[2],
        _circle_answer(found, where),
        f"strongest at {where}: {test.power:.1%} of the variance that the nuisance leaves, and"
        f" {test.extrapolation.gain:.1%} of that of octaves left out; best in a coordinate of exponent"
        f" {test.best_lambda:g} (0 log, 1 linear)",
        found.p_value,
        f"{found.null} null, largest of all frequencies{f' and {layers} layers' if layers > 1 else ''}",
        _circle_sizes(found.detectable),
    )


def _circle_answer(found: "CircleLayers", where: str) -> str:
    if found.believed:
        return f"yes: {where}"
    if found.p_value > LEVEL:
        return "no evidence"
    if found.null == "permutation":
        return "no evidence: there is structure, and this null can't say that it is a circle"
    return "no evidence: something stands out that is no circle in ln n"


def _circle_sizes(detectable: dict[float, float]) -> str:
    """The smallest circles in words; periods at which none would have been found are named."""
    if not detectable:
        return "not asked for"
    sizes = [f"{share:.0%} at {period:.3g}" for period, share in sorted(detectable.items()) if math.isfinite(share)]
    missed = [f"{period:.3g}" for period, share in sorted(detectable.items()) if not math.isfinite(share)]
    found = f"a circle of {', '.join(sizes)} nats" if sizes else "no circle of any size"
    return found + (f"; of no size at {', '.join(missed)} nats" if missed and sizes else "")


def use_verdict(found: "Multiplication | None", why_not: str) -> Verdict:
    """Whether the model multiplies with a direction for ln n."""
    if found is None:
        return Verdict(QUESTIONS[3], "not tested", why_not, math.nan, "", "")
    result = found.ablations.at(found.layer)
    beside = ", ".join(f"{name} {float(one.delta_logit.mean()):+.2f}" for name, one in result.also.items())
    controls = float(result.controls.delta_logit.mean())
    over = f", over {len(found.read)} layers" if len(found.read) > 1 else ""
    return Verdict(
        QUESTIONS[3],
        _use_answer(found),
        f"the answer's logit changes by {found.delta_logit:+.2f} without ln n at layer {found.layer} ({beside}; random"
        f" directions {controls:+.2f}; whole residual {float(result.ceiling.delta_logit.mean()):+.2f}); accuracy"
        f" {found.accuracy:.0%} before, {result.accuracy:.0%} after; of a full patch {_patches(found)}",
        found.p_value,
        f"{len(result.control_removed_variance)} {_random(result)} of the same removed variance"
        f"{over}; what ln n has beyond n: p = {found.beyond_p_value:.2g}; ln n rather than n in patches, signs flipped:"
        f" p = {found.log_p_value:.2g}",
        f"a fall of {found.detectable:.2f} logits",
    )


def _random(found: "AblationResult") -> str:
    if not found.controls_apart:
        return "random directions"
    return f"sets of {found.control_dimensions} random directions orthogonal to it,"


def _patches(found: "Multiplication") -> str:
    return ", ".join(f"a {kind} does {found.patched(kind):.0%}" for kind in (LOG_LINE, LINE))


def _use_answer(found: "Multiplication") -> str:
    if found.p_value > LEVEL:
        return "no evidence"
    scale = "ln n fits it better than n" if found.log_p_value <= LEVEL else "nothing shows that it is ln n and not n"
    return f"yes: a magnitude direction at the operands, layer {found.layer}; {scale}"
