"""Codes from some of the sites, and least squares of each site on picks that all share."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from interpkern.errors import DTypeError
from interpkern.itda.atoms import Atoms
from interpkern.itda.crosscoder_sites import Site, Space, beside, check_finite
from interpkern.itda.pursuit import Pursuit
from interpkern.ops.gram import Gram
from interpkern.ops.sparse_code import SparseCode
from interpkern.progress import Progress
from interpkern.reference.matching_pursuit import nonnegative_least_squares

PARTS = ("indices", "coefficients", "residual_norm")
CHUNK = 4096
"""Rows that are encoded at a time."""
FIT_NUMBERS = 1 << 24
"""Float64 numbers of picked atoms that are fitted at a time."""
LEAST_NORM = 1e-3
"""Norm at the chosen sites, of 1 over all of them, below which an atom says nothing of these sites."""
RIDGE = 1e-8
"""Relative to the largest squared norm of the picked atoms: what float32 coefficients can still resolve."""


@dataclass(frozen=True, eq=False)
class View:
    """The atoms as some of the sites see them, with unit norm there."""

    space: Space
    gram: Gram
    numbers: torch.Tensor
    """(M',) int32, which atoms these are: those that are there at these sites."""
    norms: torch.Tensor
    """(M',) float32, what norm they have there out of 1."""

    @classmethod
    def of(cls, atoms: Atoms, space: Space, sites: Sequence[Site], device: torch.device, threads: int | None) -> "View":
        """That of some sites on a device; of all sites, the atoms as they are."""
        if tuple(sites) == space.sites:
            numbers = torch.arange(len(atoms), dtype=torch.int32, device=device)
            return cls(space, atoms.gram_on(device), numbers, torch.ones(len(atoms), device=device))
        rows = space.select(atoms.values.to(device), sites)
        norms = torch.linalg.vector_norm(rows, dim=1, dtype=torch.float64)
        kept = norms >= LEAST_NORM
        unit = (rows[kept].double() / norms[kept, None]).float()
        numbers = kept.nonzero()[:, 0].to(torch.int32)
        return cls(space.only(sites), Gram(unit, threads=threads), numbers, norms[kept].float())

    def encode(self, rows: Mapping[Site, torch.Tensor], pursuit: Pursuit, precision: str) -> SparseCode:
        """The codes of (n, D_l) rows of these sites, in coefficients of the atoms of unit norm over all sites."""
        code = pursuit.encode(self.space.enter(beside(rows)), self.gram, precision=precision)
        if len(self.gram) == 0:
            return code
        used, at = code.indices >= 0, code.indices.clamp(min=0).long()
        return replace(
            code,
            indices=self.numbers[at].where(used, code.indices),
            coefficients=(code.coefficients / self.norms[at]).where(used, code.coefficients),
        )


def encode(
    name: str,
    rows: Mapping[Site, torch.Tensor],
    view: View,
    pursuit: Pursuit,
    *,
    precision: str,
    report: Progress | None = None,
) -> SparseCode:
    """The codes of (N, D_l) rows of the sites of a view, a chunk at a time."""
    codes, done = [], 0
    for part in chunks_of(rows, CHUNK):
        check_finite(name, part)
        codes.append(view.encode(part, pursuit, precision))
        done += len(codes[-1])
        if report is not None:
            report(done, len(next(iter(rows.values()))))
    return joined(codes)


def refit(
    code: SparseCode, values: torch.Tensor, space: Space, atoms: torch.Tensor, *, nonnegative: bool
) -> SparseCode:
    """The least squares of one site on the distinct picks of a code, in the order of first picks.

    The fit corrects the coefficients that are there, so its error is never above theirs.

    Args:
        code: of N samples.
        values: (N, D_l) in the units of the activations.
        space: that of this site alone.
        atoms: (M, D_l) columns of the site.
        nonnegative: allow only coefficients >= 0.
    """
    size = max(1, FIT_NUMBERS // max(1, code.indices.shape[1] * atoms.shape[1]))
    codes = []
    for start in range(0, max(len(code), 1), size):
        window = slice(start, start + size)
        part = _distinct(SparseCode(*(getattr(code, name)[window] for name in PARTS)))
        rows = space.enter(values[window].to(torch.float32)).double()
        codes.append(_fitted(part, rows, atoms, nonnegative=nonnegative))
    return joined(codes)


def _fitted(code: SparseCode, x: torch.Tensor, atoms: torch.Tensor, *, nonnegative: bool) -> SparseCode:
    used = code.indices >= 0
    picked = atoms[code.indices.clamp(min=0).long()].double() * used[..., None]
    solved = _nonnegative(picked, x) if nonnegative else _corrected(picked, x, code.coefficients.double())
    coefficients = solved.float() * used
    residual = x - _sum(coefficients.double(), picked)
    return SparseCode(code.indices, coefficients, torch.linalg.vector_norm(residual, dim=1).float())


def _nonnegative(picked: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """(n, k) non-negative least squares; a row of zeros is no atom's."""
    solved, there = x.new_zeros(picked.shape[:2]), x.any(1)
    if bool(there.any()):
        solved[there] = nonnegative_least_squares(picked[there], x[there])
    return solved


def _corrected(picked: torch.Tensor, x: torch.Tensor, coefficients: torch.Tensor) -> torch.Tensor:
    """(n, k) least squares, by two steps from the coefficients at hand, each of which lowers the error."""
    products = picked @ picked.mT
    largest = products.diagonal(dim1=1, dim2=2).amax(1).clamp(min=torch.finfo(torch.float32).tiny)
    ridge = RIDGE * largest[:, None].expand(coefficients.shape)
    factor = torch.linalg.cholesky(products + torch.diag_embed(ridge))
    for _ in range(2):
        left = x - _sum(coefficients, picked)
        step = torch.cholesky_solve(picked @ left[..., None], factor)
        coefficients = coefficients + step[..., 0]
    return coefficients


def _sum(coefficients: torch.Tensor, picked: torch.Tensor) -> torch.Tensor:
    """(n, D) sums of picked atoms (n, k, D)."""
    return (coefficients[:, None] @ picked)[:, 0]


def _distinct(code: SparseCode) -> SparseCode:
    """The same code with one slot for each atom, which holds all of its coefficient; unused slots at the end."""
    same = code.indices[:, :, None] == code.indices[:, None, :]
    first = same.int().argmax(2)
    summed = torch.zeros_like(code.coefficients).scatter_add(1, first, code.coefficients)
    kept = (first == torch.arange(code.indices.shape[1], device=first.device)) & (code.indices >= 0)
    order = (~kept).int().sort(dim=1, stable=True).indices
    indices = code.indices.where(kept, -1).gather(1, order)
    return replace(code, indices=indices, coefficients=(summed * kept).gather(1, order))


def check_code(name: str, code: Any) -> None:
    """Refuse what `encode` never gave."""
    if not isinstance(code, SparseCode):
        raise DTypeError(f"{name}: expected the SparseCode of encode, got {type(code).__name__}")


def chunks_of(rows: Mapping[Site, torch.Tensor], size: int) -> Iterator[dict[Site, torch.Tensor]]:
    """The rows in chunks, one at least."""
    for parts in zip(*(values.split(size) for values in rows.values()), strict=True):
        yield dict(zip(rows, parts, strict=True))


def joined(codes: Sequence[SparseCode]) -> SparseCode:
    """The codes of all parts, in order."""
    return SparseCode(*(torch.cat([getattr(code, name) for code in codes]) for name in PARTS))
