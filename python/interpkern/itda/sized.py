"""Dictionaries of one exact size, whatever the recipe: the threshold is searched for."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from interpkern.itda.dictionary import ITDA
from interpkern.itda.rows import Rows

LATE = 0.9
"""A dictionary has the right size if it became full, and not before this share of the rows."""
AIM = 1.03
"""The size that the search aims at if no limit were set, as a multiple of the wanted one."""
GROWTH = 0.6
"""A guess: the number of atoms grows as this power of the rows."""
FALL = 2.4
"""A guess: the number of atoms falls as this power of the threshold."""
MAX_BUILDS = 16
NARROW = 1.001


@dataclass(frozen=True)
class Recipe:
    """How to fit on rows that are at hand."""

    rows: Rows
    k: int
    backend: str
    threads: int | None

    def fitted(self, threshold: float, max_atoms: int | None, **settings: Any) -> ITDA:
        """A dictionary at a threshold."""
        itda = ITDA(
            k=self.k, threshold=threshold, max_atoms=max_atoms, backend=self.backend, threads=self.threads, **settings
        )
        return itda.fit(self.rows.values, self.rows.labels, progress=False)

    def of_size(self, atoms: int, start: float, **settings: Any) -> ITDA:
        """A dictionary of `atoms` atoms that became full near the end of the rows; the closest one if there is none."""
        most = 1.0 if settings.get("relative", True) else math.inf
        start = min(start, 0.95 * most)
        return search(lambda threshold: self.fitted(threshold, atoms, **settings), atoms, len(self.rows), start, most)


def search(build: Callable[[float], ITDA], atoms: int, rows: int, start: float, most: float = math.inf) -> ITDA:
    """Look for a threshold from `start`, below `most`, at which the dictionary becomes full late in the rows.

    Sizes are taken to be a power of the threshold; each build that is too small or full too early narrows the bracket.
    """
    too_low, too_high = 0.0, most
    threshold, best = start, None
    for _ in range(MAX_BUILDS):
        built = build(threshold)
        full, seen = built.report.max_atoms_reached, built.report.rows_seen
        if full and seen >= LATE * rows:
            return built
        best = built if best is None or _better(built, best) else best
        if full:
            too_low = max(too_low, threshold)
        else:
            too_high = min(too_high, threshold)
        if too_high <= NARROW * too_low:
            break
        size = atoms * (rows / seen) ** GROWTH if full else max(len(built), 1)
        threshold = _next(threshold * (size / (AIM * atoms)) ** (1 / FALL), too_low, too_high)
    assert best is not None
    return best


def _better(a: ITDA, b: ITDA) -> bool:
    return (len(a), a.report.rows_seen) > (len(b), b.report.rows_seen)


def _next(guess: float, too_low: float, too_high: float) -> float:
    """The guess if it lies well within the bracket, else the middle of the bracket."""
    if too_low == 0 or math.isinf(too_high):
        return guess
    low, high = too_low * (too_high / too_low) ** 0.1, too_low * (too_high / too_low) ** 0.9
    return guess if low <= guess <= high else math.sqrt(too_low * too_high)
