"""The table of recipes: one size, prompts apart, and figures that the dictionaries themselves give."""

import json
import math

import numpy
import pytest
import torch

import interpkern
from interpkern.errors import DTypeError, ShapeError
from interpkern.itda import ITDA, metrics
from interpkern.itda.evaluation import DEFAULT, ORDER, PAPER, Evaluation, evaluate, held_out_rows
from interpkern.itda.rows import Rows
from interpkern.itda.sized import Recipe, search
from interpkern.itda.variants import random_atoms, recoded, updated_atoms
from tests.itda.problems import activations, built, labels_for

SIZE = {"atoms": 128, "k": 8, "rounds": 2, "threads": 1}


def rows_of(x: torch.Tensor, labels: torch.Tensor) -> Rows:
    return Rows(x, labels, torch.full((len(x),), -1), torch.arange(len(x)))


@pytest.fixture(scope="module")
def source() -> tuple[torch.Tensor, torch.Tensor]:
    found = interpkern.data.load("smollm2")
    return found.tensor()[:2001], found.labels[:2001]


@pytest.fixture(scope="module")
def table(source) -> Evaluation:
    return evaluate(*source, **SIZE)


def test_all_dictionaries_have_one_size(table: Evaluation) -> None:
    assert [variant.name for variant in table.variants] == list(ORDER)
    assert {variant.atoms for variant in table.variants} == {128}
    assert [variant.name for variant in table.variants if not variant.activations] == ["default + refined decoder"]


def test_changes_are_relative_to_the_paper(table: Evaluation) -> None:
    for variant in table.variants:
        assert variant.change == pytest.approx(variant.ordinary.fvu / table[PAPER].ordinary.fvu - 1)
    assert table[PAPER].change == 0


def test_least_squares_and_omp_help_and_the_default_wins(table: Evaluation) -> None:
    fvu = {variant.name: variant.ordinary.fvu for variant in table.variants}
    assert fvu[PAPER] > fvu["paper + least-squares refit"] > fvu["paper + OMP encode"]
    assert fvu["random atoms, MP"] > fvu["random atoms, OMP"]
    assert fvu["centred, MP"] > fvu[DEFAULT] > fvu["default + refined decoder"]
    assert fvu[DEFAULT] < 0.9 * fvu[PAPER]


def test_figures_are_those_of_the_dictionary(source, table: Evaluation) -> None:
    """The default, built by hand from its threshold, by the definition of FVU."""
    x, labels = source[0].float(), source[1]
    held_out = held_out_rows(labels, 0.2, 0)
    assert not set(labels[held_out, 0].tolist()) & set(labels[~held_out, 0].tolist())
    ordinary = x.norm(dim=1) <= 10 * x.norm(dim=1).double().median()
    itda = ITDA(k=8, threshold=table[DEFAULT].threshold, max_atoms=128, threads=1)
    itda.fit(x[~held_out & ordinary], labels[~held_out & ordinary])
    test = x[held_out & ordinary]
    error = (test - itda.decode(itda.encode(test))).double().square().sum()
    expected = float(error / (test - test.mean(0)).double().square().sum())
    assert table[DEFAULT].ordinary.fvu == pytest.approx(expected, rel=1e-4)
    assert table.train_tokens == int((~held_out & ordinary).sum()) > 0
    assert table[DEFAULT].ordinary.tokens == len(test)
    assert table[DEFAULT].massive.tokens == int((held_out & ~ordinary).sum()) > 0
    assert table.massive_tokens == int((~ordinary).sum())


def test_the_table_prints_draws_and_is_kept(table: Evaluation, tmp_path) -> None:
    frame = table.to_pandas()
    assert frame.index.tolist() == list(ORDER)
    assert frame.loc[DEFAULT, "fvu"] == table[DEFAULT].ordinary.fvu
    assert all(name in str(table) for name in ORDER)
    assert len(table.plot().axes[0].patches) == len(ORDER)
    saved = json.loads(table.save(tmp_path / "table.json").read_text())
    assert saved["variants"][0]["ordinary"]["fvu"] == table[PAPER].ordinary.fvu
    with pytest.raises(ValueError, match=r"name.*paper"):
        table["nothing"]


