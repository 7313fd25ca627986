"""What `matching_pursuit` promises beside its numbers: the same bits in every form, inputs left alone, a quick end."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest
import torch

import interpkern
from interpkern import native
from tests.ops.conftest import CPU_IS_THERE
from tests.ops.pursuits import (
    METHODS,
    SIGNS,
    assert_fast_is_nearly_as_good,
    assert_picks_are_best,
    assert_samples_keep_their_bits,
    assert_well_formed,
    both_forms,
    changed,
    gaussian,
    problem,
    pursue,
    same_bits,
    with_one_massive_element,
)


def test_non_contiguous_inputs(backend) -> None:
    x, atoms = problem(31, 33, 67)
    plain = pursue(x, atoms, 5, backend=backend)
    assert same_bits(plain, pursue(x.T.contiguous().T, atoms.T.contiguous().T, 5, backend=backend))
    wide, tall = torch.full((31, 66), torch.nan), torch.full((134, 33), torch.nan)
    wide[:, ::2], tall[::2] = x, atoms
    assert same_bits(plain, pursue(wide[:, ::2], tall[::2], 5, backend=backend))
    assert same_bits(plain, pursue(x.numpy(), atoms.numpy()[:, :], 5, backend=backend))
    one = pursue(x[:1].expand(3, -1), atoms, 5, backend=backend)
    assert (one.indices == one.indices[0]).all()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_inputs_are_worked_on_in_float32(backend, method, dtype) -> None:
    x, atoms = problem(31, 33, 67)
    code = pursue(x.to(dtype), atoms, 7, method=method, backend=backend)
    assert same_bits(code, pursue(x.to(dtype).float(), atoms, 7, method=method, backend=backend))
    halves = pursue(x, atoms.to(dtype), 7, method=method, backend=backend)
    assert_well_formed(halves, 31, 7, 67, method)
    if method != "mp_refit":
        assert_picks_are_best(x, atoms.to(dtype), halves, method, False)


@pytest.mark.parametrize("nonnegative", SIGNS)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("power", [-66, -40, 50])
def test_scaling_by_a_power_of_two_scales_the_bits(backend, method, nonnegative, power) -> None:
    x, atoms = problem(31, 33, 67)
    settings = {"method": method, "nonnegative": nonnegative, "backend": backend}
    code, scaled = (pursue(x * scale, atoms, 9, **settings) for scale in (1.0, 2.0**power))
    assert torch.equal(code.indices, scaled.indices)
    assert torch.equal(code.coefficients * 2.0**power, scaled.coefficients)
    assert torch.equal(code.residual_norm * 2.0**power, scaled.residual_norm)


@pytest.mark.parametrize("nonnegative", SIGNS)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("shape", [(37, 31, 67, 9), (515, 7, 33, 11), (300, 65, 257, 5)])
def test_bits_do_not_depend_on_batch_order_or_threads(cpu, shape, method, nonnegative) -> None:
    N, D, M, k = shape
    x, atoms = problem(N, D, M)
    x[N // 2] = 0
    settings = {"method": method, "nonnegative": nonnegative, "backend": cpu, "tol": 0.1}
    assert_samples_keep_their_bits(x, atoms, k, (1, 7, 37, 256), **settings)
    whole, more = pursue(x, atoms, k, **settings), (pursue(x, atoms, k, **{**settings, "threads": n}) for n in (2, 5))
    assert all(same_bits(whole, code) for code in more)


@pytest.mark.parametrize("nonnegative", SIGNS)
@pytest.mark.parametrize("method", METHODS)
def test_a_given_gram_changes_no_bit(backend, method, nonnegative) -> None:
    x, atoms = problem(37, 31, 131)
    settings = {"method": method, "nonnegative": nonnegative, "backend": backend}
    plain = pursue(x, atoms, 9, **settings)
    pieces = interpkern.Gram(atoms[:1])
    for rows in (atoms[1:8], atoms[8:8], atoms[8:9], atoms[9:]):
        pieces.append(rows)
    roomy, bare = interpkern.Gram(atoms, capacity=1000), interpkern.Gram(atoms, products=False)
    for gram in (atoms @ atoms.T, (atoms @ atoms.T).double(), interpkern.Gram(atoms), pieces, roomy, bare):
        assert same_bits(plain, pursue(x, atoms, 9, gram=gram, **settings))
    assert same_bits(plain, pursue(x, pieces.atoms, 9, gram=pieces, **settings))


def test_forms_agree_where_atoms_of_the_support_have_the_largest_correlations(cpu) -> None:
    both_forms(*gaussian(1, 64, 130, 608408), 150, method="omp", nonnegative=True, backend=cpu)


@pytest.mark.parametrize("nonnegative", SIGNS)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("power", [2.0, 1e3, 1e6])
def test_forms_agree_on_samples_and_atoms_with_one_massive_element(cpu, method, nonnegative, power) -> None:
    both_forms(*with_one_massive_element(20, 65, 300, power), 40, method=method, nonnegative=nonnegative, backend=cpu)


@pytest.mark.parametrize("nonnegative", SIGNS)
@pytest.mark.parametrize("method", METHODS)
def test_forms_agree_on_long_supports_and_copies_of_atoms(cpu, method, nonnegative) -> None:
    x, base = problem(40, 100, 600, seed=138810)
    generator = torch.Generator().manual_seed(138810)
    copied, signs = (
        torch.randint(0, 600, (600,), generator=generator),
        torch.randint(0, 2, (600, 1), generator=generator),
    )
    atoms = torch.cat([base, base[copied] * (2 * signs - 1)])
    both_forms(x[33:38], atoms, 150, method=method, nonnegative=nonnegative, backend=cpu)


def test_products_the_bounds_do_not_allow_for_are_refused() -> None:
    x, atoms = problem(37, 31, 131)
    products = atoms @ atoms.T
    with pytest.raises(TypeError, match="gram"):
        pursue(x, atoms, 9, gram=products.half())
    products[130, 7] += 1e-3
    with pytest.raises(ValueError, match=r"gram: .* row 130"):
        pursue(x, atoms, 9, gram=products)


def test_the_gram_of_other_atoms_is_refused() -> None:
    x, atoms = problem(37, 31, 131)
    with pytest.raises(ValueError, match="gram"):
        pursue(x, atoms, 9, gram=interpkern.Gram(atoms.flip(0)))


def test_gram_grows_and_keeps_its_atoms() -> None:
    atoms = problem(1, 7, 257)[1]
    gram = interpkern.Gram(torch.empty(0, 7))
    assert (len(gram), gram.atoms.shape) == (0, (0, 7))
    for row in atoms.split(5):
        gram.append(row)
    assert len(gram) == 257
    assert torch.equal(gram.atoms, atoms)
    copied = interpkern.Gram(atoms.double())
    atoms[0] = 0
    assert copied.atoms.dtype == torch.float32
    assert not torch.equal(copied.atoms, atoms)


@pytest.mark.parametrize("method", METHODS)
def test_fast_is_nearly_as_good(cpu, method) -> None:
    assert_fast_is_nearly_as_good(*problem(3000, 64, 257), 12, 1e-3, method=method, backend=cpu)


@pytest.mark.parametrize("nonnegative", SIGNS)
@pytest.mark.parametrize("method", METHODS)
def test_path_changes_where_a_new_atom_enters(backend, method, nonnegative) -> None:
    x, atoms = problem(67, 31, 67)
    settings = {"method": method, "nonnegative": nonnegative, "tol": 0.3, "backend": backend, "threads": 1}
    for known in (67, 66, 60, 20, 1):
        code = pursue(x, atoms[:known], 6, **settings)
        again = pursue(x, atoms, 6, **settings)
        found = changed(x, atoms, code, known, **settings)
        assert found.dtype == torch.bool
        assert torch.equal(found, (again.indices != code.indices).any(1))
        assert found.any() == (known < 67)
    copies = torch.cat([atoms, atoms[5:9]])
    code = pursue(x, atoms, 6, **settings)
    assert not changed(x, copies, code, 67, **settings).any()


def test_inputs_are_not_changed(backend) -> None:
    x, atoms = problem(7, 31, 33)
    gram = atoms @ atoms.T
    before = [part.clone() for part in (x, atoms, gram)]
    for method in METHODS:
        pursue(x, atoms, 5, method=method, gram=gram, backend=backend)
    assert all(torch.equal(a, b) for a, b in zip((x, atoms, gram), before, strict=True))


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_runs_where_gradients_are_off(backend, mode: type) -> None:
    x, atoms = problem(7, 31, 33)
    plain = pursue(x, atoms, 5, method="omp", backend=backend)
    with mode():
        assert same_bits(plain, pursue(x.clone(), atoms.clone(), 5, method="omp", backend=backend))


def test_progress_adds_up_and_its_error_ends_the_run(backend) -> None:
    x, atoms = problem(600, 31, 67)
    seen: list[tuple[int, int]] = []
    pursue(x, atoms, 5, backend=backend, progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (600, 600)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)

    def fail(done: int, total: int) -> None:
        raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"):
        pursue(x, atoms, 5, backend=backend, progress=fail)


@pytest.fixture
def long_call() -> tuple[torch.Tensor, torch.Tensor, int]:
    """Samples, atoms and picks that take the kernel seconds."""
    if not CPU_IS_THERE:
        pytest.skip("the CPU kernel is not there")
    return *problem(20_000, 128, 2000), 64


def test_control_c_is_heard_within_200_ms(long_call) -> None:
    sent: list[float] = []

    def interrupt() -> None:
        sent.append(time.monotonic())
        os.kill(os.getpid(), signal.SIGINT)

    threading.Timer(0.3, interrupt).start()
    with pytest.raises(KeyboardInterrupt):
        pursue(*long_call, method="omp", backend="cpu", threads=2)
    assert time.monotonic() - sent[0] < 0.2


def test_other_threads_run_meanwhile(long_call) -> None:
    ticks: list[float] = []
    done = threading.Event()

    def tick() -> None:
        while not done.wait(0.001):
            ticks.append(time.monotonic())

    x, atoms, k = long_call
    thread = threading.Thread(target=tick)
    thread.start()
    start = time.monotonic()
    pursue(x[:5000], atoms, k, backend="cpu")
    end = time.monotonic()
    done.set()
    thread.join()
    during = [moment for moment in ticks if start < moment < end]
    assert len(during) > 10 * (end - start)


def test_torch_knows_the_operator(backend) -> None:
    x, atoms = problem(7, 31, 33)
    prepared = interpkern.Gram(atoms).prepared
    for method, nonnegative, gram in (("mp", False, []), ("mp_refit", False, list(prepared)), ("omp", True, [])):
        arguments = (x, atoms, 4, method, nonnegative, 0.0, gram, "exact", 1, backend)
        torch.library.opcheck(torch.ops.interpkern.matching_pursuit.default, arguments)


MEMORY = """
import os, resource, torch, interpkern
from interpkern import native
from torch.nn.functional import normalize
x, atoms = torch.randn(20_000, 64).half(), normalize(torch.randn(2048, 64), dim=1)
for isa in native.load("_cpu").isas():
    os.environ[native.ISA_VARIABLE] = isa
    gram = interpkern.Gram(atoms)
    for method in ("mp", "mp_refit", "omp"):
        settings = {"method": method, "gram": gram, "backend": "cpu", "threads": 2}
        interpkern.matching_pursuit(x[:256], gram.atoms, 8, **settings)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        interpkern.matching_pursuit(x, gram.atoms, 8, **settings)
        print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


@pytest.mark.skipif(not CPU_IS_THERE, reason="the CPU kernel is not there")
def test_no_dense_code_is_ever_in_memory() -> None:
    """20,000 samples times 2,048 atoms would be 164 MB; the code itself is 1.3 MB."""
    done = subprocess.run([sys.executable, "-c", MEMORY], capture_output=True, text=True, check=True)
    megabytes = [int(line) for line in done.stdout.splitlines()]
    assert len(megabytes) == len(METHODS) * len(native.load("_cpu").isas())
    assert max(megabytes) < 20
