"""`matching_pursuit` as an operator of torch: torch.ops.interpkern.matching_pursuit, for the dispatcher and opcheck.

Its arguments are a checked `Problem` taken apart, and nothing is checked again; call `interpkern.matching_pursuit`
instead.
"""

from collections.abc import Sequence
from contextvars import ContextVar

import torch

from interpkern.ops.matching_pursuit_backends import BACKENDS
from interpkern.progress import Progress
from interpkern.reference.matching_pursuit import Picks, Prepared, Problem

SCHEMA = (
    "matching_pursuit(Tensor x, Tensor atoms, int k, str method, bool nonnegative, float tol, Tensor?[] gram,"
    " str precision, int threads, str backend) -> (Tensor indices, Tensor coefficients, Tensor residual_norm)"
)

_progress: ContextVar[Progress | None] = ContextVar("progress", default=None)
library = torch.library.Library("interpkern", "FRAGMENT")


def call(problem: Problem, backend: str, progress: Progress | None) -> Picks:
    """Run a checked problem on a backend through torch's dispatcher."""
    p = problem
    token = _progress.set(progress)
    try:
        found = torch.ops.interpkern.matching_pursuit.default(
            p.x, p.atoms, p.k, p.method, p.nonnegative, p.tol, list(p.gram or ()), p.precision, p.threads, backend
        )
    finally:
        _progress.reset(token)
    return Picks(*found)


def _matching_pursuit(
    x: torch.Tensor,
    atoms: torch.Tensor,
    k: int,
    method: str,
    nonnegative: bool,
    tol: float,
    gram: Sequence[torch.Tensor | None],
    precision: str,
    threads: int,
    backend: str,
) -> Picks:
    prepared = Prepared(_present(gram[0]), *gram[1:]) if gram else None
    problem = Problem(x, atoms, k, method, nonnegative, tol, prepared, precision, threads)
    run = next(known.run for known in BACKENDS if known.name == backend)
    picks: Picks = run(problem, _progress.get())
    return picks


def _present(rows: torch.Tensor | None) -> torch.Tensor:
    assert rows is not None
    return rows


def _fake(x: torch.Tensor, atoms: torch.Tensor, k: int, *settings: object) -> Picks:
    size = (x.shape[0], k)
    return Picks(x.new_empty(size, dtype=torch.int32), atoms.new_empty(size), atoms.new_empty(size[:1]))


library.define(SCHEMA)
library.impl("matching_pursuit", _matching_pursuit, "CompositeExplicitAutograd")
torch.library.register_fake("interpkern::matching_pursuit", _fake, lib=library)
