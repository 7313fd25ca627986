"""How far the power at each period stands above what the background predicts for it.

All is seen through the fitted null's whitening, which makes the best use of every octave, and with the channels made
equal, so that a circle is seen where the rest varies little. The background at a period is fitted to the same
activations; at long periods, where smooth kernels could take a circle for themselves, with the pair of that period
left out.
"""

from dataclasses import dataclass

import torch

from interpkern.probing.coloured import Coloured, channel_whiteners
from interpkern.probing.covariance_kernels import Kernels
from interpkern.probing.nonnegative import nonnegative_fits, refined
from interpkern.probing.pair_power import Block, blocks_of, pair_power
from interpkern.probing.residuals import Residuals, orthonormal_pairs

LEFT_OUT_CYCLES = 12.0
"""Periods of fewer cycles over the numbers have their pair left out of the background's fit."""
FLOOR = 0.1
"""Of the mean power of a pair: added to both sides, so that periods with no power at all can't stand out."""


@dataclass(frozen=True, eq=False)
class Contrast:
    """What is needed to compare sets of channels with their own background; float64 or float32."""

    kernels: Kernels
    whitener: torch.Tensor
    """(m, m)."""
    blocks: list[Block]
    """Of the whitened, orthonormal pairs of all frequencies."""
    long: torch.Tensor
    """(m, 2 L) whitened pairs of the L frequencies whose pair is left out: cosines, then sines."""
    explained: torch.Tensor
    """(F, K) power of each kernel at each frequency."""
    roots: torch.Tensor
    """(m, R) their roots side by side, whitened."""
    gram: torch.Tensor
    """(K, K) float64 inner products of the whitened kernels."""
    seen: torch.Tensor
    """(R, 2 L) the long pairs through the roots."""
    within: torch.Tensor
    """(K, L, 2, 2) what each kernel explains of a long pair."""
    long_grams: torch.Tensor
    """(L, K, K) inner products with the pair projected out of both kernels."""
    circles: torch.Tensor
    """(m, 2, F) orthonormal pairs as they are in the sets, not whitened."""

    def log_ratios(self, sets: torch.Tensor) -> torch.Tensor:
        """(P, F) ln of power over background, for (m, P, C) sets of channels that are not yet whitened."""
        white = (self.whitener @ sets.to(self.whitener.dtype).flatten(1)).reshape(sets.shape)
        white = torch.einsum("mpc,pcd->mpd", white, channel_whiteners(white).to(white))
        channels = white.shape[2]
        power = pair_power(self.blocks, white) / channels
        background = self._background(white)
        floor = FLOOR * 2 * white.square().sum((0, 2)) / (channels * len(white))
        return ((power + floor[:, None]) / (background + floor[:, None])).log()

    def without(self, sets: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
        """The (m, P, C) sets with the circle of one of the frequencies, (P,), regressed out of each."""
        pairs = self.circles[:, :, places].permute(2, 0, 1)
        by_set = sets.to(pairs.dtype).permute(1, 0, 2)
        return (by_set - pairs @ (pairs.mT @ by_set)).permute(1, 0, 2)

    def _background(self, white: torch.Tensor) -> torch.Tensor:
        """(P, F) power that the kernels predict."""
        _, sets, channels = white.shape
        through = (self.roots.mT @ white.flatten(1)).reshape(-1, sets, channels)
        targets = self.kernels.summed(through.square().sum(2)).mT / channels
        sizes = nonnegative_fits(self.gram, targets).to(white)
        background = sizes @ self.explained.mT
        count = self.long.shape[1] // 2
        if count:
            start = sizes[:, None].expand(-1, count, -1)
            fitted = refined(self.long_grams, self._left_out(white, through, targets), start)
            background[:, :count] = (fitted * self.explained[:count]).sum(2)
        return background

    def _left_out(self, white: torch.Tensor, through: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """(P, L, K) inner products of each kernel with the sets, the pair projected out of both."""
        count, (_, sets, channels) = self.long.shape[1] // 2, white.shape
        along = (self.long.mT @ white.flatten(1)).reshape(2, count, sets, channels)
        (cosines, sines), mixed = along.square().sum(3), (along[0] * along[1]).sum(2)
        found = targets[:, None].repeat(1, count, 1)
        ranks = self.kernels.ranks
        for kind, (pairs, rows) in enumerate(zip(self.seen.split(ranks), through.split(ranks), strict=True)):
            crossed = (pairs.mT @ rows.flatten(1)).reshape(along.shape)
            share = self.within[kind, :, :, :, None]
            both = share[:, 0, 0] * cosines + 2 * share[:, 0, 1] * mixed + share[:, 1, 1] * sines
            found[:, :, kind] += (both - 2 * (crossed * along).sum((0, 3))).mT / channels
        return found


def contrast(
    null: Coloured, left: Residuals, frequencies: torch.Tensor, dtype: torch.dtype, device: torch.device
) -> Contrast:
    """Prepare the comparison at rising (F,) frequencies, in float64, and give it in the dtype."""
    pairs = whitened_pairs(null, left, frequencies)
    cycles, kernels = frequencies * left.range, null.kernels
    long = pairs[..., cycles < LEFT_OUT_CYCLES].flatten(1)
    roots = null.whitener @ kernels.stacked()
    explained = kernels.summed((roots.mT @ pairs.flatten(1)).square()).reshape(-1, 2, len(cycles)).sum(1).mT
    gram, seen = kernels.gram(roots), roots.mT @ long
    parts = [part.reshape(len(part), 2, -1) for part in seen.split(kernels.ranks)]
    within = torch.stack([torch.einsum("ral,rbl->lab", part, part) for part in parts])
    back = torch.stack(
        [root @ part.flatten(1) for root, part in zip(roots.split(kernels.ranks, 1), parts, strict=True)]
    )
    by_frequency = back.reshape(*back.shape[:2], 2, -1).permute(3, 0, 1, 2).flatten(2)
    long_grams = gram - 2 * by_frequency @ by_frequency.mT + torch.einsum("klab,jlab->lkj", within, within)
    circles = pairs_within(kernels.basis, left, frequencies)

    def there(tensor: torch.Tensor) -> torch.Tensor:
        return tensor.to(device, dtype).contiguous()

    return Contrast(
        kernels=kernels,
        whitener=there(null.whitener),
        blocks=blocks_of(pairs, cycles, dtype, device),
        long=there(long),
        explained=there(explained),
        roots=there(roots),
        gram=gram,
        seen=there(seen),
        within=there(within),
        long_grams=there(long_grams),
        circles=there(circles),
    )


def whitened_pairs(null: Coloured, left: Residuals, frequencies: torch.Tensor) -> torch.Tensor:
    """(m, 2, F) float64 orthonormal cosine and sine, with the nuisance projected out, as the whitening shows them."""
    pairs = left.pairs(frequencies)
    into = null.whitener @ null.kernels.basis.mT
    whitened = (into @ pairs.flatten(1)).reshape(len(into), 2, -1)
    full = torch.linalg.vector_norm(whitened, dim=0).max(0).values
    vanished = torch.linalg.vector_norm(pairs, dim=0) < 1e-6 * left.root_weights.norm()
    whitened = torch.where(vanished, 0.0, whitened)
    return orthonormal_pairs(whitened, full.clamp(min=1e-300))[0]


def pairs_within(basis: torch.Tensor, left: Residuals, frequencies: torch.Tensor) -> torch.Tensor:
    """(m, 2, F) float64 orthonormal pairs of the plain scan, in the basis of the kernels."""
    pairs = orthonormal_pairs(left.pairs(frequencies), left.root_weights.norm())[0]
    return (basis.mT @ pairs.flatten(1)).reshape(basis.shape[1], 2, -1)
