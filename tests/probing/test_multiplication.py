"""Products: a hand-built model that adds logarithms along one direction, and models that don't."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy
import pytest
import torch

from interpkern.probing.causal_curves import AblationCurve, PatchCurve
from interpkern.probing.causal_results import AblationResult
from interpkern.probing.multiplication import (
    BEYOND,
    LINE,
    LOG_LINE,
    MEAN,
    Multiplication,
    first_tokens,
    flipped_signs_p_value,
    multiplication_study,
)
from interpkern.probing.outcomes import Outcome
from tests.probing.toys import native_bridge

pytest.importorskip("transformer_lens")
from interpkern.probing.hand_built import EQUALS, TIMES, log_multiplier, token_of


def encode(text: str) -> list[int]:
    """The tokens of the hand-built model: numbers, * and =."""
    left, right = text.split("=") if "=" in text else (text, "")
    a, b = left.split("*")
    numbers = [token_of(torch.tensor(int(part))).item() for part in (a, b, right) if part]
    return [numbers[0], TIMES, numbers[1], EQUALS, *numbers[2:]]


def curve_of(effects: Sequence[Any], controls: Sequence[Any], layers: Sequence[int] = range(9)) -> AblationCurve:
    """Ablations with known changes of the answer's logit, (P,) and (controls, P) a layer; all else is empty."""

    def outcome(change: torch.Tensor) -> Outcome:
        change = change if change.ndim == 2 else change[:, None]
        return Outcome(change, *[torch.zeros_like(change)] * 5)

    results = []
    for layer, effect, other in zip(layers, effects, controls, strict=False):
        done, drawn = outcome(effect[None])[0], outcome(other)
        count = torch.ones(len(drawn.kl))
        results.append(
            AblationResult(layer, done, drawn, done, done, done, {}, 0.1, 0.1 * count, {}, 1, 0 * count, True, ())
        )
    return AblationCurve(tuple(results))


@pytest.fixture(scope="module")
def toy():
    return log_multiplier(largest=9)


@pytest.fixture(scope="module")
def found(toy):
    return multiplication_study(
        toy.bridge, template="{a}*{b}=", layers=[1], tested_prompts=30, encode=encode, progress=False
    )


@pytest.fixture(scope="module")
def over_layers(toy):
    return multiplication_study(toy.bridge, template="{a}*{b}=", layers=[0, 1], encode=encode, seed=3, progress=False)


def test_a_model_that_multiplies_by_logarithms_is_found(toy, found):
    assert found.accuracy == 1.0
    assert found.p_value == 0.01
    assert found.layer == 1
    assert found.delta_logit < 0 < found.detectable < -2 * found.delta_logit
    table = found.to_pandas().set_index("direction")
    assert table.loc["ln n", "delta_logit"] < table.loc["controls, mean", "delta_logit"]
    assert abs(table.loc[BEYOND, "delta_logit"]) > 0


def test_patches_lie_between_identity_and_full_layer(found):
    table = found.patches.to_pandas().set_index("what")
    assert table.loc["identity", "kl"] == 0
    assert table.loc["full layer", "counterfactual_correct"] == 1
    assert table.loc["mean of n", "counterfactual_correct"] == pytest.approx(1, abs=0.01)
    assert table.loc["line in ln n", "counterfactual_correct"] > table.loc["line in n", "counterfactual_correct"]


def test_layers_where_operands_are_no_longer_read_are_left_out(over_layers):
    both = over_layers
    assert both.read == (0, 1)
    kinds = {kind: dict(by_layer) for kind, by_layer in both.patches.results.items()}
    one = kinds[MEAN][0]
    kinds[MEAN][0] = replace(one, ceiling=one.floor)
    cut = replace(both, patches=PatchCurve(kinds))
    assert cut.read == (1,)
    assert (cut.layer, cut.p_value) == (1, both.ablations.results[1].p_value)
    kinds[MEAN][1] = replace(kinds[MEAN][1], ceiling=kinds[MEAN][1].floor)
    assert replace(both, patches=PatchCurve(kinds)).read == (0, 1)


def test_patches_are_shares_of_the_full_layer(found):
    patch = found.patches.results["line in n"][1]
    moved = [float(one.logit_difference.mean()) for one in (patch.floor, patch.effect, patch.ceiling)]
    assert found.patched("line in n") == pytest.approx((moved[1] - moved[0]) / (moved[2] - moved[0]))
    assert found.patched("line in ln n") == pytest.approx(1, abs=1e-3)
    assert abs(found.patched("line in n") - 1) > 0.01


def test_what_ln_n_has_beyond_n_has_controls_of_its_own(found):
    own, other = found.beyond.at(1), found.ablations.at(1)
    assert own.removed_variance == other.also_removed_variance[BEYOND]
    assert float((own.control_removed_variance / own.removed_variance - 1).abs().max()) < 0.1
    assert torch.equal(own.delta_logit, other.also[BEYOND].delta_logit)
    assert found.beyond_p_value == own.p_value == found.to_pandas().set_index("direction").loc[BEYOND, "p_value"]
    # it is not enough to tell ln n from n, even in a model that is known to add logarithms
    assert found.beyond_p_value > 0.1


