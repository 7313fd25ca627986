"""Quantisation: grids against their definition, what they cost, and retraining that ends on the grid."""

from dataclasses import replace

import numpy
import pytest
import torch

from interpkern.memorisation import MemoriseRun, TableMLPs, memorise, quantise, quantise_retrained, random_tables


@pytest.fixture(scope="module")
def run() -> MemoriseRun:
    return memorise(
        TableMLPs.init(16, 9, 7, 8, 9), random_tables(16, 9, 7), steps=3000, schedule="cosine", progress=False
    )


def grid(values: numpy.ndarray, bits: int) -> numpy.ndarray:
    """The definition, for one group."""
    steps = 2 ** (bits - 1) - 1
    scale = abs(values).max() / steps
    return numpy.round(values / scale) * scale


@pytest.mark.parametrize("bits", [2, 3, 8, 10])
@pytest.mark.parametrize("per", ["tensor", "row"])
def test_weights_are_on_the_grid_of_their_group(run: MemoriseRun, bits: int, per: str) -> None:
    kept = run.models.W.clone()
    found = quantise(run.models, bits, per=per)
    assert torch.equal(run.models.W, kept)
    assert torch.equal(found.E1, run.models.E1)
    for model in range(len(run)):
        weights = run.models.W[model].double().numpy()
        rows = [weights] if per == "tensor" else list(weights)
        expected = numpy.concatenate([grid(row, bits).reshape(-1) for row in rows])
        numpy.testing.assert_allclose(found.W[model].numpy().reshape(-1), expected, rtol=1e-6)
        numpy.testing.assert_allclose(found.r[model], grid(run.models.r[model].double().numpy(), bits), rtol=1e-6)
        assert len(found.r[model].unique()) <= 2**bits - 1
    torch.testing.assert_close(found.c_out, run.models.c_out)


def test_zeros_stay_zeros_and_only_trained_embeddings_are_rounded() -> None:
    models = TableMLPs.init(2, 3, 4, 5, 6, embedding="trained")
    empty = replace(models, W=torch.zeros_like(models.W))
    assert torch.equal(quantise(empty, 4).W, empty.W)
    assert len(quantise(models, 3).E1[0].unique()) <= 7
    twice = quantise(quantise(models, 5, per="row"), 5, per="row")
    torch.testing.assert_close(twice.W, quantise(models, 5, per="row").W)


def stored(models: TableMLPs, run: MemoriseRun) -> torch.Tensor:
    return memorise(models, run.tables, steps=0).bits("ce")


def test_many_bits_lose_nothing_and_few_lose_much(run: MemoriseRun) -> None:
    bits = {each: float(stored(quantise(run.models, each), run).mean()) for each in (16, 8, 3)}
    whole = float(run.bits("ce").mean())
    assert bits[16] == pytest.approx(whole, rel=1e-3)
    assert bits[8] > 0.9 * whole
    assert bits[3] < 0.5 * whole


@pytest.mark.parametrize("per", ["tensor", "row"])
def test_retraining_ends_on_the_grid_and_keeps_more(run: MemoriseRun, per: str) -> None:
    calls: list[tuple[int, int]] = []
    found = quantise_retrained(run, 4, per=per, steps=500, progress=lambda *call: calls.append(call))
    again = quantise(found, 4, per=per)
    for name in ("W", "c", "r"):
        torch.testing.assert_close(getattr(again, name), getattr(found, name), rtol=1e-5, atol=1e-7)
    assert float(stored(found, run).mean()) > float(stored(quantise(run.models, 4, per=per), run).mean())
    assert calls[-1] == (3, 3)
    assert found.embedding == run.models.embedding


@pytest.mark.parametrize(("wrong", "error"), [({"bits": 1}, ValueError), ({"bits": 2.5}, TypeError)])
def test_refusals(run: MemoriseRun, wrong: dict, error: type[Exception]) -> None:
    with pytest.raises(error, match="bits"):
        quantise(run.models, **wrong)
    with pytest.raises(ValueError, match="per"):
        quantise(run.models, 8, per="model")
