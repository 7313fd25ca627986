"""What `memorise` promises on a GPU beside right numbers: streams, devices, tensors that stay, Ctrl-C, the lab."""

import time
from pathlib import Path
from typing import Any

import pytest
import torch

from interpkern import gpu
from interpkern.memorisation import TableMLPs, capacity_sweep, lab_study, memorise, random_tables
from interpkern.reference.memorise import Fields
from tests.ops.gpu_kernels import real
from tests.ops.problems import problem, same_bits, train

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")


@pytest.fixture(params=["cuda", "triton"])
def backend(request: pytest.FixtureRequest) -> str:
    return real(request.param).backend


def on(device: str, weights: Fields) -> Fields:
    return Fields(*(part.to(device) for part in weights))


def test_tensors_stay_on_their_device(backend: str) -> None:
    weights, tables = problem(5, 6, 5, 4, 7)
    for index in range(torch.cuda.device_count()):
        device = f"cuda:{index}"
        outcome = train(on(device, weights), tables.to(device), backend=backend)
        state = outcome.state
        tensors = [*outcome.weights, *state.first, *state.second, state.step, outcome.loss, outcome.correct]
        assert all(str(tensor.device) == device for tensor in tensors)


def test_works_on_the_current_stream(backend: str) -> None:
    """Work queued before on the stream is waited for: weights that are still being made are not read too early."""
    weights, tables = problem(5, 6, 5, 4, 7)
    there = on("cuda", weights)
    expected = train(there, tables, backend=backend)
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        torch.cuda._sleep(50_000_000)
        late = Fields(*(part + 0 for part in there))
        found = train(late, tables, backend=backend)
    assert same_bits(expected, found)


def test_auto_takes_the_gpu_for_tensors_on_it() -> None:
    weights, tables = problem(5, 6, 5, 4, 7)
    assert train(on("cuda", weights), tables, backend="auto").backend in ("cuda", "triton")
    assert train(weights, tables, backend="auto").backend == "cpu"


def test_a_progress_that_raises_ends_a_long_run_soon(backend: str) -> None:
    weights, tables = problem(512, 32, 32, 16, 32)
    begin = time.monotonic()

    def fail(done: int, total: int) -> None:
        if done > 0:
            raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"):
        train(on("cuda", weights), tables, steps=10**8, log_every=None, backend=backend, progress=fail)
    assert time.monotonic() - begin < 60


def test_a_captured_stream_is_refused() -> None:
    kernel: Any = real("cuda")
    weights, tables = problem(3, 5, 4, 3, 6)
    there, graph = on("cuda", weights), torch.cuda.CUDAGraph()
    kernel.train(weights, tables)
    with pytest.raises(RuntimeError), torch.cuda.graph(graph):
        train(there, tables.cuda(), backend="cuda")


def test_the_lab_runs_on_a_gpu_by_device_alone() -> None:
    models = TableMLPs.init(64, 8, 8, 8, 16, seed=3, device="cuda")
    run = memorise(models, random_tables(64, 8, 8, seed=3), steps=2000, lr=0.03, schedule="cosine")
    assert run.models.W.is_cuda
    assert run.provenance["backend"] in ("cuda", "triton")
    same = memorise(models.to("cpu"), random_tables(64, 8, 8, seed=3), steps=2000, lr=0.03, schedule="cosine")
    assert abs(float(run.solved.double().mean() - same.solved.double().mean())) < 0.2
    assert len(run.to_pandas()) == 64


@pytest.mark.slow
def test_many_models_in_global_memory(backend: str) -> None:
    if backend == "triton":
        pytest.skip("its tiles do not hold this shape")
    weights, tables = problem(300, 128, 128, 128, 128)
    outcome = train(on("cuda", weights), tables, steps=3, backend=backend)
    exact = train(weights, tables, steps=3)
    assert (outcome.loss.cpu() - exact.loss).abs().max() <= 1e-5


def test_a_sweep_uses_every_gpu_and_finds_what_the_cpu_finds(tmp_path: Path) -> None:
    budget = {"sizes": (5, 6), "seeds": 4, "steps": 20, "progress": False}
    there = capacity_sweep(tmp_path / "gpu", device="cuda", **budget)
    here = capacity_sweep(tmp_path / "cpu", **budget)
    assert there.provenance["backend"] in gpu.BACKENDS
    assert (there.models.loss - here.models.loss).abs().max() <= 1e-5
    for study in ("circuits", "quantisation"):
        lab_study(tmp_path / "gpu", study=study, seeds=5, steps=20, device="cuda", progress=False).to_pandas()
