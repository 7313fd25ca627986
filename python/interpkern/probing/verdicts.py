"""A test in a sentence."""

import math
from typing import TYPE_CHECKING

from interpkern.probing.numbers import Coordinate, exponent
from interpkern.probing.sensitivity import ALPHA, SHARES

if TYPE_CHECKING:
    from interpkern.probing.circle_test import CircleTest

NEGLIGIBLE = 0.001
"""A circle that explains less of the variance than this is none worth the name, whatever its p."""
ELSEWHERE = ("coordinate", "digit", "duplicated rows")
"""Words of warnings that name another explanation."""
NAMES = {0.0: "ln n", 0.5: "sqrt n", 1.0: "n"}


def coordinate_name(coordinate: Coordinate) -> str:
    """How a coordinate is written."""
    power = exponent(coordinate)
    return NAMES.get(power, f"(n^{power:g} - 1) / {power:g}")


def verdict(test: "CircleTest") -> str:
    """What follows from a test, with the smallest circle that would have been seen where it found none."""
    name, unit = coordinate_name(test.coordinate), "nats" if test.coordinate == "log" else "units"
    if test.p_value > ALPHA:
        return f"no evidence of a circle in {name} (p = {test.p_value:.3g}){_seen(test.minimum_detectable, unit)}"
    at = f"at a period of {test.period:.3g} {unit}"
    if test.coordinate == "log":
        at += f", a turn for each factor of {test.ratio:.3g}"
    if test.null == "permutation":
        return f"some structure, which need not be a circle, is largest {at} (p = {test.p_value:.3g} by permutation)"
    if test.power < NEGLIGIBLE:
        return (
            f"no evidence of a circle in {name}: what stands out {at} (p = {test.p_value:.3g}) is {test.power:.2g} of"
            f" the variance{_seen(test.minimum_detectable, unit)}"
        )
    elsewhere = any(word in text for text in test.warnings for word in ELSEWHERE)
    caution = "; but see the warnings, which name another explanation" if elsewhere else ""
    return f"evidence of a circle in {name} {at} (p = {test.p_value:.3g}, {test.power:.1%} of the variance){caution}"


def _seen(detectable: dict[float, float], unit: str) -> str:
    if not detectable:
        return "; how small a circle would have been seen was not asked for"
    by_share: dict[float, list[str]] = {}
    for period, share in detectable.items():
        by_share.setdefault(share, []).append(f"{period:.3g}")
    none = f"up to {SHARES[-1]:.0%} at {_listed(by_share[math.inf])} {unit}" if math.inf in by_share else ""
    parts = [
        f">= {share:.0%} of the variance at {_listed(by_share[share])} {unit}"
        for share in sorted(by_share)
        if math.isfinite(share)
    ]
    if not parts:
        return f"; no circle {none} would have been seen"
    return f"; a circle of {', '.join(parts)} would have been seen{f', none {none}' if none else ''}"


def _listed(periods: list[str]) -> str:
    return periods[0] if len(periods) == 1 else f"{', '.join(periods[:-1])} and {periods[-1]}"
