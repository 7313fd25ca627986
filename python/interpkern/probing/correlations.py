"""Correlations and partial correlations, and how they vary when the numbers are drawn again."""

import numpy
import torch

VANISHED = 1e-9
"""A column of which less than this share of its length is left has nothing of its own."""
CONSTANT = 1e-12
"""A column whose square sums to less than this in a sample, of 1 in all, does not vary in it."""

AT_ONCE = 1 << 23
"""Numbers of which PyTorch takes quantiles in one call; it refuses twice as many."""


def whole(rows: int) -> torch.Tensor:
    """(1, N) weights that count every row once."""
    return torch.ones(1, rows, dtype=torch.float64)


def resampled(rows: int, draws: int, seed: int) -> torch.Tensor:
    """(draws, N) float64: how often each row comes in a sample of N with replacement."""
    counts = numpy.random.default_rng(seed).multinomial(rows, numpy.full(rows, 1 / rows), size=draws)
    return torch.from_numpy(counts).double()


def correlations(
    scores: torch.Tensor, features: torch.Tensor, weights: torch.Tensor, given: torch.Tensor | None = None
) -> torch.Tensor:
    """Pearson's r of each score with each feature, what `given` explains being taken from both in every sample.

    Shapes:
        scores (N, C), features (N, F), weights (B, N), given (N, q), all float64 -> (B, C, F).

    Returns:
        r in [-1, 1]; NaN where a score or feature has nothing left that varies.
    """
    basis = _orthonormal(scores[:, :0] if given is None else given)
    z, z_varies = _left(scores, basis)
    f, f_varies = _left(features, basis)
    inverse = torch.linalg.pinv(_sums(weights, basis, basis), hermitian=True, rtol=1e-10)
    basis_z, basis_f = _sums(weights, basis, z), _sums(weights, basis, f)
    explained_f = inverse @ basis_f
    together = _sums(weights, z, f) - basis_z.mT @ explained_f
    z_square = weights @ z**2 - (basis_z * (inverse @ basis_z)).sum(1)
    f_square = weights @ f**2 - (basis_f * explained_f).sum(1)
    known = (z_varies & (z_square > CONSTANT))[..., None] & (f_varies & (f_square > CONSTANT))[:, None]
    r = together / (z_square.clamp_min(CONSTANT)[..., None] * f_square.clamp_min(CONSTANT)[:, None]).sqrt()
    return torch.where(known, r.clamp(-1, 1), torch.nan)


def _orthonormal(given: torch.Tensor) -> torch.Tensor:
    """(N, r) orthonormal columns that span 1 and `given`, the constant first."""
    constant = torch.full((len(given), 1), len(given) ** -0.5, dtype=torch.float64)
    centred = given - given.mean(0)
    centred = centred / centred.norm(dim=0).clamp_min(torch.finfo(torch.float64).tiny)
    left, sizes, _ = torch.linalg.svd(centred, full_matrices=False)
    return torch.cat([constant, left[:, sizes > VANISHED]], 1)


def _left(columns: torch.Tensor, basis: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The part of each column outside the basis, at length 1, and whether there is one."""
    centred = columns - columns.mean(0)
    left = centred - basis @ (basis.mT @ centred)
    left = left - basis @ (basis.mT @ left)
    length = left.norm(dim=0)
    varies = length > VANISHED * columns.norm(dim=0)
    return left / length.clamp_min(torch.finfo(torch.float64).tiny), varies


def _sums(weights: torch.Tensor, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """(B, A, C) weighted sums over rows of the products of columns of (N, A) and (N, C)."""
    return (weights @ (a[:, :, None] * b[:, None]).flatten(1)).unflatten(1, (a.shape[1], b.shape[1]))


def interval(draws: torch.Tensor, confidence: float) -> tuple[torch.Tensor, torch.Tensor]:
    """The two quantiles over the first dimension that hold `confidence` of the draws; NaN where half are NaN."""
    if len(draws) == 0:
        missing = torch.full(draws.shape[1:], torch.nan, dtype=torch.float64)
        return missing, missing.clone()
    tails = torch.tensor([(1 - confidence) / 2, (1 + confidence) / 2], dtype=torch.float64)
    columns = draws.reshape(len(draws), -1).split(max(1, AT_ONCE // len(draws)), dim=1)
    low, high = torch.cat([part.nanquantile(tails, dim=0) for part in columns], 1).reshape(2, *draws.shape[1:])
    unknown = draws.isnan().double().mean(0) > 0.5
    return low.masked_fill(unknown, torch.nan), high.masked_fill(unknown, torch.nan)


def two_sided(draws: torch.Tensor) -> torch.Tensor:
    """Twice the share of draws on the smaller side of 0, counting the sample itself on either: a bootstrap p-value."""
    fewer = torch.minimum((draws <= 0).sum(0), (draws >= 0).sum(0))
    p = (2 * (1 + fewer) / (len(draws) + 1)).clamp_max(1).double()
    return p.masked_fill(draws.isnan().any(0), torch.nan)
