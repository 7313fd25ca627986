"""The addition study on a transformer that adds by helices, and on ones that it has to refuse or to warn about."""

import json
from pathlib import Path
from typing import Any

import pandas
import pytest
import torch

from interpkern.errors import DTypeError
from interpkern.probing.addition import addition_study
from interpkern.probing.addition_design import make_design
from interpkern.probing.addition_patches import training_rows
from interpkern.probing.addition_prompts import Arithmetic
from interpkern.probing.addition_result import AdditionStudy
from tests.probing.addition_toys import ADDS, MOVES_A, NUMBERS, PERIODS, PLUS, adder, all_pairs, encode, split_digits

TEMPLATE = "{prefix}{a}{operator}{b}="


@pytest.fixture(scope="module")
def toy() -> Any:
    return adder(noise=0.3)


@pytest.fixture(scope="module")
def study(toy: Any) -> AdditionStudy:
    return addition_study(
        toy,
        numbers=range(NUMBERS),
        periods=PERIODS,
        layers=[0, 1],
        sites=("a", "b", "last"),
        test_prompts=10,
        encode=encode,
        progress=False,
    )


def patched(study: AdditionStudy, site: str, layer: int) -> pandas.DataFrame:
    table = study.to_pandas()
    return table[(table["site"] == site) & (table["layer"] == layer)].set_index("method")


def test_the_toy_adds(toy: Any):
    made = Arithmetic(toy, range(NUMBERS), TEMPLATE, encode=encode)
    assert made.positions == {"a": 1, "b": 3, "last": 4}
    prompts = made.prompts(all_pairs())
    assert prompts.answers.tolist() == [a + b for a, b in all_pairs()]
    with torch.no_grad():
        assert torch.equal(toy(prompts.tokens)[:, -1].argmax(1), prompts.answers)


def test_the_planted_helix_is_found(study: AdditionStudy):
    fits = study.fits_to_pandas().set_index(["site", "layer"])
    assert fits.loc[("a", 0), "chosen"] == "helix 2, 5, 10, 30"
    assert fits.loc[("b", 0), "chosen"] == "helix 2, 5, 10, 30"
    assert fits.loc[("a", 0), "held_out_r_squared"] > 0.8
    spectrum = study.spectra["a", 0]
    strongest = spectrum.periods[spectrum.share.argsort(descending=True)[:4]]
    assert {5.0, 10.0, 2.0} <= {round(float(period), 6) for period in strongest} | {2.0}
    assert set(study.helices) == {(site, layer) for site in "ab" for layer in (0, 1)}


@pytest.mark.parametrize("site", ["a", "b"])
def test_the_helix_reaches_the_ceiling_and_a_polynomial_does_not(study: AdditionStudy, site: str):
    rows = patched(study, site, 0)
    assert rows.loc["identity", ["delta_logit", "kl", "share_of_full"]].tolist() == [0, 0, 0]
    assert rows.loc["full", "share_of_full"] == 1
    assert rows.loc["full", "accuracy"] == 1
    assert rows.loc["helix", "share_of_full"] > 0.98
    assert rows.loc["helix", "accuracy"] == 1
    assert rows.loc["helix", "p_value"] == 0.01
    assert rows.loc["polynomial", "share_of_full"] < 0.5
    assert rows.loc["circles", "accuracy"] < 1
    assert abs(rows.loc["shuffled", "share_of_full"]) < 0.3
    assert "components 8" in rows.index
    # after the heads have read the operand, nothing that is written there matters
    later = patched(study, site, 1)
    assert later["delta_logit"].abs().max() == 0
    assert later.loc["helix", "p_value"] == 1


def test_the_last_position_holds_both_operands(study: AdditionStudy):
    rows = patched(study, "last", 1)
    assert rows.loc["helix", "share_of_full"] == pytest.approx(1, abs=0.02)
    assert rows.loc["helix(a, b)", "share_of_full"] == pytest.approx(1, abs=0.02)
    assert rows.loc["helix(a+b)", "share_of_full"] < 0.3
    # before anything has come there, its activation is that of "=" and nothing is fitted
    assert patched(study, "last", 0).index.tolist() == ["identity", "full"]


