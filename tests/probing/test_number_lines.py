"""Statistics of the literature on planted number lines and digits whose answers are known."""

import math

import numpy
import pytest
import torch
from scipy import stats

from interpkern.errors import DTypeError, ShapeError
from interpkern.probing.digit_probes import compare_digit_bases, digit_probes, digits_of
from interpkern.probing.number_lines import (
    compare_number_lines,
    number_line,
    partial_least_squares,
    scaling_exponent,
)

NUMBERS = torch.arange(1, 361)


def line(beta: float) -> torch.Tensor:
    """(360,) positions of that exponent, of standard deviation 1."""
    n = NUMBERS.double()
    positions = n.log() if beta == 0 else n**beta
    return (positions - positions.mean()) / positions.std() * (1 if beta >= 0 else -1)


def planted(positions: torch.Tensor, noise: float, width: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    direction = torch.nn.functional.normalize(torch.randn(width, generator=generator, dtype=torch.float64), dim=0)
    return positions[:, None] * direction + noise * torch.randn(360, width, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("beta", [-0.5, 0.0, 0.134, 0.5, 1.0, 2.0])
def test_the_exponent_of_a_line_is_found(beta: float) -> None:
    found = scaling_exponent(7 - 3 * line(beta), NUMBERS, bootstrap=19)
    assert found.beta == pytest.approx(beta, abs=1e-3)
    assert found.r2 == pytest.approx(1.0, abs=1e-5)
    assert found.low - 1e-3 <= beta <= found.high + 1e-3
    n = numpy.arange(1, 361)
    assert found.r2_log == pytest.approx(numpy.corrcoef(line(beta), numpy.log(n))[0, 1] ** 2, abs=1e-9)
    assert found.r2_linear == pytest.approx(numpy.corrcoef(line(beta), n)[0, 1] ** 2, abs=1e-9)


@pytest.mark.parametrize("beta", [0.0, 0.5, 1.0])
def test_gaps_of_numbers_a_factor_apart_grow_by_that_factor_to_beta(beta: float) -> None:
    numbers = 2.0 ** torch.arange(12, dtype=torch.float64)
    positions = torch.cat([torch.zeros(1, dtype=torch.float64), (2**beta) ** torch.arange(11, dtype=torch.float64)])
    assert scaling_exponent(positions.cumsum(0), numbers, bootstrap=0).beta == pytest.approx(beta, abs=1e-3)


def test_the_interval_holds_the_exponent_of_a_noisy_line() -> None:
    hits, widths = 0, []
    for seed in range(60):
        noise = torch.randn(360, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        found = scaling_exponent(line(0.5) + 0.3 * noise, NUMBERS, bootstrap=99, confidence=0.9, seed=seed)
        hits += found.low <= 0.5 <= found.high
        widths.append(found.high - found.low)
    assert hits >= 46
    assert 0.02 < numpy.mean(widths) < 0.6


def test_pca_finds_the_direction_and_its_order() -> None:
    acts = planted(line(0), 0.05, 31)
    found = number_line(acts, NUMBERS)
    centred = acts - acts.mean(0)
    first = centred @ torch.linalg.svd(centred, full_matrices=False).Vh[0]
    assert abs(numpy.corrcoef(found.positions, first)[0, 1]) == pytest.approx(1.0, abs=1e-12)
    assert found.rho == pytest.approx(abs(stats.spearmanr(first, NUMBERS).statistic), abs=1e-12)
    assert found.scaling.beta == pytest.approx(0, abs=0.05)
    assert found.variance_share == pytest.approx(float(first.square().sum() / centred.square().sum()), abs=1e-12)
    assert math.isnan(found.r2_held_out)
    assert float(numpy.corrcoef(found.positions, NUMBERS)[0, 1]) > 0
    assert number_line(acts, NUMBERS, components=2).rho < 0.3
    assert found.plot().axes[0].get_xscale() == "log"


def test_pls_is_that_of_the_closed_forms() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(33, 7, generator=generator, dtype=torch.float64)
    y = torch.randn(33, 1, generator=generator, dtype=torch.float64)
    new = torch.randn(5, 7, generator=generator, dtype=torch.float64)
    centred, target = x - x.mean(0), y - y.mean()
    # one component: regression on x x^T y; all of them: least squares; k of them: least squares in a Krylov space
    score = centred @ centred.mT @ target
    one = y.mean() + score * (score.mT @ target) / (score.mT @ score)
    torch.testing.assert_close(partial_least_squares(x, y, x, 1), one, rtol=0, atol=1e-12)
    for components in (2, 3, 7, 12):
        gram = centred.mT @ centred
        krylov = [centred.mT @ target]
        for _ in range(min(components, 7) - 1):
            krylov.append(gram @ krylov[-1] / gram.norm())
        basis = torch.linalg.qr(torch.cat(krylov, 1)).Q
        slopes = basis @ torch.linalg.lstsq(centred @ basis, target).solution
        wanted = y.mean() + (new - x.mean(0)) @ slopes
        torch.testing.assert_close(partial_least_squares(x, y, new, components), wanted, rtol=0, atol=1e-8)


def test_pls_hides_a_logarithmic_line() -> None:
    # the line is ln n; a weak direction bends with it, and PLS adds the two up to n
    bend = line(1) - line(0) * float(line(0) @ line(1) / (line(0) @ line(0)))
    generator = torch.Generator().manual_seed(0)
    plane = torch.linalg.qr(torch.randn(31, 2, generator=generator, dtype=torch.float64)).Q
    acts = torch.stack([line(0), 0.2 * bend], 1) @ plane.mT
    acts = acts + 0.003 * torch.randn(360, 31, generator=generator, dtype=torch.float64)
    table = compare_number_lines(acts, NUMBERS, components=(1, 2, 10), bootstrap=0)
    given = table[table["rows"] == "given"].set_index("method")
    assert given.loc["pca", "beta"] == pytest.approx(0, abs=0.1)
    assert given.loc["pls 10", "beta"] == pytest.approx(1, abs=0.1)
    assert given["beta"].is_monotonic_increasing
    assert given.loc["pls 10", "r2_fitted"] > 0.99 > 0.8 > given.loc["pca", "r2_fitted"]


def test_pls_makes_a_line_of_shuffled_rows_which_held_out_numbers_deny() -> None:
    table = compare_number_lines(planted(line(0), 0.5, 500), NUMBERS, components=(1, 5), bootstrap=0)
    shuffled = table[table["rows"] == "shuffled"].set_index("method")
    assert shuffled.loc["pls 5", "rho"] > 0.95
    assert shuffled.loc["pls 5", "r2_fitted"] > 0.9
    assert shuffled.loc["pls 5", "r2_held_out"] < 0.1
    assert shuffled.loc["pca", "rho"] < 0.3
    again = compare_number_lines(planted(line(0), 0.5, 500), NUMBERS, components=(1, 5), bootstrap=0)
    assert again.equals(table)


def circles(base: int, noise: float, numbers: torch.Tensor = NUMBERS) -> torch.Tensor:
    """A circle for each digit in a base, in random planes of 31 dimensions."""
    generator = torch.Generator().manual_seed(base)
    angle = 2 * math.pi * digits_of(numbers, base).double() / base
    points = torch.cat([angle.cos(), angle.sin()], 1)
    planes = torch.linalg.qr(torch.randn(31, points.shape[1], generator=generator, dtype=torch.float64)).Q
    return points @ planes.mT + noise * torch.randn(len(numbers), 31, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("base", [2, 7, 10, 16])
def test_digits_are_those_of_python(base: int) -> None:
    digits = digits_of(NUMBERS.double(), base)
    powers = base ** torch.arange(digits.shape[1])
    assert torch.equal((digits * powers).sum(1), NUMBERS)
    assert int(digits.max()) < base
    assert bool(digits[:, -1].any())


def test_planted_digits_are_read_and_others_are_not() -> None:
    found = digit_probes(circles(10, 0.05), NUMBERS)
    table = found.to_pandas()
    assert table["place"].tolist() == [0, 1, 2]
    assert (table["accuracy"] == 1).all()
    assert found.whole == 1.0
    assert torch.equal(found.predicted, found.digits)
    assert table["chance"][2] == pytest.approx(100 / 360)
    # a line of ln n holds no last digit
    log = digit_probes(planted(line(0), 0.01, 31), NUMBERS).to_pandas()
    assert log["low"][0] < 0.1 < log["high"][0] + 0.05
    assert log["accuracy"][0] < 0.2
    assert found.plot().axes[0].get_ylim()[0] == 0


def test_accuracy_is_that_of_angles_with_known_noise() -> None:
    # with noise s on either axis the angle is off by about s, and a digit is right if it is off by less than pi / 10
    noise, numbers = 0.25, torch.arange(1, 2001)
    generator = torch.Generator().manual_seed(0)
    angle = 2 * math.pi * numbers.double() / 10
    points = torch.stack([angle.cos(), angle.sin()], 1)
    points = points + noise * torch.randn(2000, 2, generator=generator, dtype=torch.float64)
    error = torch.atan2(points[:, 1], points[:, 0]) - angle
    wanted = float(((error + math.pi / 10).remainder(2 * math.pi) < math.pi / 5).double().mean())
    row = digit_probes(points, numbers).to_pandas().iloc[0]
    assert row["accuracy"] == pytest.approx(wanted, abs=0.01)
    assert row["low"] < wanted < row["high"]


def test_the_base_of_planted_digits_is_read_best() -> None:
    for base in (7, 10):
        table = compare_digit_bases(circles(base, 0.05), NUMBERS, bases=(3, 7, 10, 12))
        whole = table.drop_duplicates("base").set_index("base")["whole"]
        assert whole.idxmax() == base
        assert whole.drop(base).max() < 0.5


def test_inputs_are_named() -> None:
    acts = torch.randn(33, 5, generator=torch.Generator().manual_seed(0))
    numbers = torch.arange(1, 34)
    with pytest.raises(ValueError, match="method: expected one of pca, pls"):
        number_line(acts, numbers, method="umap")
    with pytest.raises(ValueError, match="components: expected an integer from 1 to 5"):
        number_line(acts, numbers, components=6)
    with pytest.raises(ShapeError, match="positions: expected"):
        scaling_exponent(acts[:, 0], numbers[:-1])
    with pytest.raises(ValueError, match="positions: expected values that differ"):
        scaling_exponent(torch.ones(33), numbers)
    with pytest.raises(ValueError, match="numbers: expected positive"):
        scaling_exponent(acts[:, 0], numbers - 1)
    with pytest.raises(ValueError, match="numbers: expected integers"):
        digit_probes(acts, numbers + 0.5)
    with pytest.raises(ValueError, match="base: expected an integer from 2"):
        digit_probes(acts, numbers, base=1)
    with pytest.raises(DTypeError, match="base"):
        digit_probes(acts, numbers, base=10.0)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="bases: expected at least one"):
        compare_digit_bases(acts, numbers, bases=())
