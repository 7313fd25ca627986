"""The atoms of a dictionary, each with its label and its story in one record."""

import math

import numpy
import pandas
import torch
from numpy.typing import NDArray

from interpkern.itda.devices import units
from interpkern.itda.rows import Rows
from interpkern.ops.gram import Gram

RECORD = numpy.dtype(
    [
        ("prompt_id", numpy.int64),
        ("position", numpy.int64),
        ("token_id", numpy.int64),
        ("source_norm", numpy.float64),
        ("birth_step", numpy.int64),
        ("admission_loss", numpy.float64),
    ]
)
"""Its label; its token or -1; the norm of its centred activation; the number of its row, and the loss of that then."""


class Atoms:
    """Unit rows and their records, which `append` takes in together."""

    def __init__(
        self,
        width: int,
        limit: int | None = None,
        threads: int | None = None,
        device: torch.device | None = None,
    ) -> None:
        self.limit = limit
        self._threads = threads
        self._rows = torch.empty(0, width, device=device)
        self._gram: Gram | None = None
        self._copies: dict[torch.device, Gram] = {}
        self._records = numpy.empty(0, RECORD)
        self._count = 0

    @classmethod
    def restored(
        cls,
        atoms: torch.Tensor,
        records: NDArray[numpy.void],
        limit: int | None = None,
        threads: int | None = None,
    ) -> "Atoms":
        """Atoms that were built before; their (M, D) rows and their records are copied."""
        new = cls(atoms.shape[1], limit, threads, atoms.device)
        new._rows = atoms.clone(memory_format=torch.contiguous_format)
        new._records, new._count = records.copy(), len(records)
        return new

    def append(
        self, rows: Rows, chosen: NDArray[numpy.int64], norms: NDArray[numpy.float64], losses: NDArray[numpy.float64]
    ) -> None:
        """Make atoms of some of the (centred) rows; norms and losses are those of all rows."""
        self.gram.append(units(rows.values, chosen, norms))
        self.record(rows, chosen, norms, losses)

    def record(
        self, rows: Rows, chosen: NDArray[numpy.int64], norms: NDArray[numpy.float64], losses: NDArray[numpy.float64]
    ) -> None:
        """Write down the newest atoms of the Gram, where they have been appended one by one."""
        count = self._count + len(chosen)
        if count > len(self._records):
            self._records = numpy.concatenate([self._records, numpy.empty(max(64, count), RECORD)])
        at, fresh = torch.from_numpy(chosen), self._records[self._count : count]
        fresh["prompt_id"], fresh["position"] = rows.labels[at].T.numpy()
        fresh["token_id"], fresh["birth_step"] = rows.tokens[at].numpy(), rows.numbers[at].numpy()
        fresh["source_norm"], fresh["admission_loss"] = norms[chosen], losses[chosen]
        self._count = count

    def first(self, count: int) -> "Atoms":
        """A copy with the first `count` atoms alone."""
        return Atoms.restored(self.values[:count], self.records[:count], self.limit, self._threads)

    def __len__(self) -> int:
        """M, the number of atoms."""
        return self._count

    @property
    def full(self) -> bool:
        """Whether no more atoms are to come."""
        return self.limit is not None and self._count >= self.limit

    @property
    def room(self) -> float:
        """How many may still come."""
        return math.inf if self.limit is None else self.limit - self._count

    @property
    def gram(self) -> Gram:
        """The atoms as the kernels take them; made when it is first needed."""
        if self._gram is None:
            self._gram = Gram(self._rows, threads=self._threads)
            self._rows = self._rows[:0]
        return self._gram

    def gram_on(self, device: torch.device) -> Gram:
        """Those that are on this device; a copy is made where they are on another, and kept until atoms come."""
        if device == self.values.device:
            return self.gram
        if device not in self._copies or len(self._copies[device]) != len(self):
            self._copies[device] = Gram(self.values.to(device), threads=self._threads)
        return self._copies[device]

    def to(self, device: torch.device) -> "Atoms":
        """A copy on a device."""
        return Atoms.restored(self.values.to(device), self.records, self.limit, self._threads)

    @property
    def values(self) -> torch.Tensor:
        """(M, D) float32 unit rows, where the rows that they were made of lay; a view, not to be written to."""
        return self._rows if self._gram is None else self._gram.atoms

    @property
    def records(self) -> NDArray[numpy.void]:
        """(M,) of RECORD; a view."""
        return self._records[: self._count]

    @property
    def labels(self) -> torch.Tensor:
        """(M, 2) int64, prompt id and position."""
        records = self.records
        return torch.from_numpy(numpy.stack([records["prompt_id"], records["position"]], axis=1))

    def to_pandas(self) -> pandas.DataFrame:
        """One row an atom, with the columns of RECORD."""
        return pandas.DataFrame({name: self.records[name].copy() for name in RECORD.names or ()})
