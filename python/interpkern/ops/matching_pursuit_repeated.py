"""`matching_pursuit` of the same samples again and again over a Gram that grows, without checking what was checked."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy
import torch
from numpy.typing import NDArray

from interpkern import native
from interpkern.backends import choose
from interpkern.ops.gram import Gram
from interpkern.ops.matching_pursuit_backends import BACKENDS, REPLAYS, cpu_arguments
from interpkern.ops.sparse_code import SparseCode
from interpkern.reference.matching_pursuit import Picks, Problem


@dataclass(frozen=True)
class RepeatedPursuit:
    """Samples and their exact codes, which are brought up to date as atoms come.

    Samples are contiguous, finite float32 and lie where the atoms and the code do. On the CPU the functions are called
    on them where they lie, with arguments that are prepared once.

    Example:
        >>> code, changed = matching_pursuit(x, atoms, 8), numpy.zeros(1000, bool)
        >>> gram = Gram(atoms)
        >>> pursuit = RepeatedPursuit(x, code, gram, "mp", nonnegative=False, tol=0.0, backend="auto", threads=1)
        >>> gram.append(torch.eye(64)[:1])
        >>> pursuit.mark_changed(changed, 0, 1000)
        >>> pursuit.encode(changed.nonzero()[0])
    """

    x: torch.Tensor
    """(N, D)."""
    code: SparseCode
    """Of all samples; written to."""
    gram: Gram
    method: str
    nonnegative: bool
    tol: float
    backend: str
    threads: int

    def encode(self, at: NDArray[numpy.int64]) -> None:
        """Give the samples `at` the codes that `matching_pursuit` gives them; M is at least 1."""
        if self._on_cpu is not None:
            self._on_cpu("matching_pursuit", at=torch.from_numpy(at), exact=True, progress=None)
            return
        rows = torch.from_numpy(at).to(self.x.device)
        problem = replace(self._problem, x=self.x[rows])
        picks = choose("matching_pursuit", BACKENDS, self.backend, problem).run(problem, None)
        self.code.indices[rows], self.code.coefficients[rows], self.code.residual_norm[rows] = picks

    def mark_changed(self, marks: NDArray[numpy.bool_], first: int, last: int) -> None:
        """Mark the samples from `first` to `last` whose path the newest atom enters, or all where to tell is to encode.

        Those that are not marked have the code that they would get over all atoms.
        """
        known = len(self.gram) - 1
        if self._on_cpu is not None:
            self._on_cpu("path_changes", known=known, first=first, last=last, changed=torch.from_numpy(marks))
            return
        rows = slice(first, last)
        problem = replace(self._problem, x=self.x[rows])
        replay = REPLAYS.get(choose("matching_pursuit", BACKENDS, self.backend, problem).name)
        code = SparseCode(*(part[rows] for part in self._picks))
        marks[rows] |= True if replay is None else replay(problem, code, known).cpu().numpy()

    @property
    def _picks(self) -> Picks:
        return Picks(self.code.indices, self.code.coefficients, self.code.residual_norm)

    @property
    def _problem(self) -> Problem:
        return Problem(
            x=self.x,
            atoms=self.gram.atoms,
            k=self.code.indices.shape[1],
            method=self.method,
            nonnegative=self.nonnegative,
            tol=self.tol,
            gram=self.gram.prepared,
            precision="exact",
            threads=self.threads,
        )

    @cached_property
    def _on_cpu(self) -> Callable[..., None] | None:
        """Calls a function of the CPU's over the atoms as they are then; None where another backend serves."""
        problem, module = self._problem, native.load("_cpu")
        if choose("matching_pursuit", BACKENDS, self.backend, problem).name != "cpu":
            return None
        kept = cpu_arguments(problem, self._picks)

        def call(name: str, **arguments: Any) -> None:
            prepared = self.gram.prepared
            assert prepared is not None
            native.call(getattr(module, name), **kept, **prepared._asdict(), count=len(self.gram), **arguments)

        return call
