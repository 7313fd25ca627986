"""Whether a model uses what it holds of the operands when it multiplies: ablations and patches over layers."""

import math
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
from interpkern.probing.causal_results import PatchResult
from interpkern.probing.subspaces import FittedDirection, fit_direction
from interpkern.progress import Progress, reporting
from interpkern.random import check_seed
from interpkern.validation import integer

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NUMBERS = range(1, 10)
TEMPLATE = "Calculate: {a}*{b} = "
TESTED = "ln n"
BEYOND = "ln n beyond n"
LOG_LINE, LINE, MEAN = "line in ln n", "line in n", "mean of n"
"""What patches write into operand a."""
FITTED_SHARE = 0.6
"""Of the pairs of operands; the others are for tests."""
PARTS = 5
"""The default layers cut the model into so many parts."""
LEVEL = 0.05
POWER = 0.84
"""Standard deviations that 80 % of a normal distribution lie above, with another sign."""
AHEAD = 1e-2
"""Share of a token's residual that may change with a later token."""
FLIPPED = 12
"""Groups up to which all flips of signs are tried."""
READ = 0.1
"""Operands are read at a layer where their residual does at least this share of what it does at any."""


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
    beyond: AblationCurve
    """Of what ln n has beyond n, with controls of its own, at the layers of `read`."""
    patches: PatchCurve
    """Operand a as a line in ln n, as a line in n, and as its mean, between the identity and the full layer."""
    others: torch.Tensor
    """(P,) int64: the number that the patches write into operand a of each tested prompt."""

    @property
    def layers(self) -> tuple[int, ...]:
        """Where."""
        return tuple(result.layer for result in self.ablations.results)

    @property
    def read(self) -> tuple[int, ...]:
        """The layers where operands are still read: another operand's residual moves the answer there."""
        return _read(self.patches)

    @property
    def layer(self) -> int:
        """Where ablating ln n stands out most among its controls, of the layers where operands are still read."""
        return self.ablations.standing(self.read).layer

    @property
    def p_value(self) -> float:
        """That ablating ln n lowers the answer's logit more than random directions do, over the layers of `read`."""
        return self.ablations.standing(self.read).p_value

    @property
    def beyond_p_value(self) -> float:
        """The same for what ln n has beyond n."""
        return self.beyond.standing().p_value

    @property
    def log_p_value(self) -> float:
        """That a line in ln n comes nearer than a line in n to what the full patch does at `layer`.

        Nearer in the difference of the answers' logits; signs are flipped together for all prompts of one number.
        """
        errors = {kind: self._error(kind) for kind in (LOG_LINE, LINE)}
        return flipped_signs_p_value(errors[LINE] - errors[LOG_LINE], self.others)

    @property
    def delta_logit(self) -> float:
        """Mean change of the answer's logit by the ablation at `layer`."""
        return float(self.ablations.at(self.layer).delta_logit.mean())

    @property
    def detectable(self) -> float:
        """The fall of the answer's mean logit at `layer` that has p <= .05 for four in five sets of so many prompts."""
        at, standing = self.ablations.at(self.layer), self.ablations.standing(self.read)
        means = at.controls.delta_logit.mean(1)
        threshold = means.mean() + means.std() * standing.controls.amin(0).quantile(LEVEL)
        beyond_controls = at.delta_logit - at.controls.delta_logit.mean(0)
        spread = beyond_controls.std() / len(beyond_controls) ** 0.5
        return float((POWER * spread - threshold).clamp_min(0))

    def patched(self, kind: str) -> float:
        """How far a kind of patch at `layer` moves the answers' logits apart, as a share of the full layer's."""
        at = self.patches.results[kind][self.layer]
        full = _full(at)
        return float((at.effect.logit_difference - at.floor.logit_difference).mean()) / full if full else math.nan

    def _error(self, kind: str) -> torch.Tensor:
        """(P,) how far a kind of patch at `layer` is from the full layer's."""
        at = self.patches.results[kind][self.layer]
        assert at.ceiling is not None
        return (at.effect.logit_difference - at.ceiling.logit_difference).abs()

    def to_pandas(self) -> pandas.DataFrame:
        """One row a layer and direction: its mean change of the answer's logit, KL and accuracy after."""
        rows = []
        for result in self.ablations.results:
            own = {"p_value": result.p_value, "rank": result.rank, "removed_variance": result.removed_variance}
            rows.append({"layer": result.layer, "direction": TESTED} | result.effect.means() | own)
            for name, outcome in result.also.items():
                removed = {"removed_variance": result.also_removed_variance[name]}
                rows.append({"layer": result.layer, "direction": name} | outcome.means() | removed)
            if result.layer in self.read:
                beyond = self.beyond.at(result.layer)
                rows[-1] |= {"p_value": beyond.p_value, "rank": beyond.rank}
            controls = result.controls.delta_logit.mean(1)
            about = {"delta_logit": float(controls.mean()), "kl": float(result.controls.kl.mean())}
            rows.append({"layer": result.layer, "direction": "controls, mean"} | about)
        return pandas.DataFrame(rows).drop(columns=["counterfactual_delta_logit", "counterfactual_correct"])

    def plot(self) -> "Figure":
        """Draw the ablations over layers, with controls and bounds; `patches.plot()` draws the patches."""
        return self.ablations.plot()


def _full(patch: PatchResult) -> float:
    """What the residual of another operand does to the difference of the answers' logits."""
    assert patch.ceiling is not None
    return float((patch.ceiling.logit_difference - patch.floor.logit_difference).mean())


