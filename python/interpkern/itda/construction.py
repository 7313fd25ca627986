"""Building a dictionary from a stream: the mean, the rows in order, and the account of what happened."""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass

import numpy
import torch
from numpy.typing import NDArray

from interpkern.itda.admission import Admission, Threshold
from interpkern.itda.atoms import Atoms
from interpkern.itda.devices import centred, column_sums, host, norms
from interpkern.itda.pursuit import Pursuit
from interpkern.itda.rows import MASSIVE, Rows
from interpkern.itda.settings import Settings
from interpkern.validation import integer

CHUNK = 1024
"""Rows worked on at a time, and added up at a time for the mean, whatever batches they come in."""


class Digest:
    """A hash of rows and labels in their order, the same however they are cut into batches.

    Args:
        before: the hash of rows that came before these, if they are not at hand.
    """

    def __init__(self, before: str = "") -> None:
        self._before, self._rows = before, 0
        self._values, self._labels = hashlib.sha256(before.encode()), hashlib.sha256()

    def update(self, rows: Rows) -> None:
        """Take in float32 rows; the only use of rows on a GPU for which they are read back."""
        self._rows += len(rows)
        self._values.update(host(rows.values).data)
        self._labels.update(rows.labels.contiguous().numpy().data)

    def copy(self) -> "Digest":
        """One that goes on apart."""
        new = Digest(self._before)
        new._rows = self._rows
        new._values, new._labels = self._values.copy(), self._labels.copy()
        return new

    def __deepcopy__(self, memo: dict[int, object]) -> "Digest":
        return self.copy()

    def hex(self) -> str:
        """The hash of all rows so far."""
        if self._before and self._rows == 0:
            return self._before
        return hashlib.sha256(self._values.digest() + self._labels.digest()).hexdigest()


@dataclass(frozen=True)
class BuildReport:
    """What happened while a dictionary was built."""

    rows_seen: int
    """Rows read, up to the one that filled the dictionary if it is full."""
    skipped: int
    """Rows among them that were left out because they are not finite."""
    accepted: int
    """Rows that became atoms."""
    max_atoms_reached: bool
    """Whether the dictionary is full, so that no further row is tested."""
    threshold: float
    """The loss above which a row became an atom."""
    batch_rows: int | None
    """In fast mode, the rows of the largest batch, on which the result depends."""
    repeated_labels: int
    """Atoms whose label an earlier atom has too; comparisons by label count them once."""

    def __str__(self) -> str:
        text = f"{self.accepted:,} atoms from {self.rows_seen:,} rows at threshold {self.threshold:.4g}"
        if self.skipped:
            text += f"; {self.skipped:,} rows that are not finite were left out"
        if self.repeated_labels:
            text += f"; {self.repeated_labels:,} atoms repeat the label of another"
        return f"{text}; stopped at max_atoms" if self.max_atoms_reached else text


@dataclass(frozen=True)
class Counts:
    """How far a construction has come."""

    rows_seen: int = 0
    skipped: int = 0
    batch_rows: int = 0

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            integer(name, value, 0)


@dataclass(frozen=True)
class Mark:
    """A point of a construction to go back to."""

    atoms: int
    digest: Digest
    counts: Counts


