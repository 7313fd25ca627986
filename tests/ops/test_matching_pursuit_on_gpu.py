"""What `matching_pursuit` promises on a GPU beside right numbers: sizes of use, streams, devices, tensors that stay."""

import time

import pytest
import torch

import interpkern
from tests.ops.pursuit_kernels import real
from tests.ops.pursuits import METHODS, fvu, norms, problem, pursue, pursue_in_float64, same_bits, within

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")


@pytest.fixture(params=["cuda", "triton"])
def backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    return real(request.param, monkeypatch)


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> str:
    return real("cuda", monkeypatch)


@pytest.mark.parametrize("method", METHODS)
def test_the_size_of_real_dictionaries(backend, method) -> None:
    x, atoms = problem(400, 384, 4099)
    code = pursue(x, atoms, 32, method=method, backend=backend)
    exact = pursue_in_float64(x, atoms, 32, method=method)
    same = (code.indices == exact.indices).all(1)
    assert same.float().mean() >= 0.97
    off = (code.coefficients - exact.coefficients).abs().amax(1) / norms(x)
    assert off[same].max() <= within("coefficients")
    assert fvu(x, atoms, code) == pytest.approx(fvu(x, atoms, exact), rel=within("FVU"))


@pytest.mark.parametrize("shape", [(9000, 64, 16_411), (300, 768, 57_001), (50, 2304, 20_000)])
def test_forms_and_batches_agree_to_the_last_bit(cuda, shape) -> None:
    N, D, M = shape
    x, atoms = problem(N, D, M)
    grams = [interpkern.Gram(atoms.cuda(), products=kept) for kept in (True, False)]
    for method in ("mp", "omp"):
        whole, bare = (pursue(x, atoms, 12, method=method, backend=cuda, gram=gram) for gram in grams)
        assert same_bits(whole, bare)
    some = pursue(x[7:19], atoms, 12, method="omp", backend=cuda)
    assert all(torch.equal(part[7:19], own) for part, own in zip(vars(bare).values(), vars(some).values(), strict=True))


def test_tensors_stay_on_their_device(backend) -> None:
    x, atoms = problem(33, 31, 67)
    for index in range(torch.cuda.device_count()):
        device = f"cuda:{index}"
        code = interpkern.matching_pursuit(x.to(device), atoms.to(device), 5, backend=backend, progress=False)
        assert all(str(part.device) == device for part in vars(code).values())
        gram = interpkern.Gram(atoms.to(device))
        again = interpkern.matching_pursuit(x.to(device), gram.atoms, 5, gram=gram, backend=backend, progress=False)
        assert same_bits(code, again)


def test_works_on_the_current_stream(backend) -> None:
    """Work queued before on the stream is waited for: samples that are still being made are not read too early."""
    x, atoms = (rows.cuda() for rows in problem(33, 31, 67))
    expected = interpkern.matching_pursuit(x, atoms, 5, backend=backend, progress=False)
    with torch.cuda.stream(torch.cuda.Stream()):
        torch.cuda._sleep(50_000_000)
        late = x + 0
        found = interpkern.matching_pursuit(late, atoms, 5, backend=backend, progress=False)
    assert same_bits(expected, found)


def test_auto_takes_the_gpu_for_tensors_on_it(monkeypatch: pytest.MonkeyPatch) -> None:
    x, atoms = (rows.cuda() for rows in problem(33, 31, 67))
    code = interpkern.matching_pursuit(x, atoms, 5, progress=False)
    assert code.indices.is_cuda
    with pytest.raises(interpkern.BackendUnavailable):
        interpkern.matching_pursuit(x, atoms, 5, backend="cpu", progress=False)


def test_a_progress_that_raises_ends_a_long_run_soon(backend) -> None:
    x, atoms = (rows.cuda() for rows in problem(4096, 768, 8192))
    x = x.repeat(200, 1)
    begin = time.monotonic()

    def fail(done: int, total: int) -> None:
        if done > 0:
            raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"):
        interpkern.matching_pursuit(x, atoms, 64, method="omp", backend=backend, progress=fail)
    assert time.monotonic() - begin < 30


def test_a_captured_stream_is_refused(cuda) -> None:
    x, atoms = (rows.cuda() for rows in problem(33, 31, 67))
    interpkern.matching_pursuit(x, atoms, 5, backend=cuda, progress=False)
    with pytest.raises(RuntimeError), torch.cuda.graph(torch.cuda.CUDAGraph()):
        interpkern.matching_pursuit(x, atoms, 5, backend=cuda, progress=False)
