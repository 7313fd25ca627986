"""The backends of `memorise`, in the order in which "auto" tries them."""

import math

import torch

from interpkern import native
from interpkern.backends import Backend
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
    return None


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
    Backend("cuda", lambda problem: "not written yet: the CUDA kernel of memorise is to come", reference.memorise),
    Backend("triton", lambda problem: "not written yet: the Triton kernel of memorise is to come", reference.memorise),
    Backend("cpu", _why_not_cpu, _run_cpu),
    Backend("reference", lambda problem: None, reference.memorise),
)
