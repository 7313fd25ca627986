"""`memorise` as an operator of torch: torch.ops.interpkern.memorise, for the dispatcher, opcheck and torch.compile.

Its arguments are a checked `Problem` taken apart, and nothing is checked again; call `interpkern.memorise` instead.
"""

from collections.abc import Sequence
from contextvars import ContextVar

import torch

from interpkern.ops.memorise_backends import BACKENDS
from interpkern.progress import Progress
from interpkern.reference.memorise import Fields, Outcome, Problem, State

SCHEMA = (
    "memorise(Tensor[] weights, Tensor[] first, Tensor[] second, Tensor step, Tensor tables, Tensor lr, Tensor beta1,"
    " Tensor beta2, Tensor eps, Tensor weight_decay, float readout_lr_scale, Tensor schedule, bool[] train, int steps,"
    " float? stop_margin, Tensor logged_steps, int threads, str backend)"
    " -> (Tensor[] weights, Tensor[] first, Tensor[] second, Tensor step, Tensor loss, Tensor correct)"
)
Tensors = Sequence[torch.Tensor]
Parts = tuple[list[torch.Tensor], list[torch.Tensor], list[torch.Tensor], torch.Tensor, torch.Tensor, torch.Tensor]

_progress: ContextVar[Progress | None] = ContextVar("progress", default=None)
library = torch.library.Library("interpkern", "FRAGMENT")


def call(problem: Problem, backend: str, progress: Progress | None) -> Outcome:
    """Run a checked problem on a backend through torch's dispatcher."""
    token = _progress.set(progress)
    try:
        weights, first, second, step, loss, correct = torch.ops.interpkern.memorise.default(
            *arguments(problem), problem.threads, backend
        )
    finally:
        _progress.reset(token)
    state = State(Fields(*first), Fields(*second), step)
    return Outcome(Fields(*weights), state, loss, correct, problem.logged_steps, backend)


def arguments(p: Problem) -> tuple[object, ...]:
    """The operator's arguments but the last two."""
    state, train = p.state, [name in p.train for name in Fields._fields]
    hyper = (p.lr, p.beta1, p.beta2, p.eps, p.weight_decay, p.readout_lr_scale, p.schedule)
    parts = (list(p.weights), list(state.first), list(state.second), state.step, p.tables)
    return (*parts, *hyper, train, p.steps, p.stop_margin, p.logged_steps)


def _memorise(
    weights: Tensors,
    first: Tensors,
    second: Tensors,
    step: torch.Tensor,
    tables: torch.Tensor,
    lr: torch.Tensor,
    beta1: torch.Tensor,
    beta2: torch.Tensor,
    eps: torch.Tensor,
    weight_decay: torch.Tensor,
    readout_lr_scale: float,
    schedule: torch.Tensor,
    train: Sequence[bool],
    steps: int,
    stop_margin: float | None,
    logged_steps: torch.Tensor,
    threads: int,
    backend: str,
) -> Parts:
    problem = Problem(
        weights=Fields(*weights),
        state=State(Fields(*first), Fields(*second), step),
        tables=tables,
        lr=lr,
        beta1=beta1,
        beta2=beta2,
        eps=eps,
        weight_decay=weight_decay,
        readout_lr_scale=readout_lr_scale,
        schedule=schedule,
        train=tuple(name for name, trained in zip(Fields._fields, train, strict=True) if trained),
        steps=steps,
        stop_margin=stop_margin,
        logged_steps=logged_steps,
        threads=threads,
    )
    run = next(known.run for known in BACKENDS if known.name == backend)
    outcome = run(problem, _progress.get())
    state = outcome.state
    return (
        list(outcome.weights),
        list(state.first),
        list(state.second),
        state.step,
        outcome.loss,
        outcome.correct,
    )


def _fake(
    weights: Tensors, first: Tensors, second: Tensors, step: torch.Tensor, tables: torch.Tensor, *rest: object
) -> Parts:
    logged_steps = rest[-3]
    assert isinstance(logged_steps, torch.Tensor)
    weights, first, second = ([torch.empty_like(part) for part in parts] for parts in (weights, first, second))
    loss = weights[0].new_empty(len(step), len(logged_steps))
    return weights, first, second, torch.empty_like(step), loss, torch.empty_like(step)


library.define(SCHEMA)
library.impl("memorise", _memorise, "CompositeExplicitAutograd")
torch.library.register_fake("interpkern::memorise", _fake, lib=library)
