"""Patches and ablations: exact bounds, metrics by their definitions, controls that are matched, refusals by name."""

import math
from pathlib import Path
from typing import Any

import pandas
import pytest
import torch
from matplotlib.figure import Figure

from interpkern.errors import DTypeError, ShapeError
from interpkern.probing.causal import ablate, patch
from interpkern.probing.causal_curves import ablation_curve, patch_curve
from interpkern.probing.controls import matched_controls, overlap
from interpkern.probing.layer_run import LayerRun
from interpkern.probing.subspaces import checked_subspace, fit_direction, projected_out, removed_share
from tests.probing.toys import (
    LAYERS,
    PROMPTS,
    VOCABULARY,
    WIDTH,
    answers,
    native_bridge,
    normal,
    raw_logits,
    token_ids,
)

pytest.importorskip("transformer_lens")
POSITION = 3


@pytest.fixture(scope="module")
def bridge() -> Any:
    return native_bridge()


def counterfactual_prompts() -> torch.Tensor:
    """The same prompts with another token at the position."""
    tokens = token_ids()
    tokens[:, POSITION] = (tokens[:, POSITION] + 5) % VOCABULARY
    return tokens


def test_identity_patch_is_exactly_nothing(bridge: Any) -> None:
    for layer in range(LAYERS):
        own = LayerRun(bridge, token_ids(), layer=layer, position=POSITION).at_position
        found = patch(bridge, token_ids(), layer=layer, position=POSITION, replacement=own, answers=answers())
        assert bool((found.delta_logit == 0).all())
        assert bool((found.kl == 0).all())
        assert bool((found.floor.delta_logit == 0).all())
        assert found.delta_logit.shape == found.logit_difference.shape == (PROMPTS,)
        assert found.logits.shape == (PROMPTS, VOCABULARY)


def test_full_layer_patch_at_layer_0_gives_the_counterfactual_logits(bridge: Any) -> None:
    other = LayerRun(bridge, counterfactual_prompts(), layer=0, position=POSITION).at_position
    found = patch(
        bridge,
        token_ids(),
        layer=0,
        position=POSITION,
        replacement=other,
        answers=answers(),
        counterfactual_answers=answers(6),
        counterfactual_prompts=counterfactual_prompts(),
    )
    with torch.no_grad():
        expected = bridge(counterfactual_prompts())[:, -1]
        before = bridge(token_ids())[:, -1]
    assert float((found.logits - expected).abs().max()) < 1e-4
    assert float((found.logits - before).abs().max()) > 0.1
    assert found.ceiling is not None
    torch.testing.assert_close(found.effect.delta_logit, found.ceiling.delta_logit, atol=1e-4, rtol=0)


def test_metrics_are_what_they_are_called(bridge: Any) -> None:
    new = normal(PROMPTS, WIDTH)
    with torch.no_grad():
        before = bridge(token_ids())[:, -1].double()
    likely = before.argmax(1)
    found = patch(
        bridge,
        token_ids(),
        layer=2,
        position=POSITION,
        replacement=new,
        answers=likely,
        counterfactual_answers=answers(6),
    )

    def change(hidden: torch.Tensor) -> torch.Tensor:
        hidden[:, POSITION] = new
        return hidden

    model = bridge.original_model
    after = raw_logits(model, model.layers[2], token_ids(), change).double()
    rows = torch.arange(PROMPTS)
    expected = {
        "delta_logit": after[rows, likely] - before[rows, likely],
        "counterfactual_delta_logit": after[rows, answers(6)] - before[rows, answers(6)],
        "logit_difference": after[rows, answers(6)] - after[rows, likely],
        "kl": (before.softmax(1) * (before.log_softmax(1) - after.log_softmax(1))).sum(1),
        "correct": (after.argmax(1) == likely).double(),
        "counterfactual_correct": (after.argmax(1) == answers(6)).double(),
    }
    for name, values in expected.items():
        torch.testing.assert_close(getattr(found.effect, name), values, atol=2e-5, rtol=1e-4)
    assert found.accuracy == float(expected["correct"].mean())
    assert float(found.before.accuracy) == 1
    table = found.to_pandas().set_index("what")
    assert math.isclose(table.loc["patch", "kl"], float(found.kl.mean()))


def test_without_counterfactual_answers_nothing_is_made_up(bridge: Any) -> None:
    found = patch(bridge, token_ids(), layer=1, position=0, replacement=normal(PROMPTS, WIDTH), answers=answers())
    assert bool(found.logit_difference.isnan().all())
    assert found.ceiling is None


