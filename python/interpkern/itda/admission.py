"""Which rows become atoms: every row is tested against the dictionary as it stands at its turn.

This is the dictionary that batches of one row give. Rows are encoded some way ahead; once a row is accepted, those of
the waiting rows whose path its atom enters are encoded anew when the turn of the first of them comes.
"""

import math
from dataclasses import dataclass

import numpy
import torch
from numpy.typing import NDArray

from interpkern.itda.atoms import Atoms
from interpkern.itda.devices import host, norms, units
from interpkern.itda.pursuit import Pursuit
from interpkern.itda.rows import Rows

SMALLEST_WINDOW, LARGEST_WINDOW = 16, 1024
GPU_WINDOW = 256
"""On a GPU, which encodes so many rows in the time of one, no window is smaller."""
ADMITTED = {"mp": 12, "mp_refit": 1, "omp": 1}
"""Rows that are admitted from a window, about: each costs a test of the rows behind it, for mp a cheap one."""
LEFT = 1 / 4
"""Of a window, when the next rows are encoded: some at every turn would be few, which take longer each."""
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
        self._window = SMALLEST_WINDOW

    def test(self, rows: Rows) -> int:
        """Test centred float32 rows in order; returns how many were tested before the dictionary was full."""
        least = SMALLEST_WINDOW if rows.values.device.type == "cpu" else GPU_WINDOW
        queue = _Queue(rows.values, self, max(self._window, least))
        admitted: list[int] = []
        while len(admitted) < self.atoms.room and (row := queue.next_failing()) < len(rows):
            queue.admit(row)
            admitted.append(row)
        chosen = numpy.array(admitted, numpy.int64)
        self.atoms.record(rows, chosen, queue.norms, queue.losses)
        tested = admitted[-1] + 1 if self.atoms.full else len(rows)
        wanted = ADMITTED[self.pursuit.method] * tested // max(1, len(admitted))
        self._window = min(max(wanted, SMALLEST_WINDOW), LARGEST_WINDOW)
        return tested

    def failing(self, rows: Rows) -> Rows:
        """The rows that fail against the dictionary as it stands."""
        queue = _Queue(rows.values, self, len(rows))
        return rows[torch.from_numpy(queue.all_failing())]


class _Queue:
    """Rows in order, of which those in a window have codes over the growing dictionary.

    `stale` marks those that must be encoded before use.
    """

    def __init__(self, values: torch.Tensor, admission: Admission, window: int) -> None:
        rows = len(values)
        self.norms = norms(values)
        self.losses = numpy.zeros(rows)
        self._values, self._window = values, window
        self._gram, self._threshold = admission.atoms.gram, admission.threshold
        self._pursuit = admission.pursuit.repeated(values, self.norms, self._gram, tol=self._threshold.tol)
        self._fails = numpy.zeros(rows, bool)
        self._stale = numpy.ones(rows, bool)
        self._start = self._end = 0  # of what has codes and is to be tested
        self._expected: list[int] = []

    def next_failing(self) -> int:
        """The first row that fails behind the last one admitted, or the number of rows."""
        while True:
            waiting = slice(self._start, self._end)
            self._start += _first(self._fails[waiting] | self._stale[waiting])
            if self._start == len(self._stale) or (self._start < self._end and not self._stale[self._start]):
                return self._start
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
        self._start = row + 1
        if len(self._gram) == 1:
            self._stale[self._start : self._end] = True
        elif self._start < self._end:
            self._pursuit.mark_changed(self._stale, self._start, self._end)

    def _expect(self, row: int) -> None:
        """Have the atoms of this row and of the next ones that fail as yet multiplied at once."""
        rows = row + numpy.flatnonzero(self._fails[row : self._end])[:AHEAD]
        self._gram.expect(units(self._values, rows, self.norms))
        self._expected = rows.tolist()

    def _encode(self) -> None:
        """Bring the codes of the waiting rows up to date, with more of them where few are left."""
        if self._end - self._start <= LEFT * self._window:
            self._end = min(self._start + self._window, len(self._stale))
        waiting = slice(self._start, self._end)
        due = self._start + numpy.flatnonzero(self._stale[waiting])
        if len(self._gram) > 0:
            self._pursuit.encode(due)
        left = host(self._pursuit.code.residual_norm[waiting])
        self.losses[waiting] = self._threshold.losses(left, self.norms[waiting])
        self._fails[waiting] = self._threshold.exceeded(self.losses[waiting], self.norms[waiting])
        self._stale[waiting] = False


def _first(marks: NDArray[numpy.bool_]) -> int:
    """The place of the first True, or the length."""
    return int(marks.argmax()) if marks.any() else len(marks)
