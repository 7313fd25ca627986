"""Non-negative least squares from normal equations: small problems, many at once."""

import numpy
import torch
from scipy.optimize import nnls

JITTER = 1e-9
SWEEPS = 10
OVERSHOOT = 1.5
"""Times the step to the minimum along a coordinate: collinear columns take far fewer sweeps so."""


def nonnegative_fits(gram: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """(P, k) float64 x >= 0 that minimise x^T A x - 2 b^T x for one (k, k) A and each row b of (P, k) targets."""
    a, b = gram.double().cpu().numpy(), targets.double().cpu().numpy()
    scale = 1 / numpy.sqrt(numpy.diag(a).clip(1e-300))
    lower = numpy.linalg.cholesky(a * scale[:, None] * scale + JITTER * numpy.eye(len(a)))
    right = numpy.linalg.solve(lower, (b * scale).T).T
    solved = [_solve(lower.T, row) for row in right]
    return torch.from_numpy(numpy.stack(solved) * scale)


def refined(grams: torch.Tensor, targets: torch.Tensor, start: torch.Tensor) -> torch.Tensor:
    """Improve (P, F, k) non-negative fits by coordinate descent, for (F, k, k) grams and (P, F, k) targets."""
    fits = start.permute(1, 0, 2).contiguous()
    right = targets.permute(1, 0, 2).contiguous()
    curvature = grams.diagonal(dim1=1, dim2=2).clamp(min=1e-30)
    for _ in range(SWEEPS):
        for place in range(grams.shape[-1]):
            slope = right[..., place] - torch.bmm(fits, grams[:, place, :, None])[..., 0]
            fits[..., place] = (fits[..., place] + OVERSHOOT * slope / curvature[:, None, place]).clamp(min=0)
    return fits.permute(1, 0, 2)


def _solve(design: numpy.ndarray, target: numpy.ndarray) -> numpy.ndarray:
    try:
        return nnls(design, target)[0]
    except RuntimeError:
        return numpy.linalg.lstsq(design, target, rcond=None)[0].clip(0)
