"""Constructions: models whose weights are written down, not trained, and that get every fact right.

Their embeddings do not depend on the table, so only the weights hold its bits.
"""

from collections.abc import Callable, Sequence

import numpy
import pandas
import torch
from numpy.typing import NDArray

from interpkern.memorisation.covers import Rectangle, greedy_cover, signed_cover, smallest_cover
from interpkern.memorisation.models import TableMLPs
from interpkern.memorisation.slabs import slab_weights
from interpkern.memorisation.tables import checked_table_batch, checked_tables
from interpkern.memorisation.zigzag import Line, best_line, zigzag_weights
from interpkern.random import check_seed
from interpkern.validation import integer

MOST_DIMENSIONS = 4

Facts = torch.Tensor | NDArray


def row_lookup(tables: Facts) -> TableMLPs:
    """One hidden unit for each row, which holds the row: R (C + 4) + 1 parameters.

    Rows are points on a circle, so that a half-plane cuts off one of them alone; columns are a basis. Unit j is
    relu(T_jb + K (cos(angle between a and j) - 1)): T_jb at its row, 0 elsewhere.

    Shapes:
        tables (B, R, C) of 0 and 1.

    Returns:
        TableMLPs of B times (R, C, C + 2, R).

    Raises:
        ShapeError, DTypeError or ValueError that names tables.

    Example:
        >>> tables = random_tables(3, 8, 9)
        >>> exact(row_lookup(tables), tables).tolist()
        [True, True, True]
    """
    facts = checked_table_batch(tables).numpy()
    models, rows, cols = facts.shape
    angles = 2 * numpy.pi * numpy.arange(rows) / rows
    circle = numpy.column_stack([numpy.cos(angles), numpy.sin(angles)])
    steep = 2.0 / max(1 - numpy.cos(2 * numpy.pi / rows), 1e-9) if rows > 1 else 1.0
    made = [
        {
            "E1": numpy.concatenate([circle, numpy.zeros((rows, cols))], axis=1),
            "E2": numpy.concatenate([numpy.zeros((cols, 2)), numpy.eye(cols)], axis=1),
            "W": numpy.concatenate([steep * circle, facts[model]], axis=1),
            "c": numpy.full(rows, -steep),
            "r": numpy.ones(rows),
            "c_out": numpy.array(-0.5),
        }
        for model in range(models)
    ]
    return _stacked(made)


def threshold_slabs(tables: Facts, *, d_model: int | None = None, seed: int = 0) -> TableMLPs:
    """Baum's construction: a thin slab between two planes through up to d_model ones, three hidden units for each.

    With ReLU a slab is a tent of three units. Points E1[a] + E2[b] are not in general position: a plane through (a, b),
    (a', b) and (a', b') holds (a, b') too, so the ones of a slab are rows or columns of ones that share no token.

    Args:
        tables: (B, R, C) of 0 and 1.
        d_model: width of the embeddings; by default max(R, C).
        seed: of the random embeddings.

    Returns:
        TableMLPs; rounding to float32 can lose facts of large tables: ask `exact`.

    Source:
        Baum 1988, "On the capabilities of multilayer perceptrons".

    Example:
        >>> tables = random_tables(1, 8, 8)
        >>> exact(threshold_slabs(tables), tables).tolist()
        [True]
    """
    facts = checked_table_batch(tables).numpy().astype(bool)
    width = max(facts.shape[1:]) if d_model is None else integer("d_model", d_model, 1)
    return _stacked([slab_weights(table, width, seed=check_seed(seed)) for table in facts])


def rectangle_cover(tables: Facts, *, smallest: bool = False) -> TableMLPs:
    """Cover the ones with combinatorial rectangles, one hidden unit for each, all weights 0, 1 and -1 but c_out = -1/2.

    Args:
        tables: (B, R, C) of 0 and 1.
        smallest: look for the fewest, by integer programming, for tables with a side of at most 12; else greedily.

    Returns:
        TableMLPs on a basis, of B times (R, C, R + C, the most rectangles of a table).

    Example:
        >>> tables = random_tables(2, 6, 6)
        >>> rectangle_cover(tables, smallest=True).d_hidden <= rectangle_cover(tables).d_hidden
        True
    """
    facts = checked_table_batch(tables).numpy().astype(bool)
    cover = smallest_cover if smallest else greedy_cover
    return _rectangles(facts.shape, [[(1, each) for each in cover(table)] for table in facts])


def ternary(tables: Facts) -> TableMLPs:
    """Add and subtract rectangles, chosen greedily: every weight is -1, 0 or 1, but c_out = -1/2.

    Args:
        tables: (B, R, C) of 0 and 1.

    Returns:
        TableMLPs on a basis, of B times (R, C, R + C, the most rectangles of a table).
    """
    facts = checked_table_batch(tables).numpy().astype(bool)
    return _rectangles(facts.shape, [signed_cover(table) for table in facts])


