"""How a dictionary encodes: the settings of matching_pursuit that stay the same from call to call."""

from dataclasses import dataclass

import numpy
import torch
from numpy.typing import NDArray

from interpkern.itda.devices import norms
from interpkern.ops.gram import Gram
from interpkern.ops.matching_pursuit import matching_pursuit
from interpkern.ops.matching_pursuit_backends import BACKENDS
from interpkern.ops.matching_pursuit_repeated import RepeatedPursuit
from interpkern.ops.sparse_code import SparseCode
from interpkern.validation import choice, integer


@dataclass(frozen=True)
class Pursuit:
    """One way to encode centred rows."""

    k: int
    method: str
    nonnegative: bool
    backend: str = "auto"
    threads: int | None = None

    def __post_init__(self) -> None:
        choice("backend", self.backend, ("auto", *(known.name for known in BACKENDS)))
        if self.threads is not None:
            integer("threads", self.threads, 1, 4096)

    def encode(self, x: torch.Tensor, gram: Gram, *, tol: float | None = None, precision: str = "exact") -> SparseCode:
        """The codes of (N, D) float32 rows; without atoms, rows stay as they are."""
        if len(gram) == 0:
            return self.untouched(x, norms(x))
        return matching_pursuit(
            x,
            gram.atoms,
            self.k,
            method=self.method,
            nonnegative=self.nonnegative,
            tol=tol,
            gram=gram,
            precision=precision,
            backend=self.backend,
            threads=self.threads,
            progress=False,
        )

    def untouched(self, x: torch.Tensor, norms: NDArray[numpy.float64]) -> SparseCode:
        """The codes of rows that no atom is taken off."""
        indices = torch.full((len(x), self.k), -1, dtype=torch.int32, device=x.device)
        size = torch.from_numpy(norms).float().to(x.device)
        return SparseCode(indices, torch.zeros(indices.shape, device=x.device), size)

    def repeated(
        self, x: torch.Tensor, norms: NDArray[numpy.float64], gram: Gram, *, tol: float | None
    ) -> RepeatedPursuit:
        """Many calls of `encode` for the same rows, known to be finite, over a Gram that grows."""
        threads = torch.get_num_threads() if self.threads is None else self.threads
        tol = 0.0 if tol is None else tol
        code = self.untouched(x, norms)
        return RepeatedPursuit(x, code, gram, self.method, self.nonnegative, tol, self.backend, threads)
