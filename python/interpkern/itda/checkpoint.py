"""A fit that survives being killed: one file, replaced whole, from which the same call goes on."""

from collections.abc import Iterable, Iterator
from dataclasses import asdict
from itertools import chain
from pathlib import Path
from typing import Any

import torch

from interpkern.files import as_path, write_atomically
from interpkern.itda.atoms import Atoms
from interpkern.itda.construction import Construction, Counts, Digest
from interpkern.itda.devices import same
from interpkern.itda.packing import columns_of, pack, records_of, unpack
from interpkern.itda.rows import Rows
from interpkern.validation import integer

FILE = "checkpoint.safetensors"
KIND = "interpkern.itda.checkpoint"
SCHEMA = 1


class Checkpoint:
    """The file of one fit, in a directory of its own."""

    def __init__(self, directory: Any, every: Any) -> None:
        self.every = integer("checkpoint_every", every, 1)
        self.directory = as_path("checkpoint", directory)
        if self.directory.exists() and not self.directory.is_dir():
            raise ValueError(f"checkpoint: {self.directory} is a file; choose a directory")
        self.directory.mkdir(parents=True, exist_ok=True)
        for leftover in self.directory.glob(f".{FILE}.*.tmp"):
            leftover.unlink(missing_ok=True)
        self._written_at = 0

    @property
    def path(self) -> Path:
        """Where it is."""
        return self.directory / FILE

    def save(self, construction: Construction, *, force: bool = False) -> None:
        """Write it once `every` rows have come since the last time."""
        if not force and construction.counts.rows_seen - self._written_at < self.every:
            return
        about = {
            "kind": KIND,
            "schema": SCHEMA,
            "settings": asdict(construction.settings),
            "threshold": construction.threshold,
            "counts": asdict(construction.counts),
            "data": construction.digest.hex(),
        }
        tensors = {"atoms": construction.atoms.values.cpu(), "mean": construction.mean.cpu()}
        write_atomically(self.path, pack(tensors | columns_of(construction.atoms.records), about))
        self._written_at = construction.counts.rows_seen

    def resumed(self, fresh: Construction, chunks: Iterable[Rows]) -> tuple[Construction, Iterator[Rows]]:
        """The construction as it was saved and the rows that are left; `fresh` and all rows where none was."""
        chunks = iter(chunks)
        if not self.path.exists():
            return fresh, chunks
        tensors, about = unpack("checkpoint", self.path, KIND, SCHEMA)
        self._check(fresh, about, tensors["mean"])
        digest, left = self._skipped(chunks, about, fresh)
        saved = Construction(
            fresh.settings,
            fresh.mean,
            fresh.admission.pursuit,
            threshold=about["threshold"],
            atoms=Atoms.restored(
                tensors["atoms"], records_of(tensors), fresh.settings.max_atoms, fresh.admission.pursuit.threads
            ),
            digest=digest,
            counts=Counts(**about["counts"]),
        )
        if left is not None and saved.settings.mode == "fast" and not saved.atoms.full:
            raise self._other_data("batches have other sizes")
        self._written_at = saved.counts.rows_seen
        return saved, chain([] if left is None else [left], chunks)

    def _check(self, fresh: Construction, about: dict[str, Any], mean: torch.Tensor) -> None:
        wanted = asdict(fresh.settings) | {"threshold": fresh.threshold}
        found = about["settings"] | {"threshold": about["threshold"]}
        for name in wanted:
            if found.get(name) != wanted[name]:
                raise ValueError(
                    f"checkpoint: {self.path} is of another fit, with {name}={found.get(name)!r} instead of"
                    f" {wanted[name]!r}; choose another directory, or remove the file"
                )
        if not same(mean, fresh.mean):
            raise self._other_data("their mean differs")

    def _skipped(
        self, chunks: Iterator[Rows], about: dict[str, Any], fresh: Construction
    ) -> tuple[Digest, Rows | None]:
        """Read past the rows that were tested, and see that they are the same; what is left of the last chunk."""
        seen, digest = about["counts"]["rows_seen"], Digest()
        left = None
        for raw in chunks:
            before = raw.numbers < seen
            digest.update(raw[before].finite(skip=fresh.settings.skip_nonfinite))
            if not bool(before.all()):
                left = raw[~before]
            if len(raw) and int(raw.numbers[-1]) + 1 >= seen:
                break
        if digest.hex() != about["data"]:
            raise self._other_data("rows or labels differ")
        return digest, left

    def _other_data(self, why: str) -> ValueError:
        return ValueError(
            f"checkpoint: {self.path} was made from other data, {why}; choose another directory, or remove the file"
        )
