"""Products: a hand-built model that adds logarithms along one direction, and models that don't."""

import pytest
import torch

from interpkern.probing.multiplication import BEYOND, first_tokens, multiplication_study

pytest.importorskip("transformer_lens")
from interpkern.probing.hand_built import EQUALS, TIMES, log_multiplier, token_of


def encode(text: str) -> list[int]:
    """The tokens of the hand-built model: numbers, * and =."""
    left, right = text.split("=") if "=" in text else (text, "")
    a, b = left.split("*")
    numbers = [token_of(torch.tensor(int(part))).item() for part in (a, b, right) if part]
    return [numbers[0], TIMES, numbers[1], EQUALS, *numbers[2:]]


@pytest.fixture(scope="module")
def toy():
    return log_multiplier(largest=9)


@pytest.fixture(scope="module")
def found(toy):
    return multiplication_study(
        toy.bridge, template="{a}*{b}=", layers=[1], tested_prompts=30, encode=encode, progress=False
    )


def test_a_model_that_multiplies_by_logarithms_is_found(toy, found):
    assert found.accuracy == 1.0
    assert found.p_value == 0.01
    assert found.layer == 1
    assert found.delta_logit < -found.detectable < 0
    table = found.to_pandas().set_index("direction")
    assert table.loc["ln n", "delta_logit"] < table.loc["controls, mean", "delta_logit"]
    assert abs(table.loc[BEYOND, "delta_logit"]) > 0


def test_patches_lie_between_identity_and_full_layer(found):
    table = found.patches.to_pandas().set_index("what")
    assert table.loc["identity", "kl"] == 0
    assert table.loc["full layer", "counterfactual_correct"] == 1
    assert table.loc["mean of n", "counterfactual_correct"] == pytest.approx(1, abs=0.01)
    assert table.loc["line in ln n", "counterfactual_correct"] > table.loc["line in n", "counterfactual_correct"]


def test_p_over_layers_is_the_rank_of_the_most_harmful_layer(toy):
    found = multiplication_study(toy.bridge, template="{a}*{b}=", layers=[0, 1], encode=encode, seed=3, progress=False)
    effects, controls = [], []
    for result in found.ablations.results:
        means = result.controls.delta_logit.mean(1)
        effects.append(float((result.delta_logit.mean() - means.mean()) / means.std()))
        controls.append((means - means.mean()) / means.std())
    smallest = torch.stack(controls).min(0).values
    assert found.p_value == (1 + int((smallest <= min(effects)).sum())) / 100
    assert found.layer == (0, 1)[effects.index(min(effects))]
    p_values = [result.p_value for result in found.ablations.results]
    assert found.p_value >= min(p_values)


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
