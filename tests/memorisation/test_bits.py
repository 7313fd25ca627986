"""Bits and intervals against closed forms."""

import math

import numpy
import pytest
import torch
from scipy import stats

from interpkern.memorisation import bits_accuracy, bits_ce, entropy, mean_interval, random_tables, wilson_interval
from interpkern.memorisation.bits import density


def test_entropy_of_known_probabilities() -> None:
    p = torch.tensor([0.0, 0.11002786443835955, 0.25, 0.5, 1.0], dtype=torch.float64)
    wanted = [0.0, 0.5, 2 - 0.75 * math.log2(3), 1.0, 0.0]
    torch.testing.assert_close(entropy(p), torch.tensor(wanted, dtype=torch.float64), rtol=0, atol=1e-12)
    assert float(entropy(0.25)) == pytest.approx(wanted[2], abs=1e-15)
    for wrong in (1.1, -0.1, float("nan"), torch.tensor([2.0])):
        with pytest.raises(ValueError, match="p: expected"):
            entropy(wrong)


def test_bits_by_cross_entropy_of_known_models() -> None:
    tables = random_tables(5, 7, 33, p=0.25, balanced=True)
    share = round(0.25 * 231) / 231
    prior = -(share * math.log2(share) + (1 - share) * math.log2(1 - share))
    # perfect, the share of ones, a fair coin, diverged, worse than a coin
    loss = torch.tensor([0.0, prior * math.log(2), math.log(2), math.nan, 1.0], dtype=torch.float64)
    wanted = [231 * prior, 0.0, 231 * (prior - 1), math.nan, 231 * (prior - 1 / math.log(2))]
    torch.testing.assert_close(
        bits_ce(loss, tables), torch.tensor(wanted, dtype=torch.float64), equal_nan=True, rtol=1e-12, atol=1e-10
    )


def test_each_table_has_its_own_prior() -> None:
    tables = torch.cat([random_tables(1, 31, 31, p=p) for p in (0.1, 0.5)])
    assert bits_ce(torch.zeros(2), tables).tolist() == pytest.approx((961 * entropy(density(tables))).tolist())
    assert density(tables).tolist() == [float(table.double().mean()) for table in tables]


def test_bits_by_accuracy_of_known_models() -> None:
    tables = random_tables(4, 10, 10, balanced=True)
    accuracy = torch.tensor([1.0, 0.5, 0.0, 0.89], dtype=torch.float64)
    h = -(0.11 * math.log2(0.11) + 0.89 * math.log2(0.89))
    assert bits_accuracy(accuracy, tables).tolist() == pytest.approx([100, 0, 100, 100 * (1 - h)], abs=1e-9)


def test_a_constant_answer_stores_nothing_in_a_biased_table() -> None:
    tables = random_tables(2, 10, 10, p=0.2, balanced=True)
    bits = bits_accuracy(torch.tensor([0.8, 0.5], dtype=torch.float64), tables)
    assert float(bits[0]) == pytest.approx(0.0, abs=1e-9)
    assert float(bits[1]) == pytest.approx(100 * (float(entropy(0.2)) - 1))


@pytest.mark.parametrize("function", [bits_ce, bits_accuracy])
def test_wrong_sizes_and_values_are_named(function) -> None:
    tables = random_tables(3, 4, 5)
    name = "loss" if function is bits_ce else "accuracy"
    with pytest.raises(ValueError, match=f"{name}.*B = 3 to match tables"):
        function(torch.zeros(2), tables)
    with pytest.raises(TypeError, match=name):
        function([0.0] * 3, tables)
    with pytest.raises(ValueError, match="tables: expected only 0 and 1"):
        function(torch.zeros(3), tables + 1)
    with pytest.raises(ValueError, match="accuracy"):
        bits_accuracy(torch.full((3,), 1.5), tables)


def test_wilson_interval_is_where_the_score_test_stops_rejecting() -> None:
    z = stats.norm.ppf(0.95)
    for successes, trials in [(0, 1), (3, 7), (31, 33), (64, 64)]:
        low, high = wilson_interval(successes, trials, confidence=0.9)
        for end in (low, high):
            if 0 < end < 1:
                score = abs(successes / trials - end) / math.sqrt(end * (1 - end) / trials)
                assert score == pytest.approx(z, rel=1e-6)
        assert 0 <= low <= successes / trials <= high <= 1


def test_mean_interval_covers_as_often_as_it_says() -> None:
    draws = torch.from_numpy(numpy.random.default_rng(0).normal(2.0, 3.0, size=(1000, 7)))
    covered = 0
    for values in draws:
        mean, low, high = mean_interval(values, confidence=0.8)
        assert mean == pytest.approx((low + high) / 2)
        covered += low <= 2.0 <= high
    assert covered / 1000 == pytest.approx(0.8, abs=4 * math.sqrt(0.16 / 1000))
    mean, low, high = mean_interval(torch.tensor([4]))
    assert mean == 4.0
    assert math.isnan(low)
    assert math.isnan(high)


@pytest.mark.parametrize("wrong", [(2, 1), (-1, 3), (1, 0)])
def test_impossible_counts_are_refused(wrong: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match=r"successes|trials"):
        wilson_interval(*wrong)
    with pytest.raises(ValueError, match="confidence"):
        wilson_interval(1, 2, confidence=0.0)
