"""Circuits against slow and obvious float64 forms, the worked example, ablations, baselines and matched units."""

import itertools
from dataclasses import replace
from pathlib import Path

import numpy
import pandas
import pytest
import torch
from matplotlib.figure import Figure

from interpkern.memorisation import (
    MemoriseRun,
    TableMLPs,
    ablation_curves,
    circuits,
    equal_rank,
    low_rank_fit,
    memorise,
    neurons,
    plot_decomposition,
    random_tables,
    shared_structure,
    svd_accuracy,
    worked_example,
)
from interpkern.memorisation.circuit_plots import plot_ablations
from interpkern.memorisation.matching import matched_correlation
from interpkern.memorisation.neurons import hidden_matrices, top_energy, unit_patterns

SHAPES = [(4, 5, 3, 7), (7, 1, 2, 3), (5, 4, 6, 1)]


def run_of(models: TableMLPs, tables: torch.Tensor, steps: int = 0) -> MemoriseRun:
    return memorise(models, tables, steps=steps, schedule="cosine", progress=False)


@pytest.fixture(scope="module")
def run() -> MemoriseRun:
    tables = random_tables(3, 7, 9).repeat_interleave(3, dim=0)
    return run_of(TableMLPs.init(9, 7, 9, 6, 8), tables, steps=600)


def slow_matrices(models: TableMLPs) -> numpy.ndarray:
    """(B, H, R, C) float64, from the definition of the model."""
    x = models.E1.double()[:, :, None] + models.E2.double()[:, None]
    return torch.relu(torch.einsum("brcd,bhd->bhrc", x, models.W.double()) + models.c.double()[..., None, None]).numpy()


@pytest.mark.parametrize("shape", SHAPES)
def test_figures_of_every_unit(shape: tuple) -> None:
    rows, cols, d_model, d_hidden = shape
    run = run_of(TableMLPs.init(5, rows, cols, d_model, d_hidden), random_tables(5, rows, cols), steps=31)
    units, H = circuits(run).units, slow_matrices(run.models)
    r, facts = run.models.r.double().numpy(), run.tables.numpy()
    numpy.testing.assert_allclose(hidden_matrices(run.models).numpy(), H, atol=1e-5)
    numpy.testing.assert_allclose(units.active.numpy(), (H > 0).mean((2, 3)), atol=1e-6)
    energy = r**2 * (H**2).sum((2, 3))
    numpy.testing.assert_allclose(units.energy.numpy(), energy, rtol=1e-4, atol=1e-6)
    for b, j in itertools.product(range(5), range(d_hidden)):
        values = numpy.linalg.svd(H[b, j], compute_uv=False)
        rank = (values**2).sum() / values[0] ** 2 if values[0] > 0 else numpy.nan
        assert float(units.stable_rank[b, j]) == pytest.approx(rank, rel=1e-4, nan_ok=True)
        left = sum(r[b, i] * H[b, i] for i in range(d_hidden) if i != j) + float(run.models.c_out[b])
        assert float(units.ablated_accuracy[b, j]) == pytest.approx(((left > 0) == facts[b]).mean(), abs=1e-6)


def best_of_all_rectangles(H: numpy.ndarray) -> float:
    """The largest share of energy over every set of rows and every set of columns."""
    rows, cols = H.shape
    best = 0.0
    for u in itertools.product((0, 1), repeat=rows):
        for v in itertools.product((0, 1), repeat=cols):
            area = sum(u) * sum(v)
            if area:
                best = max(best, float(numpy.array(u) @ H @ numpy.array(v)) ** 2 / area)
    return best / (H**2).sum()


def test_the_best_rectangle_is_the_best_of_all() -> None:
    models = TableMLPs.init(3, 4, 5, 3, 4)
    units, H = circuits(run_of(models, random_tables(3, 4, 5))).units, slow_matrices(models)
    for b, j in itertools.product(range(3), range(4)):
        if H[b, j].any():
            assert float(units.rectangle[b, j]) == pytest.approx(best_of_all_rectangles(H[b, j]), rel=1e-4)


