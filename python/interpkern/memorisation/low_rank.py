"""Low-rank tables: what a table costs as a product of two thin matrices, the baseline of the circuits."""

import torch
from torch.nn.functional import binary_cross_entropy_with_logits

from interpkern.machine import one_thread
from interpkern.memorisation.tables import checked_table_batch
from interpkern.progress import Progress, reporting
from interpkern.validation import integer, number

START = 0.5
"""Standard deviation of the logits that a fit starts from."""


def equal_rank(rows: int, cols: int, parameters: int) -> int:
    """The largest rank k whose k (R + C) + 1 numbers are no more than `parameters`, at most min(R, C)."""
    return min((parameters - 1) // (rows + cols), rows, cols)


def svd_accuracy(tables: torch.Tensor, rank: int) -> torch.Tensor:
    """Give the share of facts that the sign of the best rank-k approximation of the table in {-1, 1} gets right.

    Shapes:
        tables (B, R, C) of 0 and 1.

    Args:
        tables: the facts.
        rank: k; 0 answers with the more common value.

    Returns:
        (B,) float64.

    Source:
        Eckart and Young 1936.
    """
    tables = checked_table_batch(tables)
    signs = 2.0 * tables.double() - 1
    if integer("rank", rank, 0) == 0:
        density = tables.double().mean((1, 2))
        return torch.maximum(density, 1 - density)
    u, s, v = torch.linalg.svd(signs, full_matrices=False)
    rank = min(rank, s.shape[1])
    near = (u[:, :, :rank] * s[:, None, :rank]) @ v[:, :rank]
    return ((near > 0) == tables.bool()).double().mean((1, 2))


def low_rank_fit(
    tables: torch.Tensor,
    rank: int,
    *,
    steps: int = 2000,
    lr: float = 0.05,
    seed: int = 0,
    progress: Progress | bool | None = None,
) -> torch.Tensor:
    """Train the logits U V' + c of rank k on the cross-entropy of each table, by Adam with a cosine schedule.

    A table's sign rank is far below its rank, so this does more with k (R + C) + 1 numbers than the SVD: it is the
    baseline that the models must beat.

    Shapes:
        tables (B, R, C) of 0 and 1.

    Args:
        tables: the facts.
        rank: k, at least 1.
        steps: updates.
        lr: learning rate, to 0 along a cosine.
        seed: of the start.
        progress: as in `interpkern.memorise`, counting updates.

    Returns:
        (B, R, C) float32 logits.
    """
    facts = checked_table_batch(tables).float()
    models, rows, cols = facts.shape
    rank, steps, lr = integer("rank", rank, 1), integer("steps", steps, 0), number("lr", lr, 0.0)
    generator = torch.Generator().manual_seed(integer("seed", seed, 0, (1 << 63) - 1))
    scale = (START / rank**0.5) ** 0.5
    shapes = ((models, rows, rank), (models, cols, rank))
    u, v = (scale * torch.randn(shape, generator=generator) for shape in shapes)
    leaves = [u.requires_grad_(), v.requires_grad_(), torch.zeros(models, 1, 1, requires_grad=True)]
    optimiser = torch.optim.Adam(leaves, lr=lr)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, max(steps, 1))
    with one_thread(), torch.enable_grad(), reporting(progress, "low rank", " updates") as report:
        for step in range(steps):
            z = leaves[0] @ leaves[1].mT + leaves[2]
            loss = binary_cross_entropy_with_logits(z, facts, reduction="none").mean((1, 2)).sum()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
            if report:
                report(step + 1, steps)
    return (leaves[0] @ leaves[1].mT + leaves[2]).detach()
