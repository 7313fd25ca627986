"""Whether a model uses what it holds of the operands when it multiplies: ablations and patches over layers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas
import torch

from interpkern.activations.tokenising import token_ids
from interpkern.probing.addition_prompts import Arithmetic, Encode, Prompts
from interpkern.probing.baseline import Baseline
from interpkern.probing.bridges import checked_bridge, checked_layer
from interpkern.probing.causal_curves import AblationCurve, PatchCurve, ablation_curve, patch_curve
from interpkern.probing.subspaces import FittedDirection, fit_direction
from interpkern.progress import Progress
from interpkern.random import check_seed
from interpkern.validation import integer

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NUMBERS = range(1, 10)
TEMPLATE = "Calculate: {a}*{b} = "
TESTED = "ln n"
BEYOND = "ln n beyond n"
FITTED_SHARE = 0.6
"""Of the pairs of operands; the others are for tests."""
PARTS = 5
"""The default layers cut the model into so many parts."""
LEVEL = 0.05


@dataclass(frozen=True, eq=False)
class Multiplication:
    """Ablations of number directions at both operands, and patches of operand a, over layers."""

    operands: tuple[int, ...]
    template: str
    fitted_prompts: int
    """On which directions and patches were fitted; tested on others."""
    tested_prompts: int
    accuracy: float
    """Share of the tested prompts whose most likely next token is the first of the answer, without interventions."""
    ablations: AblationCurve
    """Of the direction of ln n, with those of n and of ln n beyond n beside it."""
    patches: PatchCurve
    """Operand a as a line in ln n, as a line in n, and as its mean, between the identity and the full layer."""

    @property
    def layers(self) -> tuple[int, ...]:
        """Where."""
        return tuple(result.layer for result in self.ablations.results)

    @property
    def layer(self) -> int:
        """Where ablating ln n stands out most among its controls."""
        return self.layers[int(self._standing()[0].argmin())]

    @property
    def p_value(self) -> float:
        """That ablating ln n lowers the answer's logit more than random directions do, at its most harmful layer."""
        effect, controls = self._standing()
        return (1 + int((controls.amin(dim=0) <= effect.min()).sum())) / (controls.shape[1] + 1)

    @property
    def delta_logit(self) -> float:
        """Mean change of the answer's logit by the ablation at `layer`."""
        return float(self._at(self.layer).delta_logit.mean())

    @property
    def detectable(self) -> float:
        """The smallest fall of the answer's mean logit at `layer`, on these prompts, that would have had p <= .05."""
        _, controls = self._standing()
        means = self._at(self.layer).controls.delta_logit.mean(1)
        threshold = means.mean() + means.std() * controls.amin(dim=0).quantile(LEVEL)
        return float((-threshold).clamp_min(0))

    def _at(self, layer: int) -> Any:
        return self.ablations.results[self.layers.index(layer)]

    def _standing(self) -> tuple[torch.Tensor, torch.Tensor]:
        """(L,) effect and (L, controls) of each control, in standard deviations of the layer's controls."""
        means = [(one.delta_logit.mean(), one.controls.delta_logit.mean(1)) for one in self.ablations.results]
        scale = [controls.std().clamp_min(1e-12) for _, controls in means]
        effect = torch.stack([(one - rest.mean()) / size for (one, rest), size in zip(means, scale, strict=True)])
        controls = torch.stack([(rest - rest.mean()) / size for (_, rest), size in zip(means, scale, strict=True)])
        return effect, controls

    def to_pandas(self) -> pandas.DataFrame:
        """One row a layer and direction: its mean change of the answer's logit, KL and accuracy after."""
        rows = []
        for result in self.ablations.results:
            own = {"p_value": result.p_value, "rank": result.rank, "removed_variance": result.removed_variance}
            rows.append({"layer": result.layer, "direction": TESTED} | result.effect.means() | own)
            for name, outcome in result.also.items():
                removed = {"removed_variance": result.also_removed_variance[name]}
                rows.append({"layer": result.layer, "direction": name} | outcome.means() | removed)
            controls = result.controls.delta_logit.mean(1)
            about = {"delta_logit": float(controls.mean()), "kl": float(result.controls.kl.mean())}
            rows.append({"layer": result.layer, "direction": "controls, mean"} | about)
        return pandas.DataFrame(rows).drop(columns=["counterfactual_delta_logit", "counterfactual_correct"])

    def plot(self) -> "Figure":
        """Draw the ablations over layers, with controls and bounds; `patches.plot()` draws the patches."""
        return self.ablations.plot()


