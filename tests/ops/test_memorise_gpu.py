"""The GPU kernels of `memorise` on the operation's own tests, on a GPU or emulated, and what they promise beside."""

from inspect import signature

import pytest

from interpkern.reference.memorise import Fields
from tests.ops import test_memorise
from tests.ops.emulated import FORWARD, SHUFFLED, Machine
from tests.ops.gpu_kernels import EVERY, MACHINES, Kernel, kernel_called, use_machine
from tests.ops.problems import problem, same_bits, train, train_in_float64
from tests.tolerances import TOLERANCES

LARGE_SHAPES = [*test_memorise.LARGE_SHAPES, (1, 257, 5, 3, 33)]
TESTS = {
    name: test
    for name, test in vars(test_memorise).items()
    if name.startswith("test_") and "kernel" in signature(test).parameters
}
globals().update(TESTS)  # pytest runs them here too, with the kernels of this file


@pytest.fixture(params=EVERY)
def kernel(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Kernel:
    return kernel_called(request.param, monkeypatch)


@pytest.fixture(params=["emulated", "cuda"])
def cuda(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Kernel:
    """The CUDA kernel, which takes any shape."""
    return kernel_called(request.param, monkeypatch)


def test_the_operations_tests_are_here() -> None:
    assert {"test_run_follows_float64", "test_two_halves_are_one_run"} <= set(TESTS)
    assert len(TESTS) > 12


@pytest.mark.parametrize("shape", LARGE_SHAPES)
def test_large_shapes_follow_float64(cuda: Kernel, shape: tuple[int, ...]) -> None:
    weights, tables = problem(*shape)
    fast, exact = (run(weights, tables, steps=2, train=Fields._fields) for run in (cuda.train, train_in_float64))
    assert (fast.loss - exact.loss).abs().max() <= TOLERANCES["memorise", "loss after 20 steps"]


def test_progress_adds_up_and_its_error_ends_the_run(kernel: Kernel) -> None:
    weights, tables = problem(5, 4, 4, 4, 4)
    seen: list[tuple[int, int]] = []
    kernel.train(weights, tables, steps=50, progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (250, 250)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)

    def fail(done: int, total: int) -> None:
        raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"):
        kernel.train(weights, tables, steps=50, progress=fail)


def test_models_learn_their_tables(cuda: Kernel) -> None:
    weights, tables = problem(8, 6, 6, 8, 16)
    knobs = {"steps": 1000, "lr": 0.03, "schedule": "cosine", "log_every": 250}
    ours, theirs = cuda.train(weights, tables, **knobs), train(weights, tables, **knobs)
    assert ours.correct.tolist() == theirs.correct.tolist() == [36] * 8
    assert ours.loss[:, -1].max() < 0.05


@pytest.mark.parametrize("shape", [(6, 13, 9, 5, 11), (2, 40, 37, 41, 19)])
def test_the_machine_never_shows_in_the_bits(shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads in any order (no thread reads what another writes in the same phase), any memory, grid and cut."""
    weights, tables = problem(*shape)
    runs = []
    for machine in (Machine(), *MACHINES.values(), Machine(blocks=9, budget=1), Machine(shared_bytes=0, budget=13)):
        kernel = use_machine(machine, monkeypatch)
        runs.append(kernel.train(weights, tables, train=Fields._fields, stop_when_solved=True))
    assert all(same_bits(runs[0], run) for run in runs[1:])


def test_short_launches_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    weights, tables = problem(4, 3, 3, 2, 2)
    for order in (FORWARD, SHUFFLED):
        kernel = use_machine(Machine(blocks=2, budget=10, thread_order=order), monkeypatch)
        seen: list[int] = []
        kernel.train(weights, tables, steps=25, progress=lambda done, total, seen=seen: seen.append(done))
        assert seen == [20, 40, 60, 80, 100, 100]  # the last launch only finds that all updates are made
