"""Null distributions of the largest power over the frequencies, by permutation and by coloured surrogates."""

from dataclasses import dataclass

import torch

from interpkern.probing.coloured import Coloured, fit_coloured
from interpkern.probing.contrast import Contrast, contrast
from interpkern.probing.covariance_kernels import kernels
from interpkern.probing.pair_power import Block, blocks_of, largest_power, pair_power, sets_at_once
from interpkern.probing.residuals import Residuals, orthonormal_pairs
from interpkern.progress import Progress

BAND = (0.025, 0.975)


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
    """Mean and standard deviation of each frequency's log ratio under the null."""

    mean: torch.Tensor
    """(F,) float64."""
    deviation: torch.Tensor
    """(F,) float64."""

    def largest(self, log_ratios: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(P,) largest standardised value of (P, F) log ratios, and its place."""
        found = ((log_ratios.double().cpu() - self.mean) / self.deviation).max(1)
        return found.values, found.indices


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

    def standard(self, observed: torch.Tensor | None = None) -> Standard:
        """From the surrogates, and from the observed (F,) log ratios as one more of them."""
        rows = self.log_ratios if observed is None else torch.cat([self.log_ratios, observed[None]])
        return Standard(rows.mean(0), rows.std(0).clamp(min=1e-12))


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
    compared = contrast(model, left, frequencies, torch.float32, device)
    blocks = _blocks_in(space.basis, left, frequencies, device) if band else []
    generator = torch.Generator().manual_seed(seed)
    ratios, shares, done = [], [], 0
    for sets in model.draws(surrogates, generator, device):
        ratios.append(compared.log_ratios(sets).double().cpu())
        if band:
            shares.append((pair_power(blocks, sets) / sets.square().sum((0, 2))[:, None]).double().cpu())
        done += sets.shape[1]
        if report is not None:
            report(done, surrogates)
    return ColouredNull(model, compared, torch.cat(ratios), _band(torch.cat(shares)) if band else torch.empty(2, 0))


def against_coloured(null: ColouredNull, left: Residuals, frequencies: torch.Tensor) -> Found:
    """The components that the null was fitted to, in float64, among its surrogates."""
    exact = contrast(null.model, left, frequencies, torch.float64, torch.device("cpu"))
    observed = exact.log_ratios((null.model.kernels.basis.mT @ left.components)[:, None])
    standard = null.standard(observed[0])
    statistic, place = standard.largest(observed)
    return Found(float(statistic[0]), int(place[0]), standard.largest(null.log_ratios)[0], null.band)


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


def _blocks_in(basis: torch.Tensor, left: Residuals, frequencies: torch.Tensor, device: torch.device) -> list[Block]:
    """The same in the basis of the kernels."""
    pairs = orthonormal_pairs(left.pairs(frequencies), left.root_weights.norm())[0]
    within = (basis.mT @ pairs.flatten(1)).reshape(basis.shape[1], 2, -1)
    return blocks_of(within, frequencies * left.range, torch.float32, device)


def _band(shares: torch.Tensor) -> torch.Tensor:
    return torch.quantile(shares, torch.tensor(BAND, dtype=torch.float64), dim=0)
