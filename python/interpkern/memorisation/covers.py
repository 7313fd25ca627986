"""Covers of a table's ones by combinatorial rectangles: greedy, and the smallest by integer programming."""

from typing import Any

import numpy
from numpy.typing import NDArray
from scipy.optimize import Bounds, LinearConstraint, milp

Rectangle = tuple[Any, Any]
"""Rows and columns, (R,) and (C,) booleans."""
Table = NDArray[numpy.bool_]
MOST_ROWS = 12
"""On the shorter side of a table whose smallest cover is looked for: there can be 2^12 maximal rectangles."""


def maximal_rectangles(table: Table) -> list[Rectangle]:
    """All rectangles of ones that no other holds, from every set of rows (transpose a table with many rows first)."""
    found: dict[bytes, Rectangle] = {}
    for chosen in range(1, 1 << table.shape[0]):
        rows = numpy.array([chosen >> row & 1 for row in range(table.shape[0])], dtype=bool)
        cols = table[rows].all(axis=0)
        if cols.any():
            found[cols.tobytes()] = (table[:, cols].all(axis=1), cols)
    return list(found.values())


def smallest_cover(table: Table) -> list[Rectangle]:
    """The fewest rectangles whose union is the ones of the table; refuses tables with both sides above MOST_ROWS."""
    if min(table.shape) > MOST_ROWS:
        raise ValueError(f"tables: expected a side of at most {MOST_ROWS} for the smallest cover, got {table.shape}")
    if table.shape[0] > table.shape[1]:
        return [(rows, cols) for cols, rows in smallest_cover(table.T)]
    rectangles = maximal_rectangles(table)
    if not rectangles:
        return []
    covers = numpy.array([numpy.outer(rows, cols)[table] for rows, cols in rectangles], dtype=float).T
    ones = numpy.ones(len(rectangles))
    found = milp(ones, constraints=LinearConstraint(covers, lb=1), integrality=ones, bounds=Bounds(0, 1))
    if found.x is None:
        raise ValueError(f"tables: the smallest cover was not found ({found.message})")
    return [rectangle for rectangle, used in zip(rectangles, found.x > 0.5, strict=True) if used]


def greedy_cover(table: Table) -> list[Rectangle]:
    """Rectangles that each take as many ones that are still bare as a search from each row finds."""
    bare, chosen = table.copy(), []
    while bare.any():
        best = max(
            (_grown(table, bare, int(row)) for row in numpy.flatnonzero(bare.any(axis=1))), key=lambda each: each[0]
        )
        chosen.append(best[1])
        bare &= ~numpy.outer(*best[1])
    return chosen


def _grown(table: Table, bare: Table, row: int) -> tuple[int, Rectangle]:
    """From one row, add the row that leaves most bare ones covered, as long as there are more of them."""
    rows = numpy.zeros(len(table), dtype=bool)
    rows[row] = True
    cols = table[row].copy()
    best = (int(bare[row, cols].sum()), (rows.copy(), cols.copy()))
    while True:
        shared = (bare & cols & table).sum(axis=1)
        kept = numpy.array([bare[numpy.ix_(rows, cols & other)].sum() for other in table])
        gains = numpy.where(rows, -1, kept + shared)
        other = int(numpy.argmax(gains))
        if gains[other] <= best[0]:
            return best
        rows[other] = True
        cols = cols & table[other]
        best = (int(gains[other]), (rows.copy(), cols.copy()))


def signed_cover(table: Table) -> list[tuple[int, Rectangle]]:
    """Rectangles with signs whose sum is at least 1 on ones and at most 0 on zeros, by greedy choice.

    Each choice is the best sum of what is still wanted, +1 for a one that lacks and -1 for a zero that has too much,
    found by alternating between rows and columns; a zero that would be pushed above 0 and a one pushed below 1 count
    against it.
    """
    total = numpy.zeros(table.shape, dtype=int)
    chosen: list[tuple[int, Rectangle]] = []
    while True:
        short = numpy.where(table, numpy.maximum(1 - total, 0), numpy.maximum(total, 0))
        if not short.any():
            return chosen
        sign, rectangle = max(
            ((sign, _alternated(_gain(table, total, sign), seed)) for sign in (1, -1) for seed in range(len(table))),
            key=lambda each: _gain(table, total, each[0])[numpy.ix_(*each[1])].sum(),
        )
        gain = _gain(table, total, sign)[numpy.ix_(*rectangle)].sum()
        if gain <= 0:
            row, col = numpy.argwhere(short)[0]
            sign = 1 if table[row, col] else -1
            rectangle = (numpy.arange(len(table)) == row, numpy.arange(table.shape[1]) == col)
        chosen.append((sign, rectangle))
        total = total + sign * numpy.outer(*rectangle)


def _gain(table: Table, total: NDArray[numpy.int_], sign: int) -> NDArray[numpy.int_]:
    """By how much adding `sign` to one entry lessens what is wanted."""
    wanted = lambda sums: numpy.where(table, numpy.maximum(1 - sums, 0), numpy.maximum(sums, 0))  # noqa: E731
    return wanted(total) - wanted(total + sign)


def _alternated(gain: NDArray[numpy.int_], row: int) -> Rectangle:
    """From one row: the columns that gain in the rows, then the rows that gain in the columns, until nothing moves."""
    rows = numpy.arange(len(gain)) == row
    for _ in range(20):
        cols = gain[rows].sum(axis=0) > 0
        after = gain[:, cols].sum(axis=1) > 0
        if (after == rows).all() or not after.any():
            break
        rows = after
    return rows, gain[rows].sum(axis=0) > 0
