"""Sweeps of capacity: which models a study trains, where thresholds are found, and going on after a kill."""

import itertools
import math
import os
import random
import signal
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy
import pandas
import pytest
import torch
from matplotlib.figure import Figure
from typer.testing import CliRunner

from interpkern import cli, validation
from interpkern.memorisation import TableMLPs, capacity_sweep, load_sweep, random_tables, solve_readout, sweeps
from interpkern.memorisation.bootstrap import bootstrap_curves
from interpkern.memorisation.capacity import fit_capacity
from interpkern.memorisation.places import Place, places
from interpkern.memorisation.prediction import predicted_seconds
from interpkern.memorisation.readouts import separating
from interpkern.memorisation.scaling import scaling_law, threshold_growth
from interpkern.memorisation.studies import LADDER, STUDIES, square
from interpkern.memorisation.sweep_tables import shapes, thresholds
from interpkern.memorisation.training_cells import Training, blocks, trained, trained_embeddings

BASE = Training(rows=7, cols=9, d_model=5, d_hidden=6, models=16, steps=31, lr=0.03)
ONE_THREAD = Place(threads=1)
BRIEF = {"seeds": 4, "steps": 300, "threads": 1, "progress": False}


def columns(found) -> pandas.DataFrame:
    """The rows of a sweep in an order that says nothing of the order in which they were made."""
    return found.to_pandas().reset_index(drop=True)


@pytest.mark.parametrize("study", STUDIES)
def test_a_study_goes_on_where_it_was_and_gives_the_same(study: str, tmp_path: Path):
    lines: list[str] = []
    found = capacity_sweep(tmp_path / "runs", study=study, sizes=(4,), **BRIEF | {"steps": 60}, say=lines.append)
    assert "0 of them there" in lines[0]
    again = capacity_sweep(tmp_path / "runs", study=study, sizes=(4,), **BRIEF | {"steps": 60}, say=lines.append)
    assert "nothing to wait for" in lines[1]
    pandas.testing.assert_frame_equal(columns(found), columns(again))
    pandas.testing.assert_frame_equal(columns(found), columns(load_sweep(tmp_path / "runs", study)))
    counted = found.shapes()
    assert counted.models.tolist() == [4] * len(counted)
    assert counted.solved.sum() == found.models.solved.sum()
    assert isinstance(found.plot(), Figure)


def test_the_tables_of_a_sweep_are_saved(tmp_path: Path):
    found = capacity_sweep(tmp_path / "runs", sizes=(4,), **BRIEF)
    found.save(tmp_path)
    for name, table in (("models", found.models), ("shapes", found.shapes()), ("thresholds", found.thresholds())):
        pandas.testing.assert_frame_equal(pandas.read_parquet(tmp_path / f"growth-{name}.parquet"), table)


