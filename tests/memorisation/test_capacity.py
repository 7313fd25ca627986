"""The capacity fit against logistic data of known midpoint, and under complete separation."""

import math

import numpy
import pytest
from scipy.stats import chi2

from interpkern.memorisation.capacity import fit_capacity, ratio

SIZES = numpy.geomspace(1.3, 4.2, 12)


def shares(sizes: numpy.ndarray, half: float, slope: float) -> numpy.ndarray:
    return 1 / (1 + (sizes / half) ** slope)


@pytest.mark.parametrize(("half", "slope"), [(2.4, 20.0), (1.8, 8.0), (3.0, 60.0)])
def test_exact_shares_give_back_midpoint_and_slope(half, slope):
    models = 10**6
    solved = numpy.round(models * shares(SIZES, half, slope))
    found = fit_capacity(SIZES, solved, [models] * len(SIZES))
    assert found.half == pytest.approx(half, rel=1e-3)
    assert found.slope == pytest.approx(slope, rel=1e-2)
    assert found.low < half < found.high
    assert numpy.allclose(found.probability(SIZES), shares(SIZES, half, slope), atol=1e-3)


def test_interval_covers_the_truth_as_often_as_it_says():
    generator = numpy.random.default_rng(0)
    hits = 0
    for _ in range(100):
        solved = generator.binomial(64, shares(SIZES, 2.4, 20.0))
        found = fit_capacity(SIZES, solved, [64] * len(SIZES))
        hits += found.low <= 2.4 <= found.high
    assert hits >= 100 * 0.9


def test_interval_is_that_of_the_likelihood_ratio():
    """With one group and a free slope every midpoint fits; two groups at p and 1 - p pin it by symmetry."""
    found = fit_capacity([1.0, 4.0], [80, 20], [100, 100])
    assert found.half == pytest.approx(2.0, rel=1e-4)
    assert found.low * found.high == pytest.approx(4.0, rel=1e-3)
    slope = math.log(4) / math.log(2)
    variance = 2 / (100 * 0.16) / 4 / slope**2
    wald = math.sqrt(chi2.ppf(0.95, 1) * variance)
    assert math.log(found.high / 2.0) == pytest.approx(wald, rel=0.15)


def test_shapes_that_scatter_widen_the_interval():
    generator = numpy.random.default_rng(1)
    jitter = SIZES * numpy.exp(generator.normal(0, 0.1, len(SIZES)))
    smooth = fit_capacity(SIZES, numpy.round(96 * shares(SIZES, 2.4, 20.0)), [96] * 12)
    rough = fit_capacity(SIZES, numpy.round(96 * shares(jitter, 2.4, 20.0)), [96] * 12)
    assert smooth.dispersion == 1.0
    assert rough.dispersion > 3
    assert math.log(rough.high / rough.low) > 2 * math.log(smooth.high / smooth.low)


def test_complete_separation_gives_the_gap():
    found = fit_capacity([1.5, 2.0, 3.0, 4.0], [64, 64, 0, 0], [64] * 4)
    assert found.half == pytest.approx(math.sqrt(6.0), rel=1e-6)
    assert found.low == pytest.approx(2.0, rel=2e-3)
    assert found.high == pytest.approx(3.0, rel=2e-3)


def test_one_mixed_size_between_all_and_none_is_the_midpoint():
    found = fit_capacity([1.5, 2.0, 3.0], [64, 32, 0], [64] * 3)
    assert found.half == pytest.approx(2.0, rel=1e-2)
    assert 1.5 < found.low < 2.0 < found.high < 3.0


@pytest.mark.parametrize(
    ("solved", "low", "high", "words"),
    [([64, 64], 2.0, math.inf, "above 2.00"), ([0, 0], 0.0, 1.0, "below 1.00")],
)
def test_all_or_none_gives_a_bound(solved, low, high, words):
    found = fit_capacity([1.0, 2.0], solved, [64, 64])
    assert math.isnan(found.half)
    assert (found.low, found.high) == (pytest.approx(low, rel=5e-3), pytest.approx(high, rel=5e-3))
    assert words in found.sentence()


def test_order_and_splitting_of_groups_do_not_matter():
    whole = fit_capacity([1.5, 2.2, 3.0], [60, 30, 4], [64, 64, 64])
    split = fit_capacity([3.0, 2.2, 1.5, 2.2], [4, 10, 60, 20], [64, 20, 64, 44])
    assert split.half == pytest.approx(whole.half, rel=1e-4)


def test_ratio_of_one_fit_to_itself_and_its_interval():
    found = fit_capacity(SIZES, numpy.round(96 * shares(SIZES, 2.4, 20.0)), [96] * 12)
    value, low, high = ratio(found, found)
    assert value == 1.0
    reach = math.hypot(math.log(found.half / found.low), math.log(found.high / found.half))
    assert low == pytest.approx(math.exp(-reach))
    assert high == pytest.approx(math.exp(reach))


@pytest.mark.parametrize(
    ("sizes", "solved", "models", "words"),
    [
        ([1.0], [1, 2], [3, 3], "one number a group"),
        ([], [], [], "one number a group"),
        ([0.0], [1], [3], "facts_per_parameter"),
        ([math.nan], [1], [3], "facts_per_parameter"),
        ([1.0], [4], [3], "solved"),
        ([1.0], [0], [0], "solved"),
    ],
)
def test_refusals(sizes, solved, models, words):
    with pytest.raises(ValueError, match=words):
        fit_capacity(sizes, solved, models)


def test_confidence_is_checked():
    with pytest.raises(ValueError, match="confidence"):
        fit_capacity([1.0], [1], [3], confidence=1.0)


def test_to_pandas_is_one_row():
    found = fit_capacity([1.0, 2.0, 4.0], [9, 5, 1], [10, 10, 10])
    assert found.to_pandas().half.tolist() == [found.half]
    assert "2.00 facts per parameter" in found.sentence()
