"""The backends of `memorise`, in the order in which "auto" tries them."""

import math

import torch

from interpkern import native
from interpkern.backends import Backend
from interpkern.errors import BackendUnavailable
from interpkern.progress import Progress
from interpkern.reference import memorise as reference
from interpkern.reference.memorise import Fields, Outcome, Problem, State


def _why_not_cpu(problem: Problem | None) -> str | None:
    module = native.load("_cpu")
    if isinstance(module, str):
        return module
    if problem is None:
        return None
    if problem.weights.W.dtype != torch.float32:
        return f"takes float32 weights, got {problem.weights.W.dtype}; the reference takes float64"
    if problem.weights.W.device.type != "cpu":
        return f"takes weights on the CPU, got {problem.weights.W.device}"
    if largest_array(problem.weights) >= 1 << 31:
        return "indexes its arrays with 32 bits, and R * C, H * R, H * C, R * D, C * D or H * D is 2^31 or more"
    return None


def largest_array(weights: Fields) -> int:
    """Vectors in the longest of the kernel's arrays, whose rows are padded by up to one."""
    rows, columns, (hidden, width) = weights.E1.shape[1], weights.E2.shape[1], weights.W.shape[1:]
    tokens = max(rows, columns)
    return max(rows * columns, hidden * (tokens + 1), max(tokens, hidden) * (width + 1))


def _not_written(problem: Problem, progress: Progress | None) -> Outcome:
    raise BackendUnavailable("backend: this one is not written yet")


def _run_cpu(problem: Problem, progress: Progress | None) -> Outcome:
    weights, first, second = (
        Fields(*(part.clone() for part in fields))
        for fields in (problem.weights, problem.state.first, problem.state.second)
    )
    step = problem.state.step.clone()
    loss = torch.full((len(step), len(problem.logged_steps)), math.nan)
    correct = torch.zeros_like(step)
    native.load("_cpu").memorise(
        weights=list(weights),
        first=list(first),
        second=list(second),
        step=step,
        tables=problem.tables,
        lr=problem.lr,
        beta1=problem.beta1,
        beta2=problem.beta2,
        eps=problem.eps,
        weight_decay=problem.weight_decay,
        readout_lr_scale=problem.readout_lr_scale,
        schedule=problem.schedule,
        train=[name in problem.train for name in Fields._fields],
        steps=problem.steps,
        stop_when_solved=problem.stop_margin is not None,
        margin=problem.stop_margin or 0.0,
        logged_steps=problem.logged_steps,
        loss=loss,
        correct=correct,
        threads=problem.threads,
        isa=native.isa(),
        progress=progress,
    )
    return Outcome(weights, State(first, second, step), loss, correct, problem.logged_steps, "cpu")


BACKENDS = (
    Backend("cuda", lambda problem: "not written yet: the CUDA kernel of memorise is to come", _not_written),
    Backend("triton", lambda problem: "not written yet: the Triton kernel of memorise is to come", _not_written),
    Backend("cpu", _why_not_cpu, _run_cpu),
    Backend("reference", lambda problem: None, reference.memorise),
)
