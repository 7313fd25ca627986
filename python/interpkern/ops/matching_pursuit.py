"""The operation `matching_pursuit`: greedy decomposition of samples over a dictionary of unit atoms."""

from typing import Any

import torch

from interpkern.backends import choose
from interpkern.errors import DTypeError, ShapeError
from interpkern.ops import matching_pursuit_library
from interpkern.ops.gram import Gram
from interpkern.ops.matching_pursuit_backends import BACKENDS, REPLAYS
from interpkern.ops.sparse_code import SparseCode
from interpkern.progress import Progress, reporting
from interpkern.reference.matching_pursuit import METHODS, PRECISIONS, Prepared, Problem
from interpkern.validation import FLOATS, Dimensions, boolean, choice, integer, number, unit_rows

MAX_PICKS = 1 << 20


def matching_pursuit(
    x: torch.Tensor,
    atoms: torch.Tensor,
    k: int,
    *,
    method: str = "mp",
    nonnegative: bool = False,
    tol: float | None = None,
    gram: Gram | torch.Tensor | None = None,
    precision: str = "exact",
    backend: str = "auto",
    threads: int | None = None,
    progress: Progress | bool | None = None,
) -> SparseCode:
    """Write each sample as a sum of few atoms, chosen greedily by their correlation with what is left of it.

    Shapes:
        x (N, D) float32, float64, float16 or bfloat16, N may be 0; atoms (M, D) of the same dtypes. The arithmetic is
        float32, or float64 where x or atoms are; torch or NumPy, contiguous or not.

    Args:
        x: the samples.
        atoms: unit rows.
        k: picks of a sample at most; may exceed M and the rank of the atoms.
        method: "mp" subtracts one atom a step and may pick it again; "mp_refit" fits least squares on the atoms that
            mp picked; "omp" fits all chosen atoms after every pick, which are never picked again.
        nonnegative: allow only coefficients >= 0: picks by the largest positive correlation, and least squares under
            that constraint, where an atom may get 0.
        tol: a sample stops once the norm of its residual is at most tol times its own, in [0, 1); None stops at
            rounding level. For mp_refit the residual is that of mp.
        gram: reused between calls: a Gram of these atoms, or their (M, M) products; None makes what it needs.
        precision: "exact" computes in float32 throughout; "fast" may pick other atoms where two are almost as good.
        backend: "auto", "cuda", "triton", "cpu" or "reference".
        threads: CPU threads; None takes PyTorch's number. Results don't depend on it.
        progress: a function of (samples done, samples in all), True for a bar, False for none; None shows a bar on a
            terminal.

    Returns:
        SparseCode with indices, coefficients and residual_norm in the units of x; ties go to the lowest index, samples
        of zeros have no picks.

    Raises:
        ShapeError, DTypeError or ValueError that names the argument; BackendUnavailable with every backend's reason.

    Source:
        Mallat and Zhang 1993 (mp); Pati, Rezaiifar and Krishnaprasad 1993 (omp); Leask et al. 2025, "Inference-Time
        Decomposition of Activations", section 3.

    Example:
        >>> atoms = torch.nn.functional.normalize(torch.randn(512, 64), dim=1)
        >>> code = matching_pursuit(torch.randn(1000, 64), atoms, 8, method="omp")
        >>> code.indices.shape, code.decode(atoms).shape
        (torch.Size([1000, 8]), torch.Size([1000, 64]))
    """
    problem = _checked(
        x,
        atoms,
        integer("k", k, 1, MAX_PICKS),
        method=method,
        nonnegative=nonnegative,
        tol=tol,
        gram=gram,
        precision=precision,
        threads=threads,
    )
    chosen = choose("matching_pursuit", BACKENDS, backend, problem)
    with reporting(progress, "matching_pursuit", " samples") as report:
        return SparseCode(*matching_pursuit_library.call(problem, chosen.name, report))


