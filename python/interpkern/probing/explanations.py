"""What else than a circle in the tested coordinate explains a finding: another coordinate, the digits."""

import math
from dataclasses import replace

import torch

from interpkern.probing.coloured import channel_whiteners
from interpkern.probing.contrast import whitened_pairs
from interpkern.probing.nulls import ColouredNull
from interpkern.probing.numbers import Numbered, coordinate, exponent
from interpkern.probing.residuals import NUISANCES, Residuals, nuisance_columns, orthonormal, orthonormal_pairs
from interpkern.probing.sensitivity import ALPHA
from interpkern.probing.spectrum import Scan, near_leading_digit, powers
from interpkern.probing.verdicts import coordinate_name

LAMBDAS = tuple(step / 8 for step in range(-4, 9))
COARSE = 0.25
APART = 0.2
"""Lambdas that differ by more are different coordinates."""
LOST = 0.5
"""Digits explain a peak that loses this share of its power when they are taken out."""


def best_coordinate(
    left: Residuals, numbers: torch.Tensor, scan: Scan, null: ColouredNull | None
) -> dict[float, float]:
    """{lambda: share of the variance at its best period}, every quarter and about the best of them every eighth."""
    cycles = scan.frequencies * left.range
    found: dict[float, float] = {}

    def try_out(power: float) -> None:
        try:
            positions = coordinate(numbers, power)
        except ValueError:
            return  # numbers so large, or so near each other, that this power doesn't tell them apart
        moved = replace(left, positions=positions)
        found[power] = _largest(moved, cycles / moved.range, null)

    for power in LAMBDAS:
        if power % COARSE == 0:
            try_out(power)
    best = max(found, key=found.__getitem__)
    for power in LAMBDAS:
        if abs(power - best) == COARSE / 2:
            try_out(power)
    return dict(sorted(found.items()))


def explanations(
    data: Numbered, left: Residuals, scan: Scan, frequency: float, power: float, best: float, p_value: float
) -> list[str]:
    """Sentences on a finding; none where there is nothing to explain."""
    found: list[str] = []
    period = 1 / frequency
    k = near_leading_digit(period) if scan.coordinate == "log" else None
    if p_value > ALPHA:
        return found
    if abs(best - exponent(scan.coordinate)) > APART:
        found.append(
            f"a circle in another coordinate explains more: lambda = {best:g}, that is {coordinate_name(best)}, against"
            f" {coordinate_name(scan.coordinate)}"
        )
    if k is not None:
        found.append(
            f"the period {period:.3g} is ln 10 / {k} to within 3 %, where the leading digit repeats; test again with"
            " nuisance='leading digit'"
        )
    lost = _lost_to_digits(data, left, frequency, power)
    if lost > LOST:
        found.append(f"{lost:.0%} of the power at this period goes when the first and the last digit are regressed out")
    return found


def null_warnings(null: str) -> list[str]:
    """What a null can't do."""
    if null != "permutation":
        return []
    return [
        "label permutation tests only whether there is any structure, and rejects activations that are merely smooth"
        " in n: it cannot support the claim of a circle; use null='coloured'"
    ]


def _largest(left: Residuals, frequencies: torch.Tensor, null: ColouredNull | None) -> float:
    if null is None:
        return float(powers(left, frequencies)[0].sum(1).max())
    white = null.model.whitener @ (null.model.kernels.basis.mT @ left.components)
    white = white @ channel_whiteners(white[:, None])[0]
    products = torch.einsum("mjf,mc->jfc", whitened_pairs(null.model, left, frequencies), white)
    return float(products.square().sum((0, 2)).max() / white.square().sum())


def _lost_to_digits(data: Numbered, left: Residuals, frequency: float, power: float) -> float:
    """The share of the variance that the pair explains, lost when digits join the nuisance."""
    if not data.are_integers or power <= 0:
        return 0.0
    columns = nuisance_columns(NUISANCES[2:], data, left.positions) * left.root_weights[:, None]
    basis = orthonormal(torch.cat([left.nuisance, columns], 1))
    if basis.shape[1] > len(left.positions) - 8:
        return 0.0
    told = replace(left, nuisance=basis)
    components = told.project(left.components)
    pair, _ = orthonormal_pairs(told.pairs(torch.tensor([frequency], dtype=torch.float64)), left.root_weights.norm())
    kept = torch.einsum("njf,nc->jfc", pair, components).square().sum() / left.components.square().sum()
    return 1 - min(1.0, float(kept) / power) if math.isfinite(power) else 0.0
