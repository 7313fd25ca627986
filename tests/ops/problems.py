"""Small problems for the tests of `memorise`, and a call with every argument at a plain value."""

from typing import Any

import torch
from torch.nn.functional import normalize

from interpkern.ops.memorise import memorise
from interpkern.reference.memorise import Fields, Outcome

READOUT_AND_HIDDEN = ("W", "c", "r", "c_out")
PLAIN: dict[str, Any] = {
    "steps": 20,
    "lr": 0.01,
    "betas": (0.9, 0.999),
    "eps": 1e-8,
    "weight_decay": 0.0,
    "readout_lr_scale": 1.0,
    "schedule": "constant",
    "warmup": 0,
    "schedule_steps": None,
    "train": READOUT_AND_HIDDEN,
    "stop_when_solved": False,
    "margin": 0.0,
    "log_every": 1,
    "state": None,
    "backend": "cpu",
    "threads": 1,
    "progress": False,
}


def problem(
    models: int, rows: int, columns: int, width: int, hidden: int, seed: int = 0
) -> tuple[Fields, torch.Tensor]:
    """Random weights as the lab draws them, and fair random tables."""
    generator = torch.Generator().manual_seed(seed)

    def uniform(*shape: int) -> torch.Tensor:
        return torch.rand(*shape, generator=generator) * 2 - 1

    weights = Fields(
        E1=normalize(torch.randn(models, rows, width, generator=generator), dim=-1),
        E2=normalize(torch.randn(models, columns, width, generator=generator), dim=-1),
        W=uniform(models, hidden, width) / width**0.5,
        c=uniform(models, hidden) / width**0.5,
        r=uniform(models, hidden) / hidden**0.5,
        c_out=uniform(models) / hidden**0.5,
    )
    return weights, torch.rand(models, rows, columns, generator=generator) < 0.5


def train(weights: Fields, tables: torch.Tensor, **changes: Any) -> Outcome:
    """`memorise` on the CPU kernel with `changes` to the plain arguments."""
    return memorise(weights, tables, **{**PLAIN, **changes})


def train_in_float64(weights: Fields, tables: torch.Tensor, **changes: Any) -> Outcome:
    """The same on the reference in float64."""
    return train(Fields(*(part.double() for part in weights)), tables, **{**changes, "backend": "reference"})


def select(weights: Fields, index: Any) -> Fields:
    """Some of the models."""
    return Fields(*(part[index] for part in weights))


def same_bits(a: Outcome, b: Outcome) -> bool:
    """Whether weights, optimiser state and losses agree to the last bit (NaN equals NaN)."""
    return all(
        torch.equal(x.nan_to_num(7.0), y.nan_to_num(7.0)) and torch.equal(x.isnan(), y.isnan())
        for x, y in zip(_tensors(a), _tensors(b), strict=True)
    )


def _tensors(outcome: Outcome) -> list[torch.Tensor]:
    state = outcome.state
    return [*outcome.weights, *state.first, *state.second, state.step, outcome.loss, outcome.correct]