def test_cuda_is_every_gpu_of_the_machine(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    monkeypatch.setattr(validation, "device", lambda name, value: torch.device(value))
    assert [place.device for place in places("cuda", "auto", None)] == [torch.device("cuda", at) for at in range(3)]
    assert places("cuda:2, cpu", "cpu", 2) == [Place("cpu", 2, torch.device("cuda:2")), Place("cpu", 2)]
    with pytest.raises(ValueError, match=r"device.*once"):
        places("cuda:1,cuda:1", "auto", None)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize("device", ["cuda", "cpu,cuda:0", "gpu", ""])
def test_devices_that_are_not_there_are_refused(device: str, tmp_path: Path):
    with pytest.raises(ValueError, match="device"):
        capacity_sweep(tmp_path / "runs", sizes=(4,), device=device, **BRIEF)
    assert not (tmp_path / "runs").exists()


def test_cells_are_placed_on_every_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    one = capacity_sweep(tmp_path / "one", sizes=(5, 6), **BRIEF)
    monkeypatch.setattr("interpkern.memorisation.places.devices", lambda name, value: [torch.device("cpu")] * 3)
    used = set()
    train = sweeps.result
    monkeypatch.setattr(
        sweeps, "result", lambda *cell, progress: (used.add(threading.get_ident()), train(*cell, progress=progress))[1]
    )
    three = capacity_sweep(tmp_path / "three", sizes=(5, 6), device="cuda", **BRIEF)
    assert len(used) > 1
    pandas.testing.assert_frame_equal(one.models, three.models)


def test_more_sizes_and_seeds_reuse_what_is_there(tmp_path: Path):
    lines: list[str] = []
    one = capacity_sweep(tmp_path, sizes=(5,), **BRIEF | {"seeds": 16})
    both = capacity_sweep(tmp_path, sizes=(5, 6), **BRIEF | {"seeds": 16}, say=lines.append)
    assert f"{len(list(one.models.groupby(['d_model', 'd_hidden'])))} of them there" in lines[0]
    pandas.testing.assert_frame_equal(both.models[both.models.rows == 5], one.models)
    few = capacity_sweep(tmp_path, sizes=(6, 4), **BRIEF | {"seeds": 3})
    assert sorted(few.models.rows.unique()) == [4, 6]
    whole = load_sweep(tmp_path, "growth").models
    smallest = (each[each.rows == 4].reset_index(drop=True) for each in (whole, few.models))
    pandas.testing.assert_frame_equal(*smallest)
    pandas.testing.assert_frame_equal(whole[whole.rows > 4].reset_index(drop=True), both.models)
    capacity_sweep(tmp_path, sizes=(4,), **BRIEF | {"steps": 50})
    assert load_sweep(tmp_path, "growth").models.steps.unique().tolist() == [50]


def test_cells_draw_different_tables_and_models():
    runs = [
        trained(each, ONE_THREAD, progress=False)
        for each in (BASE, replace(BASE, seed=1), replace(BASE, d_hidden=7), replace(BASE, first=16))
    ]
    for one, other in itertools.combinations(runs, 2):
        assert bool((one.tables != other.tables).any())
    part = trained(replace(BASE, models=3), ONE_THREAD, progress=False)
    assert torch.equal(part.models.W, runs[0].models.W[:3])


def test_parameters_are_those_that_a_run_counts():
    points = replace(BASE, cols=1, embedding="points")
    for training in (BASE, trained_embeddings(BASE), replace(BASE, train=("r", "c_out")), points):
        run = trained(replace(training, models=2), ONE_THREAD, progress=False)
        assert run.parameters("one_logit") == training.parameters
        assert training.bits_per_parameter == pytest.approx(run.facts / run.parameters("one_logit"))


def test_points_are_normal_numbers_of_their_own_for_every_model():
    chosen = STUDIES["points"].trainings(replace(BASE, models=32), (16,))
    assert {(each.rows, each.cols, each.d_model) for each in chosen} == {(256, 1, 10), (256, 1, 20)}
    drawn = [trained(replace(each, steps=0), ONE_THREAD, progress=False).models.E1 for each in chosen[:2]]
    numbers = torch.stack(drawn).double()
    assert len(torch.unique(numbers.flatten(0, 1).flatten(1), dim=0)) == sum(map(len, drawn))
    assert abs(float(numbers.mean())) < 4 / math.sqrt(numbers.numel())
    assert float(numbers.square().mean()) == pytest.approx(1, abs=4 * math.sqrt(2 / numbers.numel()))


def test_blocks_hold_every_model_once():
    for models, steps in itertools.product((1, 16, 33, 1000), (1, 20_000)):
        parts = blocks(replace(BASE, rows=64, cols=64, d_model=40, d_hidden=40, models=models, steps=steps))
        assert [number for part in parts for number in range(part.first, part.first + part.models)] == list(
            range(models)
        )
    assert len(parts) > len(blocks(replace(BASE, models=1000)))


def test_very_large_tables_are_looked_at_near_their_threshold():
    chosen = STUDIES["growth"].trainings(replace(BASE, models=4), (96, 128))
    bits = {m: [each.bits_per_parameter for each in chosen if each.rows == m] for m in (96, 128)}
    assert bits[128] == pytest.approx([each for each in bits[96] if 2.0 < each < 2.8], rel=0.02)
    assert len(bits[128]) == 5


@pytest.mark.parametrize("m", [16, 32, 96])
@pytest.mark.parametrize("p", [0.5, 0.1])
@pytest.mark.parametrize("embedding", ["random", "trained"])
def test_the_ladder_has_the_bits_per_parameter_that_it_was_asked_for(m: int, p: float, embedding: str):
    base = replace(BASE, rows=m, cols=m, p=p)
    base = trained_embeddings(base) if embedding == "trained" else base
    for wanted in LADDER if embedding == "random" else [0.5, 0.7, 1.0]:
        made = square(base, wanted)
        assert made.bits_per_parameter == pytest.approx(wanted, rel=0.12 if m == 16 or p < 0.5 else 0.06)


def test_the_map_has_49_shapes_at_m_32():
    shapes_of_map = STUDIES["map"].trainings(replace(BASE, models=16, steps=20_000), (32,))
    assert len({(each.d_model, each.d_hidden) for each in shapes_of_map}) == 49
    assert sum(each.models for each in shapes_of_map) == 49 * 16


def counted(sizes: list[float], half: float, slope: float, models: int) -> list[int]:
    generator = numpy.random.default_rng(3)
    return [int(generator.binomial(models, 1 / (1 + (x / half) ** slope))) for x in sizes]


def test_the_bootstrap_covers_what_made_the_data():
    x = numpy.geomspace(1.5, 4, 9).tolist()
    inside = 0
    generator = numpy.random.default_rng(0)
    for seed in range(60):
        k = [int(generator.binomial(32, 1 / (1 + (each / 2.4) ** 14))) for each in x]
        drawn = bootstrap_curves(x, k, [32] * 9, fit_capacity(x, k, [32] * 9), draws=100, seed=seed)
        ends = numpy.percentile(drawn, (2.5, 97.5), axis=1)
        inside += (ends[0] <= (2.4, 14)) & (ends[1] >= (2.4, 14))
    assert (inside / 60 >= 0.85).all()


def test_the_bootstrap_fits_what_the_likelihood_fits():
    x = numpy.geomspace(1.5, 4, 9).tolist()
    k = counted(x, 2.4, 12, 640)
    fitted = fit_capacity(x, k, [640] * 9)
    drawn = bootstrap_curves(x, k, [640] * 9, fitted)
    assert numpy.median(drawn.halves) == pytest.approx(fitted.half, rel=2e-3)
    assert numpy.median(drawn.slopes) == pytest.approx(fitted.slope, rel=2e-2)
    assert math.isnan(bootstrap_curves(x, [0] * 9, [7] * 9, fit_capacity(x, [0] * 9, [7] * 9), draws=3).halves[0])


def made_up(sizes: tuple[int, ...], half: float, *, models: int = 32, bits: float = 2.0) -> pandas.DataFrame:
    """Rows as a sweep has them, from models that store `bits` for each of P2 and are solved below `half`."""
    generator = numpy.random.default_rng(0)
    rows = []
    for m, x in itertools.product(sizes, LADDER):
        shape = square(replace(BASE, rows=m, cols=m), x)
        P2 = shape.d_hidden * (shape.d_model + 3) + 2
        stored = min(bits * P2, m * m)
        for model in range(models):
            solved = generator.random() < 1 / (1 + (shape.bits_per_parameter / half) ** 15)
            rows.append(
                {name: getattr(shape, name) for name in ("rows", "cols", "p", "d_model", "d_hidden", "lr", "steps")}
                | {"embedding": "random", "train": "all", "schedule": "cosine", "solver": "adam", "model": model}
                | {"P1": shape.parameters, "P2": P2, "facts": m * m, "facts_per_P1": shape.bits_per_parameter}
                | {"density": 0.5, "solved": solved, "accuracy": 1.0, "bits_ce": stored * generator.normal(1, 0.01)}
                | {"bits_accuracy": stored, "bits_per_P2": stored / P2}
            )
    return pandas.DataFrame(rows)


def test_thresholds_are_those_of_made_up_models():
    models = made_up((16, 32), 2.2)
    found = thresholds(shapes(models), ("rows",), "solved")
    assert found.rows.tolist() == [16, 32]
    assert found.models.sum() == len(models)
    for row in found.itertuples():
        assert row.low <= row.half <= row.high
        assert row.half == pytest.approx(2.2, abs=0.12)
    assert len(shapes(models)) == len(models) / 32
    growth = threshold_growth(found)
    assert growth.low[0] < growth.per_doubling[0] < growth.high[0]
    with pytest.raises(ValueError, match="criterion"):
        thresholds(shapes(models), ("rows",), "perfect")


def test_the_law_of_made_up_models_has_exponent_one(tmp_path: Path):
    law = scaling_law(made_up((6, 12, 24, 48), 2.2, models=8, bits=2.0))
    assert law.exponent == pytest.approx(1.0, abs=0.02)
    assert law.low < 1.0 < law.high
    assert law.last_exponent == pytest.approx(1.0, abs=0.05)
    assert law.points.bits_per_parameter.tolist() == pytest.approx([2.0] * 4, rel=0.05)
    assert "decades" in law.sentence()
    assert isinstance(law.plot(), Figure)
    pandas.testing.assert_frame_equal(pandas.read_parquet(law.save(tmp_path) / "law.parquet"), law.points)
    with pytest.raises(ValueError, match="3 sizes"):
        scaling_law(made_up((6, 12), 2.2, models=8))


def test_predicted_time_is_right_within_a_factor():
    trainings = [replace(BASE, rows=16, cols=16, d_model=d, d_hidden=d, steps=2000) for d in (8, 12, 16)]
    predicted = predicted_seconds(trainings, ONE_THREAD)
    start = time.perf_counter()
    for each in trainings:
        trained(each, ONE_THREAD, progress=False)
    assert predicted / 6 < time.perf_counter() - start < 6 * predicted
    assert predicted_seconds([], ONE_THREAD) == 0


def test_readouts_that_are_solved_for_are_right_wherever_one_is():
    models, tables = TableMLPs.init(6, 7, 9, 12, 45), random_tables(6, 7, 9)
    kept = models.r.clone()
    solved = solve_readout(models, tables)
    assert torch.equal(models.r, kept)
    assert torch.equal(solved.W, models.W)
    right = ((solved.logits() > 0) == tables.bool()).flatten(1).all(1)
    assert int(right.sum()) >= 5
    with pytest.raises(ValueError, match="tables"):
        solve_readout(models, tables[:2])


def test_separating_plane_of_points_on_a_line():
    points = numpy.array([[0.0], [1.0], [2.0], [3.0]])
    found = separating(points, numpy.array([0, 0, 1, 1]))
    assert -found[1] / found[0] == pytest.approx(1.5)
    assert min(abs(points @ found[:1] + found[1])) == pytest.approx(1.0)
    assert separating(points, numpy.array([0, 1, 0, 1])) is None
    with_a_dead_unit = separating(numpy.column_stack([points, 0 * points]), numpy.array([0, 0, 1, 1]))
    assert with_a_dead_unit[1] == 0


def test_cover_s_two_facts_a_weight():
    shape = replace(BASE, rows=12, cols=12, d_model=12, models=24, steps=0, solver="exact", train=("r", "c_out"))
    share = [
        float(trained(replace(shape, d_hidden=h), ONE_THREAD, progress=False).solved.double().mean())
        for h in (52, 71, 90)
    ]
    assert share[0] < 0.2 < share[1] < 0.8 < share[2]


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        ({"study": "grwth"}, ValueError),
        ({"sizes": (0,)}, ValueError),
        ({"sizes": ()}, ValueError),
        ({"seeds": 0}, ValueError),
        ({"steps": 0}, ValueError),
        ({"lr": -1.0}, ValueError),
        ({"seed": -1}, ValueError),
        ({"backend": "gpu"}, ValueError),
        ({"threads": 0}, ValueError),
    ],
)
def test_wrong_arguments_are_named_before_anything_is_made(wrong: dict, error: type[Exception], tmp_path: Path):
    with pytest.raises(error, match=next(iter(wrong))):
        capacity_sweep(tmp_path / "runs", **{"sizes": (5,), **BRIEF, **wrong})
    assert not (tmp_path / "runs").exists()