def multiplication_study(
    bridge: Any,
    *,
    operands: Any = NUMBERS,
    template: str = TEMPLATE,
    layers: Sequence[int] | None = None,
    tested_prompts: int = 24,
    controls: int = 99,
    batch_size: int = 64,
    seed: int = 0,
    encode: Encode | None = None,
    progress: Progress | bool | None = None,
) -> Multiplication:
    """Ablate the direction of ln n at the operands of a product, and patch operand a, at several layers.

    Directions are fitted on other prompts than they are tested on. At both operands the direction that covaries with
    ln n is projected out, its mean kept, and compared with random directions that remove as much variance; the
    directions of n, and of ln n with n taken out, stand beside it. A patch writes another number a' into operand a by
    a line in ln a', a line in a', or the mean activation of a', which is all that any function of a' could do.

    Args:
        bridge: a transformer_lens TransformerBridge (3.9 to 4.x) that predicts tokens.
        operands: different integers, each one token.
        template: text with {a} and {b}, up to where the answer's first token comes.
        layers: whose entering residual is changed; by default four that cut the model into five equal parts.
        tested_prompts: pairs of operands that are tested, at most.
        controls: random directions at each layer, 99 or more.
        batch_size: rows in one forward pass.
        seed: of pairs and controls.
        encode: gives the token ids of a text, where the bridge has no tokenizer.
        progress: a function of (done, total) layers; True or False for a bar or none; by default a bar on a terminal.

    Returns:
        Multiplication; `p_value` is over layers, delta_logit in logits.

    Raises:
        ShapeError, DTypeError or ValueError that names the argument: operands of several tokens, a template whose
        answer does not begin a token.

    Example:
        >>> multiplication_study(bridge).p_value  # doctest: +SKIP
    """
    checked_bridge("bridge", bridge)
    generator = torch.Generator().manual_seed(check_seed(seed))
    wanted, arithmetic = _layers(bridge, layers), Arithmetic(bridge, operands, template, operator="*", encode=encode)
    fitted, tested = _split(arithmetic, integer("tested_prompts", tested_prompts, 2), generator)
    first = first_tokens(arithmetic, encode or (lambda text: token_ids(bridge, text, 1 << 20)))
    positions = torch.tensor([arithmetic.positions["a"], arithmetic.positions["b"]])
    answers = torch.tensor([first(int(a), int(b)) for a, b in zip(tested.a, tested.b, strict=True)])
    residuals = Baseline(bridge, fitted.tokens, layers=wanted, batch_size=batch_size).residuals
    at = {layer: found[:, positions].double().cpu() for layer, found in residuals.items()}
    directions = {layer: _directions(rows, fitted) for layer, rows in at.items()}
    also = {name: {layer: found[name] for layer, found in directions.items()} for name in ("n", BEYOND)}
    ablations = ablation_curve(
        bridge,
        tested.tokens,
        position=positions.expand(len(tested), 2).contiguous(),
        directions={layer: found[TESTED] for layer, found in directions.items()},
        answers=answers,
        controls=controls,
        seed=seed,
        also=also,
        fitted_on=fitted.tokens,
        batch_size=batch_size,
        progress=progress,
    )
    others = _others(tested, arithmetic.numbers, first, generator)
    counterfactual = arithmetic.prompts([(a, int(b)) for a, b in zip(others, tested.b, strict=True)])
    patches = patch_curve(
        bridge,
        tested.tokens,
        position=arithmetic.positions["a"],
        replacements=_replacements({layer: rows[:, 0] for layer, rows in at.items()}, fitted.a, torch.tensor(others)),
        answers=answers,
        counterfactual_answers=torch.tensor([first(a, int(b)) for a, b in zip(others, tested.b, strict=True)]),
        counterfactual_prompts=counterfactual.tokens,
        batch_size=batch_size,
        progress=False,
    )
    accuracy = float(ablations.results[0].before.accuracy)
    numbers = tuple(arithmetic.numbers)
    return Multiplication(numbers, template, len(fitted), len(tested), accuracy, ablations, patches)


