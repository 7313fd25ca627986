"""The baselines of `memorise`: the same models trained by the same full-batch Adam, in other frameworks."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.nn.functional import binary_cross_entropy_with_logits

Weights = dict[str, torch.Tensor]
"""float32: E1 (B, R, D), E2 (B, C, D), W (B, H, D), c (B, H), r (B, H), c_out (B,)."""

TRAINED = ("W", "c", "r", "c_out")
BETA1, BETA2, EPS = 0.9, 0.999, 1e-8


@dataclass(frozen=True)
class Peer:
    """One baseline."""

    name: str
    prepare: Callable[[Weights, torch.Tensor, int, float], Callable[[], Weights]]
    """(weights, tables, steps, lr) -> a callable that trains the given weights for `steps` updates and returns them.

    Whatever compiles has compiled by then, and every call does the same work from the start: that call is what to time.
    """

    def train(self, weights: Weights, tables: torch.Tensor, *, steps: int, lr: float) -> tuple[Weights, torch.Tensor]:
        """Train W, c, r and c_out of every model for `steps` updates at a constant `lr`.

        Shapes: weights as in `Weights`; tables (B, R, C) uint8, 0 or 1.
        Returns: the trained weights, and the (B,) loss after the last update in nats per fact.
        """
        trained = self.prepare(weights, tables, steps, lr)()
        return trained, loss(trained, tables)


def loss(weights: Weights, tables: torch.Tensor) -> torch.Tensor:
    """(B,) mean cross-entropy in nats per fact; one model at a time, for the (R, C, H) hidden layer's sake."""
    names = list(weights)
    models = (dict(zip(names, parts, strict=True)) for parts in zip(*weights.values(), strict=True))
    return torch.stack([_model_loss(model, table) for model, table in zip(models, tables, strict=True)])


def step_scales(steps: int, lr: float) -> torch.Tensor:
    """(steps, 2) float32: Adam's update is scale[0] * first / (sqrt(second) + scale[1]), bias corrections included."""
    step = torch.arange(1, steps + 1, dtype=torch.float64)
    root = (1 - BETA2**step).sqrt()
    return torch.stack((lr * root / (1 - BETA1**step), EPS * root), 1).float()


def _model_loss(model: Weights, table: torch.Tensor) -> torch.Tensor:
    rows, columns = model["E1"] @ model["W"].T + model["c"], model["E2"] @ model["W"].T
    z = torch.relu(rows[:, None] + columns) @ model["r"] + model["c_out"]
    return binary_cross_entropy_with_logits(z, table.to(z.dtype))
