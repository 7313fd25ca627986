"""Null distributions of the largest power over the frequencies, by permutation and by coloured surrogates."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch

from interpkern.probing.coloured import Coloured, fit_coloured
from interpkern.probing.contrast import Contrast, contrast, pairs_within
from interpkern.probing.covariance_kernels import kernels
from interpkern.probing.pair_power import Block, blocks_of, largest_power, pair_power, sets_at_once
from interpkern.probing.residuals import Residuals, orthonormal_pairs
from interpkern.progress import Progress

BAND = (0.025, 0.975)
APART = 2.0
"""Cycles over the numbers from which two periods are others to each other."""


class Largest(NamedTuple):
    """Statistics and where they are."""

    values: torch.Tensor
    """(P,) float64."""
    places: torch.Tensor
    """(P,) int64 of the frequencies."""


@dataclass(frozen=True, eq=False)
class Found:
    """An observed statistic among those of its null."""

    statistic: float
    """Largest over the frequencies."""
    place: int
    """The frequency where it is largest."""
    null: torch.Tensor
    """(P,) float64 the same of the surrogates."""
    band: torch.Tensor
    """(2, F) float64 power as a share of the variance between which 95 % of the surrogates lie."""

    @property
    def p_value(self) -> float:
        """(1 + #{null >= observed}) / (P + 1)."""
        return (1 + int((self.null >= self.statistic).sum())) / (len(self.null) + 1)


@dataclass(frozen=True, eq=False)
class Standard:
    """How each frequency's log ratio varies under the null, and how to read one against it."""

    mean: torch.Tensor
    """(F,) float64."""
    deviation: torch.Tensor
    """(F,) float64."""
    cycles: torch.Tensor
    """(F,) float64 that the frequencies make over the numbers."""

    def largest(self, compared: Contrast, sets: torch.Tensor, log_ratios: torch.Tensor) -> Largest:
        """The statistics of (m, P, C) sets with (P, F) log ratios.

        The largest standardised value over the root mean square of those at other periods, once the circle of its own
        period is regressed out, where that is above 1: a null that misses the shape of the data is off at all periods,
        and a circle at one.
        """
        top = self._scores(log_ratios).max(1)
        places = top.indices.to(sets.device)
        others = self._scores(compared.log_ratios(compared.without(sets, places)))
        apart = (self.cycles - self.cycles[top.indices, None]).abs() > APART - 1e-6
        spread = ((others.square() * apart).sum(1) / apart.sum(1).clamp(min=1)).sqrt()
        return Largest(top.values / spread.clamp(min=1.0), top.indices)

    def _scores(self, log_ratios: torch.Tensor) -> torch.Tensor:
        return (log_ratios.double().cpu() - self.mean) / self.deviation


@dataclass(frozen=True, eq=False)
class ColouredNull:
    """A fitted coloured null with its surrogates' log ratios."""

    model: Coloured
    contrast: Contrast
    """In float32."""
    log_ratios: torch.Tensor
    """(P, F) float64 of the surrogates."""
    band: torch.Tensor
    """(2, F) float64."""
    cycles: torch.Tensor
    """(F,) float64."""
    seed: int
    device: torch.device

    def standard(self, observed: torch.Tensor | None = None) -> Standard:
        """From the surrogates, and from the observed (F,) log ratios as one more of them."""
        rows = self.log_ratios if observed is None else torch.cat([self.log_ratios, observed[None]])
        return Standard(rows.mean(0), rows.std(0).clamp(min=1e-12), self.cycles)

    def statistics(self, standard: Standard) -> torch.Tensor:
        """(P,) float64 of the surrogates, which are drawn again rather than kept."""
        found, start = [], 0
        for sets in drawn(self.model, len(self.log_ratios), self.seed, self.device):
            ratios = self.log_ratios[start : start + sets.shape[1]]
            found.append(standard.largest(self.contrast, sets, ratios).values)
            start += sets.shape[1]
        return torch.cat(found)


def drawn(model: Coloured, surrogates: int, seed: int, device: torch.device) -> Iterator[torch.Tensor]:
    """The surrogates of a seed, (m, P, C) at a time."""
    return model.draws(surrogates, torch.Generator().manual_seed(seed), device)


def coloured_null(
    left: Residuals,
    numbers: torch.Tensor,
    frequencies: torch.Tensor,
    surrogates: int,
    seed: int,
    *,
    device: torch.device,
    band: bool = True,
    report: Progress | None = None,
) -> ColouredNull:
    """Fit the coloured null to components and draw surrogates from it."""
    space = kernels(numbers, left.nuisance)
    model = fit_coloured(space, space.basis.mT @ left.components)
    compared, cycles = contrast(model, left, frequencies, torch.float32, device), frequencies * left.range
    blocks = blocks_of(pairs_within(space.basis, left, frequencies), cycles, torch.float32, device) if band else []
    ratios, shares, done = [], [], 0
    for sets in drawn(model, surrogates, seed, device):
        ratios.append(compared.log_ratios(sets).double().cpu())
        if band:
            shares.append((pair_power(blocks, sets) / sets.square().sum((0, 2))[:, None]).double().cpu())
        done += sets.shape[1]
        if report is not None:
            report(done, surrogates)
    limits = _band(torch.cat(shares)) if band else torch.empty(2, 0)
    return ColouredNull(model, compared, torch.cat(ratios), limits, cycles, seed, device)


def against_coloured(null: ColouredNull, left: Residuals, frequencies: torch.Tensor) -> Found:
    """The components that the null was fitted to, in float64, among its surrogates."""
    exact = contrast(null.model, left, frequencies, torch.float64, torch.device("cpu"))
    sets = (null.model.kernels.basis.mT @ left.components)[:, None]
    observed = exact.log_ratios(sets)
    standard = null.standard(observed[0])
    largest = standard.largest(exact, sets, observed)
    return Found(float(largest.values[0]), int(largest.places[0]), null.statistics(standard), null.band)


def against_permutations(
    left: Residuals,
    power: torch.Tensor,
    frequencies: torch.Tensor,
    surrogates: int,
    seed: int,
    *,
    device: torch.device,
    report: Progress | None = None,
) -> Found:
    """The largest of the observed (F,) power among those of rows of the components in random order."""
    blocks = permutation_blocks(left, frequencies, device)
    generator = torch.Generator().manual_seed(seed)
    rows, nuisance = left.components.float().to(device), left.nuisance.float().to(device)
    count, channels = rows.shape
    largest, shares, done = [], [], 0
    while done < surrogates:
        batch = min(sets_at_once(count, channels), surrogates - done)
        order = torch.stack([torch.randperm(count, generator=generator) for _ in range(batch)], 1).to(device)
        sets = rows[order]
        kept = rows.square().sum() - (nuisance.mT @ sets.flatten(1)).reshape(-1, batch, channels).square().sum((0, 2))
        largest.append((largest_power(blocks, sets) / kept).double().cpu())
        shares.append((pair_power(blocks, sets) / kept[:, None]).double().cpu())
        done += batch
        if report is not None:
            report(done, surrogates)
    place = int(power.argmax())
    return Found(float(power[place]), place, torch.cat(largest), _band(torch.cat(shares)))


def permutation_blocks(left: Residuals, frequencies: torch.Tensor, device: torch.device) -> list[Block]:
    """Blocks of the pairs of the plain scan."""
    pairs = orthonormal_pairs(left.pairs(frequencies), left.root_weights.norm())[0]
    return blocks_of(pairs, frequencies * left.range, torch.float32, device)


def _band(shares: torch.Tensor) -> torch.Tensor:
    return torch.quantile(shares, torch.tensor(BAND, dtype=torch.float64), dim=0)
