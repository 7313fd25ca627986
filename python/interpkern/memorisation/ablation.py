"""Ablation curves: how many facts are left as hidden units are taken away one after the other."""

import torch

from interpkern.memorisation.models import TableMLPs
from interpkern.memorisation.neurons import hidden_matrices, over_chunks
from interpkern.memorisation.run import MemoriseRun
from interpkern.random import check_seed
from interpkern.validation import choice

ORDERS = ("weakest", "strongest", "random")


def ablation_curves(run: MemoriseRun, *, order: str = "weakest", mean: bool = False, seed: int = 0) -> torch.Tensor:
    """Give the accuracy with 0, 1, ... H hidden units taken away.

    Args:
        run: of `memorise`.
        order: weakest or strongest first, by the variance of r_j H_j over facts, or random.
        mean: put the unit's mean over facts in its place, not 0.
        seed: of a random order.

    Returns:
        (B, H + 1) float64, share of facts right; [:, k] is without k units.

    Raises:
        ValueError that names order.

    Example:
        >>> run = memorise(TableMLPs.init(8, 6, 6, 6, 9), random_tables(8, 6, 6), steps=1000)
        >>> ablation_curves(run, order="strongest").mean(0)
    """
    choice("order", order, ORDERS)
    generator = torch.Generator().manual_seed(check_seed(seed) & ((1 << 63) - 1))
    shuffled = torch.rand(len(run), run.models.d_hidden, generator=generator)

    def of(models: TableMLPs, part: slice) -> torch.Tensor:
        added = models.r[:, :, None, None] * hidden_matrices(models)
        strength = {"random": shuffled[part]}.get(order, added.var((2, 3), correction=0))
        ranks = strength.argsort(dim=1, descending=order == "strongest")
        ordered = torch.take_along_dim(added, ranks[:, :, None, None], dim=1)
        left = ordered.flip(1).cumsum(1).flip(1)
        left = torch.cat([left, torch.zeros_like(left[:, :1])], dim=1) + models.c_out[:, None, None, None]
        if mean:
            gone = ordered.mean((2, 3)).cumsum(1)
            left[:, 1:] += gone[:, :, None, None]
        return ((left > 0) == run.tables[part, None].bool()).double().mean((2, 3))

    return over_chunks(run.models.to("cpu"), of)