def path_changes(
    x: torch.Tensor,
    atoms: torch.Tensor,
    code: SparseCode,
    known: int,
    *,
    method: str = "mp",
    nonnegative: bool = False,
    tol: float | None = None,
    gram: Gram | None = None,
    backend: str = "auto",
    threads: int | None = None,
) -> torch.Tensor:
    """Tell which samples would get another code, now that atoms were added behind the first `known`.

    Shapes:
        x (N, D); atoms (M, D), old and new; code (N, k) of these samples over atoms[:known] with the same settings.

    Returns:
        (N,) bool: a new atom enters the sample's path. Elsewhere its code over all atoms is the code it has.

    Raises:
        ShapeError, DTypeError or ValueError that names the argument; BackendUnavailable with every backend's reason.

    Example:
        >>> code = matching_pursuit(x, atoms[:500], 8)
        >>> path_changes(x, atoms, code, 500).shape
        torch.Size([1000])
    """
    if not isinstance(code, SparseCode):
        raise DTypeError(f"code: expected the SparseCode of an earlier call, got {type(code).__name__}")
    problem = _checked(
        x,
        atoms,
        integer("code.indices.shape[1]", code.indices.shape[1], 1, MAX_PICKS),
        method=method,
        nonnegative=nonnegative,
        tol=tol,
        gram=gram,
        precision="exact",
        threads=threads,
    )
    if len(code) != len(problem.x):
        raise ShapeError(f"code: expected {len(problem.x)} samples to match x, got {len(code)}")
    known = integer("known", known, 0, len(problem.atoms))
    if code.indices.numel() and int(code.indices.max()) >= known:
        raise ValueError(f"code: expected indices of the first {known} atoms, got {int(code.indices.max())}")
    chosen = choose("matching_pursuit", BACKENDS, backend, problem).name
    if chosen in REPLAYS:
        return REPLAYS[chosen](problem, code, known)
    again = matching_pursuit_library.call(problem, chosen, None)
    return (again.indices >= known).any(1)


def _checked(
    x: torch.Tensor,
    atoms: torch.Tensor,
    k: int,
    *,
    method: str,
    nonnegative: bool,
    tol: float | None,
    gram: Gram | torch.Tensor | None,
    precision: str,
    threads: int | None,
) -> Problem:
    dimensions = Dimensions()
    x = dimensions.tensor("x", x, "N D", FLOATS, may_be_empty="N")
    if not (isinstance(gram, Gram) and gram.holds(atoms) and gram.atoms.shape[1] == x.shape[1]):
        atoms = unit_rows("atoms", dimensions.tensor("atoms", atoms, "M D", FLOATS))
    if atoms.device != x.device:
        raise ValueError(f"atoms: expected device {x.device} to match x, got {atoms.device}; move one with .to()")
    dtype = torch.float64 if torch.float64 in (x.dtype, atoms.dtype) else torch.float32
    return Problem(
        x=x,
        atoms=atoms.to(dtype),
        k=k,
        method=choice("method", method, METHODS),
        nonnegative=boolean("nonnegative", nonnegative),
        tol=0.0 if tol is None else number("tol", tol, 0.0, below=1.0),
        gram=_prepared(gram, atoms),
        precision=choice("precision", precision, PRECISIONS),
        threads=torch.get_num_threads() if threads is None else integer("threads", threads, 1, 4096),
    )


def _prepared(gram: Any, atoms: torch.Tensor) -> Prepared | None:
    """What the caller has prepared of these atoms."""
    if isinstance(gram, Gram):
        if gram.atoms.shape != atoms.shape:
            raise ShapeError(
                f"gram: expected one of {tuple(atoms.shape)} to match atoms, got {tuple(gram.atoms.shape)}"
            )
        if not gram.holds(atoms) and not torch.equal(gram.atoms, atoms.to(gram.atoms.dtype)):
            raise ValueError(
                "gram: expected the Gram of these atoms, got that of others; pass Gram(atoms), or its .atoms"
            )
        return gram.prepared
    if gram is None:
        return None
    dimensions = Dimensions({"M": len(atoms)}, {"M": "atoms"})
    products = dimensions.tensor("gram", gram, "M M", (torch.float32, torch.float64))
    if products.device != atoms.device:
        raise ValueError(f"gram: expected device {atoms.device} to match atoms, got {products.device}")
    return Gram.from_products(atoms, products.to(torch.float32)).prepared
