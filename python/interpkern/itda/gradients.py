"""Codes through which gradients pass to the samples: given its picks, a code is linear in its sample."""

from dataclasses import replace

import torch

from interpkern.ops.sparse_code import SparseCode


def with_gradient(code: SparseCode, x: torch.Tensor, atoms: torch.Tensor, method: str) -> SparseCode:
    """The same code, bit for bit, with a gradient to x.

    Args:
        code: of the samples, by `method`.
        x: (N, D), of the arithmetic of the code.
        atoms: (M, D).
        method: mp, mp_refit or omp; non-negative or not.
    """
    used = (code.indices >= 0) & (code.coefficients != 0)
    picked = atoms[code.indices.clamp(min=0).long()] * used[..., None]
    again = _replayed(x, picked) if method == "mp" else _fitted(x, picked, used)
    return replace(code, coefficients=code.coefficients + (again - again.detach()))


def _replayed(x: torch.Tensor, picked: torch.Tensor) -> torch.Tensor:
    """(N, k) coefficients of matching pursuit along known picks (N, k, D)."""
    residual, coefficients = x, []
    for atom in picked.unbind(1):
        coefficients.append((residual * atom).sum(1))
        residual = residual - coefficients[-1][:, None] * atom
    return torch.stack(coefficients, 1)


def _fitted(x: torch.Tensor, picked: torch.Tensor, used: torch.Tensor) -> torch.Tensor:
    """(N, k) least squares on known picks; an unused slot is an equation of its own, c = 0."""
    products = picked @ picked.mT + torch.diag_embed((~used).to(x.dtype))
    return torch.linalg.solve(products, picked @ x[..., None]).squeeze(-1)
