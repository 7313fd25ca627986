"""Quantisation: weights on a grid of few bits, as they are or with a short retraining of what is not yet on it."""

from dataclasses import replace
from typing import Any

import torch

from interpkern.memorisation.models import TableMLPs
from interpkern.memorisation.run import MemoriseRun
from interpkern.memorisation.training import memorise
from interpkern.progress import Progress, reporting
from interpkern.validation import choice, integer

FEWEST_BITS, MOST_BITS = 2, 24
GROUPS = ("tensor", "row")


def quantise(models: TableMLPs, bits: int, *, per: str = "tensor") -> TableMLPs:
    """Round W, c, r and c_out to symmetric grids of 2^bits - 1 levels, and trained embeddings too.

    The grid of a group reaches from minus its largest absolute value to that value. Per tensor, the group is a model's
    whole W, c or r; per row, it is the weights of one hidden unit, and of one token of a trained embedding.

    Args:
        models: which are not changed.
        bits: of a weight, 2 to 24; a grid of 8 bits has 255 levels, with 0 among them.
        per: tensor or row.

    Returns:
        TableMLPs.

    Raises:
        ValueError or TypeError that names bits or per.

    Example:
        >>> models = quantise(TableMLPs.init(2, 3, 3, 4, 5), 3)
        >>> len(models.W[0].unique()) <= 7
        True
    """
    bits = integer("bits", bits, FEWEST_BITS, MOST_BITS)
    by_row = choice("per", per, GROUPS) == "row"
    names = ("W", "c", "r", "c_out", *(("E1", "E2") if models.embedding == "trained" else ()))
    tensors: dict[str, Any] = {name: rounded(getattr(models, name), bits, by_row=by_row) for name in names}
    return replace(models, **tensors)


def rounded(weights: torch.Tensor, bits: int, *, by_row: bool) -> torch.Tensor:
    """(B, ...) on the grid of each model's tensor, or of the last dimension of its matrices."""
    flat = weights if by_row and weights.ndim == 3 else weights.reshape(len(weights), -1)
    steps = (1 << (bits - 1)) - 1
    scale = flat.double().abs().amax(-1, keepdim=True) / steps
    grid = torch.where(scale > 0, (flat / scale).round() * scale, 0.0)
    return grid.to(weights.dtype).reshape(weights.shape)


def quantise_retrained(
    run: MemoriseRun,
    bits: int,
    *,
    per: str = "tensor",
    steps: int = 1000,
    lr: float = 0.003,
    backend: str = "auto",
    threads: int | None = None,
    progress: Progress | bool | None = None,
) -> TableMLPs:
    """Quantise W, c and r one after the other, and after each let what is left adapt: every weight ends on its grid.

    Args:
        run: whose models are quantised, on its tables.
        bits, per: as in `quantise`.
        steps: updates of each of the three retrainings, by Adam with a cosine schedule.
        lr: learning rate.
        backend, threads: as in `interpkern.memorise`.
        progress: as there, of the retrainings together.

    Returns:
        TableMLPs, as `quantise` gives them.

    Raises:
        ValueError or TypeError that names the argument.
    """
    steps, models, done = integer("steps", steps, 0), run.models, ["E1", "E2"]
    left = ["W", "c", "r", "c_out"]
    with reporting(progress, "retraining", " stages") as report:
        for stage in range(3):
            done.append(left.pop(0))
            now = quantise(models, bits, per=per)
            models = replace(models, **{name: getattr(now, name) for name in done})
            models = memorise(
                models,
                run.tables,
                steps=steps,
                lr=lr,
                schedule="cosine",
                train=tuple(left),
                backend=backend,
                threads=threads,
                progress=False,
            ).models
            if report:
                report(stage + 1, 3)
    return replace(quantise(models, bits, per=per), embedding=run.models.embedding)
