"""Running a model from a layer: equal to plain torch hooks, and exactly nothing where the residual is its own."""

from pathlib import Path
from typing import Any

import numpy
import pytest
import torch

from interpkern import models
from interpkern.errors import DTypeError, ShapeError
from interpkern.probing.baseline import Baseline
from interpkern.probing.layer_run import LayerRun
from interpkern.probing.prompts import multiplication_prompts
from tests.bridges import write_llama
from tests.probing.toys import (
    LAYERS,
    LENGTH,
    PROMPTS,
    VOCABULARY,
    WIDTH,
    answers,
    hugging_face_bridge,
    native_bridge,
    normal,
    raw_logits,
    token_ids,
)

pytest.importorskip("transformer_lens")


@pytest.fixture(scope="module")
def bridge() -> Any:
    return native_bridge()


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_llama(tmp_path_factory.mktemp("llama"))


@pytest.mark.parametrize("layer", range(LAYERS))
def test_replacements_equal_plain_torch_hooks(bridge: Any, layer: int) -> None:
    run = LayerRun(bridge, token_ids(), layer=layer, position=2, batch_size=5)
    new = normal(3, PROMPTS, WIDTH)
    found = run.run(new)
    for number in range(3):

        def change(hidden: torch.Tensor, number: int = number) -> torch.Tensor:
            hidden[:, 2] = new[number]
            return hidden

        model = bridge.original_model
        expected = raw_logits(model, model.layers[layer], token_ids(), change)
        assert float((found[number] - expected).abs().max()) < 1e-5
        assert float((found[number] - run.baseline.logits).abs().max()) > 1e-2
    assert run.starts_at_layer
    assert run.why_not is None
    assert run.baseline.last_only


@pytest.mark.parametrize("layer", [0, 2])
def test_replacements_in_a_hugging_face_model_equal_plain_torch_hooks_without_the_bridge(
    llama: Path, layer: int
) -> None:
    from transformers import LlamaForCausalLM

    run = LayerRun(hugging_face_bridge(llama), token_ids(), layer=layer, position=-3, batch_size=4)
    new = normal(PROMPTS, 16)

    def change(hidden: torch.Tensor) -> torch.Tensor:
        hidden[:, LENGTH - 3] = new
        return hidden

    model = LlamaForCausalLM.from_pretrained(llama, dtype=torch.float32).eval()
    expected = raw_logits(model, model.model.layers[layer], token_ids(), change)
    assert float((run.run(new) - expected).abs().max()) < 1e-5
    assert run.starts_at_layer


@pytest.mark.parametrize("batch_size", [1, 4, 13, 64])
@pytest.mark.parametrize("layer", [0, 3])
def test_the_residual_itself_changes_nothing_at_all(bridge: Any, layer: int, batch_size: int) -> None:
    run = LayerRun(bridge, token_ids(), layer=layer, position=4, answers=answers(), batch_size=batch_size)
    new = normal(3, PROMPTS, WIDTH)
    new[1] = run.at_position
    assert torch.equal(run.run(run.at_position), run.baseline.logits)
    effects = run.effects(new)
    assert torch.equal(effects.answer_logits[1, :, 0], run.baseline_logits())
    assert float(effects.kl[1].abs().max()) == 0


def test_blocks_before_the_layer_are_left_out_and_afterwards_run_as_before(bridge: Any) -> None:
    before = bridge(token_ids())
    run = LayerRun(bridge, token_ids(), layer=3, position=1, batch_size=8)
    ran: list[object] = []
    handles = [block.attn.register_forward_hook(lambda module, *_: ran.append(module)) for block in bridge.blocks]
    run.run(normal(PROMPTS, WIDTH))
    for handle in handles:
        handle.remove()
    assert ran == [bridge.blocks[3].attn] * 2  # thirteen prompts are two passes of eight
    assert torch.equal(bridge(token_ids()), before)


def test_one_position_each_and_several_positions_each(bridge: Any) -> None:
    places = torch.arange(PROMPTS) % LENGTH
    run = LayerRun(bridge, token_ids(), layer=1, position=places, batch_size=6)
    new = normal(PROMPTS, WIDTH)

    def change(hidden: torch.Tensor) -> torch.Tensor:
        hidden[torch.arange(PROMPTS), places] = new
        return hidden

    model = bridge.original_model
    expected = raw_logits(model, model.layers[1], token_ids(), change)
    torch.testing.assert_close(run.run(new), expected, atol=1e-5, rtol=0)

    pairs = torch.stack([places, (places + 2) % LENGTH], 1)
    both = LayerRun(bridge, token_ids(), layer=1, position=pairs, batch_size=6)
    two = normal(2, PROMPTS, 2, WIDTH)

    def change_both(hidden: torch.Tensor) -> torch.Tensor:
        hidden[torch.arange(PROMPTS)[:, None], pairs] = two[1]
        return hidden

    expected = raw_logits(model, model.layers[1], token_ids(), change_both)
    torch.testing.assert_close(both.run(two)[1], expected, atol=1e-5, rtol=0)
    assert both.at_position.shape == (PROMPTS, 2, WIDTH)


