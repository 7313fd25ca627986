"""A null for claims: activations that are smooth in n and ln n and know their digits, as these do, without a circle.

H = sum_k K_k^(1/2) E_k S_k^(1/2): each kernel K_k of numbers comes with a covariance S_k of channels. The sizes of the
kernels are fitted by restricted maximum likelihood, each S_k by one step of expectation maximisation from there.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from interpkern.probing.covariance_kernels import Kernels
from interpkern.probing.nonnegative import nonnegative_fits
from interpkern.probing.pair_power import sets_at_once

ROUNDS = 2
NUGGET = 1e-3
"""Least share of the variance that is taken to be independent, so that whitening is stable."""


@dataclass(frozen=True, eq=False)
class Coloured:
    """A fitted null, in the m dimensions that the nuisance leaves."""

    kernels: Kernels
    sizes: torch.Tensor
    """(K,) float64 variances of the kernels, none below 0."""
    lower: torch.Tensor
    """(m, m) float64 Cholesky factor of the covariance of the numbers."""
    whitener: torch.Tensor
    """(m, m) float64, its inverse."""
    channel_roots: tuple[torch.Tensor | None, ...]
    """(C, C) float32 each, the symmetric root of a kernel's covariance of channels; None where its size is 0."""

    def draws(
        self, count: int, generator: torch.Generator, device: torch.device | None = None
    ) -> Iterator[torch.Tensor]:
        """(m, P, C) float32 surrogates, `count` in all, so many at a time as fit into memory."""
        channels = next(len(root) for root in self.channel_roots if root is not None)
        most = sets_at_once(len(self.lower), channels)
        for start in range(0, count, most):
            yield self._draw(min(most, count - start), channels, generator).to(device)

    def _draw(self, count: int, channels: int, generator: torch.Generator) -> torch.Tensor:
        total = torch.zeros(len(self.lower), count, channels)
        for root, channel_root in zip(self.kernels.roots, self.channel_roots, strict=True):
            if channel_root is not None:
                noise = torch.randn(root.shape[1], count, channels, generator=generator) @ channel_root
                total += (root @ noise.flatten(1)).reshape(total.shape)
        return total


def fit_coloured(kernels: Kernels, components: torch.Tensor) -> Coloured:
    """Fit the null to (m, C) components without their nuisance, in the basis of the kernels."""
    sizes = _fitted(kernels.covariances, components.float())
    for _ in range(ROUNDS):
        whitener = _inverse(torch.linalg.cholesky(_covariance(kernels, sizes))).float()
        whitened = whitener @ kernels.covariances @ whitener.mT
        sizes = _fitted(whitened, whitener @ components.float())
    sizes = _with_nugget(sizes)
    lower = torch.linalg.cholesky(_covariance(kernels, sizes))
    whitener = _inverse(lower)
    return Coloured(kernels, sizes, lower, whitener, _channel_roots(kernels, sizes, whitener, components))


def _fitted(covariances: torch.Tensor, components: torch.Tensor) -> torch.Tensor:
    """(K,) sizes with which the covariances come nearest to that of the components."""
    flat = covariances.flatten(1)
    target = flat @ (components @ components.mT).flatten() / components.shape[1]
    return nonnegative_fits(flat @ flat.mT, target[None])[0]


def _with_nugget(sizes: torch.Tensor) -> torch.Tensor:
    sizes = sizes.clone()
    sizes[0] = sizes[0].clamp(min=NUGGET * float(sizes.sum()))
    return sizes


def _covariance(kernels: Kernels, sizes: torch.Tensor) -> torch.Tensor:
    """(m, m) float64 covariance of the numbers."""
    return torch.einsum("k,kab->ab", _with_nugget(sizes), kernels.covariances.double())


def _inverse(lower: torch.Tensor) -> torch.Tensor:
    return torch.linalg.solve_triangular(lower, torch.eye(len(lower), dtype=lower.dtype), upper=False)


def _channel_roots(
    kernels: Kernels, sizes: torch.Tensor, whitener: torch.Tensor, components: torch.Tensor
) -> tuple[torch.Tensor | None, ...]:
    """Of each kernel: R^T V^-1 K V^-1 R / tr(V^-1 K), times the kernel's size."""
    inverse = whitener.mT @ whitener
    explained = inverse @ components
    roots: list[torch.Tensor | None] = []
    for size, covariance in zip(sizes.tolist(), kernels.covariances, strict=True):
        if size <= 1e-9 * float(sizes.sum()):
            roots.append(None)
            continue
        full = covariance.double()
        channels = explained.mT @ full @ explained / (inverse * full).sum() * size
        variances, vectors = torch.linalg.eigh((channels + channels.mT) / 2)
        roots.append(((vectors * variances.clamp(min=0).sqrt()) @ vectors.mT).float())
    return tuple(roots)