def zigzag(tables: Facts, *, dimensions: int | None = None, seed: int = 0) -> TableMLPs:
    """Give each column a zigzag along a line of rows whose sign changes where the column's facts do.

    H (C + d + 2) + 1 parameters with H about R / 2: facts per parameter go to 2 as tables grow.

    Args:
        tables: (B, R, C) of 0 and 1.
        dimensions: d, of the space in which rows have random places; the line is the best of some thousand. By default
            the number from 1 to 4 that takes fewest parameters.
        seed: of the places and lines.

    Returns:
        TableMLPs of B times (R, C, C + d, the most units that a table needs).

    Example:
        >>> tables = random_tables(1, 64, 64)
        >>> bits_per_parameter(zigzag(tables), tables)
        tensor([1.5...], dtype=torch.float64)
    """
    facts = checked_table_batch(tables).numpy().astype(bool)
    cols = facts.shape[2]
    wanted = range(1, MOST_DIMENSIONS + 1) if dimensions is None else [integer("dimensions", dimensions, 1)]
    tried = {d: [best_line(table, d, seed=check_seed(seed)) for table in facts] for d in wanted}
    cheapest_first = sorted(tried, key=lambda d: _units(tried[d]) * (cols + d + 2))
    for d in cheapest_first:
        units = _units(tried[d])
        made = _stacked([zigzag_weights(table, line, units) for table, line in zip(facts, tried[d], strict=True)])
        if bool(exact(made, facts).all()):  # float32 cannot tell close places apart; on one line they are integers
            break
    return made


def _units(lines: Sequence[Line]) -> int:
    return max(line.units for line in lines)


def exact(models: TableMLPs, tables: Facts) -> torch.Tensor:
    """(B,) bool, whether every fact of a model's table is right."""
    return ((models.logits() > 0).cpu() == checked_tables(models, tables).bool()).flatten(1).all(1)


def bits_per_parameter(models: TableMLPs, tables: Facts, *, count: str = "one_logit") -> torch.Tensor:
    """(B,) float64 facts per parameter of models that are exact, 0 of others; bits per parameter of fair coins."""
    facts = models.rows * models.cols
    return exact(models, tables).double() * facts / models.parameters(count)


CONSTRUCTIONS: dict[str, Callable[[Facts], TableMLPs]] = {
    "row lookup": row_lookup,
    "threshold slabs": threshold_slabs,
    "rectangle cover": rectangle_cover,
    "ternary": ternary,
    "zigzag": zigzag,
}


def compare_constructions(tables: Facts, names: Sequence[str] | None = None) -> pandas.DataFrame:
    """Make each table by each construction alone, and say what that takes.

    Args:
        tables: (B, R, C) of 0 and 1.
        names: in CONSTRUCTIONS; by default all.

    Returns:
        One row a construction and table: sizes, whether exact, bits per parameter by both counts.
    """
    facts = checked_table_batch(tables)
    rows = []
    for name in CONSTRUCTIONS if names is None else names:
        for index in range(len(facts)):
            table = facts[index : index + 1]
            models = CONSTRUCTIONS[name](table)
            rows.append(
                {
                    "construction": name,
                    "table": index,
                    "rows": models.rows,
                    "cols": models.cols,
                    "d_model": models.d_model,
                    "d_hidden": models.d_hidden,
                    "P1": models.parameters("one_logit"),
                    "P2": models.parameters(),
                    "exact": bool(exact(models, table)[0]),
                    "bits_per_P1": float(bits_per_parameter(models, table)[0]),
                    "bits_per_P2": float(bits_per_parameter(models, table, count="two_logit")[0]),
                }
            )
    return pandas.DataFrame(rows)


def _rectangles(shape: Sequence[int], covers: Sequence[Sequence[tuple[int, Rectangle]]]) -> TableMLPs:
    """Units relu(row marked + column marked - 1) on a basis; those that a table doesn't need mark nothing."""
    _, rows, cols = shape
    units = max(1, *(len(cover) for cover in covers)) if covers else 1
    made = []
    for cover in covers:
        W, r = numpy.zeros((units, rows + cols)), numpy.zeros(units)
        for unit, (sign, rectangle) in enumerate(cover):
            W[unit], r[unit] = numpy.concatenate(rectangle), sign
        tokens = numpy.eye(rows + cols)
        fields = {"E1": tokens[:rows], "E2": tokens[rows:], "W": W, "c": numpy.full(units, -1.0), "r": r}
        made.append(fields | {"c_out": numpy.array(-0.5)})
    return _stacked(made)


def _stacked(made: Sequence[dict[str, NDArray]]) -> TableMLPs:
    """Models of one table each, as a batch; fewer hidden units are filled up with ones that do nothing."""
    units = max(len(each["r"]) for each in made)
    filled = []
    for each in made:
        more = units - len(each["r"])
        filled.append(
            each
            | {"W": numpy.pad(each["W"], ((0, more), (0, 0))), "c": numpy.pad(each["c"], (0, more))}
            | {"r": numpy.pad(each["r"], (0, more))}
        )
    fields = {name: numpy.stack([each[name] for each in filled]).astype(numpy.float32) for name in filled[0]}
    return TableMLPs.from_state_dict({name: torch.from_numpy(part) for name, part in fields.items()})
