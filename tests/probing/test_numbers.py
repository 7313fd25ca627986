"""Numbers and their rows: order, refusals, digits against strings, coordinates against their formulas."""

import math

import numpy
import pytest
import torch

from interpkern.errors import DTypeError, ShapeError
from interpkern.probing.components import principal_components
from interpkern.probing.numbers import checked, coordinate, digit_count, last_digit, leading_digit

N = 31


def rows(count: int = N, width: int = 7) -> torch.Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(0))


def test_rows_are_sorted_by_number() -> None:
    order = torch.randperm(N, generator=torch.Generator().manual_seed(1))
    found = checked(rows()[order], (order + 3).to(torch.int32))
    assert found.numbers.tolist() == list(range(3, N + 3))
    assert found.acts.dtype == torch.float64
    assert torch.equal(found.acts, rows().double())


@pytest.mark.parametrize("given", [range(1, N + 1), list(range(1, N + 1)), numpy.arange(1.0, N + 1)])
def test_numbers_come_in_many_forms(given: object) -> None:
    assert torch.equal(checked(rows().half().numpy(), given).numbers, torch.arange(1, N + 1).double())


@pytest.mark.parametrize(
    ("acts", "numbers", "error", "words"),
    [
        (rows(), range(N), ValueError, "numbers: expected positive"),
        (rows(), [1.0, *range(1, N)], ValueError, "numbers: expected each number once, got 1 again"),
        (rows(), [math.nan, *range(1, N)], ValueError, "numbers: expected finite"),
        (rows(), range(1, N), ShapeError, "numbers: expected"),
        (rows(), "12", DTypeError, "numbers"),
        (rows(), ["one"] * N, DTypeError, "numbers"),
        (rows()[0], range(1, N + 1), ShapeError, "acts"),
        (rows() * math.inf, range(1, N + 1), ValueError, "acts: expected finite"),
        (rows().long(), range(1, N + 1), DTypeError, "acts"),
        (torch.ones(N, 3), range(1, N + 1), ValueError, "acts: expected rows that differ"),
        (rows(7), range(1, 8), ShapeError, "acts: expected at least 8 rows"),
    ],
)
def test_refusals_name_the_argument(acts: object, numbers: object, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        checked(acts, numbers)


def test_digits_are_those_of_the_decimal_string() -> None:
    values = [1, 9, 10, 99, 100, 360, 999, 1000, 123_456_789, 10**15]
    texts = [str(value) for value in values]
    assert digit_count(values).tolist() == [len(text) for text in texts]
    assert leading_digit(values).tolist() == [int(text[0]) for text in texts]
    assert last_digit(values).tolist() == [int(text[-1]) for text in texts]
    assert digit_count([0.5, 9.99, 10.01]).tolist() == [1, 1, 2]
    with pytest.raises(ValueError, match="numbers: expected integers"):
        last_digit([1.5, 2.0])


def test_coordinates() -> None:
    n = torch.arange(1, 40).double()
    assert torch.equal(coordinate(n), n.log())
    assert torch.equal(coordinate(n, "linear"), n)
    assert torch.equal(coordinate(n, "sqrt"), n.sqrt())
    for power in (-0.5, 0.3, 1.0):
        assert torch.allclose(coordinate(n, power), (n**power - 1) / power, rtol=1e-13)
    assert torch.allclose(coordinate(n, 1e-9), n.log(), rtol=1e-7)
    with pytest.raises(ValueError, match="coordinate: expected one of"):
        coordinate(n, "logarithm")
    with pytest.raises(DTypeError, match="coordinate"):
        coordinate(n, None)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="coordinate"):
        coordinate(n, math.inf)


def test_components_rebuild_the_rows_and_have_a_fixed_sign() -> None:
    acts = rows().double()
    scores, directions, variances = principal_components(acts, 7)
    assert torch.allclose(scores @ directions + acts.mean(0), acts, atol=1e-12)
    assert torch.allclose(directions @ directions.mT, torch.eye(7).double(), atol=1e-12)
    assert torch.allclose(variances, torch.linalg.eigvalsh(torch.cov(acts.T, correction=0)).flip(0), atol=1e-12)
    assert bool((directions.gather(1, directions.abs().argmax(1, keepdim=True)) > 0).all())
    flipped = principal_components(-acts, 3)
    assert torch.allclose(flipped.directions, directions[:3], atol=1e-12)
    assert torch.allclose(flipped.scores, -scores[:, :3], atol=1e-12)