def test_heads_mlps_and_neurons_are_named(study: AdditionStudy):
    assert study.components is not None
    names = study.components.to_pandas()["component"][:2].tolist()
    assert set(names) == {f"L{MOVES_A[0]}H{MOVES_A[1]}", f"MLP {ADDS}"}
    fits = study.neurons[ADDS]
    assert fits.variables == ("a", "b", "a+b")
    assert float(fits.r_squared.min()) > 0.999


def test_held_out_operands_are_in_no_fit(toy: Any):
    # fault 2 again: the activation of an operand in front is the same in all prompts, so other prompts are no test
    made = Arithmetic(toy, range(NUMBERS), TEMPLATE, encode=encode)
    design = make_design(made, {"a", "b"}, per_number=5, tested=11, share=0.2, seed=3)
    held_out = set(design.held_out.tolist())
    assert len(held_out) == 6
    assert {0, NUMBERS - 1}.isdisjoint(held_out)
    acts = torch.stack([design.fitted.a, design.fitted.b], 1)
    for site, column in (("a", 0), ("b", 1), ("last", 0)):
        rows, values = training_rows(design, site, acts)
        assert held_out.isdisjoint(rows[:, column].tolist())
        assert rows[:, column].tolist() == values["a" if site == "last" else site].tolist()
        assert len(rows[:, column].unique()) == NUMBERS - 6
    known = set(zip(design.fitted.a.tolist(), design.fitted.b.tolist(), strict=True))
    for operand, other in (("a", "b"), ("b", "a")):
        pairs = design.tests[operand]
        assert held_out >= set(getattr(pairs.counterfactual, operand).tolist())
        assert torch.equal(getattr(pairs.counterfactual, other), getattr(pairs.prompts, other))
        for prompts in (pairs.prompts, pairs.counterfactual):
            assert len(prompts) == 11
            assert known.isdisjoint(zip(prompts.a.tolist(), prompts.b.tolist(), strict=True))
        assert torch.equal(pairs.answers[:, 1], (pairs.counterfactual.a + pairs.counterfactual.b).long())


def test_the_same_seed_gives_the_same_study(toy: Any):
    options = {"numbers": range(NUMBERS), "periods": PERIODS, "layers": [0], "sites": ["a"], "test_prompts": 2}
    first, second, third = (
        addition_study(toy, **options, path_patching=False, encode=encode, seed=seed).to_pandas() for seed in (1, 1, 2)
    )
    pandas.testing.assert_frame_equal(first, second)
    assert not first["delta_logit"].equals(third["delta_logit"])


def test_position_0_is_warned_about(toy: Any):
    # fault 7: bare prompts put the number where models have an attention sink
    def bare(text: str) -> list[int]:
        return encode(text)[1:]

    options = {"numbers": range(NUMBERS), "periods": PERIODS, "layers": [0], "sites": ["a"], "test_prompts": 2}
    options |= {"path_patching": False, "template": "{a}+{b}=", "encode": bare}
    sink = adder(noise=0.3)
    with torch.no_grad():
        sink.original_model.pos.original_component.weight[0, -1] = 500.0
    found = addition_study(sink, **options).warnings
    assert any("operand a stands at position 0, which is an attention sink here" in sentence for sentence in found)
    assert any(
        "operand a stands at position 0, where many models" in s for s in addition_study(toy, **options).warnings
    )
    behind = addition_study(sink, **options | {"encode": encode})
    assert not any("position 0" in sentence for sentence in behind.warnings)


def test_operands_that_split_are_named(toy: Any):
    with pytest.raises(ValueError, match=r"36 of 95 are more than one token .*59 to 94.* the others alone, 0 to 58"):
        addition_study(toy, numbers=range(95), encode=encode)
    with pytest.raises(ValueError, match="10 of 20 are more than one token"):
        addition_study(toy, numbers=range(20), encode=split_digits)
    with pytest.raises(ValueError, match=r"each of 10 to 29 is 2 tokens"):
        addition_study(toy, numbers=range(10, 30), encode=split_digits)