def test_the_worked_example_is_exact() -> None:
    models, table = worked_example()
    assert torch.equal(models.logits(), table.float())
    run = run_of(models, table)
    assert run.solved.tolist() == [True]
    found = circuits(run)
    assert found.units.stable_rank[0].tolist() == pytest.approx([1, 1])
    assert found.units.rectangle[0].tolist() == pytest.approx([1, 1])
    assert found.units.active[0].tolist() == pytest.approx([4 / 9, 2 / 9])
    assert (found.units.rectangle_rows * found.units.rectangle_cols)[0].tolist() == [4, 2]
    # without the unit on 4 facts those are wrong, without the other 2 are
    assert found.units.ablated_accuracy[0].tolist() == pytest.approx([5 / 9, 7 / 9])
    assert found.to_pandas().participation[0] == pytest.approx((4 + 2) ** 2 / (16 + 4) / 2)


def test_the_table_of_a_run(run: MemoriseRun) -> None:
    found = circuits(run)
    frame, H = found.to_pandas(), slow_matrices(run.models)
    assert len(frame) == len(run)
    energy = (run.models.r.double().numpy() ** 2) * (H**2).sum((2, 3))
    numpy.testing.assert_allclose(frame.participation, energy.sum(1) ** 2 / (energy**2).sum(1) / 8, rtol=1e-4)
    near_the_kink = 2.5 / H[0].size  # training leaves units at 0 for a fact, where rounding decides
    numpy.testing.assert_allclose(frame.active_fraction, (H > 0).mean((1, 2, 3)), atol=near_the_kink)
    assert (frame.worst_ablated_accuracy <= frame.ablated_accuracy).all()
    assert (frame.accuracy == run.to_pandas().accuracy).all()
    for b in range(len(run)):
        alive = H[b].std((1, 2)) > 1e-6
        expected = numpy.corrcoef(H[b].reshape(8, -1)[alive])
        numpy.testing.assert_allclose(found.correlation[b].numpy()[numpy.ix_(alive, alive)], expected, atol=1e-4)
    units = found.neurons()
    assert len(units) == len(run) * 8
    assert units.active_fraction.iloc[8 + 3] == float(found.units.active[1, 3])


def test_any_number_of_models_at_once_gives_the_same(run: MemoriseRun, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = circuits(run).to_pandas()
    monkeypatch.setattr(neurons, "CHUNK_NUMBERS", 2 * 8 * 63)
    pandas.testing.assert_frame_equal(circuits(run).to_pandas(), whole)


def test_the_top_singular_value_of_any_matrix() -> None:
    generator = numpy.random.default_rng(0)
    matrices = [generator.normal(size=(5, 9)), numpy.eye(5, 9), numpy.outer(range(5), range(9)), numpy.zeros((5, 9))]
    stacked = numpy.stack(matrices)
    expected = numpy.linalg.svd(stacked, compute_uv=False)[:, 0] ** 2
    found = top_energy(torch.from_numpy(stacked)).numpy()
    numpy.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-9)
    numpy.testing.assert_allclose(top_energy(torch.from_numpy(stacked).mT).numpy(), expected, rtol=1e-3, atol=1e-9)


@pytest.mark.parametrize("order", ["weakest", "strongest", "random"])
def test_ablation_curves_are_those_of_models_without_the_units(run: MemoriseRun, order: str) -> None:
    curves = ablation_curves(run, order=order)
    assert curves.shape == (9, 9)
    numpy.testing.assert_allclose(curves[:, 0], run.accuracy)
    constant = ((run.models.c_out > 0)[:, None, None] == run.tables.bool()).double().mean((1, 2))
    numpy.testing.assert_allclose(curves[:, -1], constant)
    if order != "random":
        strength = (run.models.r[:, :, None, None] * hidden_matrices(run.models)).var((2, 3), correction=0)
        kept = replace(run.models, r=run.models.r.clone())
        for k, unit in enumerate(strength.argsort(1, descending=order == "strongest").T[:3]):
            kept.r[torch.arange(9), unit] = 0
            right = ((kept.logits() > 0) == run.tables.bool()).double().mean((1, 2))
            numpy.testing.assert_allclose(curves[:, k + 1], right, atol=1e-9)


def test_a_mean_in_a_unit_s_place_keeps_a_constant_unit(run: MemoriseRun) -> None:
    always = replace(run.models, c=run.models.c + 1e4, c_out=run.models.c_out - 1e4 * run.models.r.sum(1))
    moved = run_of(always, run.tables)
    assert bool((ablation_curves(moved, mean=True)[:, -1] >= 0.3).all())
    assert isinstance(plot_ablations({"weakest": ablation_curves(run)}), Figure)
    with pytest.raises(ValueError, match="order"):
        ablation_curves(run, order="best")


