"""What the compiled forms of `memorise` share: the outcome's tensors, the call, the sizes, the order of the queue."""

import math
from collections.abc import Callable
from typing import Any

import torch

from interpkern.reference.memorise import Fields, Outcome, Problem, State


def call(function: Callable[..., Any], problem: Problem, backend: str, **more: Any) -> Outcome:
    """Train by a compiled function, which works in place, on copies that lie on the device of the weights."""
    device = problem.weights.W.device
    weights, first, second = (
        Fields(*(part.clone() for part in fields))
        for fields in (problem.weights, problem.state.first, problem.state.second)
    )
    step = problem.state.step.clone()
    loss = torch.full((len(step), len(problem.logged_steps)), math.nan, device=device)
    correct = torch.zeros_like(step)
    hyper = (problem.lr, problem.beta1, problem.beta2, problem.eps, problem.weight_decay)
    function(
        weights=list(weights),
        first=list(first),
        second=list(second),
        step=step,
        tables=problem.tables,
        hyper=[part.to(device) for part in hyper],
        readout_lr_scale=problem.readout_lr_scale,
        schedule=problem.schedule.to(device),
        train=trained(problem),
        steps=problem.steps,
        stop_when_solved=problem.stop_margin is not None,
        margin=problem.stop_margin or 0.0,
        logged_steps=problem.logged_steps.to(device),
        loss=loss,
        correct=correct,
        **more,
    )
    return Outcome(weights, State(first, second, step), loss, correct, problem.logged_steps, backend)


def trained(problem: Problem) -> list[bool]:
    """Whether each field is trained, in the order of Fields."""
    return [name in problem.train for name in Fields._fields]


def queue_order(problem: Problem) -> torch.Tensor:
    """(B,) int32 on the CPU, the models by the length of their runs, longest first.

    All runs have `steps` updates unless solved models stop; then those that learn slowest are taken to be the longest.
    """
    if problem.stop_margin is None:
        return torch.arange(len(problem.lr), dtype=torch.int32)
    return problem.lr.argsort(stable=True).to(torch.int32)


def sizes(problem: Problem) -> dict[str, int]:
    """The sizes of a problem by name."""
    (models, rows, columns), (hidden, width) = problem.tables.shape, problem.weights.W.shape[1:]
    return {"models": models, "rows": rows, "columns": columns, "width": width, "hidden": hidden}