def test_a_damaged_plan_is_named_and_its_cells_are_used(tmp_path: Path):
    lines: list[str] = []
    whole = capacity_sweep(tmp_path / "runs", sizes=(5,), **BRIEF)
    plan = tmp_path / "runs" / "growth.json"
    plan.write_bytes(plan.read_bytes()[:-9])
    with pytest.raises(ValueError, match=r"growth\.json"):
        load_sweep(tmp_path / "runs", "growth")
    again = capacity_sweep(tmp_path / "runs", sizes=(5,), **BRIEF, say=lines.append)
    assert "growth.json" in lines[0]
    assert "nothing to wait for" in lines[1]
    pandas.testing.assert_frame_equal(whole.models, again.models)


def test_what_is_not_there_is_said(tmp_path: Path):
    with pytest.raises(ValueError, match="study"):
        load_sweep(tmp_path / "nothing", "growth")
    assert not (tmp_path / "nothing").exists()
    capacity_sweep(tmp_path, sizes=(5,), **BRIEF)
    next((tmp_path / "cells").iterdir()).unlink()
    with pytest.raises(ValueError, match=r"1 of .* cells of growth are missing"):
        load_sweep(tmp_path, "growth")


def run_cli(directory: Path) -> tuple[int, str]:
    settings = ["--sizes", "5,6,7", "--seeds", "16", "--steps", "700", "--threads", "1", "--out", str(directory)]
    found = CliRunner().invoke(cli.app, ["capacity", *settings])
    return found.exit_code, found.output


