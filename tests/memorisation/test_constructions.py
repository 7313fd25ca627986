"""Constructions: exact on every kind of table, with the sizes that they claim, and covers against brute force."""

import itertools

import numpy
import pytest
import torch

from interpkern.memorisation import constructions as making
from interpkern.memorisation import memorise, random_tables
from interpkern.memorisation.constructions import (
    CONSTRUCTIONS,
    bits_per_parameter,
    compare_constructions,
    exact,
    rectangle_cover,
    row_lookup,
    threshold_slabs,
    zigzag,
)
from interpkern.memorisation.covers import greedy_cover, maximal_rectangles, signed_cover, smallest_cover
from interpkern.memorisation.slabs import star_groups
from interpkern.memorisation.zigzag import best_line

SIZES = [(1, 1), (1, 7), (7, 1), (5, 8), (9, 6)]


@pytest.mark.parametrize("name", CONSTRUCTIONS)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("p", [0.0, 0.5, 1.0])
def test_every_fact_is_right(name: str, size: tuple[int, int], p: float) -> None:
    tables = random_tables(2, *size, p=p)
    models = CONSTRUCTIONS[name](tables)
    assert exact(models, tables).tolist() == [True, True]
    run = memorise(models, tables, steps=0)
    assert run.solved.tolist() == [True, True]
    assert memorise(models, tables, steps=3, lr=1e-4).loss.isfinite().all()


@pytest.mark.parametrize("name", ["row lookup", "zigzag"])
def test_embeddings_say_nothing_of_the_table(name: str) -> None:
    first, second = (CONSTRUCTIONS[name](random_tables(1, 8, 9, seed=seed)) for seed in (0, 1))
    if first.d_model == second.d_model:
        assert torch.equal(first.E1, second.E1)
        assert torch.equal(first.E2, second.E2)


def test_one_wrong_fact_does_not_count() -> None:
    tables = random_tables(2, 6, 6)
    models = row_lookup(tables)
    tables[1, 2, 3] ^= 1
    assert exact(models, tables).tolist() == [True, False]
    assert bits_per_parameter(models, tables).tolist() == [36 / models.parameters("one_logit"), 0.0]
    with pytest.raises(ValueError, match="tables"):
        exact(models, tables[:1])


def test_row_lookup_has_a_unit_for_each_row() -> None:
    models = row_lookup(random_tables(1, 16, 40))
    assert models.parameters("one_logit") == 16 * (40 + 4) + 1


@pytest.mark.parametrize("m", [24, 48])
def test_the_zigzag_has_half_a_unit_for_each_row_and_little_more(m: int) -> None:
    tables = random_tables(1, m, m)
    models = zigzag(tables)
    assert bool(exact(models, tables).all())
    table = tables[0].numpy().astype(bool)
    on_one_line = (table[1:] != table[:-1]).sum(axis=0).max() + 1
    assert m / 2 < models.d_hidden <= on_one_line
    assert float(bits_per_parameter(models, tables)[0]) > 1.4
    assert abs(models.logits()).min() > 1e-4


def test_no_zigzag_has_fewer_units_on_its_line() -> None:
    """A sum of H rectified units of one slope has at most H kinks, so a column of k changes needs at least k - 1."""
    table = random_tables(1, 20, 20)[0].numpy().astype(bool)
    line = best_line(table, 1)
    changes = (table[1:] != table[:-1]).sum(axis=0).max()
    assert changes <= line.units <= changes + 1


def test_alternating_columns_need_a_unit_a_row() -> None:
    tables = (torch.arange(9)[:, None] + torch.arange(5) & 1).to(torch.uint8)[None]
    assert zigzag(tables, dimensions=1).d_hidden in (8, 9)


def covered(table: numpy.ndarray, rectangles: list) -> numpy.ndarray:
    return sum((numpy.outer(*each).astype(int) for each in rectangles), numpy.zeros(table.shape, dtype=int))


def fewest(table: numpy.ndarray) -> int:
    """The smallest cover, by trying every set of maximal rectangles."""
    rectangles = maximal_rectangles(table)
    for count in range(len(rectangles) + 1):
        for chosen in itertools.combinations(rectangles, count):
            if ((covered(table, list(chosen)) > 0) == table).all():
                return count
    raise AssertionError("maximal rectangles cover every table")


@pytest.mark.parametrize("seed", range(4))
def test_covers_cover_and_the_smallest_is_the_smallest(seed: int) -> None:
    table = random_tables(1, 4, 5, seed=seed)[0].numpy().astype(bool)
    smallest, greedy = smallest_cover(table), greedy_cover(table)
    for cover in (smallest, greedy):
        assert ((covered(table, cover) > 0) == table).all()
    assert len(smallest) == fewest(table) <= len(greedy)
    assert len(smallest_cover(table.T)) == len(smallest)


def test_signed_covers_and_what_is_too_large() -> None:
    for seed in range(4):
        table = random_tables(1, 9, 7, seed=seed)[0].numpy().astype(bool)
        total = sum(sign * numpy.outer(*each).astype(int) for sign, each in signed_cover(table))
        assert ((total >= 1) == table).all()
    with pytest.raises(ValueError, match="tables"):
        smallest_cover(numpy.ones((13, 13), dtype=bool))
    tables = random_tables(2, 6, 7)
    assert rectangle_cover(tables, smallest=True).d_hidden <= rectangle_cover(tables).d_hidden


def test_groups_of_ones_hold_no_path_of_three() -> None:
    table = random_tables(1, 9, 11)[0].numpy().astype(bool)
    groups = star_groups(table, 6)
    assert sorted(one for group in groups for one in group) == [tuple(map(int, at)) for at in numpy.argwhere(table)]
    for group in groups:
        assert len(group) <= 6
        for (a, b), (c, d) in itertools.permutations(group, 2):
            if a == c:
                assert not [x for x, y in group if y == b and x != a] or not [x for x, y in group if y == d and x != a]
                assert all(x == a for x, y in group if y in (b, d))
    models = threshold_slabs(random_tables(1, 8, 8))
    assert models.d_hidden % 3 == 0


def test_the_comparison_counts_only_what_is_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    tables = random_tables(2, 6, 6)
    monkeypatch.setitem(CONSTRUCTIONS, "broken", lambda table: row_lookup(1 - table))
    frame = making.compare_constructions(tables, ["row lookup", "broken"])
    assert frame.exact.tolist() == [True, True, False, False]
    assert frame.bits_per_P1.tolist() == pytest.approx([36 / 61] * 2 + [0.0] * 2)
    assert (compare_constructions(tables).groupby("construction").size() == 2).all()
