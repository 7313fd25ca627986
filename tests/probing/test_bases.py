"""Designs of helices and polynomials: right columns, none too many, and what the published ones do."""

import math

import numpy
import pytest
import torch

from interpkern.errors import DTypeError
from interpkern.probing.bases import condition, helix_basis, joint_basis, least_squares, polynomial_basis


def published_design(a: numpy.ndarray) -> numpy.ndarray:
    """As in the paper's notebooks: cos and sin of every period, that of 2 too."""
    columns = [numpy.ones(len(a)), a]
    for period in (2, 5, 10, 100):
        columns += [numpy.cos(2 * numpy.pi * a / period), numpy.sin(2 * numpy.pi * a / period)]
    return numpy.stack(columns, axis=1)


def test_columns_are_the_functions():
    numbers = torch.tensor([0.0, 3, 7, 12, 31, 33, 99, 57, 64, 20, 1])
    basis = helix_basis(numbers, (5, 10))
    for column, name in zip(basis.matrix.mT, basis.names, strict=True):
        kind, *period = name.split()
        function = {"1": lambda n: 1.0, "a": float}.get(kind) or (
            lambda n, kind=kind, period=period: getattr(math, kind)(2 * math.pi * n / float(period[0]))
        )
        assert column.tolist() == pytest.approx([function(n) for n in numbers.tolist()], abs=1e-12)
    assert basis.names == ("1", "a", "cos 5", "sin 5", "cos 10", "sin 10")
    assert helix_basis(numbers, (5,), linear=False, intercept=False).names == ("cos 5", "sin 5")


def test_other_numbers_get_the_same_columns():
    basis = helix_basis(range(40), (2, 7))
    assert torch.equal(basis.at([1, 39]), basis.matrix[[1, 39]])
    assert basis.at([0.5]).shape == (1, 5)


def test_the_published_design_is_rank_deficient_and_this_one_is_not():
    # fault 4: sin(pi a) is zero on integers
    published = published_design(numpy.arange(100.0))
    assert numpy.linalg.matrix_rank(published) == 9
    assert numpy.linalg.cond(published) > 1e13
    basis = helix_basis(range(100))
    assert [term.name for term in basis.dropped] == ["sin 2"]
    assert basis.condition < 10
    assert basis.columns == 8
    # coefficients of noise stay of the size of the noise; with the vanishing column they explode
    noise = torch.randn(100, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert float(least_squares(basis.matrix, noise).abs().max()) < 1
    exploded = numpy.linalg.solve(published.T @ published, published.T @ noise.numpy())
    assert numpy.abs(exploded).max() > 100


def test_half_integers_keep_both_columns_of_period_2():
    assert helix_basis(torch.arange(0, 20, 0.5), (2,)).dropped == ()


@pytest.mark.parametrize(
    ("numbers", "periods", "dropped"),
    [
        (range(31), (1,), ["cos 1", "sin 1"]),
        (range(0, 62, 2), (2, 5), ["cos 2", "sin 2"]),
        (range(31), (10, 10 / 9), ["cos 1.11111", "sin 1.11111"]),
        (range(31), (3, 1.5), ["cos 1.5", "sin 1.5"]),
    ],
)
def test_columns_that_repeat_others_are_dropped_and_named(numbers: range, periods: tuple, dropped: list[str]):
    basis = helix_basis(numbers, periods)
    assert [term.name for term in basis.dropped] == dropped
    assert int(torch.linalg.matrix_rank(basis.matrix)) == basis.matrix.shape[1]


def test_polynomials_span_the_powers():
    numbers = torch.arange(33.0, dtype=torch.float64)
    basis = polynomial_basis(numbers, 5)
    powers = torch.stack([(numbers / 33) ** power for power in range(6)], 1)
    assert float((powers - basis.matrix @ least_squares(basis.matrix, powers)).abs().max()) < 1e-12
    assert basis.condition < condition(powers) / 100


def test_every_operand_has_its_own_polynomial():
    # fault 6: one list of features, written for a and then again for b
    a, b = torch.arange(49.0) % 7, torch.arange(49.0) // 7
    overwritten = None
    for operand in (a, b):
        overwritten = numpy.stack([operand.numpy() ** power for power in range(3)], axis=1)
    target = (a**2 - 3 * b).double()[:, None]
    joint = joint_basis({"a": a, "b": b}, {"a": polynomial_basis(a, 2), "b": polynomial_basis(b, 2)})
    assert joint.names == ("1", "T1(a)", "T2(a)", "T1(b)", "T2(b)")
    left = target - joint.matrix @ least_squares(joint.matrix, target)
    assert float(left.norm()) < 1e-10
    fitted = overwritten @ numpy.linalg.lstsq(overwritten, target.numpy(), rcond=None)[0]
    assert numpy.linalg.norm(target.numpy() - fitted) > 0.5 * float((target - target.mean()).norm())


def test_the_line_of_a_sum_repeats_those_of_its_parts():
    a, b = torch.arange(63.0) % 7, torch.arange(63.0) // 7
    values = {"a": a, "b": b, "a+b": a + b}
    joint = joint_basis(values, {name: helix_basis(column, (5,)) for name, column in values.items()})
    assert [term.name for term in joint.dropped] == ["a+b"]
    assert "cos(a+b) 5" in joint.names
    assert torch.equal(joint.at({name: column[:3] for name, column in values.items()}), joint.matrix[:3])


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"numbers": "12"}, DTypeError, "numbers: expected"),
        ({"numbers": [1.0, math.nan, 2.0]}, ValueError, "numbers: expected finite"),
        ({"numbers": [[1.0, 2.0]]}, ValueError, "numbers: expected"),
        ({"periods": 5}, DTypeError, "periods: expected a sequence"),
        ({"periods": (5, -1)}, ValueError, r"periods\[1\]"),
        ({"periods": (0,)}, ValueError, "periods: expected positive"),
        ({"periods": (5, 5.0)}, ValueError, "periods: expected each period once"),
        ({"linear": 1}, DTypeError, "linear"),
    ],
)
def test_wrong_input_is_named(change: dict, error: type, message: str):
    given = {"numbers": range(20), "periods": (5,)} | change
    with pytest.raises(error, match=message):
        helix_basis(given.pop("numbers"), given.pop("periods"), **given)


def test_wrong_polynomials_are_named():
    with pytest.raises(ValueError, match="degree: expected an integer from 0"):
        polynomial_basis(range(5), -1)
    with pytest.raises(ValueError, match="numbers: expected at least two different"):
        polynomial_basis([3, 3, 3], 1)
    with pytest.raises(ValueError, match="bases: expected one for each of a, b"):
        joint_basis({"a": [1, 2], "b": [1, 3]}, {"a": polynomial_basis([1, 2], 1)})
