"""Neurons as matrices: H_j = relu(A_j 1' + 1 B_j'), each given by R + C numbers, and what can be said of each one."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch

from interpkern.memorisation.models import TableMLPs

CHUNK_NUMBERS = 1 << 23
"""Elements of hidden matrices that are in memory at once."""
SQUARINGS = 12


def preactivations(models: TableMLPs) -> tuple[torch.Tensor, torch.Tensor]:
    """A = E1 W' + c as (B, H, R) and B = E2 W' as (B, H, C): a hidden unit sees A_a + B_b."""
    rows = torch.einsum("bhd,brd->bhr", models.W, models.E1) + models.c[:, :, None]
    return rows, torch.einsum("bhd,bcd->bhc", models.W, models.E2)


def hidden_matrices(models: TableMLPs) -> torch.Tensor:
    """(B, H, R, C) float32, the matrix of every hidden unit; `in_chunks` keeps it small."""
    rows, cols = preactivations(models)
    return torch.relu(rows[..., :, None] + cols[..., None, :])


def in_chunks(models: TableMLPs) -> Iterator[slice]:
    """Models that are few enough for their hidden matrices to be in memory at once."""
    numbers = models.d_hidden * models.rows * models.cols
    size = max(1, CHUNK_NUMBERS // numbers)
    return (slice(start, min(start + size, len(models))) for start in range(0, len(models), size))


def over_chunks(models: TableMLPs, of: Callable[[TableMLPs, slice], torch.Tensor]) -> torch.Tensor:
    """What `of` gives for some models at a time, joined."""
    return torch.cat([of(models[part], part) for part in in_chunks(models)])


@dataclass(frozen=True, eq=False)
class Neurons:
    """Figures of every hidden unit, each (B, H) float32."""

    active: torch.Tensor
    """Share of the facts at which it is above 0."""
    energy: torch.Tensor
    """Sum of squares of r_j H_j."""
    stable_rank: torch.Tensor
    """Energy over that of the largest singular value; 1 for a product of two vectors, NaN for a unit never active."""
    rectangle: torch.Tensor
    """Share of the energy that the best rectangle has: one value on some rows and some columns, 0 elsewhere."""
    rectangle_rows: torch.Tensor
    """Rows in that rectangle."""
    rectangle_cols: torch.Tensor
    ablated_accuracy: torch.Tensor
    """Share of facts that are right without the unit."""


def neurons(models: TableMLPs, tables: torch.Tensor) -> Neurons:
    """The figures of every hidden unit; tables (B, R, C) of 0 and 1."""
    parts = [_figures(models[part], tables[part]) for part in in_chunks(models)]
    return Neurons(*(torch.cat(each) for each in zip(*parts, strict=True)))


def _figures(models: TableMLPs, tables: torch.Tensor) -> tuple[torch.Tensor, ...]:
    hidden = hidden_matrices(models)
    squares = (hidden * hidden).sum((2, 3))
    weighted = models.r[:, :, None, None] * hidden
    without = (weighted.sum(1) + models.c_out[:, None, None])[:, None] - weighted
    right = ((without > 0) == tables[:, None].bool()).float().mean((2, 3))
    active = (hidden > 0).float().mean((2, 3))
    rank = torch.where(squares > 0, squares / top_energy(hidden), torch.nan)
    return (active, squares * models.r**2, rank, *best_rectangle(models, squares), right)


def top_energy(matrices: torch.Tensor) -> torch.Tensor:
    """The square of the largest singular value of each (..., R, C) matrix, by squaring its Gram matrix again and again.

    After k squarings the other directions are down by (s2 / s1)^(2^(k + 1)); what is left of them where two values
    are that close changes the quotient by less than their distance.
    """
    if matrices.shape[-2] < matrices.shape[-1]:
        matrices = matrices.mT
    gram = (matrices.mT @ matrices).double()
    power = gram
    for _ in range(SQUARINGS):
        trace = power.diagonal(dim1=-2, dim2=-1).sum(-1).clamp_min(1e-300)
        power = power / trace[..., None, None]
        power = power @ power
    column = power.diagonal(dim1=-2, dim2=-1).argmax(-1)
    vector = torch.take_along_dim(power, column[..., None, None], dim=-1)
    vector = vector / vector.norm(dim=-2, keepdim=True).clamp_min(1e-300)
    return (gram @ vector).mul_(vector).sum((-2, -1)).float()


def best_rectangle(models: TableMLPs, squares: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Share of energy, rows and columns of the rectangle that approximates each unit's matrix best, exactly.

    A row with a larger A_a is nowhere smaller, so the best rectangle has the k first rows and l first columns in the
    order of A and B: of all (k, l) it is the one with the largest sum^2 / (k l).
    """
    rows, cols = (part.sort(dim=-1, descending=True).values for part in preactivations(models))
    sums = torch.relu(rows[..., :, None] + cols[..., None, :]).cumsum(-1).cumsum(-2)
    areas = torch.arange(1, models.rows + 1)[:, None] * torch.arange(1, models.cols + 1)
    best = (sums * sums / areas).flatten(2).max(-1)
    share = torch.where(squares > 0, (best.values / squares).clamp(max=1.0), torch.nan)
    return share, best.indices // models.cols + 1, best.indices % models.cols + 1


def correlations(models: TableMLPs) -> torch.Tensor:
    """(B, H, H) float32 correlations over facts between the units' matrices; 0 with a unit that is constant."""

    def of(part: TableMLPs, _: slice) -> torch.Tensor:
        flat = unit_patterns(part)
        return flat @ flat.mT

    return over_chunks(models, of)


def unit_patterns(models: TableMLPs) -> torch.Tensor:
    """(B, H, R * C) float32: each unit's matrix less its mean, at length 1; 0 where it is constant."""
    flat = hidden_matrices(models).flatten(2)
    flat = flat - flat.mean(-1, keepdim=True)
    length = flat.norm(dim=-1, keepdim=True)
    return torch.where(length > 1e-6, flat / length, 0.0)
