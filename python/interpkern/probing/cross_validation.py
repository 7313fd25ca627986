"""How well numbers that were left out are predicted: folds, least squares, ridge regression, R^2 with intervals."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy
import torch

FOLDS = ("shuffled", "interpolation", "extrapolation")
"""Random numbers left out, so that neighbours of each stay; inner blocks of numbers; the lowest and highest block."""
PENALTIES = torch.logspace(-10, 1, 23, dtype=torch.float64)
"""Ridge penalties that are tried, in squares of the largest singular value."""
Predict = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
"""(inputs, targets, other inputs) -> targets of the other inputs."""


@dataclass(frozen=True)
class HeldOut:
    """Squared errors on numbers left out, beside those of predicting the mean of the others."""

    rows: torch.Tensor
    """(n,) int64: which numbers."""
    errors: torch.Tensor
    """(n, T) float64."""
    deviations: torch.Tensor
    """(n, T) float64."""

    def r2(self, weights: torch.Tensor) -> torch.Tensor:
        """(B, T): 1 - errors / deviations, where row i counts weights[:, i] times; weights are (B, N)."""
        counted = weights[:, self.rows]
        return 1 - (counted @ self.errors) / (counted @ self.deviations)

    def pooled(self) -> "HeldOut":
        """The same with all targets as one, each weighted by its variance."""
        return HeldOut(self.rows, self.errors.sum(1, keepdim=True), self.deviations.sum(1, keepdim=True))


def folds(rows: int, count: int, seed: int) -> Iterator[tuple[str, torch.Tensor]]:
    """Which rows, in the order of the numbers, are left out together, by kind of fold."""
    order = torch.from_numpy(numpy.random.default_rng(seed).permutation(rows))
    for part in order.tensor_split(count):
        yield "shuffled", part.sort().values
    for place, part in enumerate(torch.arange(rows).tensor_split(count)):
        yield "extrapolation" if place in (0, count - 1) else "interpolation", part


def held_out(
    inputs: torch.Tensor, targets: torch.Tensor, predict: Predict, *, count: int, seed: int
) -> Mapping[str, HeldOut]:
    """Predict each number's targets (N, T) from inputs (N, q) by what the other folds show, for each kind of fold."""
    parts: dict[str, list[HeldOut]] = {}
    for kind, out in folds(len(inputs), count, seed):
        kept = torch.ones(len(inputs), dtype=torch.bool)
        kept[out] = False
        mean = targets[kept].mean(0)
        predicted = predict(inputs[kept], targets[kept], inputs[out])
        part = HeldOut(out, (targets[out] - predicted).square(), (targets[out] - mean).square())
        parts.setdefault(kind, []).append(part)
    return {kind: _joined(parts[kind]) for kind in FOLDS if kind in parts}


def _joined(parts: list[HeldOut]) -> HeldOut:
    fields = ("rows", "errors", "deviations")
    return HeldOut(*(torch.cat([getattr(part, name) for part in parts]) for name in fields))


def least_squares(inputs: torch.Tensor, targets: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """Predict by least squares with an intercept; the shortest solution where columns repeat each other."""
    scale = inputs.std(0).clamp_min(torch.finfo(torch.float64).tiny) if inputs.shape[1] else inputs.new_ones(0)
    centre, mean = inputs.mean(0), targets.mean(0)
    design = (inputs - centre) / scale
    varied = inputs.amax(0) > inputs.amin(0) if inputs.shape[1] else scale.bool()
    if not bool(varied.any()):
        return mean.expand(len(other), -1)
    slopes = torch.linalg.lstsq(design[:, varied], targets - mean, driver="gelsd").solution
    return mean + ((other - centre) / scale)[:, varied] @ slopes


def ridge(inputs: torch.Tensor, targets: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """Predict by ridge regression with an intercept, each target at the penalty with the least leave-one-out error."""
    centre, mean = inputs.mean(0), targets.mean(0)
    left, sizes, right = torch.linalg.svd(inputs - centre, full_matrices=False)
    rank = int((sizes > 1e-12 * sizes[0]).sum())
    left, sizes, right = left[:, :rank], sizes[:rank], right[:rank]
    along = left.mT @ (targets - mean)
    shrinks = sizes**2 / (sizes**2 + PENALTIES[:, None] * sizes[0] ** 2)
    best = leave_one_out(left, shrinks, targets - mean, along).argmin(0)
    slopes = right.mT @ (shrinks[best].mT / sizes[:, None] * along)
    return mean + (other - centre) @ slopes


def leave_one_out(
    left: torch.Tensor, shrinks: torch.Tensor, centred: torch.Tensor, along: torch.Tensor
) -> torch.Tensor:
    """(A, T) sums of squared leave-one-out errors at each penalty, in closed form."""
    leverage = left**2 @ shrinks.mT + 1 / len(left)
    losses = []
    for place, shrink in enumerate(shrinks):
        residual = centred - left @ (shrink[:, None] * along)
        losses.append((residual / (1 - leverage[:, place : place + 1])).square().sum(0))
    return torch.stack(losses)
