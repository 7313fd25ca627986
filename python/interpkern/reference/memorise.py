"""Many small MLPs, each trained by full-batch Adam to memorise its own table of booleans."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch.nn.functional import binary_cross_entropy_with_logits


class Fields(NamedTuple):
    """One tensor for each part of B models: weights, or an Adam moment of the same shapes."""

    E1: torch.Tensor
    """(B, R, D) embedding of the row token."""
    E2: torch.Tensor
    """(B, C, D) embedding of the column token."""
    W: torch.Tensor
    """(B, H, D) hidden weights."""
    c: torch.Tensor
    """(B, H) hidden bias."""
    r: torch.Tensor
    """(B, H) readout."""
    c_out: torch.Tensor
    """(B,) output bias."""


READOUT = ("r", "c_out")


@dataclass(frozen=True)
class State:
    """Adam's memory: what a run needs, beside the weights, to go on exactly."""

    first: Fields
    second: Fields
    step: torch.Tensor
    """(B,) int64, updates made so far."""


@dataclass(frozen=True)
class Problem:
    """One checked call of the operation."""

    weights: Fields
    state: State
    tables: torch.Tensor
    """(B, R, C) uint8, 0 or 1."""
    lr: torch.Tensor
    """(B,) float64, as are the next four."""
    beta1: torch.Tensor
    beta2: torch.Tensor
    eps: torch.Tensor
    weight_decay: torch.Tensor
    readout_lr_scale: float
    schedule: torch.Tensor
    """(S,) float64: lr's factor at the update made after `step` updates; the last one holds for ever after."""
    train: tuple[str, ...]
    steps: int
    stop_margin: float | None
    """Stop a model once every fact is right by more than this; None trains all `steps`."""
    logged_steps: torch.Tensor
    """(L,) int64, ascending, from 0 to `steps`."""
    threads: int = 1


@dataclass(frozen=True)
class Outcome:
    """What training gives back."""

    weights: Fields
    state: State
    loss: torch.Tensor
    """(B, L) nats per fact after each of `logged_steps` updates; a stopped model keeps its last."""
    correct: torch.Tensor
    """(B,) int64, facts right at the end."""
    logged_steps: torch.Tensor
    """(L,) int64, those of the problem."""
    backend: str


def logits(weights: Fields) -> torch.Tensor:
    """z = r . relu(W (E1[a] + E2[b]) + c) + c_out for every pair (a, b), as (B, R, C)."""
    x = weights.E1[:, :, None, :] + weights.E2[:, None, :, :]
    hidden = torch.relu(torch.einsum("bijd,bhd->bijh", x, weights.W) + weights.c[:, None, None, :])
    return torch.einsum("bijh,bh->bij", hidden, weights.r) + weights.c_out[:, None, None]


def cross_entropy(z: torch.Tensor, tables: torch.Tensor) -> torch.Tensor:
    """(B,) mean nats per fact."""
    return binary_cross_entropy_with_logits(z, tables.to(z.dtype), reduction="none").mean(dim=(1, 2))


def right(z: torch.Tensor, tables: torch.Tensor, margin: float = 0.0) -> torch.Tensor:
    """(B, R, C) whether a fact is right by more than `margin`: z > margin for a 1, z <= -margin for a 0."""
    return torch.where(tables.bool(), z > margin, z <= -margin)


@torch.inference_mode(False)
@torch.enable_grad()
def memorise(problem: Problem, progress: Callable[[int, int], object] | None = None) -> Outcome:
    """Train every model for `steps` updates, or until it is solved: the spec's model, loss and Adam.

    `progress` is called with (model-steps done, model-steps in all).
    """
    weights, state = problem.weights, problem.state
    active = torch.ones_like(state.step, dtype=torch.bool)
    logged = set(problem.logged_steps.tolist())
    losses = []
    for done in range(problem.steps + 1):
        leaves = Fields(*(part.detach().clone().requires_grad_(name in problem.train) for name, part in named(weights)))
        z = logits(leaves)
        loss = cross_entropy(z, problem.tables)
        if done in logged:
            losses.append(loss.detach())
        if problem.stop_margin is not None:
            active = active & ~right(z, problem.tables, problem.stop_margin).flatten(1).all(1)
        if done == problem.steps or not active.any():
            break
        gradients = torch.autograd.grad(loss.sum(), [getattr(leaves, name) for name in problem.train])
        weights, state = adam(problem, weights, state, dict(zip(problem.train, gradients, strict=True)), active)
        if progress:
            progress(len(active) * (done + 1), len(active) * problem.steps)
    losses += [loss.detach()] * (len(logged) - len(losses))
    correct = right(z, problem.tables).sum(dim=(1, 2))
    weights, first, second = (
        Fields(*(part.clone() for part in fields)) for fields in (weights, state.first, state.second)
    )
    state = State(first, second, state.step.clone())
    return Outcome(weights, state, torch.stack(losses, 1), correct, problem.logged_steps, "reference")


def adam(
    problem: Problem, weights: Fields, state: State, gradients: dict[str, torch.Tensor], active: torch.Tensor
) -> tuple[Fields, State]:
    """One update of the active models: Adam as in PyTorch (eps outside the root), decoupled weight decay."""
    step = state.step + active
    factor = problem.schedule.to(step.device)[state.step.clamp(max=len(problem.schedule) - 1)]
    new_weights, new_first, new_second = (fields._asdict() for fields in (weights, state.first, state.second))
    for name, g in gradients.items():

        def column(values: torch.Tensor, g: torch.Tensor = g) -> torch.Tensor:
            return values.to(g).view(-1, *[1] * (g.ndim - 1))

        b1, b2 = problem.beta1.to(step.device), problem.beta2.to(step.device)
        lr = problem.lr.to(step.device) * factor
        scale = problem.readout_lr_scale if name in READOUT else 1.0
        decay = 1 - lr * problem.weight_decay.to(step.device)
        first = column(b1) * new_first[name] + column(1 - b1) * g
        second = column(b2) * new_second[name] + column(1 - b2) * g**2
        unbiased_first = first / column(1 - b1**step)
        unbiased_second = second / column(1 - b2**step)
        update = column(lr * scale) * unbiased_first / (unbiased_second.sqrt() + column(problem.eps))
        updated = new_weights[name] * column(decay) - update
        on = active.view(-1, *[1] * (g.ndim - 1))
        new_weights[name] = torch.where(on, updated, new_weights[name])
        new_first[name] = torch.where(on, first, new_first[name])
        new_second[name] = torch.where(on, second, new_second[name])
    return Fields(**new_weights), State(Fields(**new_first), Fields(**new_second), step)


def named(fields: Fields) -> list[tuple[str, torch.Tensor]]:
    """(name, tensor) of every part."""
    return list(fields._asdict().items())