def test_answers_that_split_are_left_out(toy: Any):
    made = Arithmetic(toy, range(40), TEMPLATE, encode=encode)
    prompts = made.prompts([(29, 29), (30, 29), (1, 2)])
    assert prompts.answers.tolist() == [58, -1, 3]
    products = Arithmetic(
        toy, range(20, 40), TEMPLATE, operator="*", encode=lambda text: encode(text.replace("*", "+"))
    )
    assert products.result(6, 7) == 42
    with pytest.raises(ValueError, match="numbers: no answer"):
        addition_study(
            toy, numbers=range(20, 40), periods=(5,), operator="*", encode=lambda text: encode(text.replace("*", "+"))
        )


def test_a_model_that_cannot_add_is_said_to(toy: Any):
    def reversed_numbers(text: str) -> list[int]:
        return [PLUS - 1 - token if token < PLUS else token for token in encode(text)]

    options = {"numbers": range(NUMBERS), "periods": (5, 10), "layers": [0], "sites": ["a"], "test_prompts": 3}
    found = addition_study(toy, **options, path_patching=False, encode=reversed_numbers)
    assert found.accuracy < 0.5
    assert any("of the test prompts right" in sentence for sentence in found.warnings)


def test_a_study_is_saved_and_drawn(study: AdditionStudy, tmp_path: Path):
    folder = study.save(tmp_path / "study")
    saved = pandas.read_parquet(folder / "patches.parquet")
    pandas.testing.assert_frame_equal(saved, study.to_pandas())
    about = json.loads((folder / "study.json").read_text())
    assert about["settings"]["positions"] == {"a": 1, "b": 3, "last": 4}
    tables = {"patches", "fits", "comparisons", "spectra", "components", "neurons"}
    assert {path.stem for path in folder.glob("*.parquet")} == tables
    pictures = {"_".join(path.stem.split("_")[:2]) for path in folder.glob("*.png")}
    assert pictures == {
        *("patches", "spectra", "components", f"neurons_{ADDS}"),
        *(f"{kind}_{site}" for kind in ("helix", "bases") for site in "ab"),
    }


def test_progress_is_told(toy: Any):
    seen: list[tuple[int, int]] = []
    options = {"numbers": range(NUMBERS), "periods": (5,), "layers": [0, 1], "sites": ["a", "last"], "test_prompts": 2}
    addition_study(
        toy, **options, path_patching=False, encode=encode, progress=lambda done, total: seen.append((done, total))
    )
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"numbers": range(5)}, ValueError, "numbers: expected at least 8 operands"),
        ({"numbers": [1.5, *range(8)]}, ValueError, "numbers: expected integers >= 0"),
        ({"numbers": [1, 1, *range(8)]}, ValueError, "numbers: expected each number once"),
        ({"numbers": range(10)}, ValueError, "numbers: expected more than 8 different numbers"),
        ({"template": "{a}="}, ValueError, "template: expected a text"),
        ({"template": "{a}{b}{c}"}, ValueError, "template: expected no fields but"),
        ({"operator": "/"}, ValueError, "operator: expected one of"),
        ({"sites": "a"}, DTypeError, "sites: expected a sequence"),
        ({"sites": ["c"]}, ValueError, "sites: expected one of"),
        ({"layers": [9]}, ValueError, "layers: expected"),
        ({"layers": 1}, DTypeError, "layers: expected a sequence"),
        ({"controls": 10}, ValueError, "controls: expected an integer from 99"),
        ({"encode": None}, ValueError, "encode: this model has no tokenizer"),
    ],
)
def test_wrong_input_is_named(toy: Any, change: dict, error: type, message: str):
    with pytest.raises(error, match=message):
        addition_study(toy, **{"numbers": range(NUMBERS), "encode": encode} | change)


def test_what_is_no_bridge_is_refused():
    with pytest.raises(DTypeError, match="bridge: expected a transformer_lens TransformerBridge"):
        addition_study(torch.nn.Linear(2, 2))