def _layers(bridge: Any, layers: Sequence[int] | None) -> list[int]:
    if layers is None:
        return sorted({len(bridge.blocks) * part // PARTS for part in range(1, PARTS)})
    return sorted({checked_layer("layers", bridge, layer) for layer in layers})


def _split(arithmetic: Arithmetic, most: int, generator: torch.Generator) -> tuple[Prompts, Prompts]:
    """Prompts to fit on, in which each operand is on both sides, and others to test."""
    numbers = arithmetic.numbers
    turned = [numbers[place] for place in torch.randperm(len(numbers), generator=generator).tolist()]
    pairs = [(a, b) for a in numbers for b in numbers]
    order = torch.randperm(len(pairs), generator=generator).tolist()
    mixed = list(dict.fromkeys([*zip(numbers, turned, strict=True), *(pairs[place] for place in order)]))
    cut = int(FITTED_SHARE * len(pairs))
    return arithmetic.prompts(mixed[:cut]), arithmetic.prompts(mixed[cut : cut + most])


def first_tokens(arithmetic: Arithmetic, encode: Encode) -> Any:
    """A function of a and b that gives the first token of their product behind the prompt."""

    def first(a: int, b: int) -> int:
        text = arithmetic.text(a, b)
        ids, whole = list(encode(text)), list(encode(text + str(arithmetic.result(a, b))))
        if whole[: len(ids)] != ids or len(whole) == len(ids):
            raise ValueError(
                f"template: the tokenizer joins the answer to the end of {text!r}, so it has no first token of its own;"
                " put a space at the end, or take it away"
            )
        return int(whole[len(ids)])

    return first


def _directions(rows: torch.Tensor, prompts: Prompts) -> dict[str, FittedDirection]:
    """Of activations (P, 2, D) at both operands, each position with its own mean."""
    acts = (rows - rows.mean(0)).transpose(0, 1).flatten(0, 1)
    sides = torch.stack([prompts.a, prompts.b])
    values = {TESTED: sides.log(), "n": sides}
    centred = {name: (value - value.mean(1, keepdim=True)).flatten() for name, value in values.items()}
    slope = (centred[TESTED] @ centred["n"]) / (centred["n"] @ centred["n"])
    centred[BEYOND] = centred[TESTED] - slope * centred["n"]
    return {name: fit_direction(acts, value) for name, value in centred.items()}


def _others(prompts: Prompts, numbers: Sequence[int], first: Any, generator: torch.Generator) -> list[int]:
    """Another operand a' for each prompt, such that the answer begins with another token where there is one."""
    found = []
    for a, b in zip(prompts.a.int().tolist(), prompts.b.int().tolist(), strict=True):
        order = [numbers[place] for place in torch.randperm(len(numbers), generator=generator).tolist()]
        different = [other for other in order if other != a and first(other, b) != first(a, b)]
        found.append((different or [other for other in order if other != a])[0])
    return found


def _replacements(
    acts: Mapping[int, torch.Tensor], operands: torch.Tensor, others: torch.Tensor
) -> dict[str, dict[int, torch.Tensor]]:
    """{kind: {layer: (P, D)}}: what a function of a', fitted to activations (P', D), puts at operand a."""
    kinds: dict[str, dict[int, torch.Tensor]] = {"line in ln n": {}, "line in n": {}, "mean of n": {}}
    numbers, places = operands.unique(return_inverse=True)
    for layer, rows in acts.items():
        for kind, scale in (("line in ln n", torch.log), ("line in n", torch.clone)):
            design, wanted = (torch.stack([torch.ones_like(x), scale(x)], 1) for x in (operands, others.double()))
            kinds[kind][layer] = wanted @ torch.linalg.lstsq(design, rows).solution
        sums = rows.new_zeros(len(numbers), rows.shape[1]).index_add_(0, places, rows)
        means = sums / places.bincount()[:, None]
        kinds["mean of n"][layer] = means[torch.searchsorted(numbers, others.double())]
    return kinds
