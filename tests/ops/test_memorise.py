"""`memorise` on the CPU against the float64 reference, and the promises that no tolerance covers."""

import math
import os
import signal
import threading
import time

import pytest
import torch

from interpkern.ops.memorise_backends import largest_array
from interpkern.reference import memorise as reference
from interpkern.reference.memorise import Fields
from tests.ops.gpu_kernels import Kernel
from tests.ops.problems import problem, same_bits, select, train, train_in_float64
from tests.tolerances import TOLERANCES

LOSS = TOLERANCES["memorise", "loss after 20 steps"]
WEIGHTS = TOLERANCES["memorise", "weights after 20 steps"]
ODD_SHAPES = [(3, 1, 1, 1, 1), (5, 7, 5, 3, 9), (7, 31, 33, 7, 5), (33, 2, 13, 1, 6), (2, 40, 37, 41, 19)]
LARGE_SHAPES = [(2, 128, 128, 128, 128), (1, 65, 3, 130, 7)]


@pytest.fixture
def kernel(isa: str) -> Kernel:
    """The CPU kernel on each instruction set; the tests of the GPU kernels have others in its place."""
    return Kernel("cpu", torch.device("cpu"))


def largest_difference(a: Fields, b: Fields) -> float:
    return max((x - y).abs().max().item() for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize("shape", ODD_SHAPES)
def test_trajectory_follows_float64(isa: str, shape: tuple[int, ...]) -> None:
    weights, tables = problem(*shape)
    lr = torch.linspace(1e-3, 1e-2, shape[0])
    fast, exact = (run(weights, tables, lr=lr) for run in (train, train_in_float64))
    assert (fast.loss - exact.loss).abs().max() <= LOSS
    assert torch.equal(fast.correct, exact.correct)


@pytest.mark.parametrize("shape", ODD_SHAPES)
def test_run_follows_float64(kernel: Kernel, shape: tuple[int, ...]) -> None:
    weights, tables = problem(*shape)
    knobs = {"eps": 1e-3, "train": Fields._fields, "lr": torch.linspace(1e-3, 1e-2, shape[0])}
    fast, exact = kernel.train(weights, tables, **knobs), train_in_float64(weights, tables, **knobs)
    assert (fast.loss - exact.loss).abs().max() <= LOSS
    assert torch.equal(fast.correct, exact.correct)
    assert largest_difference(fast.weights, exact.weights) <= WEIGHTS
    assert largest_difference(fast.state.second, exact.state.second) <= 1e-6


@pytest.mark.parametrize("shape", LARGE_SHAPES)
def test_large_shapes_follow_float64(shape: tuple[int, ...]) -> None:
    weights, tables = problem(*shape)
    fast, exact = (run(weights, tables, steps=2, train=Fields._fields) for run in (train, train_in_float64))
    assert (fast.loss - exact.loss).abs().max() <= LOSS


def test_every_knob_follows_float64(kernel: Kernel) -> None:
    weights, tables = problem(5, 9, 6, 4, 7)
    knobs = {
        "lr": torch.tensor([1e-3, 2e-3, 5e-3, 8e-3, 1e-2]),
        "betas": (torch.tensor([0.0, 0.5, 0.8, 0.9, 0.95]), torch.tensor([0.9, 0.99, 0.999, 0.9999, 0.5])),
        "eps": torch.tensor([1e-3, 1e-2, 2e-3, 1.0, 1e-1]),
        "weight_decay": torch.tensor([0.0, 0.01, 0.1, 1.0, 3.0]),
        "readout_lr_scale": 2.0,
        "schedule": "cosine",
        "warmup": 5,
        "schedule_steps": 30,
        "train": Fields._fields,
    }
    fast, exact = (run(weights, tables, **knobs) for run in (kernel.train, train_in_float64))
    assert (fast.loss - exact.loss).abs().max() <= LOSS
    assert largest_difference(fast.weights, exact.weights) <= WEIGHTS
    assert largest_difference(fast.state.second, exact.state.second) <= 1e-6


@pytest.mark.parametrize("shape", ODD_SHAPES)
def test_gradients_of_every_field(kernel: Kernel, shape: tuple[int, ...]) -> None:
    """With beta1 = 0 the first moment after one update is the gradient itself."""
    weights, tables = problem(*shape)
    fast, exact = (
        run(weights, tables, steps=1, betas=(0.0, 0.999), train=Fields._fields)
        for run in (kernel.train, train_in_float64)
    )
    for name, ours, theirs in zip(Fields._fields, fast.state.first, exact.state.first, strict=True):
        scale = theirs.abs().max().clamp(min=1e-3)
        assert (ours - theirs).abs().max() / scale <= TOLERANCES["memorise", "gradient"], name


def test_gradient_is_zero_on_the_kink(kernel: Kernel) -> None:
    """Hidden units that are exactly 0 pass nothing back, as in PyTorch's relu."""
    weights, tables = problem(3, 5, 4, 3, 6)
    weights = weights._replace(W=torch.zeros_like(weights.W), c=torch.zeros_like(weights.c))
    outcome = kernel.train(weights, tables, steps=1, betas=(0.0, 0.999), train=Fields._fields)
    first = outcome.state.first
    assert all(getattr(first, name).eq(0).all() for name in ("E1", "E2", "W", "c", "r"))
    assert first.c_out.ne(0).all()


def test_one_logit_of_the_kink_matches_autograd(kernel: Kernel) -> None:
    """Some pairs on the kink and some off it: E1[a] = -E2[b] for a = b, bias 0."""
    weights, tables = problem(2, 4, 4, 3, 5)
    weights = weights._replace(E2=-weights.E1.clone(), c=torch.zeros_like(weights.c))
    fast, exact = (run(weights, tables, steps=1, betas=(0.0, 0.999)) for run in (kernel.train, train_in_float64))
    assert largest_difference(fast.state.first, exact.state.first) <= 1e-6


def test_bits_do_not_depend_on_batch_or_order(kernel: Kernel) -> None:
    weights, tables = problem(37, 6, 5, 4, 7)
    together = kernel.train(weights, tables)
    alone = kernel.train(select(weights, slice(11, 12)), tables[11:12])
    order = torch.randperm(37, generator=torch.Generator().manual_seed(1))
    shuffled = kernel.train(select(weights, order), tables[order])
    assert torch.equal(alone.loss[0], together.loss[11])
    assert torch.equal(alone.weights.W[0], together.weights.W[11])
    assert all(torch.equal(a, b[order]) for a, b in zip(shuffled.weights, together.weights, strict=True))
    assert torch.equal(shuffled.loss, together.loss[order])
    assert same_bits(together, kernel.train(weights, tables))


def test_bits_do_not_depend_on_threads(isa: str) -> None:
    weights, tables = problem(37, 6, 5, 4, 7)
    one, *more = (train(weights, tables, threads=threads) for threads in (1, 2, 3, 5))
    assert all(same_bits(one, other) for other in more)


def test_diverging_models_touch_no_other(kernel: Kernel) -> None:
    weights, tables = problem(21, 6, 5, 4, 7)
    lr = torch.full((21,), 0.01)
    calm = kernel.train(weights, tables, lr=lr, steps=60, log_every=None)
    lr[4], lr[9] = 1e3, 1e38
    wild = kernel.train(weights, tables, lr=lr, steps=60, log_every=None)
    others = [index for index in range(21) if index not in (4, 9)]
    assert torch.equal(calm.loss[others], wild.loss[others])
    assert all(torch.equal(a[others], b[others]) for a, b in zip(calm.weights, wild.weights, strict=True))
    assert not wild.loss[9, -1].isfinite()
    assert wild.correct[9] < 30


@pytest.mark.parametrize("names", [("r", "c_out"), ("E1",), ("W",), ("c", "E2"), ("c_out",)])
def test_frozen_fields_stay(kernel: Kernel, names: tuple[str, ...]) -> None:
    weights, tables = problem(3, 5, 4, 3, 6)
    fast, exact = (run(weights, tables, train=names) for run in (kernel.train, train_in_float64))
    for name in Fields._fields:
        moved = not torch.equal(getattr(fast.weights, name), getattr(weights, name))
        assert moved == (name in names)
    assert (fast.loss - exact.loss).abs().max() <= LOSS


def test_two_halves_are_one_run(kernel: Kernel) -> None:
    weights, tables = problem(5, 6, 5, 4, 7)
    settings = {"schedule": "cosine", "warmup": 3, "schedule_steps": 40, "train": Fields._fields}
    whole = kernel.train(weights, tables, steps=40, **settings)
    half = kernel.train(weights, tables, steps=17, **settings)
    rest = kernel.train(half.weights, tables, steps=23, state=half.state, **settings)
    assert torch.equal(whole.loss, torch.cat([half.loss, rest.loss[:, 1:]], 1))
    assert all(torch.equal(a, b) for a, b in zip(whole.weights, rest.weights, strict=True))
    assert torch.equal(rest.state.step, torch.full((5,), 40))


@pytest.mark.parametrize("margin", [0.0, 1.5])
def test_stops_at_the_first_solved_step(kernel: Kernel, margin: float) -> None:
    """A model stopped early is bit for bit the model that a run of so many steps leaves."""
    weights, tables = problem(20, 3, 4, 5, 9)
    stopped = kernel.train(weights, tables, steps=200, lr=0.03, stop_when_solved=True, margin=margin, log_every=50)
    taken = stopped.state.step
    assert taken.unique().numel() > 3
    for index in (0, 7, 19):
        model, table = select(weights, slice(index, index + 1)), tables[index : index + 1]
        alone = kernel.train(model, table, steps=int(taken[index]), lr=0.03, log_every=None)
        assert torch.equal(alone.weights.W[0], stopped.weights.W[index])
        assert torch.equal(alone.loss[0, -1], stopped.loss[index, -1])
        solved = reference.right(reference.logits(Fields(*(p.double() for p in alone.weights))), table, margin).all()
        assert solved == (taken[index] < 200)
        assert stopped.correct[index] == 12 or not solved


def test_stopping_agrees_with_the_reference(kernel: Kernel) -> None:
    weights, tables = problem(9, 3, 3, 5, 8)
    knobs = {"steps": 60, "stop_when_solved": True, "lr": 0.01}
    ours, theirs = (run(weights, tables, **knobs) for run in (kernel.train, train_in_float64))
    assert torch.equal(ours.state.step, theirs.state.step)
    assert (ours.loss - theirs.loss).abs().max() <= 1e-4


def test_logged_losses_are_those_of_the_logged_steps(kernel: Kernel) -> None:
    weights, tables = problem(3, 5, 4, 3, 6)
    every, some, ends = (kernel.train(weights, tables, log_every=each) for each in (1, 7, None))
    assert some.logged_steps.tolist() == [0, 7, 14, 20]
    assert torch.equal(some.loss, every.loss[:, [0, 7, 14, 20]])
    assert torch.equal(ends.loss, every.loss[:, [0, 20]])
    none = kernel.train(weights, tables, steps=0)
    assert none.logged_steps.tolist() == [0]
    assert torch.equal(none.loss[:, 0], every.loss[:, 0])
    assert torch.equal(none.weights.W, weights.W)


def test_inputs_are_not_changed_and_not_given_back(kernel: Kernel) -> None:
    weights, tables = problem(3, 5, 4, 3, 6)
    before = Fields(*(part.clone() for part in weights))
    outcome = kernel.train(weights, tables)
    state = outcome.state
    kept = state.first.W.clone()
    again = kernel.train(outcome.weights, tables, state=state, steps=0)
    pairs = zip(again.weights + again.state.first, outcome.weights + state.first, strict=True)
    assert all(new.data_ptr() != old.data_ptr() and torch.equal(new, old) for new, old in pairs)
    assert again.state.step.data_ptr() != state.step.data_ptr()
    assert all(torch.equal(a, b) for a, b in zip(weights, before, strict=True))
    assert torch.equal(state.first.W, kept)
    assert state.step.tolist() == [20] * 3


def test_the_reference_goes_on_and_gives_nothing_back_either() -> None:
    reference_kernel = Kernel("reference", torch.device("cpu"))
    test_two_halves_are_one_run(reference_kernel)
    test_inputs_are_not_changed_and_not_given_back(reference_kernel)


def test_sizes_past_32_bits_are_refused() -> None:
    shapes = {"E1": (1, 1 << 20, 8), "E2": (1, 1 << 11, 8), "W": (1, 9, 8), "c": (1, 9), "r": (1, 9), "c_out": (1,)}
    weights = Fields(**{name: torch.empty(shape, device="meta") for name, shape in shapes.items()})
    assert largest_array(weights) == 1 << 31
    assert largest_array(weights._replace(E2=torch.empty(1, 2, 8, device="meta"))) == 9 * ((1 << 20) + 1)


def test_saturated_facts_keep_their_precision(kernel: Kernel) -> None:
    """Logits of +-60: the error e^-60 and the loss e^-60 are right to float32, not rounded to 0 or 1."""
    weights, tables = problem(2, 3, 3, 2, 2)
    weights = weights._replace(r=torch.zeros_like(weights.r), c_out=torch.tensor([60.0, -60.0]))
    tables = torch.ones_like(tables) * torch.tensor([1, 0])[:, None, None]
    outcome = kernel.train(weights, tables, steps=1, betas=(0.0, 0.5), lr=0.0)
    assert outcome.loss[:, 0].tolist() == pytest.approx([math.exp(-60)] * 2, rel=1e-5)
    assert outcome.state.first.c_out.tolist() == pytest.approx([-math.exp(-60), math.exp(-60)], rel=1e-5)


def test_progress_adds_up_and_its_error_ends_the_run() -> None:
    weights, tables = problem(40, 16, 16, 16, 16)
    seen: list[tuple[int, int]] = []
    train(weights, tables, steps=2000, threads=2, progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (80_000, 80_000)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)

    def fail(done: int, total: int) -> None:
        raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"):
        train(weights, tables, steps=10**8, log_every=None, progress=fail)


def test_control_c_is_heard_within_200_ms() -> None:
    weights, tables = problem(40, 64, 64, 64, 64)
    sent: list[float] = []

    def interrupt() -> None:
        sent.append(time.monotonic())
        os.kill(os.getpid(), signal.SIGINT)

    timer = threading.Timer(0.3, interrupt)
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        train(weights, tables, steps=10**7, log_every=None, threads=2)
    assert time.monotonic() - sent[0] < 0.2


def test_other_threads_run_meanwhile() -> None:
    weights, tables = problem(40, 32, 32, 32, 32)
    ticks: list[float] = []
    done = threading.Event()

    def tick() -> None:
        while not done.wait(0.001):
            ticks.append(time.monotonic())

    thread = threading.Thread(target=tick)
    thread.start()
    start = time.monotonic()
    train(weights, tables, steps=1500)
    end = time.monotonic()
    done.set()
    thread.join()
    during = [tick for tick in ticks if start < tick < end]
    assert len(during) > 10 * (end - start)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_runs_where_gradients_are_off(mode: type) -> None:
    weights, tables = problem(3, 5, 4, 3, 6)
    with mode():
        inner = Fields(*(part.clone() for part in weights))
        ours, theirs = train(inner, tables), train(inner, tables, backend="reference")
    assert (ours.loss - theirs.loss).abs().max() <= LOSS
    assert torch.equal(ours.loss, train(weights, tables).loss)


def test_torch_knows_the_operator() -> None:
    weights, tables = problem(3, 5, 4, 3, 6)
    B = 3
    ones = torch.ones(B, dtype=torch.float64)
    zeros = [torch.zeros_like(part) for part in weights]
    arguments = (
        list(weights),
        zeros,
        [part.clone() for part in zeros],
        torch.zeros(B, dtype=torch.int64),
        tables.to(torch.uint8),
        *(ones * value for value in (0.01, 0.9, 0.999, 1e-8, 0.0)),
        1.0,
        torch.ones(1, dtype=torch.float64),
        [False, False, True, True, True, True],
        5,
        None,
        torch.tensor([0, 5]),
        1,
        "cpu",
    )
    torch.library.opcheck(torch.ops.interpkern.memorise.default, arguments)
