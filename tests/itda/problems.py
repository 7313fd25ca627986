"""Activations, and the dictionary of batch size 1 in plain torch, for the tests of ITDA."""

from typing import Any

import numpy
import torch

from interpkern.itda import ITDA
from interpkern.ops.matching_pursuit_backends import BACKENDS
from tests.ops.pursuits import activations

HERE = [backend.name for backend in BACKENDS if backend.why_not(None) is None]
"""The backends that this machine has."""
SETTINGS: dict[str, Any] = {"k": 4, "threshold": 0.25, "threads": 1}

__all__ = ["HERE", "SETTINGS", "activations", "built", "in_batches", "naive", "pursued", "same"]


def built(x: Any, labels: Any = None, **settings: Any) -> ITDA:
    """A fitted ITDA of few picks on one thread."""
    return ITDA(**SETTINGS | settings).fit(x, labels)


def in_batches(x: torch.Tensor, labels: torch.Tensor, size: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """The rows, `size` at a time."""
    return list(zip(x.split(size), labels.split(size), strict=True))


def same(a: ITDA, b: ITDA, *, records: bool = True) -> bool:
    """Whether two dictionaries are the same to the last bit."""
    equal = torch.equal(a.atoms, b.atoms) and torch.equal(a.labels, b.labels) and torch.equal(a.mean, b.mean)
    return equal and (not records or a.to_pandas().equals(b.to_pandas()))


def naive(x: torch.Tensor, *, k: int, threshold: float, method: str, nonnegative: bool, relative: bool) -> list[int]:
    """Numbers of the rows of centred float64 x that become atoms, one row at a time."""
    chosen: list[int] = []
    for number, row in enumerate(x):
        whole = float(row @ row)
        if whole == 0:
            continue
        atoms = torch.nn.functional.normalize(x[chosen], dim=1)
        residual = pursued(row, atoms, k, method, nonnegative)
        if float(residual @ residual) / (whole if relative else 1) > threshold:
            chosen.append(number)
    return chosen


def pursued(row: torch.Tensor, atoms: torch.Tensor, k: int, method: str, nonnegative: bool) -> torch.Tensor:
    """What k picks leave of one row."""
    residual, support = row.clone(), []
    for _ in range(k if len(atoms) else 0):
        score = atoms @ residual
        score = score if nonnegative else score.abs()
        if method == "omp":
            score[support] = -torch.inf
        pick = int(score.argmax())
        if score[pick] <= 1e-6 * row.norm():
            break
        support.append(pick)
        if method == "omp":
            residual = fitted(row, atoms[support], nonnegative)
        else:
            residual = residual - (atoms[pick] @ residual) * atoms[pick]
    if method == "mp_refit" and support:
        return fitted(row, atoms[sorted(set(support))], nonnegative)
    return residual


def fitted(row: torch.Tensor, atoms: torch.Tensor, nonnegative: bool) -> torch.Tensor:
    """What least squares on these atoms leave of a row."""
    if nonnegative:
        from scipy.optimize import nnls

        coefficients = torch.from_numpy(nnls(atoms.mT.numpy(), row.numpy())[0])
    else:
        coefficients = torch.linalg.lstsq(atoms.mT, row[:, None], driver="gelsd").solution[:, 0]
    return row - coefficients @ atoms


def labels_for(rows: int, seed: int = 0) -> torch.Tensor:
    """Distinct labels in no order, two and more positions a prompt."""
    order = numpy.random.default_rng(seed).permutation(rows)
    return torch.stack([torch.from_numpy(order // 3 + 1000), torch.from_numpy(order % 3)], 1)
