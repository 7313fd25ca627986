"""`matching_pursuit` again and again over a Gram that grows, without checking what has been checked before."""

from dataclasses import dataclass

import torch

from interpkern.backends import Backend, choose
from interpkern.ops.gram import Gram
from interpkern.ops.matching_pursuit_backends import BACKENDS, REPLAYS
from interpkern.ops.sparse_code import SparseCode
from interpkern.reference.matching_pursuit import Problem


@dataclass(frozen=True)
class RepeatedPursuit:
    """Exact pursuits of samples that are contiguous, finite float32 and lie where the atoms do; M is at least 1.

    Example:
        >>> gram = Gram(atoms)
        >>> pursuit = RepeatedPursuit(gram, k=8, method="mp", nonnegative=False, tol=0.0, backend="auto", threads=1)
        >>> code = pursuit.encode(x)
        >>> gram.append(torch.eye(64)[:1])
        >>> pursuit.in_doubt(x, code, known=len(gram) - 1).shape
        torch.Size([1000])
    """

    gram: Gram
    k: int
    method: str
    nonnegative: bool
    tol: float
    backend: str
    threads: int

    def encode(self, x: torch.Tensor) -> SparseCode:
        """What `matching_pursuit` gives for (N, D) samples."""
        problem, chosen = self._problem(x)
        return SparseCode(*chosen.run(problem, None))

    def in_doubt(self, x: torch.Tensor, code: SparseCode, *, known: int) -> torch.Tensor:
        """`path_changes` of samples and their code over the first `known` atoms, or all where that is to encode again.

        Returns:
            (N,) bool: False where the sample's code over all atoms is the code it has.
        """
        problem, chosen = self._problem(x)
        if chosen.name in REPLAYS:
            return REPLAYS[chosen.name](problem, code, known)
        return torch.ones(len(code), dtype=torch.bool)

    def _problem(self, x: torch.Tensor) -> tuple[Problem, Backend]:
        problem = Problem(
            x=x,
            atoms=self.gram.atoms,
            k=self.k,
            method=self.method,
            nonnegative=self.nonnegative,
            tol=self.tol,
            gram=self.gram.prepared,
            precision="exact",
            threads=self.threads,
        )
        return problem, choose("matching_pursuit", BACKENDS, self.backend, problem)