def test_ablation_keeps_the_mean_and_equals_plain_torch_hooks(bridge: Any) -> None:
    direction = normal(WIDTH) * 7
    found = ablate(bridge, token_ids(), layer=2, position=POSITION, direction=direction, answers=answers(), controls=7)

    def change(hidden: torch.Tensor) -> torch.Tensor:
        unit = direction / direction.norm()
        here = hidden[:, POSITION]
        hidden[:, POSITION] = here - ((here - here.mean(0)) @ unit)[:, None] * unit
        return hidden

    model, rows = bridge.original_model, torch.arange(PROMPTS)
    after = raw_logits(model, model.layers[2], token_ids(), change)
    with torch.no_grad():
        before = bridge(token_ids())[:, -1]
    torch.testing.assert_close(
        found.delta_logit.float(), (after - before)[rows, answers()], atol=1e-5, rtol=0, check_dtype=False
    )
    assert float(found.delta_logit.abs().max()) > 1e-3
    assert bool((found.floor.delta_logit == 0).all())
    assert bool((found.floor.kl == 0).all())


def test_ablating_the_whole_space_is_the_ceiling(bridge: Any) -> None:
    found = ablate(
        bridge, token_ids(), layer=1, position=POSITION, direction=torch.eye(WIDTH), answers=answers(), controls=3
    )
    torch.testing.assert_close(found.delta_logit, found.ceiling.delta_logit, atol=1e-5, rtol=0)
    assert math.isclose(found.removed_variance, 1, abs_tol=1e-9)
    assert any("squared cosine" in warning for warning in found.warnings)


@pytest.mark.parametrize("rows", [1, 2])
def test_controls_lie_in_the_span_and_remove_as_much_variance(rows: int) -> None:
    scale = torch.logspace(0.5, -1.5, 9, dtype=torch.float64)
    acts = torch.zeros(61, 2, 12, dtype=torch.float64)
    acts[..., :9] = normal(61, 2, 9).double() * scale
    for place in (0, 2, 4, 6):
        subspace = torch.eye(12, dtype=torch.float64)[place : place + rows]
        found = matched_controls(acts, subspace, 99, seed=1)
        removed, wanted = removed_share(acts, found), removed_share(acts, subspace[None])
        assert found.shape == (99, rows, 12)
        torch.testing.assert_close(found @ found.mT, torch.eye(rows).double().expand(99, -1, -1), atol=1e-9, rtol=0)
        if place:
            assert float((removed / wanted - 1).abs().max()) < 0.1
        assert float(found[..., 9:].abs().max()) < 1e-9
        centred = (acts - acts.mean(0)).reshape(-1, 12)
        plain = torch.stack([(centred @ one.mT @ one).square().sum() for one in found]) / centred.square().sum()
        torch.testing.assert_close(removed, plain)
    assert torch.equal(matched_controls(acts, subspace, 5, seed=1), matched_controls(acts, subspace, 5, seed=1))
    assert not torch.equal(matched_controls(acts, subspace, 5, seed=1), matched_controls(acts, subspace, 5, seed=2))


def test_controls_that_lie_apart_match_a_wide_direction_with_several() -> None:
    acts = normal(83, 1, 9).double() * torch.tensor([4.0, 2, 2, 2, 2, 1, 1, 1, 1]).double()
    subspace = torch.eye(9, dtype=torch.float64)[:1]
    alike = matched_controls(acts, subspace, 99, seed=0)
    assert float(overlap(alike, subspace).mean()) > 0.8
    found = matched_controls(acts, subspace, 99, seed=0, apart=True)
    assert found.shape[1] > 3
    assert float(overlap(found, subspace).max()) < 1e-12
    assert float((removed_share(acts, found) / removed_share(acts, subspace[None]) - 1).abs().max()) < 0.1
    assert float((found[0] @ found[1].mT).square().sum()) < 0.95 * found.shape[1]
    with pytest.raises(ValueError, match="controls_apart: "):
        matched_controls(acts, torch.eye(9, dtype=torch.float64), 9, seed=0, apart=True)


def test_controls_lie_apart_by_themselves_where_others_are_much_like_the_direction(bridge: Any) -> None:
    run = LayerRun(bridge, token_ids(), layer=2, position=POSITION)
    acts = run.at_position.double()
    _, _, components = torch.linalg.svd(acts - acts.mean(0), full_matrices=False)
    where: dict[str, Any] = {"layer": 2, "position": POSITION, "answers": answers(), "controls": 9}
    for direction, apart in ((components[0], True), (components[-4], False)):
        found = ablate(bridge, token_ids(), direction=direction, controls_apart=None, **where)
        named = ablate(bridge, token_ids(), direction=direction, controls_apart=apart, **where)
        assert found.controls_apart is apart
        assert torch.equal(found.controls.delta_logit, named.controls.delta_logit)
        assert not any("controls_apart" in warning for warning in found.warnings)


