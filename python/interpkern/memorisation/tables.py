"""Tables of booleans to memorise: random ones of any bias, and the user's own from a file."""

from typing import TYPE_CHECKING

import numpy
import torch

from interpkern.random import MAX_MODELS, check_seed, uniform, words
from interpkern.validation import REAL_DTYPES, Dimensions, boolean, integer, number, zeros_and_ones

if TYPE_CHECKING:
    from interpkern.memorisation.models import TableMLPs

MAX_SIDE = 1 << 20


def random_tables(
    models: int, rows: int, cols: int, *, p: float = 0.5, balanced: bool = False, seed: int = 0
) -> torch.Tensor:
    """Draw one random table of booleans for each model, each fact 1 with probability p.

    Table i depends on (seed, i, rows * cols) and not on `models`: the first 4 of 8 are the 4 of 4. Tables of other
    sizes with the same seed are made from the same random words; give each cell of a sweep its own seed.

    Args:
        models: number of tables, B.
        rows: number of row tokens, R.
        cols: number of column tokens, C.
        p: probability that a fact is 1.
        balanced: give every table exactly round(p * R * C) ones, placed uniformly at random.
        seed: an integer from 0 to 2^64 - 1.

    Returns:
        (B, R, C) uint8, 0 or 1.

    Raises:
        ValueError or TypeError that names the argument.

    Source:
        Newgas 2025, "Progress report on a Toy Model Of Memorization" (p = 1/2).

    Example:
        >>> random_tables(2, 3, 3, p=1 / 3, balanced=True).sum(dim=(1, 2))
        tensor([3, 3])
    """
    models, rows, cols = (
        integer("models", models, 1, MAX_MODELS),
        integer("rows", rows, 1, MAX_SIDE),
        integer("cols", cols, 1, MAX_SIDE),
    )
    p, balanced, seed = number("p", p, 0.0, 1.0), boolean("balanced", balanced), check_seed(seed)
    tables = torch.zeros(models, rows, cols, dtype=torch.uint8)
    flat = tables.view(models, rows * cols).numpy()
    facts = rows * cols
    ones = round(p * facts)
    for model in range(models):
        if balanced:
            keys = words(seed, model, "tables", facts)
            flat[model, keys.argpartition(max(ones - 1, 0))[:ones]] = 1
        else:
            flat[model] = uniform(seed, model, "tables", facts) < p
    return tables


def checked_tables(models: "TableMLPs", tables: torch.Tensor | numpy.ndarray) -> torch.Tensor:
    """The facts of each model as (B, R, C) uint8 on the CPU, refused where they don't fit the models."""
    sizes = {"B": len(models), "R": models.rows, "C": models.cols}
    dimensions = Dimensions(sizes, dict.fromkeys(sizes, "models"))
    tensor = dimensions.tensor("tables", tables, "B R C", (*REAL_DTYPES, torch.bool))
    return zeros_and_ones("tables", tensor).cpu()


def checked_table_batch(tables: torch.Tensor | numpy.ndarray) -> torch.Tensor:
    """Tables of any sizes as (B, R, C) uint8 on the CPU."""
    return zeros_and_ones("tables", Dimensions().tensor("tables", tables, "B R C", (*REAL_DTYPES, torch.bool))).cpu()