def test_effects_and_answers_are_those_of_the_logits(bridge: Any) -> None:
    tokens = torch.stack([answers(), answers(6), answers(7)], 1)
    run = LayerRun(bridge, token_ids(), layer=2, position=6, answers=tokens, batch_size=5)
    new = normal(4, PROMPTS, WIDTH).double()
    logits, effects = run.run(new), run.effects(new)
    expected = logits.gather(2, tokens.expand(4, -1, -1))
    torch.testing.assert_close(run.answer_logits(new), expected, atol=0, rtol=0)
    torch.testing.assert_close(effects.answer_logits, expected, atol=0, rtol=0)
    assert torch.equal(run.answer_logits(new[1], answers(6)), expected[1, :, 1])
    assert torch.equal(effects.top, logits.argmax(2))
    old, after = (values.double().softmax(-1) for values in (run.baseline.logits, logits))
    torch.testing.assert_close(effects.kl.double(), (old * (old / after).log()).sum(-1), atol=1e-5, rtol=1e-4)


def test_layers_share_one_baseline(bridge: Any) -> None:
    baseline = Baseline(bridge, token_ids(), layers=[3, 1], batch_size=5)
    for layer in (1, 3):
        shared = LayerRun(bridge, token_ids(), layer=layer, position=0, baseline=baseline)
        alone = LayerRun(bridge, token_ids(), layer=layer, position=0, batch_size=5)
        assert torch.equal(shared.residual, alone.residual)
        assert torch.equal(shared.run(normal(PROMPTS, WIDTH)), alone.run(normal(PROMPTS, WIDTH)))
    with pytest.raises(ValueError, match="layer: expected one that the baseline kept"):
        LayerRun(bridge, token_ids(), layer=2, position=0, baseline=baseline)
    with pytest.raises(ValueError, match="baseline: expected a run of this bridge on these prompts"):
        LayerRun(bridge, token_ids(9), layer=1, position=0, baseline=baseline)


def test_the_whole_model_runs_where_blocks_cannot_be_left_out(llama: Path) -> None:
    bridge = hugging_face_bridge(llama)
    seen: dict[str, torch.Tensor] = {}
    bridge.blocks[0].original_component.register_forward_hook(
        lambda module, inputs, output: seen.update(first=output[0] if isinstance(output, tuple) else output)
    )
    bridge.blocks[2].original_component.register_forward_pre_hook(
        lambda module, inputs: (inputs[0] + 0.1 * seen.pop("first"), *inputs[1:])
    )  # as a model whose later blocks read what an earlier one left
    run = LayerRun(bridge, token_ids(), layer=1, position=2, batch_size=4)
    assert not run.starts_at_layer
    assert "whole model" in str(run.why_not)
    assert torch.equal(run.run(run.at_position), run.baseline.logits)
    new = normal(PROMPTS, 16)

    def change(hidden: torch.Tensor) -> torch.Tensor:
        hidden[:, 2] = new
        return hidden

    block = bridge.blocks[1].original_component
    expected = raw_logits(bridge.original_model, block, token_ids(), change)
    torch.testing.assert_close(run.run(new), expected, atol=1e-5, rtol=0)


def test_positions_before_the_first_replaced_one_are_not_run_again(llama: Path) -> None:
    bridge = hugging_face_bridge(llama)
    places = torch.tensor([4, 6]).repeat(PROMPTS, 1)
    places[3] = torch.tensor([5, 4])
    settings: dict[str, Any] = {"layer": 1, "position": places, "answers": answers(), "batch_size": 5}
    whole = LayerRun(bridge, token_ids(), **settings)
    run = LayerRun(bridge, token_ids(), **settings, reuse_prefix=True)
    assert (whole.starts_at_position, run.starts_at_position) == (0, 4)
    new = normal(3, PROMPTS, 2, 16)
    new[1] = run.at_position
    seen: list[int] = []
    handle = bridge.blocks[2].hook_in.register_forward_hook(lambda *values: seen.append(values[2].shape[1]))
    effects = run.effects(new)
    handle.remove()
    assert set(seen) == {LENGTH - 4}
    torch.testing.assert_close(run.run(new), whole.run(new), atol=1e-6, rtol=0)
    assert torch.equal(run.run(run.at_position), run.before)
    assert torch.equal(effects.answer_logits[1, :, 0], run.baseline_logits())
    assert float(effects.kl[1].abs().max()) == 0
    assert float(effects.kl[0].min()) > 0


def test_a_model_without_a_cache_runs_all_positions(bridge: Any) -> None:
    run = LayerRun(bridge, token_ids(), layer=1, position=5, batch_size=5, reuse_prefix=True)
    assert run.starts_at_position == 0
    assert torch.equal(run.run(run.at_position), run.baseline.logits)


def test_other_sizes_of_batches_and_training_mode_give_the_same(bridge: Any) -> None:
    bridge.train()
    new = normal(2, PROMPTS, WIDTH)
    found = [LayerRun(bridge, token_ids(), layer=2, position=1, batch_size=size).run(new) for size in (1, 7, 26, 300)]
    assert bridge.training
    bridge.eval()
    for other in found[1:]:
        torch.testing.assert_close(other, found[0], atol=1e-5, rtol=0)


