"""The Triton kernel of `memorise`: under Triton's interpreter on the CPU, and compiled for GPUs that are not here."""

from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.kernel_resources import cuobjdump
from interpkern.ops import memorise_triton
from interpkern.ops.memorise import fresh_state
from interpkern.reference.memorise import Fields, Problem
from tests.interpreted_triton import elsewhere, interpreted
from tests.offline_triton import Enough, Recorder, compiled
from tests.ops.emulated import SHARED_BYTES
from tests.ops.gpu_kernels import Kernel
from tests.ops.problems import PLAIN, problem, same_bits, select, train_in_float64
from tests.tolerances import TOLERANCES

KERNEL = Kernel("triton", torch.device("cpu"))
LARGEST = (1, 64, 64, 64, 32)
SIZES = ("models", "rows", "columns", "width", "hidden")


@interpreted
@pytest.mark.parametrize("shape", [(1, 1, 1, 1, 1), (2, 7, 5, 3, 9), (1, 3, 9, 11, 2)])
def test_interpreted_run_follows_float64(shape: tuple[int, ...]) -> None:
    weights, tables = problem(*shape)
    knobs: dict[str, Any] = {"steps": 3, "eps": 1e-3, "train": Fields._fields, "betas": (0.0, 0.999)}
    fast, exact = (run(weights, tables, **knobs) for run in (KERNEL.train, train_in_float64))
    assert fast.backend == "triton"
    assert (fast.loss - exact.loss).abs().max() <= TOLERANCES["memorise", "loss after 20 steps"]
    assert torch.equal(fast.correct, exact.correct)
    for name, ours, theirs in zip(Fields._fields, fast.weights, exact.weights, strict=True):
        assert (ours - theirs).abs().max() <= TOLERANCES["memorise", "weights after 20 steps"], name


@interpreted
def test_interpreted_knobs_follow_float64() -> None:
    weights, tables = problem(3, 5, 6, 2, 3)
    knobs: dict[str, Any] = {
        "steps": 5,
        "lr": torch.tensor([1e-3, 5e-3, 1e-2]),
        "betas": (torch.tensor([0.0, 0.5, 0.95]), torch.tensor([0.9, 0.999, 0.5])),
        "eps": torch.tensor([1e-3, 1.0, 1e-1]),
        "weight_decay": torch.tensor([0.0, 0.1, 3.0]),
        "readout_lr_scale": 2.0,
        "schedule": "cosine",
        "warmup": 2,
        "schedule_steps": 7,
        "train": ("E2", "W", "r", "c_out"),
    }
    fast, exact = (run(weights, tables, **knobs) for run in (KERNEL.train, train_in_float64))
    assert (fast.loss - exact.loss).abs().max() <= TOLERANCES["memorise", "loss after 20 steps"]
    for name, ours, theirs, before in zip(Fields._fields, fast.weights, exact.weights, weights, strict=True):
        assert (ours - theirs).abs().max() <= TOLERANCES["memorise", "weights after 20 steps"], name
        assert torch.equal(ours, before) == (name in ("E1", "c"))


@interpreted
def test_interpreted_halves_batches_and_logs() -> None:
    weights, tables = problem(2, 3, 2, 2, 2)
    settings: dict[str, Any] = {"schedule": "cosine", "schedule_steps": 4, "train": Fields._fields}
    whole = KERNEL.train(weights, tables, steps=4, **settings)
    half = KERNEL.train(weights, tables, steps=2, **settings)
    rest = KERNEL.train(half.weights, tables, steps=2, state=half.state, log_every=None, **settings)
    assert torch.equal(whole.loss[:, :3], half.loss)
    assert torch.equal(whole.loss[:, [2, 4]], rest.loss)
    assert all(torch.equal(a, b) for a, b in zip(whole.weights, rest.weights, strict=True))
    alone = KERNEL.train(select(weights, slice(1, 2)), tables[1:2], steps=4, **settings)
    assert torch.equal(alone.loss[0], whole.loss[1])