def test_low_rank_baselines() -> None:
    tables = random_tables(4, 7, 9)
    signs = 2.0 * tables.numpy() - 1
    for rank in (1, 3, 7):
        u, s, v = numpy.linalg.svd(signs)
        near = (u[:, :, :rank] * s[:, None, :rank]) @ v[:, :rank]
        numpy.testing.assert_allclose(svd_accuracy(tables, rank), ((near > 0) == tables.numpy()).mean((1, 2)))
    assert svd_accuracy(tables, 7).tolist() == [1.0] * 4
    share = tables.double().mean((1, 2))
    numpy.testing.assert_allclose(svd_accuracy(tables, 0), torch.maximum(share, 1 - share))
    assert [equal_rank(7, 9, p) for p in (16, 17, 33, 1000)] == [0, 1, 2, 7]


def right(logits: torch.Tensor, tables: torch.Tensor) -> float:
    return float(((logits > 0) == tables.bool()).double().mean())


def test_a_trained_product_learns_what_is_of_low_rank_and_beats_the_svd() -> None:
    generator = torch.Generator().manual_seed(0)
    planted = torch.randn(3, 12, 2, generator=generator) @ torch.randn(3, 2, 13, generator=generator)
    tables = (planted > 0).to(torch.uint8)
    assert right(low_rank_fit(tables, 2, steps=500), tables) > 0.99
    hard = random_tables(4, 24, 25)
    assert right(low_rank_fit(hard, 5, steps=500), hard) > float(svd_accuracy(hard, 5).mean()) + 0.03


def test_matched_units_of_a_model_and_its_shuffle_are_the_same(run: MemoriseRun) -> None:
    shuffled = torch.randperm(8, generator=torch.Generator().manual_seed(0))
    pattern = unit_patterns(run.models)[0]
    alive = float((pattern.norm(dim=1) > 0).double().mean())
    assert matched_correlation(pattern, pattern[shuffled]) == pytest.approx(alive, abs=1e-5)


def test_shared_structure_is_found_where_it_was_planted(run: MemoriseRun) -> None:
    nothing = shared_structure(run)
    assert nothing.pairs.same.sum() == 3 * 3
    assert nothing.low < nothing.difference < nothing.high
    copies = [0, 0, 0, 3, 3, 3, 6, 6, 6]
    planted = shared_structure(run[copies])
    assert planted.same > 0.8  # constant units have no pattern to match
    assert planted.low > nothing.difference
    assert "correlate" in planted.sentence()
    with pytest.raises(ValueError, match="run"):
        shared_structure(run[[0, 3]])
    assert isinstance(planted.plot(), Figure)


def test_pictures_and_files(run: MemoriseRun, tmp_path: Path) -> None:
    figure = plot_decomposition(run, 1, neurons=7)
    assert [axes.get_title() for axes in figure.axes[:3]] == ["the table", "logits", "answers"]
    shown = figure.axes[6].images[0].get_array()
    strongest = (run.models.r[1, :, None, None] * hidden_matrices(run.models)[1]).var((1, 2), correction=0).argmax()
    expected = run.models.r[1, strongest] * hidden_matrices(run.models)[1, strongest]
    numpy.testing.assert_array_equal(shown, expected.numpy())
    found = circuits(run)
    assert isinstance(found.plot(), Figure)
    found.save(tmp_path)
    shared = shared_structure(run)
    shared.save(tmp_path)
    pandas.testing.assert_frame_equal(pandas.read_parquet(tmp_path / "matching.parquet"), shared.pairs)
    assert len(pandas.read_parquet(tmp_path / "neurons.parquet")) == 9 * 8


def test_refusals(run: MemoriseRun) -> None:
    with pytest.raises(TypeError, match="run"):
        circuits(run.models)
    broken = replace(run, models=replace(run.models, c=run.models.c * torch.nan))
    with pytest.raises(ValueError, match="run"):
        circuits(broken)
    with pytest.raises(ValueError, match="rank"):
        svd_accuracy(run.tables, -1)
    with pytest.raises(ValueError, match="tables"):
        low_rank_fit(torch.full((1, 2, 2), 3), 1)
