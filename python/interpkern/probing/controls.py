"""Random subspaces of the data's span that remove as much variance as the one that is tested."""

from dataclasses import dataclass

import torch

from interpkern.probing.subspaces import removed_share

MATCHED = 0.1
"""Largest difference of a control's removed variance from the tested one's, as a share of it."""
ROOM = 1.5
"""How much more variance controls that lie apart could remove at most, so that they differ from each other."""
STEPS, STEEPEST = 60, 40.0
"""Bisections over the exponent, and its largest size."""


@dataclass(frozen=True, eq=False)
class Span:
    """The principal components of activations."""

    directions: torch.Tensor
    """(C, D) float64 orthonormal rows."""
    variances: torch.Tensor
    """(C,) float64, falling, above rounding."""

    @classmethod
    def of(cls, acts: torch.Tensor) -> "Span":
        """Of activations (P, Q, D), each of the Q positions with its own mean."""
        centred = (acts - acts.mean(0)).reshape(-1, acts.shape[-1])
        _, scale, directions = torch.linalg.svd(centred, full_matrices=False)
        real = scale > scale[0] * max(centred.shape) * torch.finfo(torch.float64).eps
        return cls(directions[real], scale[real].square() / len(centred))


def matched_controls(
    acts: torch.Tensor, subspace: torch.Tensor, controls: int, seed: int, *, apart: bool = False
) -> torch.Tensor:
    """Draw subspaces in the span of the data that remove the same share of its variance.

    A control is orth(G diag(v^(a/2))) over the principal components with variances v, G standard normal: a = 0 has no
    preference, a > 0 prefers wide components. Removed variance grows with a, which is bisected for each control.

    A wide direction has no match but those that are much like it. With `apart` the controls are orthogonal to it and
    hold as many directions as it takes to remove as much.

    Shapes:
        acts (P, Q, D) float64; subspace (q, D) float64 orthonormal rows.

    Returns:
        (controls, q, D) float64 orthonormal rows, more than q with `apart` where it takes more. Where no `a` matches,
        as for the widest component itself, the nearest; compare `removed_share`.

    Example:
        >>> acts = torch.randn(40, 1, 6, dtype=torch.float64) * torch.arange(1, 7)
        >>> found = matched_controls(acts, torch.eye(6, dtype=torch.float64)[:1], 5, seed=0)
        >>> bool((removed_share(acts, found) / removed_share(acts, torch.eye(6).double()[None, :1]) - 1 < 0.1).all())
        True
    """
    centred = acts - acts.mean(0)
    target = float(removed_share(acts, subspace[None])[0]) * float(centred.square().sum() / centred[..., 0].numel())
    span = Span.of(centred - (centred @ subspace.mT) @ subspace if apart else acts)
    rows = len(subspace)
    if apart:
        if not float(span.variances.sum()) > 1e-9 * target:
            raise ValueError("controls_apart: expected data that differ in other directions too; nothing else is left")
        rows = max(rows, _rows_that_hold(span.variances, target))
    generator = torch.Generator().manual_seed(seed)
    draws = torch.randn(controls, rows, len(span.variances), generator=generator, dtype=torch.float64)
    low = torch.full((controls,), -STEEPEST, dtype=torch.float64)
    high = -low
    for _ in range(STEPS):
        middle = (low + high) / 2
        above = _removed(_tilted(draws, span.variances, middle), span.variances) > target
        low, high = torch.where(above, low, middle), torch.where(above, middle, high)
    return _tilted(draws, span.variances, (low + high) / 2) @ span.directions


def _rows_that_hold(variances: torch.Tensor, target: float) -> int:
    """How many directions can remove as much, with room to differ from each other where there is any."""
    counts = [1 + int((variances.cumsum(0) <= share * target).sum()) for share in (ROOM, 1.0)]
    return min(counts[0] if counts[0] < len(variances) else counts[1], len(variances))


def overlap(subspaces: torch.Tensor, subspace: torch.Tensor) -> torch.Tensor:
    """(K,) mean squared cosine between subspaces (K, q, D) and one (q, D): 1 for the same, q / D by chance."""
    return (subspaces @ subspace.mT).square().sum((1, 2)) / len(subspace)


def _tilted(draws: torch.Tensor, variances: torch.Tensor, exponents: torch.Tensor) -> torch.Tensor:
    """(K, q, C) orthonormal rows from draws weighted by powers of the variances."""
    logs = (variances / variances[0]).log() / 2
    powers = exponents[:, None] * logs
    weighted = draws * (powers - powers.amax(1, keepdim=True)).exp()[:, None]
    return torch.linalg.qr(weighted.mT).Q.mT


def _removed(rows: torch.Tensor, variances: torch.Tensor) -> torch.Tensor:
    """(K,) variance that rows over the components remove."""
    return (rows.square() * variances).sum((1, 2))
