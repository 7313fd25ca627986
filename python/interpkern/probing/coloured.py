"""A null for claims: activations that are smooth in n and ln n and know their digits, as these do, without a circle.

H = sum_k K_k^(1/2) E_k S_k^(1/2): each kernel K_k of numbers comes with a covariance S_k of channels. The sizes of the
kernels are fitted by restricted maximum likelihood to channels that are made equal, so that those of little variance
have as much to say as the others; each S_k by one step of expectation maximisation from there.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from interpkern.probing.covariance_kernels import Kernels
from interpkern.probing.nonnegative import nonnegative_fits
from interpkern.probing.pair_power import sets_at_once

ROUNDS = 2
EQUALISATIONS = 2
RIDGE = 1e-6
"""Of the mean variance of the channels: one with much less stays as small as it is."""
NUGGET = 1e-3
"""Least share of the variance that is taken to be independent, so that whitening is stable."""


@dataclass(frozen=True, eq=False)
class Coloured:
    """A fitted null, in the m dimensions that the nuisance leaves."""

    kernels: Kernels
    sizes: torch.Tensor
    """(K,) float64 variances of the kernels in channels made equal, none below 0."""
    whitener: torch.Tensor
    """(m, m) float64, inverse Cholesky factor of the covariance of the numbers."""
    channel_roots: tuple[torch.Tensor | None, ...]
    """(C, C) float32 each, the symmetric root of a kernel's covariance of channels; None where its size is 0."""

    def draws(
        self, count: int, generator: torch.Generator, device: torch.device | None = None
    ) -> Iterator[torch.Tensor]:
        """(m, P, C) float32 surrogates, `count` in all, so many at a time as fit into memory."""
        used = [
            (_symmetric(root), channel_root)
            for root, channel_root in zip(self.kernels.roots, self.channel_roots, strict=True)
            if channel_root is not None
        ]
        numbers, channels = len(self.whitener), len(used[0][1])
        most = sets_at_once(numbers, channels)
        for start in range(0, count, most):
            total = torch.zeros(numbers, min(most, count - start), channels)
            for root, channel_root in used:
                noise = torch.randn(total.shape, generator=generator) @ channel_root
                total += (root @ noise.flatten(1)).reshape(total.shape)
            yield total.to(device)


def fit_coloured(kernels: Kernels, components: torch.Tensor) -> Coloured:
    """Fit the null to (m, C) components without their nuisance, in the basis of the kernels."""
    stacked = kernels.stacked()
    whitener = torch.eye(len(components), dtype=torch.float64)
    sizes = torch.empty(0)
    for _ in range(EQUALISATIONS):
        equal = components @ channel_whiteners((whitener @ components)[:, None])[0]
        if not len(sizes):
            sizes = _fitted(kernels, stacked, equal)
        for _ in range(ROUNDS):
            whitener = _whitener(kernels, stacked, sizes)
            sizes = _fitted(kernels, whitener @ stacked, whitener @ equal)
        whitener = _whitener(kernels, stacked, sizes)
    sizes = _with_nugget(sizes)
    return Coloured(kernels, sizes, whitener, _channel_roots(kernels, sizes, whitener, components))


def _symmetric(root: torch.Tensor) -> torch.Tensor:
    """(m, m) float32 symmetric root, the one that does not depend on how eigenvectors came out."""
    return (root / root.norm(dim=0) @ root.mT).float()


def channel_whiteners(sets: torch.Tensor) -> torch.Tensor:
    """(P, C, C) float64: what makes the channels of each of (m, P, C) sets independent and of mean square 1."""
    by_set = sets.permute(1, 0, 2).double()
    covariance = by_set.mT @ by_set / len(sets)
    ridge = RIDGE * covariance.diagonal(dim1=1, dim2=2).mean(1).clamp(min=1e-300)
    identity = torch.eye(sets.shape[2], dtype=torch.float64, device=sets.device)
    lower = torch.linalg.cholesky(covariance + ridge[:, None, None] * identity)
    return torch.linalg.solve_triangular(lower, identity.expand_as(lower), upper=False).mT


def _fitted(kernels: Kernels, stacked: torch.Tensor, components: torch.Tensor) -> torch.Tensor:
    """(K,) sizes with which the kernels come nearest to the covariance of the components."""
    target = kernels.summed((stacked.mT @ components).square().sum(1)) / components.shape[1]
    return nonnegative_fits(kernels.gram(stacked), target[None])[0]


def _with_nugget(sizes: torch.Tensor) -> torch.Tensor:
    sizes = sizes.clone()
    sizes[0] = sizes[0].clamp(min=NUGGET * float(sizes.sum()))
    return sizes


def _whitener(kernels: Kernels, stacked: torch.Tensor, sizes: torch.Tensor) -> torch.Tensor:
    """(m, m) float64 inverse Cholesky factor of the covariance of the numbers."""
    scales = _with_nugget(sizes).sqrt().repeat_interleave(torch.tensor(kernels.ranks))
    scaled = stacked[:, scales > 0] * scales[scales > 0]
    lower = torch.linalg.cholesky(scaled @ scaled.mT)
    return torch.linalg.solve_triangular(lower, torch.eye(len(lower), dtype=lower.dtype), upper=False)


def _channel_roots(
    kernels: Kernels, sizes: torch.Tensor, whitener: torch.Tensor, components: torch.Tensor
) -> tuple[torch.Tensor | None, ...]:
    """Of each kernel: R^T V^-1 K V^-1 R / tr(V^-1 K), times the kernel's size."""
    white = whitener @ components
    roots: list[torch.Tensor | None] = []
    for size, root in zip(sizes.tolist(), kernels.roots, strict=True):
        if size <= 1e-9 * float(sizes.sum()):
            roots.append(None)
            continue
        through = whitener @ root
        explained = through.mT @ white
        channels = explained.mT @ explained / through.square().sum() * size
        variances, vectors = torch.linalg.eigh(channels)
        roots.append(((vectors * variances.clamp(min=0).sqrt()) @ vectors.mT).float())
    return tuple(roots)
