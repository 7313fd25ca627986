"""The model that multiplies by adding logarithms: the tool must say that it does."""

import pytest
import torch

from interpkern.probing.causal import ablate, patch
from interpkern.probing.causal_curves import ablation_curve
from interpkern.probing.hand_built import LogMultiplier, log_multiplier, token_of
from interpkern.probing.layer_run import LayerRun
from interpkern.probing.subspaces import fit_direction

pytest.importorskip("transformer_lens")


@pytest.fixture(scope="module")
def toy() -> LogMultiplier:
    return log_multiplier()


def test_its_answer_is_the_exponential_of_the_sum_of_logarithms(toy: LogMultiplier) -> None:
    logits = toy.bridge(toy.prompts)[:, -1].double()
    assert torch.equal(logits.argmax(1), toy.answers)
    total = toy.a.double().log() + toy.b.double().log()
    numbers = torch.arange(1, 82)
    expected = -8 * (total[:, None] - numbers.double().log()).square() + 8 * total[:, None].square()
    torch.testing.assert_close(logits[:, token_of(numbers)], expected, atol=1e-3, rtol=1e-4)


def test_direction_and_decoy_hold_the_same_variance(toy: LogMultiplier) -> None:
    acts = LayerRun(toy.bridge, toy.prompts, layer=0, position=toy.operands).at_position.double()
    logs = torch.stack([toy.a, toy.b], 1).double().log()
    torch.testing.assert_close(acts @ toy.log_direction, logs, atol=1e-5, rtol=0)
    spread = [float((acts @ one).var()) for one in (toy.log_direction, toy.decoy_direction)]
    assert abs(spread[0] / spread[1] - 1) < 1e-5


@pytest.mark.parametrize("layer", [0, 1])
def test_ablating_the_logarithm_ranks_first_of_100_and_the_decoy_does_not(toy: LogMultiplier, layer: int) -> None:
    found = {
        name: ablate(
            toy.bridge, toy.prompts, layer=layer, position=toy.operands, direction=direction, answers=toy.answers
        )
        for name, direction in (("logarithm", toy.log_direction), ("decoy", toy.decoy_direction))
    }
    assert (found["logarithm"].rank, found["logarithm"].p_value, found["logarithm"].kl_rank) == (1, 0.01, 1)
    assert found["logarithm"].accuracy < 0.1
    assert found["decoy"].rank > 20
    assert found["decoy"].kl_rank == 100
    assert found["decoy"].accuracy == 1
    for one in found.values():
        assert float((one.control_removed_variance / one.removed_variance - 1).abs().max()) < 0.1
        assert float(one.floor.delta_logit.abs().max()) == 0


def test_controls_that_lie_apart_find_the_logarithm_too(toy: LogMultiplier) -> None:
    found = ablate(
        toy.bridge,
        toy.prompts,
        layer=1,
        position=toy.operands,
        direction=toy.log_direction,
        answers=toy.answers,
        controls_apart=True,
    )
    assert (found.rank, found.kl_rank) == (1, 1)
    assert float(found.control_overlap.max()) < 1e-9


@pytest.mark.parametrize("seed", [1, 2])
def test_a_direction_that_is_fitted_on_other_prompts_is_found_too(seed: int) -> None:
    toy = log_multiplier(largest=12, width=21, seed=seed)
    held_out = torch.randperm(len(toy.prompts), generator=torch.Generator().manual_seed(seed)) % 2 == 0
    run = LayerRun(toy.bridge, toy.prompts[held_out], layer=0, position=0)
    fitted = fit_direction(
        run.at_position, toy.a[held_out].double().log(), prompts=toy.prompts[held_out], method="ridge", ridge=1e-6
    )
    tested = ~held_out
    found = ablation_curve(
        toy.bridge,
        toy.prompts[tested],
        position=toy.operands[tested],
        directions={0: fitted, 1: fitted},
        answers=toy.answers[tested],
    )
    assert [result.rank for result in found.results] == [1, 1]
    assert not found.results[0].warnings


def test_writing_another_logarithm_gives_the_product_of_the_other_number(toy: LogMultiplier) -> None:
    other = toy.a.roll(9)
    own = LayerRun(toy.bridge, toy.prompts, layer=1, position=0).at_position
    new = own + (other.double().log() - toy.a.double().log())[:, None].float() * toy.log_direction.float()
    wanted = token_of(other * toy.b)
    found = patch(
        toy.bridge,
        toy.prompts,
        layer=1,
        position=0,
        replacement=new,
        answers=toy.answers,
        counterfactual_answers=wanted,
    )
    assert torch.equal(found.logits.argmax(1), wanted)
    assert float(found.effect.counterfactual_correct.mean()) == 1


def test_sizes_are_checked() -> None:
    with pytest.raises(ValueError, match="width: expected"):
        log_multiplier(width=5)
    with pytest.raises(ValueError, match="largest: expected"):
        log_multiplier(largest=1)