class Construction:
    """A dictionary in the making; rows go in, in order."""

    def __init__(
        self,
        settings: Settings,
        mean: torch.Tensor,
        pursuit: Pursuit,
        *,
        threshold: float,
        atoms: Atoms | None = None,
        digest: Digest | None = None,
        counts: Counts | None = None,
    ) -> None:
        if atoms is None:
            atoms = Atoms(len(mean), settings.max_atoms, pursuit.threads, mean.device)
        self.settings, self.mean = settings, mean
        self.admission = Admission(atoms, pursuit, Threshold(threshold, settings.relative))
        self.digest = Digest() if digest is None else digest
        self.counts = Counts() if counts is None else counts

    @property
    def atoms(self) -> Atoms:
        """The atoms so far."""
        return self.admission.atoms

    @property
    def threshold(self) -> float:
        """The loss above which a row becomes an atom."""
        return self.admission.threshold.value

    def feed(self, raw: Rows) -> None:
        """Test the next rows of the stream, float32 and not yet centred."""
        if self.atoms.full or len(raw) == 0:
            return
        rows = raw.finite(skip=self.settings.skip_nonfinite)
        self.move(rows.values.device)
        values = rows.with_values(centred(rows.values, self.mean)).finite(skip=False)
        if self.settings.mode == "fast":
            values = self.admission.failing(values)
        tested = self.admission.test(values)
        seen = int(raw.numbers[-1]) + 1
        if self.atoms.full:
            seen = int(values.numbers[tested - 1]) + 1
            rows = rows[rows.numbers < seen]
        before = self.counts
        self.digest.update(rows)
        self.counts = Counts(
            rows_seen=seen,
            skipped=before.skipped + seen - before.rows_seen - len(rows),
            batch_rows=max(before.batch_rows, len(raw)) if self.settings.mode == "fast" else 0,
        )

    def move(self, device: torch.device) -> None:
        """Bring the atoms and the mean to where the rows are."""
        if self.mean.device != device:
            self.admission.atoms, self.mean = self.atoms.to(device), self.mean.to(device)

    def on(self, device: torch.device) -> "Construction":
        """A copy on a device."""
        return Construction(
            self.settings,
            self.mean.to(device),
            self.admission.pursuit,
            threshold=self.threshold,
            atoms=self.atoms.to(device),
            digest=self.digest.copy(),
            counts=self.counts,
        )

    def mark(self) -> Mark:
        """Where it stands, for `go_back`."""
        return Mark(len(self.atoms), self.digest.copy(), self.counts)

    def go_back(self, mark: Mark) -> None:
        """Forget what came after the mark."""
        self.admission.atoms = self.atoms.first(mark.atoms)
        self.digest = mark.digest
        self.counts = mark.counts

    def report(self) -> BuildReport:
        """What happened so far."""
        counts = self.counts
        return BuildReport(
            rows_seen=counts.rows_seen,
            skipped=counts.skipped,
            accepted=len(self.atoms),
            max_atoms_reached=self.atoms.full,
            threshold=self.threshold,
            batch_rows=counts.batch_rows if self.settings.mode == "fast" else None,
            repeated_labels=len(self.atoms) - len(self.atoms.labels.unique(dim=0)),
        )


def mean_of(
    chunks: Iterable[Rows], *, skip: bool, digest: Digest | None = None, name: str = "activations"
) -> torch.Tensor:
    """(D,) float64 mean of chunks of a fixed size, added up in one order; `digest` takes in the rows on the way."""
    total, count = None, 0
    for raw in chunks:
        rows = raw.finite(skip=skip, name=name)
        added = column_sums(rows.values)
        total = added if total is None else total + added
        count += len(rows)
        if digest is not None:
            digest.update(rows)
    if total is None or count == 0:
        raise ValueError(f"{name}: expected at least one finite row, got none")
    return torch.from_numpy(total / count)


def typical_mean(read: Callable[[], Iterable[Rows]], *, skip: bool, digest: Digest | None = None) -> torch.Tensor:
    """(D,) float64 mean of the rows whose norm is at most MASSIVE times the median norm.

    In some language models a few tokens are a hundred times as long as the rest, and would be the mean. `read` gives
    the chunks, and gives them again where there are such tokens.
    """
    found: list[NDArray[numpy.float64]] = []

    def noted() -> Iterator[Rows]:
        for raw in read():
            rows = raw.finite(skip=skip)
            found.append(norms(rows.values))
            yield rows

    mean = mean_of(noted(), skip=skip, digest=digest)
    known = numpy.concatenate(found)
    limit = MASSIVE * numpy.median(known)
    if limit == 0 or known.max() <= limit:
        return mean
    chunks = (raw.finite(skip=skip) for raw in read())
    return mean_of((rows[torch.from_numpy(norms(rows.values) <= limit)] for rows in chunks), skip=skip)
