"""The demo at tiny sizes: its tables, its numbers, its words, its files, and the PyTorch form that it measures."""

import json
import math
import re
from dataclasses import replace
from itertools import product
from pathlib import Path

import matplotlib.image
import pandas
import pytest
import torch
from typer.testing import CliRunner

from interpkern import cli
from interpkern.errors import BackendUnavailable
from interpkern.memorisation import MemoriseRun, TableMLPs, demo, demo_speed, memorise, random_tables, wilson_interval
from interpkern.memorisation.capacity import fit_capacity
from interpkern.memorisation.demo_speed import Comparison, compare, duration
from interpkern.memorisation.demo_text import structure_sentences
from interpkern.memorisation.demo_training import KINDS, Cell, tables_of
from interpkern.memorisation.torch_form import UPDATES_PER_CALL, Form
from interpkern.memorisation.unicode_table import unicode_table

CELL = Cell("random", 96, 24, 5, 5, 3, 10, 0.03, True)
FILES = {
    "demo.html",
    "transition.png",
    "structure.png",
    "models.parquet",
    "shapes.parquet",
    "real_table.parquet",
    "demo.json",
}


@pytest.fixture(scope="module")
def tiny() -> demo.Plan:
    shapes = ((9, 9), (5, 5), (3, 3), (1, 1))
    return replace(
        demo.plan(quick=True),
        transition=tuple(Cell("fair coin", 6, 6, d, h, 16, 800, 0.03, False) for d, h in shapes),
        structure=tuple(Cell(kind, 96, 24, d, d, 2, 20, 0.03, True) for d, kind in product((4, 5), KINDS)),
    )


@pytest.fixture(scope="module")
def ran(tiny: demo.Plan) -> tuple[demo.Demo, list[str], list[tuple[int, int]]]:
    lines: list[str] = []
    signs: list[tuple[int, int]] = []
    found = demo.run(
        tiny,
        seed=0,
        backend="auto",
        threads=1,
        say=lines.append,
        progress=lambda done, total: signs.append((done, total)),
    )
    return found, lines, signs


def test_summary_agrees_with_the_models(ran):
    found, lines, _ = ran
    assert len(found.models) == 4 * 16 + 6 * 2
    for row in found.transition.itertuples():
        models = found.models[(found.models.kind == "fair coin") & (found.models.d_model == row.d_model)]
        assert row.solved == models.solved.sum()
        assert (row.solved_low, row.solved_high) == wilson_interval(row.solved, 16)
        assert row.bits_per_P2 == pytest.approx(models.bits_ce.mean() / row.P2)
        assert f"{row.solved}/16 [{row.solved_low:.2f}, {row.solved_high:.2f}]" in "\n".join(lines)
    assert found.transition.solved.iloc[0] > 12
    assert found.transition.solved.iloc[-1] == 0
    fit = fit_capacity(found.transition.facts_per_P1, found.transition.solved, found.transition.models)
    assert found.capacity == fit


def test_every_shape_is_told_as_it_comes_and_fits_eighty_columns(ran):
    _, lines, _ = ran
    rows = [line for line in lines if line.lstrip().startswith("(")]
    assert len(rows) == 4 + 2
    assert max(map(len, rows)) <= 79


def test_progress_is_of_the_whole_and_ends_at_all_of_it(tiny, ran):
    _, _, signs = ran
    total = 4 * 16 * 800 + 6 * 2 * 20
    assert {of for _, of in signs} == {total}
    done = [so_far for so_far, _ in signs]
    assert done == sorted(done)
    assert done[-1] == total


def test_a_cell_can_be_repeated_alone_from_its_seed(ran):
    found, _, _ = ran
    row = found.models[(found.models.kind == "real") & (found.models.d_model == 5)].iloc[1]
    models = TableMLPs.init(2, 96, 24, 5, 5, seed=int(row.seed))
    tables = unicode_table().table.expand(2, 96, 24)
    run: MemoriseRun = memorise(models, tables, steps=20, schedule="cosine", stop_when_solved=True)
    assert float(run.loss[1, -1]) == row.loss


def test_files(ran, tmp_path: Path):
    found, _, _ = ran
    assert {path.name for path in found.save(tmp_path / "new" / "folder")} == FILES
    out = tmp_path / "new" / "folder"
    assert {path.name for path in out.iterdir()} == FILES
    page = (out / "demo.html").read_text()
    assert not re.findall(r"""(?:src|href)\s*=\s*["'](?!#)""", page)
    assert not re.findall(r"@import|url\((?!#)|<script|<link", page)
    assert page.count("<svg") == 2
    assert "currentColor" in page
    assert "prefers-color-scheme: dark" in page
    assert demo.QUICK in page
    for name in ("transition.png", "structure.png"):
        pixels = matplotlib.image.imread(out / name)
        assert min(pixels.shape[:2]) > 500
        assert pixels.std() > 0.05
    assert len(pandas.read_parquet(out / "models.parquet")) == len(found.models)
    assert len(pandas.read_parquet(out / "shapes.parquet")) == 10
    record = json.loads((out / "demo.json").read_text())
    assert record["schema"] == 1
    assert record["provenance"]["seed"] == 0
    assert record["capacity"]["half"] == found.capacity.half


@pytest.mark.parametrize("kind", KINDS)
def test_tables_have_the_density_of_the_real_one(kind):
    real = unicode_table().table
    tables = tables_of(replace(CELL, kind=kind), seed=7)
    assert tables.shape == (3, 96, 24)
    assert {int(table.sum()) for table in tables} == {int(real.sum())}
    assert torch.equal(tables_of(replace(CELL, kind=kind), seed=7), tables)