def _read(patches: PatchCurve) -> tuple[int, ...]:
    """All layers where the full patch does nothing anywhere, since then nothing tells them apart."""
    moved = {layer: _full(patch) for layer, patch in patches.results[MEAN].items()}
    most = max(moved.values())
    return tuple(layer for layer, one in sorted(moved.items()) if one >= READ * most or most <= 0)


def flipped_signs_p_value(gains: torch.Tensor, groups: torch.Tensor) -> float:
    """One-sided p of a positive mean of gains (P,), the sign of each group's sum as good as random without one.

    All signs are tried for up to 12 groups, else 4,095 at random and those observed.

    Example:
        >>> flipped_signs_p_value(torch.ones(8), torch.arange(8))
        0.00390625
    """
    numbers, places = groups.unique(return_inverse=True)
    sums = gains.new_zeros(len(numbers)).index_add_(0, places, gains)
    every = torch.arange(1 << min(len(numbers), FLIPPED))
    if len(numbers) > FLIPPED:
        flips = torch.rand(len(every), len(numbers), generator=torch.Generator().manual_seed(0)) < 0.5
        flips[0] = False
    else:
        flips = (every[:, None] >> torch.arange(len(numbers))) & 1 == 1
    means = torch.where(flips, -sums, sums).sum(1)
    return float((means >= sums.sum() - 1e-9 * sums.abs().sum()).double().mean())


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
    ln n is projected out, its mean kept, and compared with random directions that remove as much variance, orthogonal
    to it where others would be much like it; so is that of what ln n has beyond n, and the direction of n stands beside
    both. A patch writes another number a' into operand a by a line in ln a', a line in a', or the mean activation of
    a', which is all that any function of a' could do.

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
    _refuse_looking_ahead(bridge, arithmetic)
    fitted, tested = _split(arithmetic, integer("tested_prompts", tested_prompts, 2), generator)
    first = first_tokens(arithmetic, encode or (lambda text: token_ids(bridge, text, 1 << 20)))
    positions = torch.tensor([arithmetic.positions["a"], arithmetic.positions["b"]])
    answers = torch.tensor([first(int(a), int(b)) for a, b in zip(tested.a, tested.b, strict=True)])
    residuals = Baseline(bridge, fitted.tokens, layers=wanted, batch_size=batch_size).residuals
    at = {layer: found[:, positions].double().cpu() for layer, found in residuals.items()}
    directions = {layer: _directions(rows, fitted) for layer, rows in at.items()}
    also = {name: {layer: found[name] for layer, found in directions.items()} for name in ("n", BEYOND)}

    def ablated(name: str, layers: Sequence[int], *, report: Progress | bool) -> AblationCurve:
        return ablation_curve(
            bridge,
            tested.tokens,
            position=positions.expand(len(tested), 2).contiguous(),
            directions={layer: directions[layer][name] for layer in layers},
            answers=answers,
            controls=controls,
            controls_apart=None,
            seed=seed,
            also=also if name == TESTED else None,
            fitted_on=fitted.tokens,
            batch_size=batch_size,
            progress=report,
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
    read = _read(patches)
    with reporting(progress, "multiplication", " layers") as report:
        count = len(wanted) + len(read)
        ablations = ablated(TESTED, wanted, report=_part(report, 0, count))
        beyond = ablated(BEYOND, read, report=_part(report, len(wanted), count))
    accuracy = float(ablations.results[0].before.accuracy)
    numbers = tuple(arithmetic.numbers)
    return Multiplication(
        numbers, template, len(fitted), len(tested), accuracy, ablations, beyond, patches, torch.tensor(others)
    )


def _refuse_looking_ahead(bridge: Any, arithmetic: Arithmetic) -> None:
    """A model in which the first operand depends on the second does not predict the token that comes next."""
    ends = arithmetic.numbers[0], arithmetic.numbers[-1]
    place = min(arithmetic.positions["a"], arithmetic.positions["b"])
    pairs = [(ends[0], end) if place == arithmetic.positions["a"] else (end, ends[0]) for end in ends]
    last = len(bridge.blocks) - 1
    one, other = Baseline(bridge, arithmetic.prompts(pairs).tokens, layers=[last], batch_size=2).residuals[last][
        :, place
    ]
    if float((one - other).norm()) > AHEAD * float(one.norm()):
        raise ValueError(
            "bridge: in this model a token sees those that follow, so it does not predict the next one; products can't"
            " be asked of it"
        )


def _part(report: Progress | None, before: int, total: int) -> Progress | bool:
    """The progress of what comes after `before` of `total` steps."""
    return False if report is None else lambda done, _: report(before + done, total)


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
    kinds: dict[str, dict[int, torch.Tensor]] = {LOG_LINE: {}, LINE: {}, MEAN: {}}
    numbers, places = operands.unique(return_inverse=True)
    for layer, rows in acts.items():
        for kind, scale in ((LOG_LINE, torch.log), (LINE, torch.clone)):
            design, wanted = (torch.stack([torch.ones_like(x), scale(x)], 1) for x in (operands, others.double()))
            kinds[kind][layer] = wanted @ torch.linalg.lstsq(design, rows).solution
        sums = rows.new_zeros(len(numbers), rows.shape[1]).index_add_(0, places, rows)
        means = sums / places.bincount()[:, None]
        kinds[MEAN][layer] = means[torch.searchsorted(numbers, others.double())]
    return kinds
