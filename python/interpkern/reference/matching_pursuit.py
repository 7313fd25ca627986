"""Greedy decomposition of rows over unit atoms: matching pursuit, with a refit, and orthogonal matching pursuit."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy
import torch
from scipy.optimize import nnls

METHODS = ("mp", "mp_refit", "omp")
PRECISIONS = ("exact", "fast")
CHUNK_NUMBERS = 1 << 24


@dataclass(frozen=True)
class Problem:
    """One checked call of the operation."""

    x: torch.Tensor
    """(N, D) float64, float32, float16 or bfloat16; rows are taken to the dtype of the atoms as they are worked on."""
    atoms: torch.Tensor
    """(M, D) float32 or float64, unit rows; their dtype is that of the arithmetic and of what comes back."""
    k: int
    method: str
    """One of METHODS."""
    nonnegative: bool
    tol: float
    """Stop at ||r|| <= tol ||x||; 0 stops at rounding level alone."""
    gram: "Prepared | None"
    """The atoms as the compiled backend keeps them, or None; exact results never depend on it."""
    precision: str
    """One of PRECISIONS; the reference is always exact."""
    threads: int = 1

    @property
    def level(self) -> float:
        """Rounding level, relative to ||x||: no residual and no correlation at or below it is worked on."""
        return 8 * torch.finfo(self.atoms.dtype).eps


class Prepared(NamedTuple):
    """Atoms as the compiled backends take them, in buffers with room for more; on a GPU `rounding` and `panels` are
    None."""

    rows: torch.Tensor
    """(room, padded D) float32."""
    rounding: torch.Tensor | None
    """(1,) float32, the longest distance of an atom from the one in `panels`."""
    panels: torch.Tensor | None
    """(room / 32, ...), 32 atoms side by side in 16-bit units of the kernels' ATOM_STEP, as the instruction set reads:
    int16 (..., (D + 1) / 2, 32, 2), or for matrix units the bytes apart, int8 (..., 4 ceil(D / 64), 16, 64)."""
    products: torch.Tensor | None
    """(side, side), the Gram: int16 in units of the kernels' PRODUCT_STEP, on a GPU float32; None where M^2 is too much
    to keep."""


class Picks(NamedTuple):
    """What the operation gives back."""

    indices: torch.Tensor
    """(N, k) int32, the atoms in the order of their picks; -1 where a row stopped, only at the end."""
    coefficients: torch.Tensor
    """(N, k) in the dtype of the atoms, 0 where the index is -1."""
    residual_norm: torch.Tensor
    """(N,) in the dtype of the atoms, ||x - sum of coefficients times atoms||."""


def matching_pursuit(problem: Problem, progress: Callable[[int, int], object] | None = None) -> Picks:
    """Decompose every row, some rows at a time so that memory is bounded.

    `progress` is called with (rows done, rows in all).
    """
    atoms, x = problem.atoms, problem.x
    correlate = correlations(atoms)
    row_numbers = len(atoms) + min(problem.k, len(atoms)) * atoms.shape[1]
    parts: list[Picks] = []
    done = 0
    for rows in x.split(max(1, CHUNK_NUMBERS // row_numbers)):
        parts.append(decompose(problem, rows.to(atoms.dtype), correlate))
        done += len(rows)
        if progress:
            progress(done, len(x))
    return Picks(*(torch.cat(part) for part in zip(*parts, strict=True)))


def decompose(problem: Problem, x: torch.Tensor, correlate: Callable[[torch.Tensor], torch.Tensor]) -> Picks:
    """The definition, for all rows of `x` at once; `going` holds the numbers of the rows that have not stopped."""
    norm, orthogonal = norms(x), problem.method == "omp"
    indices = torch.full((len(x), problem.k), -1, device=x.device)
    coefficients = x.new_zeros(len(x), problem.k)
    residual = x.clone()
    going = torch.arange(len(x), device=x.device)
    for step in range(problem.k):
        going = going[norms(residual[going]) > max(problem.tol, problem.level) * norm[going]]
        c = correlate(residual[going])
        score = c if problem.nonnegative else c.abs()
        if orthogonal:
            score = score.scatter(1, indices[going, :step], -torch.inf)
        pick = score.argmax(1, keepdim=True)
        worthwhile = score.gather(1, pick)[:, 0] > problem.level * norm[going]
        going, pick, c = going[worthwhile], pick[worthwhile], c[worthwhile]
        if len(going) == 0:
            break
        indices[going, step] = pick[:, 0]
        if orthogonal:
            support = indices[going, : step + 1]
            coefficients[going, : step + 1], residual[going] = fit(problem, x[going], support)
        else:
            coefficients[going, step] = c.gather(1, pick)[:, 0]
            residual[going] -= c.gather(1, pick) * problem.atoms[pick[:, 0]]
    if problem.method == "mp_refit":
        indices, coefficients, residual = refit(problem, x, indices)
    return Picks(indices.to(torch.int32), coefficients, norms(residual))


def correlations(atoms: torch.Tensor) -> Callable[[torch.Tensor], torch.Tensor]:
    """The function that takes residuals (n, D) to their products with all atoms, (n, M).

    Equal and opposite atoms share one column of the product: a GEMM may round equal columns differently, and a tie
    would then go to either.
    """
    first = (atoms != 0).to(torch.int8).argmax(1, keepdim=True)
    sign = atoms.gather(1, first).sign()
    distinct, place = torch.unique(atoms * sign, dim=0, return_inverse=True)
    return lambda residual: (residual @ distinct.mT)[:, place] * sign[:, 0]


def norms(rows: torch.Tensor) -> torch.Tensor:
    """(n,) Euclidean norms, squared and summed in float64 so that tiny and huge rows have one too."""
    return torch.linalg.vector_norm(rows, dim=1, dtype=torch.float64).to(rows.dtype)


def refit(problem: Problem, x: torch.Tensor, indices: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Least squares on the distinct picks of each row, in the order of their first pick."""
    supports = [[pick for pick in dict.fromkeys(picks) if pick >= 0] for picks in indices.tolist()]
    padded = [support + [-1] * (problem.k - len(support)) for support in supports]
    distinct = torch.tensor(padded, dtype=torch.int64, device=x.device).view(indices.shape)
    coefficients, residual = x.new_zeros(indices.shape), x.clone()
    sizes = (distinct >= 0).sum(1)
    for size in sizes.unique().tolist():
        rows = (sizes == size).nonzero()[:, 0]
        if size > 0:
            coefficients[rows, :size], residual[rows] = fit(problem, x[rows], distinct[rows, :size])
    return distinct, coefficients, residual