def test_a_threshold_gives_the_size(source) -> None:
    found = evaluate(*source, threshold=0.5, k=8, rounds=1, threads=1)
    assert found[DEFAULT].threshold == 0.5
    assert len({variant.atoms for variant in found.variants}) == 1


def test_search_finds_a_dictionary_that_is_full_late() -> None:
    x = activations(900, 17, seed=1)
    recipe = Recipe(rows_of(x, labels_for(900)), 4, "auto", 1)
    for start in (1e-3, 0.9):
        itda = recipe.of_size(77, start)
        assert len(itda) == 77
        assert itda.report.rows_seen >= 0.9 * 900


def test_search_gives_the_largest_where_no_threshold_fits() -> None:
    x = torch.eye(5).repeat(20, 1)
    recipe = Recipe(rows_of(x, labels_for(100)), 2, "auto", 1)
    assert len(search(lambda threshold: recipe.fitted(threshold, 50, centre=False), 50, 100, 0.1)) == 5


def test_recoded_is_the_dictionary_with_another_method() -> None:
    x = activations(400, 17, seed=2)
    itda = built(x, method="mp")
    other = recoded(itda, "omp")
    assert torch.equal(other.atoms, itda.atoms)
    assert torch.equal(other.labels, itda.labels)
    assert (other.settings.method, itda.settings.method) == ("omp", "mp")
    assert other.fvu(x) < itda.fvu(x)


def test_random_atoms_are_activations() -> None:
    x, labels = activations(400, 17, seed=2), labels_for(400)
    itda = built(x, labels)
    drawn = random_atoms(itda, rows_of(x, labels), 3, "mp")
    row_of = {tuple(label): row for row, label in enumerate(labels.tolist())}
    rows = [row_of[tuple(label)] for label in drawn.labels.tolist()]
    expected = torch.nn.functional.normalize((x[rows] - itda.mean).double(), dim=1)
    assert len(drawn) == len(itda) == len(set(rows))
    torch.testing.assert_close(drawn.atoms.double(), expected, rtol=0, atol=1e-6)


def test_updated_atoms_solve_least_squares() -> None:
    x, labels = activations(400, 7, seed=2), labels_for(400)
    itda = built(x, labels)
    codes = itda.encode(x).to_dense(len(itda)).double()
    solution = torch.linalg.lstsq(codes, (x - itda.mean).double(), driver="gelsd").solution
    expected = torch.nn.functional.normalize(solution, dim=1)
    often = (codes != 0).sum(0) > 20
    assert int(often.sum()) > 5
    moved = updated_atoms(itda, rows_of(x, labels))
    torch.testing.assert_close(moved.atoms.double()[often], expected[often], rtol=0, atol=1e-3)
    assert metrics(moved, x).all.fvu < metrics(itda, x).all.fvu


@pytest.mark.parametrize(
    ("change", "error", "name"),
    [
        ({"atoms": 0}, ValueError, "atoms"),
        ({"atoms": 60}, ValueError, "atoms"),
        ({"k": 0}, ValueError, "k"),
        ({"holdout": 1.0}, ValueError, "holdout"),
        ({"rounds": 0}, ValueError, "rounds"),
        ({"massive_above": 0.5}, ValueError, "massive_above"),
        ({"seed": -1}, ValueError, "seed"),
        ({"threshold": 1.0}, ValueError, "threshold"),
        ({"activations": torch.ones(5)}, ShapeError, "activations"),
        ({"activations": "file"}, DTypeError, "activations"),
        ({"activations": []}, ValueError, "activations"),
        ({"labels": torch.zeros(100, 2, dtype=torch.int64)}, ValueError, "labels"),
        ({"activations": torch.full((100, 7), torch.nan)}, ValueError, "activations"),
    ],
)
def test_refusals(change: dict, error: type[Exception], name: str) -> None:
    with pytest.raises(error, match=name):
        evaluate(**{"activations": activations(100, 7, seed=1), "atoms": 20, "k": 2, "threads": 1} | change)


def test_half_precision_and_default_labels() -> None:
    x = activations(300, 7, seed=1)
    found = evaluate(x.half(), atoms=20, k=2, rounds=1, threads=1)
    assert found.train_prompts + found.test_prompts == 300
    assert not math.isnan(found[DEFAULT].ordinary.fvu)
    assert numpy.isfinite(found.to_pandas()["change"]).all()
