"""The GPU kernels of `matching_pursuit` on the operation's own tests, on a GPU or emulated, and their promises."""

from inspect import signature

import pytest
import torch

import interpkern
from tests.ops import test_matching_pursuit, test_matching_pursuit_promises
from tests.ops.emulated import PursuitMachine
from tests.ops.pursuit_kernels import EVERY, MACHINES, OTHER_MACHINES, kernel_called, use_machine
from tests.ops.pursuits import (
    METHODS,
    SIGNS,
    assert_fast_is_nearly_as_good,
    assert_samples_keep_their_bits,
    both_forms,
    problem,
    pursue,
    same_bits,
    with_one_massive_element,
    within,
)

TESTS = {
    name: test
    for module in (test_matching_pursuit, test_matching_pursuit_promises)
    for name, test in vars(module).items()
    if name.startswith("test_") and "backend" in signature(test).parameters and name != "test_torch_knows_the_operator"
}
globals().update(TESTS)  # pytest runs them here too, with the backends of this file


@pytest.fixture(params=EVERY)
def backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    return kernel_called(request.param, monkeypatch)


@pytest.fixture(params=["emulated", "cuda"])
def cuda(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    return kernel_called(request.param, monkeypatch)


def test_the_operations_tests_are_here() -> None:
    assert {"test_picks_are_those_of_float64", "test_a_given_gram_changes_no_bit"} <= set(TESTS)
    assert len(TESTS) > 30


@pytest.mark.parametrize("nonnegative", SIGNS)
@pytest.mark.parametrize("method", METHODS)
def test_bits_do_not_depend_on_batch_or_order(backend, method, nonnegative) -> None:
    x, atoms = problem(67, 31, 131)
    x[33] = 0
    settings = {"method": method, "nonnegative": nonnegative, "tol": 0.1, "backend": backend}
    for precision in ("exact", "fast"):
        assert_samples_keep_their_bits(x, atoms, 9, (7,), precision=precision, **settings)


@pytest.mark.parametrize("nonnegative", SIGNS)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("shape", [(5, 33, 131, 9), (3, 7, 300, 12), (5, 65, 33, 40), (2, 33, 1100, 5)])
def test_the_machine_never_shows_in_the_bits(shape, method, nonnegative, monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads in any order, any memory, number of slots and cut into launches, and either form."""
    N, D, M, k = shape
    x, atoms = problem(N, D, M)
    atoms = torch.cat([atoms, -atoms[5:9]])
    codes = []
    for machine in (*MACHINES.values(), *OTHER_MACHINES):
        backend = use_machine(machine, monkeypatch)
        codes.append(pursue(x, atoms, k, method=method, nonnegative=nonnegative, backend=backend))
    assert all(same_bits(codes[0], code) for code in codes[1:])


@pytest.mark.parametrize("nonnegative", SIGNS)
@pytest.mark.parametrize("method", METHODS)
def test_screens_may_be_as_rough_as_their_bounds_say(method, nonnegative, monkeypatch: pytest.MonkeyPatch) -> None:
    """Atoms so close to each other that rounding decides; every product off by all it may be."""
    x, base = problem(20, 65, 60)
    generator = torch.Generator().manual_seed(0)
    near = base + 3e-5 * torch.randn(3, 60, 65, generator=generator) / 65**0.5
    atoms = torch.nn.functional.normalize(torch.cat([base, *near]), dim=1)
    codes = []
    for machine in (PursuitMachine(), PursuitMachine(noise=0.98), PursuitMachine(noise=0.98, products=False)):
        backend = use_machine(machine, monkeypatch)
        codes.append(pursue(x, atoms, 12, method=method, nonnegative=nonnegative, backend=backend))
    assert all(same_bits(codes[0], code) for code in codes[1:])


@pytest.mark.parametrize("nonnegative", SIGNS)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("power", [2.0, 1e3, 1e6])
def test_forms_agree_on_samples_and_atoms_with_one_massive_element(cuda, method, nonnegative, power) -> None:
    both_forms(*with_one_massive_element(6, 65, 150, power), 20, method=method, nonnegative=nonnegative, backend=cuda)


@pytest.mark.parametrize("nonnegative", SIGNS)
@pytest.mark.parametrize("method", METHODS)
def test_fast_is_nearly_as_good(cuda, method, nonnegative) -> None:
    x, atoms = problem(60, 256, 257)
    settings = {"method": method, "nonnegative": nonnegative, "backend": cuda}
    for rows, kept in ((x, True), (x[:10], False)):
        gram = interpkern.Gram(atoms, products=kept)
        assert_fast_is_nearly_as_good(rows, atoms, 12, within("residual norm"), gram=gram, **settings)


def test_more_copies_of_an_atom_than_candidates(cuda) -> None:
    x, atoms = problem(3, 31, 7)
    plain = pursue(x, atoms, 5, method="omp", backend=cuda)
    copies = pursue(x, atoms.repeat(60, 1), 5, method="omp", backend=cuda)
    assert same_bits(plain, copies)


def test_subnormal_samples_are_scaled_too(cuda) -> None:
    x, atoms = problem(5, 31, 33)
    code, tiny = (pursue(x * scale, atoms, 7, backend=cuda) for scale in (1.0, 2.0**-130))
    assert torch.equal(code.indices[:, 0], tiny.indices[:, 0])
    assert (tiny.indices[:, :2] >= 0).all()
