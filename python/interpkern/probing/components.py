"""Principal components with a fixed sign."""

from typing import NamedTuple

import torch


class Components(NamedTuple):
    """The main directions of centred rows."""

    scores: torch.Tensor
    """(N, C): centred rows along the directions."""
    directions: torch.Tensor
    """(C, d) orthonormal rows, the entry of largest size positive."""
    variances: torch.Tensor
    """(C,): mean square of the scores, falling."""


def principal_components(acts: torch.Tensor, components: int) -> Components:
    """Give the `components` directions along which centred rows vary most.

    Shapes:
        acts (N, d) floating point, components <= min(N, d) -> scores (N, C), directions (C, d), variances (C,).

    Returns:
        Components in the dtype of acts; variances in the square of its unit.

    Example:
        >>> scores, directions, variances = principal_components(torch.randn(30, 5), 2)
        >>> scores.shape, directions.shape
        (torch.Size([30, 2]), torch.Size([2, 5]))
    """
    centred = acts - acts.mean(0)
    left, sizes, right = torch.linalg.svd(centred, full_matrices=False)
    directions = right[:components]
    largest = directions.abs().argmax(1, keepdim=True)
    sign = directions.gather(1, largest).sign()
    scores = left[:, :components] * sizes[:components] * sign.mT
    return Components(scores, directions * sign, sizes[:components].square() / len(acts))
