"""The threshold that gives a dictionary of a wanted size."""

import math
from collections.abc import Callable

from interpkern.itda.construction import Construction

CLOSE_ENOUGH = 0.99
MAX_BUILDS = 24
FIRST, LOWEST = 0.15, 1e-8


def build_to_size(build: Callable[[float, int], Construction], max_atoms: int) -> Construction:
    """Build again and again until a dictionary of the whole data has 99 % to 100 % of `max_atoms`.

    The relative threshold is bracketed by factors of two and then bisected on a logarithmic scale, so the result
    depends on the data alone. A build that outgrows `max_atoms` is broken off. Where no threshold comes that close
    (data with too few directions, say), the largest dictionary that fits is returned.

    Args:
        build: makes a dictionary from a threshold and a number of atoms to stop at.
        max_atoms: the wanted size.
    """
    too_low, too_high, best = 0.0, 1.0, None
    threshold = FIRST
    for _ in range(MAX_BUILDS):
        built = build(threshold, max_atoms + 1)
        if len(built.atoms) > max_atoms:
            too_low = threshold
        else:
            too_high = threshold
            best = built if best is None or len(built.atoms) > len(best.atoms) else best
            if len(built.atoms) >= CLOSE_ENOUGH * max_atoms or threshold <= LOWEST:
                break
        threshold = _next(too_low, too_high)
    return build(too_low, max_atoms) if best is None else best


def _next(too_low: float, too_high: float) -> float:
    if too_low == 0:
        return max(too_high / 2, LOWEST)
    if too_high == 1:
        return min(2 * too_low, (1 + too_low) / 2)
    return math.sqrt(too_low * too_high)