def test_projection_removes_the_subspace_and_keeps_means() -> None:
    acts = normal(21, 2, 9).double() + 3
    subspace = checked_subspace("direction", normal(2, 9), 9)
    found = projected_out(acts, subspace[None])[0]
    torch.testing.assert_close(found.mean(0), acts.mean(0))
    assert float(((found - found.mean(0)) @ subspace.mT).abs().max()) < 1e-12
    assert math.isclose(float(removed_share(found, subspace[None])[0]), 0, abs_tol=1e-12)
    torch.testing.assert_close(overlap(subspace[None], subspace), torch.ones(1).double())


def test_rank_and_p_count_controls_that_do_as_much(bridge: Any) -> None:
    found = ablate(
        bridge, token_ids(), layer=2, position=POSITION, direction=normal(WIDTH), answers=answers(), controls=19, seed=4
    )
    effect, controls = found.delta_logit.mean(), found.controls.delta_logit.mean(1)
    as_much = sum(float(value) <= float(effect) for value in controls)
    assert (found.rank, found.p_value) == (1 + as_much, (1 + as_much) / 20)
    as_far = sum(float(value) >= float(found.kl.mean()) for value in found.controls.kl.mean(1))
    assert (found.kl_rank, found.kl_p_value) == (1 + as_far, (1 + as_far) / 20)
    again = ablate(
        bridge, token_ids(), layer=2, position=POSITION, direction=normal(WIDTH), answers=answers(), controls=19, seed=4
    )
    assert torch.equal(again.controls.delta_logit, found.controls.delta_logit)
    assert any("p below 0.05" in warning for warning in found.warnings)


def test_fit_direction_takes_away_what_goes_with_the_value() -> None:
    acts, values = normal(400, 9).double() * torch.arange(1, 10), normal(400, seed=8).double()
    acts[:, 4] += 2 * values
    fitted = fit_direction(acts, values)
    left = projected_out(acts[:, None], fitted.vector[None, None])[0, :, 0]
    centred = values - values.mean()
    assert float(((left - left.mean(0)).mT @ centred).abs().max()) < 1e-8
    target = acts @ normal(9, seed=9).double()
    exact = fit_direction(acts, target, method="ridge", ridge=0.0)
    torch.testing.assert_close(exact.vector, normal(9, seed=9).double() / normal(9, seed=9).double().norm())
    assert math.isclose(exact.r, 1)


def test_a_direction_is_not_tested_on_the_prompts_of_its_fit(bridge: Any) -> None:
    run = LayerRun(bridge, token_ids(seed=40), layer=2, position=POSITION)
    fitted = fit_direction(run.at_position, torch.arange(PROMPTS), prompts=token_ids(seed=40))
    where = {"layer": 2, "position": POSITION, "answers": answers(), "controls": 3}
    found = ablate(bridge, token_ids(), direction=fitted, **where)
    assert not any("fitted_on" in warning for warning in found.warnings)
    unknown = ablate(bridge, token_ids(), direction=fitted.vector, **where)
    assert any("fitted_on" in warning for warning in unknown.warnings)
    both = torch.cat([token_ids(), token_ids(seed=40)[4:5]])[1:]
    with pytest.raises(ValueError, match=r"fitted_on: 1 of the 13 prompts .* prompt 12"):
        ablate(bridge, both, direction=fitted, **where)
    with pytest.raises(ValueError, match=r"fitted_on: 13 of the 13 prompts"):
        ablate(bridge, token_ids(), direction=fitted.vector, fitted_on=token_ids(), **where)


