"""The smallest circle that a test would have seen in the same activations, by planting some."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

from interpkern.probing.components import principal_components
from interpkern.probing.nulls import ColouredNull, coloured_null
from interpkern.probing.numbers import Coordinate, Numbered
from interpkern.probing.pair_power import Block, largest_power, pair_power
from interpkern.probing.residuals import Residuals, waves
from interpkern.progress import Progress

NATS = (0.3, 0.5, 0.77, 1.0, 1.5)
CYCLES = (20.0, 12.0, 8.0, 6.0, 4.0)
"""Over the range, for coordinates other than ln n."""
SHARES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0)
PLANTS, POWER, ALPHA = 20, 0.8, 0.05
NEAR = 0.1
"""A planted circle is found at its period to within a tenth."""
MOST_SURROGATES = 99


@dataclass(frozen=True, eq=False)
class Setting:
    """What a test looks at, so that it can be run again on activations with a circle in them."""

    data: Numbered
    left: Residuals
    frequencies: torch.Tensor
    surrogates: int
    seed: int
    device: torch.device


Finds = Callable[[list[Residuals]], list[tuple[bool, int]]]
"""Of each set of components, whether its p is at most ALPHA and at which frequency."""


def minimum_detectable(
    setting: Setting, kind: Coordinate, threshold: tuple[list[Block], float] | None, report: Progress | None
) -> dict[float, float]:
    """{period: variance of a circle, over that of the activations, which 80 % of tests find}; inf where none would."""
    finds = _by_coloured(setting) if threshold is None else _by_permutation(setting, *threshold)
    periods = planted_periods(setting, kind)
    steps = math.ceil(math.log2(len(SHARES) + 1))
    found = {}
    for place, period in enumerate(periods):
        low, high, step = 0, len(SHARES), 0
        while low < high:
            middle = (low + high) // 2
            if _detected(setting, finds, period, SHARES[middle]) >= POWER:
                high = middle
            else:
                low = middle + 1
            step += 1
            if report is not None:
                report(place * steps + step, len(periods) * steps)
        found[period] = SHARES[low] if low < len(SHARES) else math.inf
    return found


def planted_periods(setting: Setting, kind: Coordinate) -> list[float]:
    """Those that the frequencies cover."""
    spread = setting.left.range
    wanted = NATS if kind == "log" else tuple(spread / cycles for cycles in CYCLES)
    shortest, longest = float(1 / setting.frequencies.max()), float(1 / setting.frequencies.min())
    return [period for period in wanted if shortest <= period <= longest * (1 + 1e-9)]


def _detected(setting: Setting, finds: Finds, period: float, share: float) -> float:
    """The share of planted circles that are found at their period."""
    found = finds(_planted(setting, period, share))
    periods = 1 / setting.frequencies
    return sum(seen and abs(float(periods[place]) / period - 1) < NEAR for seen, place in found) / len(found)


def _planted(setting: Setting, period: float, share: float) -> list[Residuals]:
    """Components of the activations with a circle in a random plane among their main directions."""
    channels = setting.left.components.shape[1]
    acts = setting.data.acts
    width = min(2 * channels, *acts.shape)
    scores = principal_components(acts, width).scores
    variance = (acts - acts.mean(0)).square().sum()
    generator = torch.Generator().manual_seed(setting.seed + 1)
    circle = waves(setting.left.positions, torch.tensor([1 / period], dtype=torch.float64))[..., 0]
    circle = circle - circle.mean(0)
    size = (share * variance / circle.square().sum()).sqrt()
    found = []
    for _ in range(PLANTS):
        plane = torch.randn(width, 2, generator=generator, dtype=torch.float64)
        plane = torch.linalg.qr(plane).Q if width > 1 else plane / plane.norm()
        with_circle = scores + size * circle @ plane.mT
        directions = torch.linalg.eigh(with_circle.mT @ with_circle).eigenvectors[:, -channels:]
        components = with_circle @ directions * setting.left.root_weights[:, None]
        found.append(replace(setting.left, components=setting.left.project(components)))
    return found


def _by_coloured(setting: Setting) -> Finds:
    """A null is fitted to the first planted set and serves the others, which have as large a circle."""

    def finds(sets: list[Residuals]) -> list[tuple[bool, int]]:
        null: ColouredNull = coloured_null(
            sets[0],
            setting.data.numbers,
            setting.frequencies,
            min(setting.surrogates, MOST_SURROGATES),
            setting.seed,
            device=setting.device,
            band=False,
        )
        basis = null.model.kernels.basis
        stacked = torch.stack([basis.mT @ one.components for one in sets], 1).float().to(setting.device)
        standard = null.standard()
        surrogates = null.statistics(standard)
        found = standard.largest(null.contrast, stacked, null.contrast.log_ratios(stacked))
        return [
            ((1 + int((surrogates >= value).sum())) / (len(surrogates) + 1) <= ALPHA, int(place))
            for value, place in zip(found.values, found.places, strict=True)
        ]

    return finds


def _by_permutation(setting: Setting, blocks: list[Block], threshold: float) -> Finds:
    """Permuted rows have nearly the same null, with a circle and without."""

    def finds(sets: list[Residuals]) -> list[tuple[bool, int]]:
        stacked = torch.stack([one.components for one in sets], 1).float().to(setting.device)
        total = stacked.square().sum((0, 2))
        largest = largest_power(blocks, stacked) / total
        places = pair_power(blocks, stacked).argmax(1)
        return [(float(value) > threshold, int(place)) for value, place in zip(largest, places, strict=True)]

    return finds
