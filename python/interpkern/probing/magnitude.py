"""Whether a component follows the size of numbers, and on which scale: log, sqrt or linear, or only digit count."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas
import torch
from scipy.stats import norm
from scipy.stats import t as student_t

from interpkern.probing.components import principal_components
from interpkern.probing.numbers import checked, coordinate, digit_count
from interpkern.random import check_seed
from interpkern.validation import integer, number

SCALES = ("linear", "sqrt", "log")
GRID = (-1.0, 2.0, 121)
"""Of the exponent: smallest, largest, steps of .025."""
BLOCK = 30
"""Neighbouring numbers whose deviations are drawn together."""
FIGURES = ("eigenvalue_share", "r", "r_within", "exponent", "low", "high")
LEVEL = 0.05
POWER_80 = 0.8416
"""The standard normal deviate below which 80 % lie."""
NAMED = {"log": 0.0, "sqrt": 0.5, "linear": 1.0}


@dataclass(frozen=True)
class Magnitude:
    """The component that follows the size of numbers best, both over all and among those of one digit count."""

    layer: int
    component: int
    """1-based, of this layer's principal components."""
    eigenvalue_share: float
    """Of the layer's variance."""
    r: float
    """Largest |correlation| with n, sqrt n or ln n."""
    r_within: float
    """The same with the mean of each digit count taken off both."""
    p_value: float
    """Of r_within, against the largest over components, scales and layers of numbers permuted within digit counts."""
    detectable_r: float
    """The |r_within| that would have been found at .05 with 80 % power."""
    exponent: float
    """lambda for which the component follows (n^lambda - 1) / lambda best: 0 log, .5 sqrt, 1 linear."""
    low: float
    high: float
    """Its 95 % interval."""
    p_log: float
    """That the exponent is 0, two-sided."""
    detectable_exponent: float
    """The distance from 0 that would have been found at .05 with 80 % power."""
    r_squared: Mapping[str, float]
    """Of the component on each scale, on digit count (a mean for each), and on the best exponent."""
    p_digits: float
    """That digit count explains the component as well as the best exponent."""
    confidence: float
    layers: pandas.DataFrame
    """layer, component, eigenvalue_share, r, r_within, exponent, low, high: the best component of each layer."""

    @property
    def scales(self) -> tuple[str, ...]:
        """The scales inside the interval."""
        return tuple(name for name, exponent in NAMED.items() if self.low <= exponent <= self.high)

    def to_pandas(self) -> pandas.DataFrame:
        """The best component of each layer."""
        return self.layers.copy()