def test_shuffled_columns_keep_their_shares_and_lose_their_rows():
    real = unicode_table().table
    tables = tables_of(replace(CELL, kind="columns shuffled"), seed=7)
    assert torch.equal(tables.sum(dim=1), real.sum(dim=0).expand(3, -1))
    assert not any(torch.equal(table.sum(dim=1).sort().values, real.sum(dim=1).sort().values) for table in tables)
    assert not torch.equal(tables[0], tables[1])


def test_cells_have_seeds_of_their_own():
    seeds = {replace(CELL, kind=kind, d_model=d).seed(seed) for kind in KINDS for d in (5, 6) for seed in (0, 1)}
    assert len(seeds) == 12
    assert all(0 <= seed < 2**64 for seed in seeds)


def test_structure_sentences_hold_the_ratio():
    facts, models = 2304, [64] * 3
    halves = {"real": 4.0, "columns shuffled": 3.0, "random": 2.0}
    fits = {kind: fit_capacity([half / 2, half, half * 2], [60, 32, 4], models) for kind, half in halves.items()}
    first, second = structure_sentences(facts, fits)
    assert "576 [" in first
    assert "1,152 [" in first
    assert "2.00 [" in first
    assert "1.50 [" in second
    assert "1.33 [" in second


def test_structure_sentence_when_a_kind_was_never_solved():
    solved = {"real": [60, 32, 4], "columns shuffled": [60, 32, 4], "random": [0, 0, 0]}
    fits = {kind: fit_capacity([1.0, 2.0, 4.0], each, [64] * 3) for kind, each in solved.items()}
    (sentence,) = structure_sentences(2304, fits)
    assert "random: no size succeeded" in sentence


def test_the_whole_plan_is_what_the_issue_asks():
    whole = demo.plan(quick=False)
    assert len({(cell.d_model, cell.d_hidden) for cell in whole.transition}) >= 12
    assert sum(cell.models for cell in whole.transition) >= 1000
    assert {(16, 16), (20, 20), (20, 24), (24, 16)} <= {(cell.d_model, cell.d_hidden) for cell in whole.transition}
    assert {(cell.lr, cell.steps, cell.models % 32) for cell in whole.transition} == {(0.03, 20_000, 0)}
    assert 6 <= len(demo.LADDER) <= 8


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"seed": -1, "backend": "auto", "threads": None}, "seed"),
        ({"seed": 0, "backend": "nope", "threads": None}, "backend"),
        ({"seed": 0, "backend": "auto", "threads": 0}, "threads"),
    ],
)
def test_bad_arguments_are_refused_before_the_first_line(tiny, arguments, words):
    lines: list[str] = []
    with pytest.raises(ValueError, match=words):
        demo.run(tiny, **arguments, say=lines.append)
    assert not lines


def test_the_reference_alone_is_refused_unless_asked_for(tiny, monkeypatch: pytest.MonkeyPatch):
    backends = tuple(replace(known, why_not=lambda problem: "gone") for known in demo.BACKENDS["memorise"][:-1])
    monkeypatch.setattr(demo, "BACKENDS", {"memorise": backends})
    with pytest.raises(BackendUnavailable, match="cpu: gone"):
        demo.run(tiny, seed=0, backend="auto", threads=None, say=print)


def test_command_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tiny):
    monkeypatch.setattr(demo, "plan", lambda *, quick: tiny)
    options = ["--part", "memorisation", "--quick", "--out", str(tmp_path / "out"), "--seed", "5"]
    result = CliRunner().invoke(cli.app, ["demo", *options])
    assert result.exit_code == 0, result.output
    assert {path.name for path in (tmp_path / "out").iterdir()} == FILES
    assert "facts per parameter" in result.output
    assert "demo.html" in result.output


def test_the_torch_form_trains_as_memorise_does():
    models, tables = TableMLPs.init(3, 7, 5, 6, 9, seed=2), random_tables(3, 7, 5, seed=2)
    form = Form(models.fields(), tables, lr=1e-3, compiled=False)
    for _ in range(5):
        form.advance()
    expected = memorise(models, tables, steps=5 * UPDATES_PER_CALL, lr=1e-3).models
    for name, theirs in form.training.weights._asdict().items():
        assert torch.allclose(theirs.movedim(-1, 0), getattr(expected, name), atol=5e-6), name


def test_comparison_measures_both_sides(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("interpkern.memorisation.torch_form.COMPILERS", ())
    threads = torch.get_num_threads()
    cells = [Cell("fair coin", 6, 6, 5, 5, 4, 100, 0.03, False)]
    found = compare(cells, models=4, slice_seconds=0.05, seconds=2.0, seed=0, backend="auto")
    assert torch.get_num_threads() == threads
    assert found.difference <= demo_speed.AGREEMENT
    assert not found.compiled
    assert len(found.rates) == demo_speed.TURNS
    assert found.model_steps % (4 * UPDATES_PER_CALL) == 0
    assert "torch.compile was not used" in found.sentence()


def test_comparison_in_words():
    rates = ((10e3, 50e3), (10e3, 40e3), (10e3, 60e3))
    found = Comparison("torch.compile", True, (20, 20), 1234, rates, 17.0, 23_000_000, 40.0, 1e-8)
    assert found.times == 5.0
    assert "took 40 s here" in found.sentence()
    assert "about 3 min 20 s, 5.0 times as long" in found.sentence()
    assert "extrapolation from 1,234 model-steps" in found.sentence()
    assert "disagrees" in replace(found, difference=1e-2).sentence()
    assert "disagrees" in replace(found, difference=math.nan).sentence()


@pytest.mark.parametrize(
    ("seconds", "words"), [(3.21, "3.2 s"), (59.4, "59 s"), (242, "4 min 2 s"), (7500, "2 h 5 min")]
)
def test_duration(seconds, words):
    assert duration(seconds) == words
