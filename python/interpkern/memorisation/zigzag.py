"""Zigzags: a construction that goes to two facts per parameter as tables grow.

The row token is a point s_a on a line, the column token a unit vector. For one column b the logit is then a function
of s with slopes +1 and -1 that turns at -B_bj, once for each hidden unit, so that with H units its sign can change H
times, wherever one likes. A random column of R facts changes its value (R - 1) / 2 times, so H is about R / 2 and
H (C + 3) + 1 parameters hold R C facts. What H exceeds R / 2 by is the largest of C binomial deviations; a line chosen
among many through rows that lie in a few dimensions makes it smaller.
"""

from dataclasses import dataclass

import numpy
from numpy.typing import NDArray

DIRECTIONS = 1000
ROUNDS, NEIGHBOURS = 12, 50
CLOSEST = 1e-4
"""Least gap between neighbours on a line, in units of its length, that float32 can tell."""

Array = NDArray[numpy.float64]


@dataclass(frozen=True)
class Line:
    """Where the rows lie, and the units that a table needs along it."""

    places: Array
    """(R, d) row embeddings, which do not depend on the table."""
    direction: Array
    """(d,)"""
    flipped: bool
    """Whether the table's complement is made, and the readout turned over."""
    units: int

    @property
    def positions(self) -> Array:
        """(R,) s_a."""
        return self.places @ self.direction


def crossings(column: NDArray[numpy.bool_], positions: Array) -> Array:
    """Where a zigzag that rises first must cross 0, for a column of facts in the order of the positions."""
    changes = numpy.flatnonzero(column[1:] != column[:-1])
    places = (positions[changes] + positions[changes + 1]) / 2
    before = positions[0] - (positions[1] - positions[0] if len(positions) > 1 else 1.0)
    if column[0]:
        return numpy.concatenate([[before], places])
    return places if len(places) else numpy.array([2 * positions[-1] - before])


def crossing_counts(table: NDArray[numpy.bool_], order: NDArray[numpy.int_]) -> NDArray[numpy.int_]:
    """(C,) crossings of each column with the rows in this order; the most of them is the number of hidden units."""
    facts = table[order]
    return numpy.asarray((facts[1:] != facts[:-1]).sum(axis=0) + facts[0])


def best_line(table: NDArray[numpy.bool_], dimensions: int, *, seed: int = 0) -> Line:
    """The line with the fewest units: of two in one dimension, else the best of random ones, moved about a little."""
    rows = len(table)
    generator = numpy.random.default_rng([seed, dimensions])
    if dimensions == 1:
        places = numpy.arange(rows, dtype=float)[:, None] - (rows - 1) / 2
        return min((_line(table, places, numpy.array([sign])) for sign in (1.0, -1.0)), key=lambda each: each[0])[1]
    places = generator.normal(size=(rows, dimensions))
    directions = generator.normal(size=(DIRECTIONS, dimensions))
    cost, line = min((_line(table, places, each) for each in directions), key=lambda each: each[0])
    for step in numpy.geomspace(0.5, 0.01, ROUNDS):
        size = step * numpy.linalg.norm(line.direction) / dimensions**0.5
        near = line.direction + size * generator.normal(size=(NEIGHBOURS, dimensions))
        cost, line = min([(cost, line), *(_line(table, places, each) for each in near)], key=lambda each: each[0])
    return line


def _line(table: NDArray[numpy.bool_], places: Array, direction: Array) -> tuple[tuple[float, int], Line]:
    """A line with what it costs: its units, and how many columns need that many."""
    positions = places @ direction
    order = numpy.argsort(positions)
    gaps = numpy.diff(positions[order])
    told_apart = len(gaps) == 0 or gaps.min() >= CLOSEST * numpy.ptp(positions)
    ones = crossing_counts(table, order)
    zeros = ones + 1 - 2 * table[order[0]]
    flipped = zeros.max() < ones.max()
    counts = zeros if flipped else ones
    units = max(1, int(counts.max()))
    cost = (units if told_apart else numpy.inf, int((counts == units).sum()))
    return cost, Line(places, direction, bool(flipped), units)


def zigzag_weights(table: NDArray[numpy.bool_], line: Line, units: int) -> dict[str, Array]:
    """E1, E2, W, c, r and c_out of the one model, with as many hidden units as asked, at least line.units."""
    order = numpy.argsort(line.positions)
    positions, facts = line.positions[order], (table ^ line.flipped)[order]
    rows, cols = table.shape
    reach = float(4 * (1 + abs(positions).max()))
    turns = numpy.full((units, cols), -reach)
    for b in range(cols):
        at = crossings(facts[:, b], positions)
        turns[0, b] = reach - at[0]
        turns[1 : len(at), b] = -(at[1:] + at[:-1]) / 2
    dimensions = line.places.shape[1]
    slopes = numpy.concatenate([[1.0], numpy.resize([-2.0, 2.0], units - 1)])
    sign = -1.0 if line.flipped else 1.0
    return {
        "E1": numpy.concatenate([line.places, numpy.zeros((rows, cols))], axis=1),
        "E2": numpy.concatenate([numpy.zeros((cols, dimensions)), numpy.eye(cols)], axis=1),
        "W": numpy.concatenate([numpy.tile(line.direction, (units, 1)), turns], axis=1),
        "c": numpy.zeros(units),
        "r": sign * slopes,
        "c_out": numpy.array(-sign * reach),
    }
