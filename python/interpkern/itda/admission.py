"""Which rows become atoms: every row is tested against the dictionary as it stands at its turn.

This is the dictionary that batches of one row give. Rows are encoded a block at a time; once a row is accepted, those
of the later rows whose path its atom enters are encoded anew when their turn comes.
"""

import math
from dataclasses import dataclass

import numpy
import torch
from numpy.typing import NDArray

from interpkern.itda.atoms import Atoms
from interpkern.itda.devices import host, norms, put, take
from interpkern.itda.pursuit import Pursuit
from interpkern.itda.rows import Rows
from interpkern.ops.sparse_code import SparseCode

SMALLEST_BLOCK, LARGEST_BLOCK = 16, 1024
GPU_BLOCK = 256
"""On a GPU, which encodes so many rows in the time of one, no block is smaller."""
FEW, MANY = 2, 8
AHEAD = 8
"""Rows whose atoms are multiplied at once; so many more take hardly longer than one, which memory bounds."""
ROUNDING = 1e-12
"""Relative loss that float32 leaves of a row which is a sum of atoms; no threshold is below it."""
EARLY = 1 - 1e-5
"""Rows stop a hair below the threshold, so that a row which stopped has passed in spite of rounding."""


@dataclass(frozen=True)
class Threshold:
    """The loss above which a row becomes an atom."""

    value: float
    relative: bool

    @property
    def tol(self) -> float | None:
        """Where encoding may stop, because residuals never grow: the row will pass."""
        return math.sqrt(max(self.value, ROUNDING)) * EARLY if self.relative else None

    def losses(self, residual_norm: NDArray[numpy.float32], norm: NDArray[numpy.float64]) -> NDArray[numpy.float64]:
        """||x - x_hat||^2, as a share of ||x||^2 where relative; 0 for rows of zeros."""
        whole = numpy.where(norm > 0, norm, 1) if self.relative else 1
        return numpy.square(residual_norm.astype(numpy.float64) / whole)

    def exceeded(self, losses: NDArray[numpy.float64], norm: NDArray[numpy.float64]) -> NDArray[numpy.bool_]:
        """Which rows are to become atoms."""
        rounding = ROUNDING if self.relative else ROUNDING * numpy.square(norm)
        return losses > numpy.maximum(self.value, rounding)


class Admission:
    """A dictionary that grows by the rows it cannot reconstruct."""

    def __init__(self, atoms: Atoms, pursuit: Pursuit, threshold: Threshold) -> None:
        self.atoms = atoms
        self.pursuit = pursuit
        self.threshold = threshold
        self._block = SMALLEST_BLOCK

    def test(self, rows: Rows) -> int:
        """Test centred float32 rows in order; returns how many were tested before the dictionary was full."""
        done, least = 0, SMALLEST_BLOCK if rows.values.device.type == "cpu" else GPU_BLOCK
        while done < len(rows) and not self.atoms.full:
            block = rows[done : done + max(self._block, least)]
            before = len(self.atoms)
            done += self._test_block(block)
            self._adapt(len(self.atoms) - before)
        return done

    def failing(self, rows: Rows) -> Rows:
        """The rows that fail against the dictionary as it stands."""
        block = _Block(rows, self)
        return rows[torch.from_numpy(block.all_failing())]

    def _test_block(self, rows: Rows) -> int:
        block, most = _Block(rows, self), self.atoms.room
        admitted: list[int] = []
        while len(admitted) < most and (row := block.next_failing(admitted[-1] + 1 if admitted else 0)) < len(rows):
            block.admit(row)
            admitted.append(row)
        chosen = numpy.array(admitted, numpy.int64)
        self.atoms.record(rows, chosen, block.norms[chosen], block.losses[chosen])
        return admitted[-1] + 1 if self.atoms.full else len(rows)

    def _adapt(self, accepted: int) -> None:
        """Keep the acceptances of a block few: each costs a test of the rows behind it. Results don't depend on it."""
        if accepted <= FEW:
            self._block = min(2 * self._block, LARGEST_BLOCK)
        elif accepted >= MANY:
            self._block = max(self._block // 2, SMALLEST_BLOCK)


class _Block:
    """Rows with their codes over the growing dictionary; `stale` marks those that must be encoded before use."""

    def __init__(self, rows: Rows, admission: Admission) -> None:
        self.norms = norms(rows.values)
        self.losses = numpy.zeros(len(rows))
        self._values, self._gram, self._threshold = rows.values, admission.atoms.gram, admission.threshold
        self._untouched = admission.pursuit.untouched
        self._pursuit = admission.pursuit.repeated(self._gram, tol=self._threshold.tol)
        self._fails = numpy.zeros(len(rows), bool)
        self._stale = numpy.ones(len(rows), bool)
        self._expected: list[int] = []
        self._code: SparseCode | None = None

    def next_failing(self, start: int) -> int:
        """The first row from `start` that fails, or the number of rows."""
        while True:
            row = start + _first(self._fails[start:] & ~self._stale[start:])
            if not self._stale[start:row].any():
                return row
            self._encode()

    def all_failing(self) -> NDArray[numpy.bool_]:
        """(n,) which rows fail."""
        self._encode()
        return self._fails

    def admit(self, row: int) -> None:
        """Make an atom of a row, and mark those of the later rows whose path it enters."""
        if self._expected[:1] != [row]:
            self._expect(row)
        del self._expected[0]
        self._gram.append_expected()
        start, known = row + 1, len(self._gram) - 1
        if known == 0:
            self._stale[start:] = True
        elif start < len(self._stale) and self._code is not None:
            code = SparseCode(*(part[start:] for part in _parts(self._code)))
            self._stale[start:] |= host(self._pursuit.in_doubt(self._values[start:], code, known=known))

    def _expect(self, row: int) -> None:
        """Have the atoms of this row and the next ones that fail as yet multiplied in one go."""
        rows = row + numpy.flatnonzero(self._fails[row:])[:AHEAD]
        sizes = torch.from_numpy(self.norms[rows, None]).to(self._values.device)
        self._gram.expect((take(self._values, rows).double() / sizes).float())
        self._expected = rows.tolist()

    def _encode(self) -> None:
        """Bring the codes of stale rows up to date."""
        encode = self._pursuit.encode if len(self._gram) else self._untouched
        due = numpy.flatnonzero(self._stale)
        if self._code is None:
            self._code = code = encode(self._values)
        else:
            code = encode(take(self._values, due))
            for kept, found in zip(_parts(self._code), _parts(code), strict=True):
                put(kept, due, found)
        self.losses[due] = self._threshold.losses(host(code.residual_norm), self.norms[due])
        self._fails[due] = self._threshold.exceeded(self.losses[due], self.norms[due])
        self._stale[due] = False


def _parts(code: SparseCode) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    return code.indices, code.coefficients, code.residual_norm


def _first(marks: NDArray[numpy.bool_]) -> int:
    """The place of the first True, or the length."""
    return int(marks.argmax()) if marks.any() else len(marks)
