"""Heads and MLPs by activation and path patching: the planted circuit is named, and raw hooks give the same numbers."""

from typing import Any

import pytest
import torch

from interpkern.errors import DTypeError, ShapeError
from interpkern.probing.path_patching import component_effects
from tests.probing.addition_toys import ADDS, LAYERS, MOVES_A, MOVES_B, adder, encode

PAIRS = [((3, 4), (5, 4)), ((7, 20), (8, 20)), ((11, 9), (1, 9)), ((0, 0), (29, 0)), ((13, 13), (2, 13))]


def prompts(pairs: list[tuple[int, int]]) -> torch.Tensor:
    return torch.tensor([encode(f"{a}+{b}=") for a, b in pairs])


@pytest.fixture(scope="module")
def toy() -> Any:
    return adder(noise=0.3)


@pytest.fixture(scope="module")
def random_bridge() -> Any:
    from transformer_lens.config import TransformerBridgeConfig
    from transformer_lens.model_bridge import TransformerBridge

    sizes = {"d_model": 12, "d_head": 4, "n_heads": 3, "n_layers": 3, "n_ctx": 7, "d_vocab": 31, "d_mlp": 17}
    bridge = TransformerBridge.boot_native(
        TransformerBridgeConfig(**sizes, normalization_type="LN", act_fn="gelu", seed=0)
    )
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in bridge.original_model.parameters():
            weight.copy_(0.5 * torch.randn(weight.shape, generator=generator))
    return bridge


def test_the_head_that_moves_the_operand_is_named(toy: Any):
    first, second = prompts([one for one, _ in PAIRS]), prompts([new for _, new in PAIRS])
    answers = torch.tensor([[sum(one), sum(new)] for one, new in PAIRS])
    found = component_effects(toy, first, second, answers, batch_size=7)
    table = found.to_pandas().set_index("component")
    mover, adds = f"L{MOVES_A[0]}H{MOVES_A[1]}", f"MLP {ADDS}"
    assert set(table.index[:2]) == {mover, adds}
    assert len(table) == LAYERS * 5
    # the head carries all of it, and all through the MLP; the MLP writes all of it for the unembedding
    assert table.loc[mover, ["total_share", "direct_share", "indirect_share"]].tolist() == pytest.approx([1, 0, 1])
    assert table.loc[adds, ["total_share", "direct_share", "indirect_share"]].tolist() == pytest.approx([1, 1, 0])
    assert float(table["total_share"].iloc[2:].abs().max()) < 1e-5
    assert torch.allclose(found.total[[part.name == mover for part in found.components]][0], found.full, atol=1e-4)
    assert found.plot().axes


def test_the_other_operand_comes_by_the_other_head(toy: Any):
    pairs = [((b, a), (new_b, new_a)) for (a, b), (new_a, new_b) in PAIRS]
    answers = torch.tensor([[sum(one), sum(new)] for one, new in pairs])
    first, second = prompts([one for one, _ in pairs]), prompts([new for _, new in pairs])
    table = component_effects(toy, first, second, answers).to_pandas()
    assert f"L{MOVES_B[0]}H{MOVES_B[1]}" in table["component"][:2].tolist()
    # at the operand's own position nothing is moved by any component
    there = component_effects(toy, first, second, answers, position=3).to_pandas()
    assert float(there["total_share"].abs().max()) < 1e-5


def patched_by_hand(
    bridge: Any, tokens: torch.Tensor, others: torch.Tensor, layer: int, head: int | None, position: int, frozen: bool
) -> torch.Tensor:
    """One component by TransformerLens' own hooks, over the whole model: (P, V) logits of the last position."""
    with torch.no_grad():
        _, clean = bridge.run_with_cache(tokens)
        _, other = bridge.run_with_cache(others)
    hooks = []

    def patch(value: torch.Tensor, hook: Any) -> torch.Tensor:
        value = value.clone()
        where = (slice(None), position) if head is None else (slice(None), position, head)
        value[where] = other[name][where]
        return value

    def freeze(name: str) -> Any:
        def hook(value: torch.Tensor, hook: Any) -> torch.Tensor:
            return clean[name]

        return hook

    name = f"blocks.{layer}.hook_mlp_out" if head is None else f"blocks.{layer}.attn.hook_z"
    if frozen:
        later = [f"blocks.{n}.{part}" for n in range(layer + 1, 3) for part in ("hook_attn_out", "hook_mlp_out")]
        later += [f"blocks.{layer}.hook_mlp_out"] if head is not None else []
        hooks += [(one, freeze(one)) for one in later]
    with torch.no_grad():
        return bridge.run_with_hooks(tokens, fwd_hooks=[*hooks, (name, patch)])[:, -1]


@pytest.mark.parametrize("position", [-1, 2])
def test_effects_are_those_of_hooks_by_hand(random_bridge: Any, position: int):
    generator = torch.Generator().manual_seed(1)
    tokens = torch.randint(0, 31, (5, 6), generator=generator)
    others = tokens.clone()
    others[:, 1] = (others[:, 1] + 3) % 31
    answers = torch.randint(0, 31, (5, 2), generator=generator)
    found = component_effects(random_bridge, tokens, others, answers, position=position, batch_size=4)
    with torch.no_grad():
        base = random_bridge(tokens)[:, -1]
        full = random_bridge(others)[:, -1] - base
    assert torch.allclose(found.full, full.gather(1, answers).double(), atol=1e-5)
    for part, total, direct in zip(found.components, found.total, found.direct, strict=True):
        for effect, frozen in ((total, False), (direct, True)):
            logits = patched_by_hand(random_bridge, tokens, others, part.layer, part.head, position % 6, frozen)
            expected = (logits - base).gather(1, answers).double()
            assert torch.allclose(effect, expected, atol=2e-5), (part, frozen)
    if position == 2:
        assert float(found.direct.abs().max()) == 0
        assert float(found.total.abs().max()) > 0.01


def test_batches_and_layers_make_no_difference(random_bridge: Any):
    tokens = torch.randint(0, 31, (5, 6), generator=torch.Generator().manual_seed(2))
    answers = tokens[:, :2]
    whole = component_effects(random_bridge, tokens, tokens.flip(0), answers)
    part = component_effects(random_bridge, tokens, tokens.flip(0), answers, layers=[1], batch_size=3)
    assert [one.name for one in part.components] == ["L1H0", "L1H1", "L1H2", "MLP 1"]
    assert torch.allclose(whole.total[4:8], part.total, atol=1e-5)
    same = component_effects(random_bridge, tokens, tokens, answers)
    assert float(same.total.abs().max()) == 0
    assert float(same.direct.abs().max()) == 0


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"counterfactual_prompts": prompts([(1, 2)])[:, :4]}, ShapeError, "counterfactual_prompts: expected"),
        ({"prompts": torch.randn(1, 5)}, DTypeError, "prompts: expected int64"),
        ({"prompts": torch.full((1, 5), 99)}, ValueError, "prompts: expected token ids"),
        ({"answers": torch.tensor([3])}, ShapeError, r"answers: expected \(P, 2\)"),
        ({"position": 5}, ValueError, "position: expected"),
        ({"layers": [LAYERS]}, ValueError, "layers: expected"),
        ({"layers": []}, ValueError, "layers: expected at least one"),
    ],
)
def test_wrong_input_is_named(toy: Any, change: dict, error: type, message: str):
    given = {
        "prompts": prompts([(1, 2)]),
        "counterfactual_prompts": prompts([(3, 2)]),
        "answers": torch.tensor([[3, 5]]),
    } | change
    with pytest.raises(error, match=message):
        component_effects(toy, **given)