def test_patches_tell_a_log_scale_from_a_linear_one(found):
    assert found.log_p_value <= 0.01
    turned = {kind: found.patches.results[kind] for kind in found.patches.results}
    turned[LINE], turned[LOG_LINE] = turned[LOG_LINE], turned[LINE]
    assert replace(found, patches=PatchCurve(turned)).log_p_value > 0.9


def test_flipped_signs_are_uniform_where_groups_are_symmetric():
    generator = torch.Generator().manual_seed(0)
    groups = torch.arange(30) % 9
    p = []
    for _ in range(300):
        of_group = torch.randn(9, generator=generator, dtype=torch.float64)[groups]
        p.append(flipped_signs_p_value(of_group + 0.3 * torch.randn(30, generator=generator), groups))
    assert numpy.abs(numpy.sort(p) - (numpy.arange(300) + 0.5) / 300).max() < 1.63 / 300**0.5  # Kolmogorov, 1 %
    assert flipped_signs_p_value(torch.ones(30), groups) == 1 / 512
    many = flipped_signs_p_value(torch.ones(30) + torch.arange(30) % 2, torch.arange(30))
    assert many == 1 / 4096
    # of the eight sums -5, -3, -3, -1, 1, 3, 3, 5 three are at least the 3 that is observed
    assert flipped_signs_p_value(torch.tensor([1.0, -1, 3]), torch.arange(3)) == 3 / 8


def test_p_over_layers_is_the_rank_of_the_most_harmful_layer(over_layers):
    found = over_layers
    standing = []
    for result in found.ablations.results:
        means = numpy.append(result.controls.delta_logit.mean(1).numpy(), float(result.delta_logit.mean()))
        standing.append((means - means.mean()) / means.std(ddof=1))
    smallest = numpy.min(standing, axis=0)
    assert found.p_value == (1 + int((smallest[:-1] <= smallest[-1]).sum())) / 100
    assert found.layer == (0, 1)[int(numpy.argmin([one[-1] for one in standing]))]
    p_values = [result.p_value for result in found.ablations.results]
    assert found.p_value >= min(p_values)


def test_p_over_layers_is_uniform_where_a_direction_is_one_of_the_controls():
    generator = torch.Generator().manual_seed(0)
    p = []
    for _ in range(400):
        spread = torch.tensor([1.0, 20.0, 0.1])[:, None]
        changes = spread * torch.randn(3, 20, generator=generator, dtype=torch.float64) - 3 * spread
        p.append(curve_of(changes[:, :1].unbind(0), changes[:, 1:].unbind(0)).standing().p_value)
    counts = numpy.histogram(p, bins=20, range=(0.025, 1.025))[0]
    assert ((counts - 20) ** 2 / 20).sum() < 36  # chi squared of 19 degrees of freedom: 1 %


def test_a_fall_of_the_detectable_size_is_found_four_times_in_five(found):
    generator = torch.Generator().manual_seed(0)
    controls = torch.randn(99, 24, generator=generator, dtype=torch.float64)
    noise = torch.randn(400, 24, generator=generator, dtype=torch.float64)

    def study(effect: torch.Tensor) -> Multiplication:
        return replace(found, ablations=curve_of([effect], [controls], layers=[1]))

    limit = numpy.mean([study(one).detectable for one in noise[:50]])
    hits = sum(study(one - limit).p_value <= 0.05 for one in noise)
    assert 290 <= hits <= 350


def test_a_model_that_looks_ahead_is_refused():
    looks_ahead = native_bridge(d_vocab=90, n_layers=2)
    hook = looks_ahead.blocks[1].hook_in.register_forward_hook(lambda *values: values[2] + values[2][:, -1:])
    with pytest.raises(ValueError, match="bridge: in this model a token sees those that follow"):
        multiplication_study(looks_ahead, template="{a}*{b}=", encode=encode, progress=False)
    hook.remove()


def test_a_template_that_joins_the_answer_is_refused(toy):
    from interpkern.probing.addition_prompts import Arithmetic

    arithmetic = Arithmetic(toy.bridge, range(1, 10), "{a}*{b}=", operator="*", encode=encode)
    assert first_tokens(arithmetic, encode)(3, 4) == token_of(torch.tensor(12)).item()
    with pytest.raises(ValueError, match="template: the tokenizer joins the answer"):
        first_tokens(arithmetic, lambda text: [len(text)])(3, 4)
    with pytest.raises(ValueError, match="numbers"):
        multiplication_study(toy.bridge, operands=range(1, 4), template="{a}*{b}=", encode=encode)
    with pytest.raises(ValueError, match="tested_prompts"):
        multiplication_study(toy.bridge, template="{a}*{b}=", tested_prompts=1, encode=encode)
