"""Metrics of a dictionary against brute force and closed forms, and its CE score against plain torch hooks."""

import math

import numpy
import pytest
import torch

from interpkern.errors import DTypeError, ShapeError
from interpkern.itda import ITDA, ce_score, metrics

HOOK = "blocks.1.hook_resid_pre"


def activations(rows: int, width: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(rows, width, generator=torch.Generator().manual_seed(seed)) + 0.5


def with_massive(x: torch.Tensor, rows: tuple[int, ...], factor: float = 140.0) -> torch.Tensor:
    larger = x.clone()
    larger[list(rows)] *= factor
    return larger


def brute_force(itda: ITDA, x: torch.Tensor) -> dict[str, float]:
    """Every figure as its definition says it, a row at a time."""
    code = itda.encode(x)
    error, distance, distinct, used, signs = [], [], [], set(), []
    for row in range(len(x)):
        rebuilt = itda.mean.double()
        picks = set()
        for index, coefficient in zip(code.indices[row].tolist(), code.coefficients[row].tolist(), strict=True):
            if index >= 0 and coefficient != 0:
                rebuilt = rebuilt + coefficient * itda.atoms[index].double()
                picks.add(index)
                signs.append(coefficient < 0)
        error.append(float((x[row] - rebuilt).square().sum()))
        distance.append(float((x[row].double() - itda.mean).square().sum()))
        distinct.append(len(picks))
        used |= picks
    variance = float((x.double() - x.double().mean(0)).square().sum())
    return {
        "tokens": len(x),
        "fvu": sum(error) / variance,
        "median_error": float(numpy.median(numpy.array(error) / numpy.array(distance))),
        "distinct_l0": float(numpy.mean(distinct)),
        "dead_atoms": len(itda) - len(used),
        "dead_share": 1 - len(used) / len(itda),
        "negative_share": float(numpy.mean(signs)),
    }


@pytest.mark.parametrize("settings", [{"method": "mp"}, {"method": "omp"}, {"method": "mp_refit", "nonnegative": True}])
def test_every_figure_against_brute_force(settings: dict[str, object]) -> None:
    itda = ITDA(k=7, threshold=0.2, **settings).fit(activations(400, 9))
    x = with_massive(activations(257, 9, seed=1), (0, 31, 200))
    found = metrics(itda, x)
    ordinary = torch.ones(257, dtype=torch.bool)
    ordinary[[0, 31, 200]] = False
    for group, rows in ((found.all, x), (found.ordinary, x[ordinary]), (found.massive, x[~ordinary])):
        for name, wanted in brute_force(itda, rows).items():
            assert getattr(group, name) == pytest.approx(wanted, rel=1e-5), name
    assert found.all.fvu == pytest.approx(itda.fvu(x), rel=1e-6)
    assert found.ordinary.fvu == pytest.approx(itda.fvu(x[ordinary]), rel=1e-6)
    assert found.all.negative_share == 0 if settings.get("nonnegative") else found.all.negative_share > 0.2


def test_figures_of_a_dictionary_that_is_known_by_heart() -> None:
    # the first three axes are the atoms, in this order; the fourth is never seen
    itda = ITDA(k=2, centre=False).fit(torch.eye(4)[:3])
    x = torch.tensor([[3.0, 0, 0, 0], [0, -2, 1, 0], [0, -1, 0, 1], [0, 0, 0, 2], [0, 0, 0, 0]])
    found = metrics(itda, x)
    assert found.errors.tolist() == pytest.approx([0, 0, 0.5, 1, 0], abs=1e-12)
    assert found.all.median_error == 0
    # squared errors 1 and 4; squares 9 + 5 + 2 + 4 less the squares of the column sums (3, -3, 1, 3) over 5 rows
    assert found.all.fvu == pytest.approx(5 / (20 - 28 / 5))
    assert found.all.distinct_l0 == (1 + 2 + 1 + 0 + 0) / 5
    assert found.all.negative_share == 2 / 4
    assert found.all.dead_atoms == 0
    without = metrics(itda, x[2:]).all
    assert (without.dead_atoms, without.dead_share) == (2, 2 / 3)


def test_repeated_picks_count_once() -> None:
    angle = 0.3
    atoms = torch.tensor([[1.0, 0.0], [math.cos(angle), math.sin(angle)]])
    itda = ITDA(k=4, method="mp", threshold=1e-6, centre=False).fit(atoms)
    x = torch.tensor([[0.0, 1.0]])
    assert int((itda.encode(x).indices >= 0).sum()) == 4
    assert metrics(itda, torch.cat([x, -x])).all.distinct_l0 == 2


def test_massive_tokens_are_named_and_kept_apart() -> None:
    x = with_massive(activations(300, 7), (4, 77))
    labels = torch.stack([torch.arange(300) // 10, torch.arange(300) % 10], 1)
    itda = ITDA(k=3).fit(activations(300, 7))
    found = metrics(itda, [(x[:100], labels[:100]), (x[100:], labels[100:])])
    assert (found.all.tokens, found.ordinary.tokens, found.massive.tokens) == (300, 298, 2)
    named = found.massive_tokens()
    assert named[["prompt_id", "position"]].to_numpy().tolist() == [[0, 4], [7, 7]]
    median = float(x.double().norm(dim=1).median())
    assert found.median_norm == pytest.approx(float(numpy.median(x.double().norm(dim=1))), rel=1e-6)
    assert named["norm"].tolist() == pytest.approx([float(x[row].norm()) / median for row in (4, 77)], rel=0.01)
    assert found.massive.median_error == pytest.approx(float(found.errors[[4, 77]].mean()))
    assert found.all.fvu > 1.5 * found.ordinary.fvu
    assert metrics(itda, x, massive_above=1000).massive.tokens == 0
    frame = found.to_pandas()
    assert frame.index.tolist() == ["all", "ordinary", "massive"]
    assert frame.loc["ordinary", "fvu"] == found.ordinary.fvu
    assert frame["tokens"].tolist() == [300, 298, 2]
    assert len(found.plot().axes) == 2


def test_groups_without_variance_have_no_fvu() -> None:
    itda = ITDA(k=3).fit(activations(50, 5))
    found = metrics(itda, with_massive(activations(31, 5), (3,)))
    assert math.isnan(found.massive.fvu)
    assert found.massive.tokens == 1
    empty = metrics(itda, activations(31, 5)).massive
    assert (empty.tokens, empty.dead_atoms) == (0, len(itda))
    assert math.isnan(empty.median_error)
    assert math.isnan(empty.negative_share)


@pytest.mark.parametrize("sizes", [[1, 7, 249], [100, 157]])
def test_batches_do_not_matter(monkeypatch: pytest.MonkeyPatch, sizes: list[int]) -> None:
    x = with_massive(activations(257, 5, seed=2), (11,))
    itda = ITDA(k=3).fit(activations(200, 5))
    whole = metrics(itda, x)
    monkeypatch.setattr("interpkern.itda.quality.CHUNK", 33)
    seen: list[tuple[int, int]] = []
    parts = metrics(itda, list(x.split(sizes)), progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (257, 257)
    torch.testing.assert_close(parts.errors, whole.errors, rtol=0, atol=0)
    for name in ("fvu", "median_error", "distinct_l0", "dead_atoms", "negative_share"):
        assert getattr(parts.ordinary, name) == pytest.approx(getattr(whole.ordinary, name), rel=1e-12)


def test_rows_that_are_not_finite_are_left_out_or_named() -> None:
    x = activations(40, 5)
    broken = torch.cat([x[:7], torch.full((1, 5), math.nan), x[7:]])
    skipping = ITDA(k=3, skip_nonfinite=True).fit(x)
    assert metrics(skipping, broken).all == metrics(skipping, x).all
    with pytest.raises(ValueError, match=r"x: expected finite numbers.*row 7"):
        metrics(ITDA(k=3).fit(x), broken)


def test_inputs_of_metrics_are_named() -> None:
    itda = ITDA(k=3).fit(activations(40, 5))
    with pytest.raises(DTypeError, match="itda: expected a fitted ITDA"):
        metrics(None, activations(3, 5))
    with pytest.raises(ValueError, match="call fit"):
        metrics(ITDA(), activations(3, 5))
    with pytest.raises(ShapeError, match="x: expected width D = 5"):
        metrics(itda, activations(3, 4))
    with pytest.raises(ValueError, match=r"x: .*read twice"):
        metrics(itda, iter([activations(3, 5)]))
    with pytest.raises(ValueError, match="x: expected at least one row"):
        metrics(itda, activations(0, 5))
    with pytest.raises(ValueError, match="massive_above"):
        metrics(itda, activations(3, 5), massive_above=0.5)


class Scaled:
    """Rebuilds every activation as itself times a factor."""

    def __init__(self, factor: float) -> None:
        self.factor, self.rows = factor, 0

    def encode(self, x: torch.Tensor) -> torch.Tensor:
        self.rows += len(x)
        return x

    def decode(self, code: torch.Tensor) -> torch.Tensor:
        return code * self.factor


@pytest.fixture(scope="module")
def bridge():
    pytest.importorskip("transformer_lens")
    from transformer_lens.model_bridge import TransformerBridge

    config = {"n_layers": 2, "d_model": 16, "n_heads": 2, "d_head": 8, "n_ctx": 32, "d_vocab": 23, "act_fn": "gelu"}
    return TransformerBridge.boot_native(config | {"seed": 0})


TEXTS = [[1, 5, 7, 2, 22], [3, 3], [9, 8, 7, 6, 5, 4, 3], [11]]


def test_identity_scores_one_and_zeros_score_nothing(bridge) -> None:
    identity = Scaled(1.0)
    one = ce_score(identity, bridge, TEXTS, HOOK, batch_size=3)
    assert identity.rows == 5 + 2 + 7 + 1, "padding was replaced"
    assert float(one) == one.value == one.ordinary == 1.0
    assert one.ce_reconstructed == one.ce_original != one.ce_zero
    assert (one.predictions, one.tokens) == (4 + 1 + 6, 5 + 2 + 7 + 1)
    nothing = ce_score(Scaled(0.0), bridge, TEXTS, HOOK, batch_size=3)
    assert float(nothing) == 0.0
    assert (nothing.ce_original, nothing.ce_zero) == (one.ce_original, one.ce_zero)
    assert nothing.to_pandas().loc[0, "hook"] == HOOK


def by_torch_hooks(bridge, texts: list[list[int]], change) -> float:
    """Nats per token, a text at a time without padding, with the input of block 1 changed by a plain torch hook."""
    handle = bridge.original_model.layers[1].register_forward_pre_hook(lambda module, inputs: (change(inputs[0]),))
    total = count = 0.0
    try:
        for text in texts:
            tokens = torch.tensor([text])
            with torch.no_grad():
                logits = bridge.original_model(tokens)
            logits = getattr(logits, "logits", logits)
            log_probability = torch.log_softmax(logits[0, :-1].double(), dim=-1)
            total -= float(log_probability.gather(1, tokens[0, 1:, None]).sum())
            count += len(text) - 1
    finally:
        handle.remove()
    return total / count


@pytest.mark.parametrize("batch_size", [1, 3])
def test_ce_of_a_real_dictionary_against_torch_hooks(bridge, batch_size: int) -> None:
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        _, cache = bridge.run_with_cache(torch.randint(0, 23, (9, 31), generator=generator), names_filter=HOOK)
    itda = ITDA(k=3, threshold=0.3).fit(cache[HOOK].flatten(0, 1))
    found = ce_score(itda, bridge, TEXTS, HOOK, batch_size=batch_size)

    def rebuilt(x: torch.Tensor) -> torch.Tensor:
        return itda.decode(itda.encode(x[0]))[None]

    original, zero = by_torch_hooks(bridge, TEXTS, lambda x: x), by_torch_hooks(bridge, TEXTS, torch.zeros_like)
    reconstructed = by_torch_hooks(bridge, TEXTS, rebuilt)
    assert found.ce_original == pytest.approx(original, abs=1e-5)
    assert found.ce_zero == pytest.approx(zero, abs=1e-5)
    assert found.ce_reconstructed == pytest.approx(reconstructed, abs=1e-5)
    assert found.value == pytest.approx((zero - reconstructed) / (zero - original), abs=1e-4)
    assert abs(reconstructed - original) > 1e-3
    assert found.massive_tokens == 0


def test_massive_tokens_keep_their_activation(bridge) -> None:
    embed = bridge.original_model.tok_embed
    weight = embed._original_component.weight
    before = weight.detach().clone()
    with torch.no_grad():
        weight[2] *= 300
    try:
        found = ce_score(Scaled(0.0), bridge, TEXTS[:3], HOOK)
        only = ce_score(Scaled(1.0), bridge, TEXTS[:3], HOOK)
        lengths: list[torch.Tensor] = []
        by_torch_hooks(bridge, TEXTS[:3], lambda x: lengths.append(x[0].norm(dim=1)) or x)
        top = float(torch.cat(lengths).max()) / 2
        kept = by_torch_hooks(bridge, TEXTS[:3], lambda x: x * (x.norm(dim=-1, keepdim=True) > top))
    finally:
        with torch.no_grad():
            weight.copy_(before)
    assert (found.massive_tokens, found.tokens) == (1, 14)
    assert found.value == 0.0
    assert found.ordinary != 0.0
    assert found.ce_ordinary == pytest.approx(kept, abs=1e-5)
    assert abs(found.ce_ordinary - found.ce_zero) > 1e-3
    assert only.ordinary == 1.0


def test_the_model_is_left_as_it_was(bridge) -> None:
    bridge.train()
    before = bridge(torch.tensor([TEXTS[0]]))
    ce_score(Scaled(0.0), bridge, TEXTS, HOOK)
    assert bridge.training
    torch.testing.assert_close(bridge(torch.tensor([TEXTS[0]])), before, rtol=0, atol=0)


def test_inputs_of_ce_score_are_named(bridge) -> None:
    with pytest.raises(DTypeError, match="itda: expected a fitted ITDA"):
        ce_score(None, bridge, TEXTS, HOOK)
    with pytest.raises(DTypeError, match="bridge: expected a transformer_lens"):
        ce_score(Scaled(1), None, TEXTS, HOOK)
    with pytest.raises(ValueError, match=r"hook: .*Did you mean 'blocks.1.hook_resid_pre'"):
        ce_score(Scaled(1), bridge, TEXTS, "blocks.1.hook_resid_pr")
    with pytest.raises(ShapeError, match=r"hook: .*gives .*expected \(batch, position, D"):
        ce_score(Scaled(1), bridge, TEXTS, "blocks.0.attn.hook_pattern")
    with pytest.raises(ValueError, match="texts: expected at least one of two tokens"):
        ce_score(Scaled(1), bridge, [[1], [2]], HOOK)
    with pytest.raises(ValueError, match="texts: this model has no tokenizer"):
        ce_score(Scaled(1), bridge, ["words"], HOOK)
    with pytest.raises(ShapeError, match="x: expected width D = 5"):
        ce_score(ITDA(k=2).fit(activations(20, 5)), bridge, TEXTS, HOOK)
    assert float(ce_score(Scaled(1), bridge, torch.tensor([[1, 2, 3], [4, 5, 6]]), HOOK)) == 1.0
