"""Codes that stay with their samples and are brought up to date as atoms come."""

from typing import Any

import numpy
import pytest
import torch

from interpkern.ops.gram import Gram
from interpkern.ops.matching_pursuit_repeated import RepeatedPursuit
from interpkern.ops.sparse_code import SparseCode
from tests.ops.pursuit_kernels import MACHINES, use_machine
from tests.ops.pursuits import METHODS, SIGNS, problem, pursue, same_bits

SAMPLES, PICKS, FIRST = 67, 6, 255


@pytest.mark.parametrize("nonnegative", SIGNS)
@pytest.mark.parametrize("method", METHODS)
def test_codes_are_brought_up_to_date(backend: str, method: str, nonnegative: bool) -> None:
    assert_codes_are_brought_up_to_date(backend=backend, method=method, nonnegative=nonnegative)


@pytest.mark.parametrize("method", METHODS)
def test_codes_are_brought_up_to_date_on_an_imagined_gpu(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = use_machine(MACHINES["emulated"], monkeypatch)
    assert_codes_are_brought_up_to_date(backend=backend, method=method, nonnegative=False)


def assert_codes_are_brought_up_to_date(*, backend: str, method: str, nonnegative: bool) -> None:
    """After each of some atoms that come one by one, the codes that it changes are marked, and those of all atoms."""
    settings: dict[str, Any] = {"method": method, "nonnegative": nonnegative, "tol": 0.3}
    settings |= {"backend": backend, "threads": 1}
    x, atoms = problem(SAMPLES, 31, 300)
    gram, code = Gram(atoms[:FIRST], threads=1), pursue(x, atoms[:FIRST], PICKS, **settings)
    pursuit = RepeatedPursuit(x, code, gram, **settings)
    entered = 0
    for known in range(FIRST, 300):
        gram.append(atoms[known : known + 1])
        fresh = pursue(x, atoms[: known + 1], PICKS, **settings)
        changed = (fresh.indices != code.indices).any(1).numpy()
        entered += changed[5:60].sum()
        marks = numpy.arange(SAMPLES) % 9 == 4
        expected = marks.copy()
        expected[5:60] |= changed[5:60] | (backend == "reference")
        pursuit.mark_changed(marks, 5, 60)
        assert marks.tolist() == expected.tolist()
        pursuit.encode(numpy.flatnonzero(marks | changed))
        assert same_bits(code, fresh)
    assert entered > 20


@pytest.mark.parametrize("products", [True, False])
def test_other_codes_stay(backend: str, products: bool) -> None:
    x, atoms = problem(SAMPLES, 33, 300)
    settings = {"method": "mp", "nonnegative": False, "tol": 0.0, "backend": backend, "threads": 2}
    nothing = SparseCode(
        torch.full((SAMPLES, 3), -7, dtype=torch.int32), torch.full((SAMPLES, 3), 0.5), torch.full((SAMPLES,), 0.25)
    )
    pursuit = RepeatedPursuit(x, nothing, Gram(atoms, products=products), **settings)
    pursuit.encode(numpy.array([], numpy.int64))
    pursuit.encode(numpy.array([66, 0, 31]))
    fresh = pursue(x, atoms, 3, **settings)
    for name, kept in (("indices", -7), ("coefficients", 0.5), ("residual_norm", 0.25)):
        found, whole = getattr(pursuit.code, name), getattr(fresh, name)
        assert torch.equal(found[[66, 0, 31]], whole[[66, 0, 31]])
        found[[66, 0, 31]] = kept
        assert (found == kept).all()


def test_refuses_rows_that_are_not_there() -> None:
    x, atoms = problem(SAMPLES, 33, 300)
    settings: dict[str, Any] = {"method": "mp", "nonnegative": False, "tol": 0.0, "backend": "cpu", "threads": 1}
    pursuit = RepeatedPursuit(x, pursue(x, atoms, 3, **settings), Gram(atoms), **settings)
    for at in ([0, SAMPLES], [-1]):
        with pytest.raises(ValueError, match="at: expected numbers of rows"):
            pursuit.encode(numpy.array(at))
    for first, last, marks in ((0, SAMPLES + 1, SAMPLES), (5, 4, SAMPLES), (-1, 2, SAMPLES), (0, 1, 1)):
        with pytest.raises(ValueError, match="first, last, changed: expected rows"):
            pursuit.mark_changed(numpy.zeros(marks, bool), first, last)
