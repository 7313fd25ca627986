"""How far the power at each period stands above what the background predicts for it.

All is seen through the fitted null's whitening, which makes the best use of every octave. The background at a period is
fitted to the same activations; at long periods, where smooth kernels could take a circle for themselves, with the pair
of that period left out.
"""

from dataclasses import dataclass

import torch

from interpkern.probing.coloured import Coloured
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

    whitener: torch.Tensor
    """(m, m)."""
    blocks: list[Block]
    """Of the whitened, orthonormal pairs of all frequencies."""
    long: torch.Tensor
    """(m, 2 L) whitened pairs of the L frequencies whose pair is left out: cosines, then sines."""
    explained: torch.Tensor
    """(F, K) power of each kernel at each frequency."""
    covariances: torch.Tensor
    """(K, m, m) whitened kernels."""
    gram: torch.Tensor
    """(K, K) their inner products."""
    seen: torch.Tensor
    """(K, m, 2 L) kernels times the long pairs."""
    within: torch.Tensor
    """(K, L, 2, 2) what each kernel explains of a long pair."""
    long_grams: torch.Tensor
    """(L, K, K) inner products with the pair projected out of both kernels."""

    def log_ratios(self, sets: torch.Tensor) -> torch.Tensor:
        """(P, F) ln of power over background, for (m, P, C) sets of channels that are not yet whitened."""
        white = (self.whitener @ sets.to(self.whitener.dtype).flatten(1)).reshape(sets.shape)
        channels = white.shape[2]
        power = pair_power(self.blocks, white) / channels
        background = self._background(white)
        floor = FLOOR * 2 * white.square().sum((0, 2)) / (channels * len(white))
        return ((power + floor[:, None]) / (background + floor[:, None])).log()

    def _background(self, white: torch.Tensor) -> torch.Tensor:
        """(P, F) power that the kernels predict."""
        kinds = len(self.gram)
        by_set = white.permute(1, 0, 2)
        covariance = torch.bmm(by_set, by_set.mT).flatten(1) / white.shape[2]
        targets = covariance @ self.covariances.flatten(1).mT
        sizes = nonnegative_fits(self.gram, targets).to(white)
        background = sizes @ self.explained.mT
        count = self.long.shape[1] // 2
        if count:
            start = sizes[:, None].expand(-1, count, kinds)
            fitted = refined(self.long_grams, self._left_out(white, targets), start)
            background[:, :count] = (fitted * self.explained[:count]).sum(2)
        return background

    def _left_out(self, white: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """(P, L, K) inner products of each kernel with the sets, the pair projected out of both."""
        count, (_, sets, channels) = self.long.shape[1] // 2, white.shape
        flat = white.flatten(1)
        along = (self.long.mT @ flat).reshape(2, count, sets, channels)
        (cosines, sines), mixed = along.square().sum(3), (along[0] * along[1]).sum(2)
        found = targets[:, None].repeat(1, count, 1)
        for kind, seen in enumerate(self.seen):
            through = (seen.mT @ flat).reshape(along.shape)
            share = self.within[kind, :, :, :, None]
            both = share[:, 0, 0] * cosines + 2 * share[:, 0, 1] * mixed + share[:, 1, 1] * sines
            found[:, :, kind] += (both - 2 * (through * along).sum((0, 3))).mT / channels
        return found


def contrast(
    null: Coloured, left: Residuals, frequencies: torch.Tensor, dtype: torch.dtype, device: torch.device
) -> Contrast:
    """Prepare the comparison at rising (F,) frequencies."""
    pairs = whitened_pairs(null, left, frequencies)
    cycles = frequencies * left.range
    whitener = null.whitener.to(device, dtype)
    covariances = whitener @ null.kernels.covariances.to(device, dtype) @ whitener.mT
    flat = pairs.to(device, dtype).flatten(1)
    seen = covariances @ flat
    explained = (seen * flat).sum(1).reshape(len(seen), 2, -1).sum(1).mT.contiguous()
    long = cycles < LEFT_OUT_CYCLES
    seen = seen.reshape(*seen.shape[:2], 2, -1)[..., long]
    kept = pairs.to(device, dtype)[..., long]
    within = torch.einsum("mal,kmbl->klab", kept, seen)
    gram = covariances.flatten(1) @ covariances.flatten(1).mT
    by_frequency = seen.permute(3, 0, 1, 2).flatten(2)
    long_grams = gram - 2 * by_frequency @ by_frequency.mT + torch.einsum("klab,jlab->lkj", within, within)
    return Contrast(
        whitener=whitener,
        blocks=blocks_of(pairs, cycles, dtype, device),
        long=kept.flatten(1),
        explained=explained,
        covariances=covariances,
        gram=gram,
        seen=seen.flatten(2),
        within=within,
        long_grams=long_grams,
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
