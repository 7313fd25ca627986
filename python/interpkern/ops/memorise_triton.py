"""How the Triton kernel of `memorise` is called: its tensors, its tiles, and launches of bounded duration."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from interpkern import gpu
from interpkern.ops import memorise_native
from interpkern.progress import Progress
from interpkern.reference.memorise import Fields, Outcome, Problem

MOST_IN_TILES = 10_240
"""Numbers in all tiles together; with more, threads run out of registers."""
IN_THREAD = 8
"""Numbers of a tile that a thread holds, or more where there would be too many warps."""
MOST_WARPS = 8
REGISTERS = 255
"""What a thread may have; without a word about it, the assembler of sm_90 stops at 128 and spills."""
POWERS = 28
"""Enough for the steps that are allowed."""
PROGRAMS = 8
"""Programs for each multiprocessor; each trains one model after the other."""
FIRST_UPDATES = 64
"""Updates in the first launch."""


def why_not(problem: Problem | None) -> str | None:
    """Why the Triton kernel cannot take a problem."""
    if problem is None:
        return gpu.why_not_triton()
    if problem.weights.W.dtype != torch.float32:
        return f"takes float32 weights, got {problem.weights.W.dtype}; the reference takes float64"
    numbers = sum(tile_sizes(memorise_native.sizes(problem)))
    if numbers > MOST_IN_TILES:
        return (
            "keeps tiles in registers: R * C + H * max(R, C) + 2 * H * D, with every size rounded up to a power of"
            f" two, may be {MOST_IN_TILES} at most, and is {numbers}"
        )
    return gpu.why_not_triton(problem.weights.W)


def tiles(sizes: dict[str, int]) -> dict[str, int]:
    """The kernel's sizes and the sides of its tiles, which are powers of two."""
    names = {"ROWS": "rows", "COLUMNS": "columns", "WIDTH": "width", "HIDDEN": "hidden"}
    sides = {side: 1 << (sizes[name] - 1).bit_length() for side, name in names.items()}
    return {**sides, **{side[0] if side != "WIDTH" else "D": sizes[name] for side, name in names.items()}}


def tile_sizes(sizes: dict[str, int]) -> tuple[int, int, int]:
    """Numbers in the tiles of facts, of a hidden layer, and of its weights and their gradient."""
    sides = tiles(sizes)
    rows, columns, width, hidden = (sides[name] for name in ("ROWS", "COLUMNS", "WIDTH", "HIDDEN"))
    return rows * columns, hidden * max(rows, columns), 2 * hidden * width


def warps(sizes: dict[str, int]) -> int:
    """Warps of a program."""
    return min(MOST_WARPS, max(1, max(tile_sizes(sizes)) // (32 * IN_THREAD)))


def compiler_options(sizes: dict[str, int]) -> dict[str, int]:
    """How the kernel is compiled."""
    return {"num_warps": warps(sizes), "maxnreg": REGISTERS, "enable_fp_fusion": True}


def constants(problem: Problem) -> dict[str, int | bool]:
    """What the kernel is compiled for."""
    trained = {f"TRAIN_{name.upper()}": name in problem.train for name in Fields._fields}
    return {**tiles(memorise_native.sizes(problem)), **trained, "STOP": problem.stop_margin is not None}


def run(problem: Problem, progress: Progress | None) -> Outcome:
    """Train on torch's current stream of the weights' device; the host waits for each launch."""
    with gpu.on(problem.weights.W.device):
        return memorise_native.call(partial(_train, problem, progress), problem, "triton")


def _train(problem: Problem, progress: Progress | None, **tensors: Any) -> None:
    device, models = problem.tables.device, len(problem.tables)
    done = torch.zeros(models, dtype=torch.int64, device=device)
    finished = torch.zeros(models, dtype=torch.int32, device=device)

    def report(until: int) -> bool:
        stopped = finished.bool()
        if progress:
            progress(int(torch.where(stopped, problem.steps, done).sum()), models * problem.steps)
        return bool(stopped.all())

    launch = _launch(problem, done=done, finished=finished, **tensors)
    gpu.in_launches(problem.steps, launch, report, first=FIRST_UPDATES, device=device)


def _launch(
    problem: Problem,
    *,
    weights: list[torch.Tensor],
    first: list[torch.Tensor],
    second: list[torch.Tensor],
    step: torch.Tensor,
    tables: torch.Tensor,
    hyper: list[torch.Tensor],
    schedule: torch.Tensor,
    logged_steps: torch.Tensor,
    loss: torch.Tensor,
    correct: torch.Tensor,
    done: torch.Tensor,
    finished: torch.Tensor,
    margin: float,
    **rest: Any,
) -> Callable[[int], object]:
    """A function of the number of updates to which all models are trained; tensors and kernel are ready."""
    from interpkern.kernels.memorise import train

    sizes = memorise_native.sizes(problem)
    models, *sides = sizes.values()
    rows, columns, _, hidden = sides
    programs = min(models, PROGRAMS * gpu.multiprocessors(tables.device))
    scratch = torch.empty(programs * 2 * (rows + columns) * hidden, device=tables.device)
    squares = [squares_of(beta) for beta in hyper[1:3]]
    tensors = (*weights, *first, *second, step, tables, *hyper, *squares, schedule)
    numbers = (len(schedule) - 1, problem.readout_lr_scale)
    outputs = (logged_steps, len(logged_steps), loss, correct, done, finished, scratch, margin)
    options = {**constants(problem), **compiler_options(sizes)}
    return lambda until: train[(programs,)](
        *tensors, *numbers, *outputs, models, problem.steps, until, *sides, **options
    )


def squares_of(beta: torch.Tensor) -> torch.Tensor:
    """(B, POWERS) beta^(2^i)."""
    powers = [beta]
    while len(powers) < POWERS:
        powers.append(powers[-1] * powers[-1])
    return torch.stack(powers, 1).contiguous()
