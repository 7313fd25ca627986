"""Slabs between two planes around some ones of a table, for Baum's construction."""

import numpy
from numpy.typing import NDArray

from interpkern.random import normal

WIDTH = 0.25
"""Of a tent, in units of the distance of the nearest other fact."""


def star_groups(table: NDArray[numpy.bool_], largest: int) -> list[list[tuple[int, int]]]:
    """Split the ones into groups of at most `largest` in which each token pair is a star: no path a-b-a'-b'.

    Ones that share a row, or share a column, may be in one group; a one that would join two such stars may not.
    """
    left = [(int(a), int(b)) for a, b in numpy.argwhere(table)]
    groups = []
    while left:
        group: list[tuple[int, int]] = []
        of_row: dict[int, int] = {}
        of_col: dict[int, int] = {}
        for a, b in left:
            rows, cols = of_row.get(a, 0), of_col.get(b, 0)
            alone = _star(group, a, b) if rows or cols else True
            if len(group) < largest and not (rows and cols) and alone:
                group.append((a, b))
                of_row[a], of_col[b] = rows + 1, cols + 1
        groups.append(group)
        taken = set(group)
        left = [one for one in left if one not in taken]
    return groups


def _star(group: list[tuple[int, int]], a: int, b: int) -> bool:
    """Whether the ones that (a, b) joins have no other neighbour in the token that it does not share."""
    for row, col in group:
        if row == a and sum(other == col for _, other in group) > 1:
            return False
        if col == b and sum(other == row for other, _ in group) > 1:
            return False
    return True


def slab_weights(table: NDArray[numpy.bool_], d_model: int, *, seed: int) -> dict[str, NDArray]:
    """E1, E2, W, c, r and c_out of the one model: a tent of height 1 around each group's plane."""
    rows, cols = table.shape
    E1 = normal(seed, 0, "E1", rows * d_model).reshape(rows, d_model)
    E2 = normal(seed, 0, "E2", cols * d_model).reshape(cols, d_model)
    points = E1[:, None] + E2[None]
    W, c, r = [], [], []
    for group in star_groups(table, d_model):
        through = numpy.stack([points[a, b] for a, b in group])
        plane, offset = _plane(through)
        distances = points @ plane - offset
        others = numpy.ones(table.shape, dtype=bool)
        others[tuple(zip(*group, strict=True))] = False
        half = WIDTH * float(abs(distances[others]).min()) if others.any() else 1.0
        half = max(half, 1e-30)
        for shift, weight in ((half, 1.0), (0.0, -2.0), (-half, 1.0)):
            W.append(plane / half)
            c.append((shift - offset) / half)
            r.append(weight)
    if not W:
        W, c, r = [numpy.zeros(d_model)], [0.0], [0.0]
    fields = {"E1": E1, "E2": E2, "W": numpy.stack(W), "c": numpy.array(c), "r": numpy.array(r)}
    return fields | {"c_out": numpy.array(-0.5)}


def _plane(points: NDArray[numpy.float64]) -> tuple[NDArray[numpy.float64], float]:
    """A plane through up to d points of d dimensions, as its unit normal and its offset."""
    flat = numpy.column_stack([points, -numpy.ones(len(points))])
    _, _, v = numpy.linalg.svd(flat)
    normal_and_offset = v[len(points) :].sum(axis=0)
    length = numpy.linalg.norm(normal_and_offset[:-1])
    return normal_and_offset[:-1] / length, float(normal_and_offset[-1] / length)