@interpreted
def test_interpreted_models_stop_when_solved(monkeypatch: pytest.MonkeyPatch) -> None:
    weights, tables = problem(2, 2, 2, 3, 4)
    knobs: dict[str, Any] = {"steps": 15, "lr": 0.1, "stop_when_solved": True, "log_every": 4}
    seen: list[tuple[int, int]] = []
    ours = KERNEL.train(weights, tables, progress=lambda done, total: seen.append((done, total)), **knobs)
    theirs = train_in_float64(weights, tables, **knobs)
    assert torch.equal(ours.state.step, theirs.state.step)
    assert ours.state.step.max() < 15
    assert (ours.loss - theirs.loss).abs().max() <= 1e-4
    assert seen[-1] == (30, 30)
    monkeypatch.setattr(memorise_triton, "FIRST_UPDATES", 3)
    assert same_bits(ours, KERNEL.train(weights, tables, **knobs))


@interpreted
def test_interpreted_nan_stays_with_its_model() -> None:
    weights, tables = problem(2, 3, 3, 2, 3)
    calm = KERNEL.train(weights, tables, steps=3)
    wild = KERNEL.train(weights, tables, steps=3, lr=torch.tensor([PLAIN["lr"], 1e38]))
    assert torch.equal(calm.loss[0], wild.loss[0])
    assert not wild.loss[1, -1].isfinite()


@interpreted
def test_interpreted_saturated_facts() -> None:
    weights, tables = problem(2, 2, 3, 2, 2)
    weights = weights._replace(r=torch.zeros_like(weights.r), c_out=torch.tensor([60.0, -60.0]))
    tables = torch.ones_like(tables) * torch.tensor([1, 0])[:, None, None]
    outcome = KERNEL.train(weights, tables, steps=1, betas=(0.0, 0.5), lr=0.0)
    assert outcome.loss[:, 0].tolist() == pytest.approx([8.7565108e-27] * 2, rel=1e-5)
    assert outcome.state.first.c_out.tolist() == pytest.approx([-8.7565108e-27, 8.7565108e-27], rel=1e-5)


def test_shapes_whose_tiles_do_not_fit_are_refused() -> None:
    assert sum(memorise_triton.tile_sizes(dict(zip(SIZES, LARGEST, strict=True)))) == memorise_triton.MOST_IN_TILES
    assert "10240 at most, and is 16384" in str(memorise_triton.why_not(checked_problem(1, 33, 64, 64, 33)))
    sizes = dict(zip(SIZES, (1, 7, 5, 3, 9), strict=True))
    assert memorise_triton.tile_sizes(sizes) == (64, 128, 128)
    assert memorise_triton.warps(sizes) == 1
    assert memorise_triton.warps(dict(zip(SIZES, LARGEST, strict=True))) == 8


# Sizes that are powers of two and sizes that are not, one warp, and the largest tiles.
COMPILED = [(1, 7, 5, 3, 9), (1, 32, 32, 16, 32), LARGEST, (1, 31, 33, 20, 50)]


@elsewhere
@pytest.mark.skipif(cuobjdump() is None, reason="there is no cuobjdump")
@pytest.mark.parametrize("arch", [80, 90])
@pytest.mark.parametrize("shape", COMPILED)
def test_compiles_for_a_gpu_without_spills(
    shape: tuple[int, ...], arch: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pytest.importorskip("triton")
    from interpkern.kernels import memorise as kernels

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    kernel, recorder = kernels.train, Recorder()
    monkeypatch.setattr(kernels, "train", recorder)
    with pytest.raises(Enough):
        memorise_triton.run(checked_problem(*shape), None)
    made = compiled(kernel, recorder, arch)
    assert made.usage.stack == made.usage.local == 0, made.usage
    assert made.shared_bytes <= SHARED_BYTES[f"sm_{arch}"]
    assert recorder.grid == (1,)


def checked_problem(*shape: int) -> Problem:
    """A problem with every field trained and early stopping, as `memorise` makes it of its arguments."""
    weights, tables = problem(*shape)
    ones = torch.ones(len(tables), dtype=torch.float64)
    return Problem(
        weights=weights,
        state=fresh_state(weights),
        tables=tables.to(torch.uint8),
        lr=0.01 * ones,
        beta1=0.9 * ones,
        beta2=0.999 * ones,
        eps=1e-8 * ones,
        weight_decay=0 * ones,
        readout_lr_scale=1.0,
        schedule=torch.ones(1, dtype=torch.float64),
        train=Fields._fields,
        steps=10,
        stop_margin=0.0,
        logged_steps=torch.tensor([0, 10]),
    )