def fit(problem: Problem, x: torch.Tensor, support: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Coefficients (n, s) of the least squares of x (n, D) on its support (n, s), and the residual (n, D)."""
    chosen = problem.atoms[support]
    if problem.nonnegative:
        solution = nonnegative_least_squares(chosen.double(), x.double())
    else:
        solution = least_squares(chosen.double(), x.double(), problem.level)
    coefficients = solution.to(x.dtype)
    return coefficients, x - torch.einsum("ns,nsd->nd", coefficients, chosen)


def least_squares(chosen: torch.Tensor, x: torch.Tensor, level: float) -> torch.Tensor:
    """(n, s) float64 that minimises ||x - sum_s coefficients_s chosen_s||, the shortest where many do.

    Atoms that depend on each other but for rounding, `level`, count as dependent: exact coefficients would be huge, and
    their own rounding would undo the fit.
    """
    return torch.linalg.lstsq(chosen.mT, x[:, :, None], rcond=level).solution[:, :, 0]


def nonnegative_least_squares(chosen: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """The same under coefficients >= 0, a row at a time; scaled, since some solvers have an absolute tolerance."""
    scale = norms(x)
    targets = (x / scale[:, None]).cpu().numpy()
    columns = chosen.mT.cpu().numpy()
    iterations = 100 + 10 * chosen.shape[1]
    solved = [nnls(each, target, maxiter=iterations)[0] for each, target in zip(columns, targets, strict=True)]
    return torch.from_numpy(numpy.stack(solved)).to(x.device) * scale[:, None]