def magnitude_test(
    activations: Mapping[int, Any],
    numbers: Any,
    *,
    components: int = 20,
    surrogates: int = 199,
    bootstrap: int = 999,
    confidence: float = 0.95,
    seed: int = 0,
) -> Magnitude:
    """Test every layer's components for the size of numbers, and measure the scale of the one that follows it best.

    The null of the test permutes numbers among those with as many digits: it holds for the claim that a component tells
    numbers of equal length apart by size, and for no claim about the scale. The scale's interval draws deviations from
    the fitted line in blocks of neighbouring numbers, since neighbours deviate alike.

    Args:
        activations: {layer: (N, D) floats}.
        numbers: (N,) positive.
        components: principal components of each layer, at most N - 1 and D.
        surrogates: permutations.
        bootstrap: draws for the interval of the exponent.
        confidence: of that interval.
        seed: of both.

    Returns:
        Magnitude.

    Raises:
        ShapeError, DTypeError, ValueError: arrays or numbers that don't fit, as `circle_test` refuses them.

    Example:
        >>> numbers = torch.arange(1, 200)
        >>> planted = numbers.double().log()[:, None] * torch.ones(1, 8) + 0.1 * torch.randn(200 - 1, 8)
        >>> magnitude_test({0: planted}, numbers).scales
        ('log',)
    """
    generator = torch.Generator().manual_seed(check_seed(seed))
    draws, resamples = integer("surrogates", surrogates, 1), integer("bootstrap", bootstrap, 2)
    level = number("confidence", confidence, 0.5, below=1.0)
    layers = {layer: checked(rows, numbers) for layer, rows in activations.items()}
    sorted_numbers = next(iter(layers.values())).numbers
    scores = {layer: _scores(one.acts, components) for layer, one in layers.items()}
    digits = digit_count(sorted_numbers)
    within = _Correlations(sorted_numbers, digits)
    null = within.null(torch.cat([found for found, _ in scores.values()], dim=1), draws, generator)
    overall = _Correlations(sorted_numbers, torch.ones_like(digits))
    strengths = {layer: (overall.largest(found), within.largest(found)) for layer, (found, _) in scores.items()}
    chosen = {layer: int(torch.stack(both).amin(dim=0).argmax()) for layer, both in strengths.items()}
    best = max(chosen, key=lambda layer: float(min(both[chosen[layer]] for both in strengths[layer])))
    p_value = _p(null, strengths[best][1][chosen[best]])
    if p_value > LEVEL:  # what follows digit count alone is of interest then
        chosen = {layer: int(both[0].argmax()) for layer, both in strengths.items()}
        best = max(chosen, key=lambda layer: float(strengths[layer][0][chosen[layer]]))
        p_value = _p(null, strengths[best][1][chosen[best]])
    scales = {
        layer: _Scale(scores[layer][0][:, place], sorted_numbers, resamples, level, generator)
        for layer, place in chosen.items()
    }
    table = _table(chosen, {layer: shares for layer, (_, shares) in scores.items()}, strengths, scales)
    own = table.set_index("layer").loc[best]
    return Magnitude(
        layer=best,
        component=chosen[best] + 1,
        p_value=p_value,
        detectable_r=_detectable(float(null.quantile(0.95)), len(sorted_numbers)),
        p_log=scales[best].p_log,
        detectable_exponent=scales[best].detectable,
        r_squared=scales[best].r_squared,
        p_digits=scales[best].p_digits,
        confidence=level,
        layers=table,
        **{name: float(own[name]) for name in FIGURES},
    )


def _table(
    chosen: Mapping[int, int],
    shares: Mapping[int, torch.Tensor],
    strengths: Mapping[int, tuple[torch.Tensor, torch.Tensor]],
    scales: Mapping[int, "_Scale"],
) -> pandas.DataFrame:
    """One row a layer: its component, 1-based, and FIGURES of it."""
    rows = []
    for layer, place in chosen.items():
        overall, within = (float(both[place]) for both in strengths[layer])
        scale = scales[layer]
        figures = (float(shares[layer][place]), overall, within, scale.exponent, scale.low, scale.high)
        rows.append((layer, place + 1, *figures))
    return pandas.DataFrame(rows, columns=["layer", "component", *FIGURES])


def _p(null: torch.Tensor, observed: torch.Tensor) -> float:
    return (1 + int((null >= observed - 1e-12).sum())) / (len(null) + 1)


def _scores(acts: torch.Tensor, components: int) -> tuple[torch.Tensor, torch.Tensor]:
    """(N, C) principal components and the (C,) shares of the variance."""
    wanted = min(integer("components", components, 1), len(acts) - 1, acts.shape[1])
    found = principal_components(acts, wanted)
    return found.scores, found.variances / acts.var(dim=0, correction=0).sum()


def _detectable(threshold: float, count: int) -> float:
    """The correlation that passes a threshold in 80 % of samples (Fisher's z)."""
    z = torch.atanh(torch.tensor(threshold, dtype=torch.float64)) + POWER_80 / max(count - 3, 1) ** 0.5
    return float(torch.tanh(z))


def _unit(columns: torch.Tensor) -> torch.Tensor:
    """Columns of length 1; those of length 0 stay 0."""
    length = columns.norm(dim=0)
    return columns / torch.where(length > 0, length, 1.0)


class _Correlations:
    """Correlations of components with the scales, the mean of each group of numbers taken off both."""

    def __init__(self, numbers: torch.Tensor, group: torch.Tensor) -> None:
        self._groups = [torch.nonzero(group == name)[:, 0] for name in group.unique()]
        self._scales = _unit(self._centred(torch.stack([coordinate(numbers, scale) for scale in SCALES], dim=1)))

    def _centred(self, columns: torch.Tensor) -> torch.Tensor:
        centred = columns.clone()
        for rows in self._groups:
            centred[rows] -= columns[rows].mean(dim=0)
        return centred

    def largest(self, scores: torch.Tensor) -> torch.Tensor:
        """(C,) the largest |r| over the scales."""
        return (_unit(self._centred(scores)).T @ self._scales).abs().amax(dim=1)

    def null(self, scores: torch.Tensor, draws: int, generator: torch.Generator) -> torch.Tensor:
        """(draws,) the largest |r| over components and scales, numbers permuted within each group."""
        unit = _unit(self._centred(scores))
        largest = []
        for _ in range(draws):
            order = torch.empty(len(scores), dtype=torch.int64)
            for rows in self._groups:
                order[rows] = rows[torch.randperm(len(rows), generator=generator)]
            largest.append((unit.T @ self._scales[order]).abs().max())
        return torch.stack(largest)