BAD: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"layer": LAYERS}, ValueError, "layers?: expected an integer from 0 to 3, got 4"),
    ({"layer": -1}, ValueError, "layers?: .*got -1"),
    ({"layer": 1.0}, DTypeError, "layers?: expected an integer"),
    ({"layer": True}, DTypeError, "layers?: expected an integer"),
    ({"position": LENGTH}, ValueError, "position: expected an integer from -7 to 6, got 7"),
    ({"position": [1, 2]}, DTypeError, "position: expected an integer or a tensor"),
    ({"position": torch.zeros(3, dtype=torch.int64)}, ShapeError, "position: .*13 to match prompts"),
    ({"position": torch.full((PROMPTS,), 7)}, ValueError, "position: expected positions from -7 to 6"),
    ({"position": torch.zeros(PROMPTS)}, DTypeError, "position: expected int64"),
    ({"position": torch.ones(PROMPTS, 2, dtype=torch.int64)}, ValueError, "position: .*one twice"),
    ({"prompts": token_ids().float()}, DTypeError, "prompts: expected int64, got float32"),
    ({"prompts": token_ids()[0]}, ShapeError, "prompts: expected"),
    ({"prompts": token_ids() + VOCABULARY}, ValueError, "prompts: expected token ids from 0 to 36"),
    ({"prompts": token_ids(length=12)}, ShapeError, "prompts: expected at most 11 tokens"),
    ({"prompts": "1+1="}, DTypeError, "prompts: expected a torch tensor"),
    ({"answers": answers()[:5]}, ShapeError, "answers: .*13 to match prompts"),
    ({"answers": answers() + VOCABULARY}, ValueError, "answers: expected token ids from 0 to 36"),
    ({"answers": answers().double()}, DTypeError, "answers: expected int64"),
    ({"batch_size": 0}, ValueError, "batch_size: .*got 0"),
    ({"bridge": torch.nn.Linear(3, 3)}, DTypeError, "bridge: expected a transformer_lens TransformerBridge"),
]


@pytest.mark.parametrize(("change", "error", "message"), BAD, ids=[str(number) for number in range(len(BAD))])
def test_wrong_input_is_refused_by_name(
    bridge: Any, change: dict[str, Any], error: type[Exception], message: str
) -> None:
    good = {"bridge": bridge, "prompts": token_ids(), "layer": 1, "position": 2, "answers": answers(), "batch_size": 5}
    with pytest.raises(error, match=message):
        LayerRun(**good | change)


def test_wrong_replacements_are_refused_by_name(bridge: Any) -> None:
    run = LayerRun(bridge, token_ids(), layer=1, position=2, batch_size=5)
    good = normal(PROMPTS, WIDTH)
    for wrong in (good[:, :3], good[:5], normal(2, 2, PROMPTS, WIDTH), normal(0, PROMPTS, WIDTH)):
        with pytest.raises(ShapeError, match="replacements: expected"):
            run.run(wrong)
    with pytest.raises(DTypeError, match="replacements: expected float32"):
        run.run(good.long())
    with pytest.raises(ValueError, match="replacements: expected finite"):
        run.run(good / 0)
    with pytest.raises(ValueError, match="replacements: requires_grad"):
        run.run(good.clone().requires_grad_())
    with pytest.raises(ValueError, match="tokens: expected"):
        run.answer_logits(good)
    assert torch.equal(run.run(good.numpy().astype(numpy.float64)), run.run(good))


@pytest.mark.slow
@pytest.mark.skipif(not models.fetched("smollm2"), reason="interpkern models get smollm2")
def test_smollm2_equals_plain_torch_hooks_on_hugging_faces_model() -> None:
    from transformers import AutoModelForCausalLM

    folder = models.get("smollm2")
    prompts = multiplication_prompts(
        (bridge := hugging_face_bridge(folder)).tokenizer, [(a, b) for a in (2, 5, 9) for b in (3, 8)]
    )
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    for layer in (3, 20):
        settings: dict[str, Any] = {"layer": layer, "position": prompts.operands, "batch_size": 6}
        run = LayerRun(bridge, prompts.tokens, **settings)
        later = LayerRun(bridge, prompts.tokens, **settings, reuse_prefix=True)
        assert (run.starts_at_layer, later.starts_at_position) == (True, int(prompts.operands[0, 0]))
        new = run.at_position + 0.1 * run.at_position.std() * normal(*run.at_position.shape)

        def change(hidden: torch.Tensor, new: torch.Tensor = new) -> torch.Tensor:
            hidden[torch.arange(len(hidden))[:, None], prompts.operands] = new
            return hidden

        expected = raw_logits(model, model.model.layers[layer], prompts.tokens, change)
        scale = float(expected.abs().max())
        assert float((run.run(new) - expected).abs().max()) < 1e-5 * scale
        assert float((later.run(new) - expected).abs().max()) < 1e-5 * scale
        for one in (run, later):
            assert torch.equal(one.run(one.at_position), one.before)