def test_the_command_says_how_long_it_takes_and_what_it_found(tmp_path: Path):
    code, output = run_cli(tmp_path / "runs")
    assert code == 0, output
    assert "models of" in output.splitlines()[0]
    assert "every fact right" in output
    assert "stored bits grow as P2^" in output
    assert CliRunner().invoke(cli.app, ["capacity", "--sizes", "5;6", "--out", str(tmp_path / "x")]).exit_code == 2
    unknown = CliRunner().invoke(cli.app, ["capacity", "--study", "circuit", "--out", str(tmp_path / "x")])
    assert unknown.exit_code == 2
    assert "Did you mean 'circuits'?" in unknown.output


def test_a_few_models_have_no_law_and_a_page(tmp_path: Path):
    settings = ["--sizes", "4,5,6", "--seeds", "2", "--steps", "20", "--out", str(tmp_path / "runs")]
    for words in (["capacity", *settings], ["report", str(tmp_path / "runs")]):
        found = CliRunner().invoke(cli.app, words)
        assert found.exit_code == 0, found.output
        assert "stored bits grow" not in found.output


@pytest.mark.parametrize("kills", [3, pytest.param(100, marks=pytest.mark.slow)])
def test_a_sweep_killed_at_random_times_ends_with_the_table_of_an_undisturbed_one(kills: int, tmp_path: Path):
    undisturbed, killed = tmp_path / "undisturbed", tmp_path / "killed"
    begin = time.monotonic()
    assert run_cli(undisturbed)[0] == 0
    seconds, chance = time.monotonic() - begin, random.Random(kills)
    for _ in range(kills):
        child = os.fork()
        if child == 0:
            run_cli(killed)
            os._exit(0)
        time.sleep(chance.uniform(0.0, 1.2 * seconds))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        cells = list((killed / "cells").glob("*.parquet")) if killed.exists() else []
        for path in chance.sample(cells, len(cells) // 2):
            path.unlink()
    assert run_cli(killed)[0] == 0
    for name in ("growth-models", "growth-shapes", "growth-thresholds"):
        found, expected = (pandas.read_parquet(each / f"{name}.parquet") for each in (killed, undisturbed))
        pandas.testing.assert_frame_equal(found, expected)
    left = [path.name for path in killed.rglob("*") if path.suffix in {".tmp", ".lock"}]
    assert not left