class _Scale:
    """The exponent on whose scale a component is a line, with an interval."""

    def __init__(
        self, component: torch.Tensor, numbers: torch.Tensor, draws: int, confidence: float, generator: torch.Generator
    ) -> None:
        exponents = torch.linspace(*GRID, dtype=torch.float64)
        columns = _unit(_centred(torch.stack([coordinate(numbers, float(power)) for power in exponents], dim=1)))
        digits = _indicators(numbers)
        z = _centred(component[:, None])
        fits = (columns.T @ _unit(z))[:, 0].square()
        peak = int(fits.argmax())
        self.exponent = float(_peaks(fits[:, None], exponents)[0])
        named = {name: float(fits[(exponents - power).abs().argmin()]) for name, power in NAMED.items()}
        by_digits = float((digits.T @ _unit(z)).square().sum())
        self.r_squared = named | {"digits": by_digits, "best exponent": float(fits[peak])}
        fitted = columns[:, [peak]] * (columns[:, peak] @ z)
        resampled = _unit(_centred(fitted + _blocks((z - fitted)[:, 0], draws, generator)))
        drawn_fits = (columns.T @ resampled).square()
        drawn = _peaks(drawn_fits, exponents)
        tail = (1 - confidence) / 2
        self.low, self.high = float(drawn.quantile(tail)), float(drawn.quantile(1 - tail))
        self.p_log = _two_sided(drawn)
        self.detectable = float(drawn.std()) * (1.96 + POWER_80)
        gain = drawn_fits.amax(dim=0) - (digits.T @ resampled).square().sum(dim=0)
        self.p_digits = (1 + int((gain <= 0).sum())) / (draws + 1)


def _centred(columns: torch.Tensor) -> torch.Tensor:
    return columns - columns.mean(dim=0)


def _peaks(fits: torch.Tensor, exponents: torch.Tensor) -> torch.Tensor:
    """(draws,) where each column of (exponents, draws) is highest, between the steps by a parabola."""
    peak = fits.argmax(dim=0)
    inside = peak.clamp(1, len(fits) - 2)
    below, at, above = (fits.gather(0, (inside + step)[None])[0] for step in (-1, 0, 1))
    bend = (below - 2 * at + above).clamp(max=-1e-300)
    shift = (0.5 * (below - above) / bend).clamp(-0.5, 0.5)
    return exponents[peak] + torch.where(peak == inside, shift, 0.0) * (exponents[1] - exponents[0])


def _indicators(numbers: torch.Tensor) -> torch.Tensor:
    """An orthonormal basis of functions of the digit count with mean 0."""
    digits = digit_count(numbers)
    of_count = (digits[:, None] == digits.unique()).double()
    left, sizes, _ = torch.linalg.svd(_centred(of_count), full_matrices=False)
    return left[:, sizes > 1e-9 * sizes.max().clamp(min=1e-300)]


def _blocks(residual: torch.Tensor, draws: int, generator: torch.Generator) -> torch.Tensor:
    """(N, draws) of the deviations, put together from blocks of neighbours that may go round the end."""
    count = len(residual)
    length = min(BLOCK, max(1, count // 4))
    wider = float(student_t.ppf(0.975, count / length - 1) / norm.ppf(0.975))  # a few blocks vary less than their like
    starts = torch.randint(count, (-(-count // length), draws), generator=generator)
    places = (starts[:, None] + torch.arange(length)[None, :, None]).reshape(-1, draws)[:count] % count
    return wider * residual[places]


def _two_sided(drawn: torch.Tensor) -> float:
    below, above = int((drawn <= 0).sum()), int((drawn >= 0).sum())
    return min(1.0, 2 * (1 + min(below, above)) / (len(drawn) + 1))
