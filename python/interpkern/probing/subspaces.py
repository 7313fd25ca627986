"""Directions and subspaces of a residual: checked, fitted to values, and projected out with the mean kept."""

from dataclasses import dataclass
from typing import Any

import torch

from interpkern.errors import ShapeError
from interpkern.validation import FLOATS, REAL_DTYPES, Dimensions, choice, number, plain_tensor

METHODS = ("covariance", "ridge")


@dataclass(frozen=True, eq=False)
class FittedDirection:
    """A direction of the residual that goes with a value, and the prompts that it was fitted on."""

    vector: torch.Tensor
    """(D,) float64 of norm 1, along which the value grows."""
    r: float
    """Correlation of the projection with the value on the rows of the fit."""
    fitted_on: torch.Tensor | None
    """(P, S) int64 prompts, or None where none were given."""


def fit_direction(
    acts: Any, values: Any, *, prompts: Any = None, method: str = "covariance", ridge: float = 1e-2
) -> FittedDirection:
    """Find the direction of activations that goes with a value, to be ablated on other prompts.

    Args:
        acts: (N, D) float activations.
        values: (N,) numbers, such as ln n.
        prompts: (N, S) or (P, S) int64 prompts that the activations are of; `ablate` then refuses to be tested on them.
        method: "covariance" is cov(acts, value): with it projected out, no direction is correlated with the value any
            more. "ridge" is what a linear read-out weighs by, which also avoids what the value doesn't explain.
        ridge: penalty of "ridge" as a share of the mean variance of a component.

    Returns:
        FittedDirection, of norm 1.

    Raises:
        ShapeError, DTypeError or ValueError that names the argument.

    Source:
        "covariance": Belrose et al. 2023, "LEACE: Perfect linear concept erasure in closed form", section 4, as an
        orthogonal projection.

    Example:
        >>> acts = torch.randn(50, 7)
        >>> abs(float(fit_direction(acts, 3 * acts[:, 2], method="ridge", ridge=0.0).vector[2])) > 0.999
        True
    """
    dimensions = Dimensions()
    rows = dimensions.tensor("acts", acts, "N D", FLOATS).to("cpu", torch.float64)
    wanted = dimensions.tensor("values", values, "N", REAL_DTYPES).to("cpu", torch.float64)
    chosen, penalty = choice("method", method, METHODS), number("ridge", ridge, 0.0)
    if len(rows) < 3:
        raise ShapeError(f"acts: expected at least 3 rows, got {len(rows)}")
    rows, wanted = rows - rows.mean(0), wanted - wanted.mean()
    if not float(wanted.norm()) > 0:
        raise ValueError("values: expected values that differ, got one value")
    vector = rows.mT @ wanted
    if chosen == "ridge":
        vector = _ridge(rows, wanted, penalty)
    if not float(vector.norm()) > 0:
        raise ValueError("acts: expected activations that go with the values, got none that do")
    vector = vector / vector.norm()
    seen = rows @ vector
    kept = None if prompts is None else Dimensions().tensor("prompts", prompts, "P S", (torch.int64,)).cpu()
    return FittedDirection(vector, float(seen @ wanted / (seen.norm() * wanted.norm())), kept)


def _ridge(rows: torch.Tensor, values: torch.Tensor, penalty: float) -> torch.Tensor:
    """The read-out in the span of the rows, by their singular values."""
    left, scale, right = torch.linalg.svd(rows, full_matrices=False)
    real = scale > scale[0] * len(rows) * torch.finfo(torch.float64).eps
    left, scale, right = left[:, real], scale[real], right[real]
    added = penalty * float(scale.square().mean())
    return right.mT @ ((left.mT @ values) * scale / (scale.square() + added))


def checked_subspace(name: str, direction: Any, width: int) -> torch.Tensor:
    """(q, D) float64 orthonormal rows of a direction (D,), a FittedDirection or q directions (q, D)."""
    if isinstance(direction, FittedDirection):
        direction = direction.vector
    tensor = plain_tensor(name, direction)
    letters = "q D" if tensor.ndim == 2 else "D"
    dimensions = Dimensions({"D": width}, {"D": "the residual"})
    rows = dimensions.tensor(name, tensor, letters, FLOATS).to("cpu", torch.float64).reshape(-1, width)
    norms = rows.norm(dim=1)
    if not bool((norms > 0).all()):
        raise ValueError(f"{name}: expected directions other than 0, got norm 0 in row {int(norms.argmin())}")
    basis, spread, _ = torch.linalg.svd((rows / norms[:, None]).mT, full_matrices=False)
    if len(rows) > width or not float(spread[-1]) > 1e-6:
        raise ValueError(f"{name}: expected linearly independent directions; leave out those that others contain")
    if len(rows) == 1:
        return rows / norms[:, None]
    return basis.mT.contiguous()


def projected_out(acts: torch.Tensor, subspaces: torch.Tensor) -> torch.Tensor:
    """(K, P, Q, D) activations (P, Q, D) without their part in each subspace (K, q, D), the mean over P kept."""
    centred = acts - acts.mean(0)
    shape = (len(subspaces), *acts.shape)
    flat = centred.reshape(-1, acts.shape[-1])
    removed = (flat @ subspaces.mT) @ subspaces
    return acts - removed.view(shape)


def removed_share(acts: torch.Tensor, subspaces: torch.Tensor) -> torch.Tensor:
    """(K,) share of the variance of (P, Q, D) activations over P that each subspace (K, q, D) holds."""
    centred = (acts - acts.mean(0)).reshape(-1, acts.shape[-1])
    return (centred @ subspaces.mT).square().sum((1, 2)) / centred.square().sum()


def refuse_overlap(prompts: torch.Tensor, fitted_on: Any) -> None:
    """Refuse prompts that a direction was fitted on."""
    fitted = Dimensions().tensor("fitted_on", fitted_on, "P S", (torch.int64,)).cpu()
    if fitted.shape[1] != prompts.shape[1]:
        return
    seen = set(map(tuple, fitted.tolist()))
    shared = [place for place, prompt in enumerate(prompts.tolist()) if tuple(prompt) in seen]
    if shared:
        raise ValueError(
            f"fitted_on: {len(shared)} of the {len(prompts)} prompts are among those that the direction was fitted on,"
            f" the first is prompt {shared[0]}; test it on others"
        )