def test_curves_are_the_single_tests(bridge: Any, tmp_path: Path) -> None:
    directions = {layer: normal(WIDTH, seed=layer) for layer in (0, 2)}
    curve = ablation_curve(
        bridge,
        token_ids(),
        position=POSITION,
        directions=directions,
        also={"other": {0: normal(WIDTH, seed=7), 2: normal(2, WIDTH, seed=7)}},
        answers=answers(),
        controls=5,
    )
    alone = ablate(
        bridge, token_ids(), layer=2, position=POSITION, direction=directions[2], answers=answers(), controls=5
    )
    assert torch.equal(curve.results[1].delta_logit, alone.delta_logit)
    assert curve.smallest_p == min(1, 2 * min(result.p_value for result in curve.results))
    table = curve.to_pandas()
    assert table["layer"].tolist() == [0, 2]
    assert table["floor_delta_logit"].tolist() == [0, 0]
    kinds = {"noise": {layer: normal(PROMPTS, WIDTH) for layer in (1, 3)}}
    patches = patch_curve(
        bridge,
        token_ids(),
        position=POSITION,
        replacements=kinds,
        answers=answers(),
        counterfactual_answers=answers(6),
        counterfactual_prompts=counterfactual_prompts(),
    )
    one = patch(bridge, token_ids(), layer=3, position=POSITION, replacement=kinds["noise"][3], answers=answers())
    assert torch.equal(patches.results["noise"][3].delta_logit, one.delta_logit)
    assert set(patches.to_pandas()["what"]) == {"noise", "identity", "full layer"}
    for number, result in enumerate((curve, patches, alone, one)):
        assert isinstance(result.plot(), Figure)
        result.save(tmp_path / f"{number}.parquet")
        pandas.testing.assert_frame_equal(pandas.read_parquet(tmp_path / f"{number}.parquet"), result.to_pandas())


def test_wrong_input_is_refused_by_name(bridge: Any) -> None:
    good: dict[str, Any] = {"layer": 1, "position": 2, "answers": answers()}
    new = {"replacement": normal(PROMPTS, WIDTH)}
    bad_patches: list[tuple[dict[str, Any], type[Exception], str]] = [
        ({"layer": LAYERS}, ValueError, "layers?: expected an integer"),
        ({"position": 50}, ValueError, "position: expected"),
        ({"replacement": normal(PROMPTS, WIDTH + 1)}, ShapeError, "replacement: expected"),
        ({"replacement": normal(2, PROMPTS, WIDTH)}, ShapeError, "replacement: expected .*one residual a prompt"),
        ({"replacement": normal(PROMPTS, WIDTH) / 0}, ValueError, "replacement: expected finite"),
        ({"replacement": torch.zeros(PROMPTS, WIDTH, dtype=torch.int64)}, DTypeError, "replacement: expected float"),
        ({"answers": torch.stack([answers()] * 2, 1)}, ShapeError, "answers: expected"),
        ({"counterfactual_answers": answers()[1:]}, ShapeError, "counterfactual_answers: expected"),
        ({"counterfactual_prompts": token_ids()[1:]}, ValueError, "counterfactual_prompts: expected"),
        ({"counterfactual_prompts": token_ids().float()}, DTypeError, "counterfactual_prompts: expected int64"),
        ({"counterfactual_prompts": token_ids() + 1000}, ValueError, "counterfactual_prompts: expected token ids"),
    ]
    for change, error, message in bad_patches:
        with pytest.raises(error, match=f"^{message}"):
            patch(bridge, token_ids(), **good | new | change)
    bad_ablations: list[tuple[dict[str, Any], type[Exception], str]] = [
        ({"direction": normal(WIDTH + 1)}, ShapeError, "direction: expected"),
        ({"direction": torch.zeros(WIDTH)}, ValueError, "direction: expected directions other than 0"),
        ({"direction": torch.ones(2, WIDTH)}, ValueError, "direction: expected linearly independent"),
        ({"direction": [1.0] * WIDTH}, DTypeError, "direction: expected a torch tensor"),
        ({"also": {"n": torch.ones(3)}}, ShapeError, r"also\['n'\]: expected"),
        ({"also": [torch.ones(3)]}, DTypeError, "also: expected"),
        ({"controls_apart": "yes"}, DTypeError, "controls_apart: expected"),
        ({"controls": 0}, ValueError, "controls: expected"),
        ({"seed": -1}, ValueError, "seed: expected"),
        ({"fitted_on": token_ids().float()}, DTypeError, "fitted_on: expected int64"),
    ]
    for change, error, message in bad_ablations:
        with pytest.raises(error, match=f"^{message}"):
            ablate(bridge, token_ids(), **good | {"direction": normal(WIDTH)} | change)
    for test, rest in ((patch, new), (ablate, {"direction": normal(WIDTH)})):
        with pytest.raises(DTypeError, match=r"^model: expected a transformer_lens TransformerBridge"):
            test(torch.nn.Linear(2, 2), token_ids(), **good | rest)
    same = token_ids()[:1].expand(5, -1)
    with pytest.raises(ValueError, match=r"^direction: .*nothing would be removed"):
        ablate(bridge, same, layer=0, position=1, direction=normal(WIDTH), answers=answers()[:5])
