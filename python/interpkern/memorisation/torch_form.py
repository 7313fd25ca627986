"""The fastest form of the training loop that we know in PyTorch alone, for an honest comparison of speed.

The models lie along the last dimension, so that torch.compile fills vector lanes with them; the hidden tensor is never
stored (identity 2 of the spec); several updates go into one compiled graph, which hides the cost of each call.
"""

import shutil
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple

import torch

from interpkern.reference.memorise import Fields

UPDATES_PER_CALL = 4
COMPILERS = ("c++", "g++", "clang++", "cl")
BETA1, BETA2, EPS = 0.9, 0.999, 1e-8


class Trained(NamedTuple):
    """The trained parts, or an Adam moment of them, models last."""

    W: torch.Tensor
    """(H, D, B)"""
    c: torch.Tensor
    """(H, B)"""
    r: torch.Tensor
    """(H, B)"""
    c_out: torch.Tensor
    """(B,)"""


class Facts(NamedTuple):
    """What stays as it is during training, models last."""

    E1: torch.Tensor
    """(D, R, B)"""
    E2: torch.Tensor
    """(D, C, B)"""
    tables: torch.Tensor
    """(R, C, B) float32"""


class Training(NamedTuple):
    """Weights and Adam's memory."""

    weights: Trained
    first: Trained
    second: Trained


Update = Callable[[Facts, Training, torch.Tensor, torch.Tensor], Training]


def gradients(facts: Facts, weights: Trained) -> Trained:
    """Gradients of the mean binary cross-entropy with respect to the trained parts."""
    A = (weights.W[:, :, None] * facts.E1).sum(1) + weights.c[:, None]
    nB = -(weights.W[:, :, None] * facts.E2).sum(1)
    hidden = torch.maximum(A[:, :, None], nB[:, None])
    z = (hidden * weights.r[:, None, None]).sum(0) + (weights.c_out - (weights.r[:, None] * nB).sum(0))
    g = (torch.sigmoid(z) - facts.tables) / (z.shape[0] * z.shape[1])
    masked = torch.where(A[:, :, None] > nB[:, None], g, 0.0)
    SA, SB = masked.sum(2), masked.sum(1)
    dA, dB = SA * weights.r[:, None], SB * weights.r[:, None]
    dW = (dA[:, None] * facts.E1).sum(2) + (dB[:, None] * facts.E2).sum(2)
    return Trained(W=dW, c=dA.sum(1), r=(SA * A).sum(1) - (SB * nB).sum(1), c_out=g.sum((0, 1)))


def update(facts: Facts, training: Training, lr: torch.Tensor, step: torch.Tensor) -> Training:
    """One Adam update as in PyTorch; `step` counts from 1."""
    parts = zip(*training, gradients(facts, training.weights), strict=True)
    moved = [_adam(weight, first, second, g, lr, step) for weight, first, second, g in parts]
    weights, first, second = (Trained(*tensors) for tensors in zip(*moved, strict=True))
    return Training(weights, first, second)


def _adam(
    weight: torch.Tensor,
    first: torch.Tensor,
    second: torch.Tensor,
    g: torch.Tensor,
    lr: torch.Tensor,
    step: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    first = BETA1 * first + (1 - BETA1) * g
    second = BETA2 * second + (1 - BETA2) * g * g
    root = (second / (1 - BETA2**step)).sqrt() + EPS
    return weight - lr * (first / (1 - BETA1**step)) / root, first, second


def updates(facts: Facts, training: Training, lr: torch.Tensor, step: torch.Tensor) -> Training:
    """UPDATES_PER_CALL updates; lr (UPDATES_PER_CALL,), `step` is that of the first."""
    for i in range(UPDATES_PER_CALL):
        training = update(facts, training, lr[i], step + i)
    return training


def arranged(fields: Fields, tables: torch.Tensor) -> tuple[Facts, Training]:
    """Weights and tables, models first, in this form's layout, with Adam before its first update."""
    E1, E2 = (x.permute(2, 1, 0).contiguous() for x in (fields.E1, fields.E2))
    facts = Facts(E1, E2, _models_last(tables.float()))
    weights = Trained(*(_models_last(x) for x in (fields.W, fields.c, fields.r, fields.c_out)))
    first, second = (Trained(*(torch.zeros_like(x) for x in weights)) for _ in range(2))
    return facts, Training(weights, first, second)


def _models_last(x: torch.Tensor) -> torch.Tensor:
    return x.movedim(0, -1).contiguous()


class Form:
    """Training of many models at a constant learning rate, a few updates at a time."""

    def __init__(self, fields: Fields, tables: torch.Tensor, *, lr: float, compiled: bool) -> None:
        self.name = f"torch.compile of {UPDATES_PER_CALL} updates" if compiled else "eager PyTorch"
        self.compiled = compiled
        self.model_steps = UPDATES_PER_CALL * len(tables)
        self.facts, self.training = arranged(fields, tables)
        self.rates = torch.full((UPDATES_PER_CALL,), lr)
        self.step = 1
        self.run: Update = torch.compile(updates, fullgraph=True, dynamic=False) if compiled else updates

    @torch.no_grad()
    def advance(self) -> None:
        """Make UPDATES_PER_CALL updates of every model; the first call compiles."""
        self.training = self.run(self.facts, self.training, self.rates, torch.tensor(float(self.step)))
        self.step += UPDATES_PER_CALL


def started(fields: Fields, tables: torch.Tensor, *, lr: float) -> Form:
    """The form after its first call; eager where nothing can compile."""
    if any(map(shutil.which, COMPILERS)):
        with suppress(RuntimeError, OSError):
            form = Form(fields, tables, lr=lr, compiled=True)
            form.advance()
            return form
    form = Form(fields, tables, lr=lr, compiled=False)
    form.advance()
    return form
