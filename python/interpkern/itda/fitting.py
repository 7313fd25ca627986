"""A fit from its stream to its dictionary: the mean, the rows, checkpoints and progress."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import chain

import torch

from interpkern.itda.checkpoint import Checkpoint
from interpkern.itda.construction import CHUNK, Construction, Digest, typical_mean
from interpkern.itda.pursuit import Pursuit
from interpkern.itda.rows import Rows, rechunked
from interpkern.itda.settings import Settings, check_width
from interpkern.itda.streams import Stream
from interpkern.itda.target import build_to_size
from interpkern.progress import Progress, reporting


@dataclass(frozen=True)
class Fit:
    """One fit of one stream."""

    settings: Settings
    centre: bool | torch.Tensor
    pursuit: Pursuit
    stream: Stream
    progress: Progress | bool | None = None

    def run(self, checkpoint: Checkpoint | None = None) -> Construction:
        """The dictionary of the whole stream."""
        self._check_readings(checkpoint)
        mean, data = self._mean()
        threshold = self.settings.threshold
        if threshold is not None:
            return self._build(mean, data, threshold, self.settings, checkpoint)
        assert self.settings.max_atoms is not None
        found = build_to_size(
            lambda value, limit: self._build(mean, data, value, replace(self.settings, max_atoms=limit), None),
            self.settings.max_atoms,
        )
        found.settings, found.atoms.limit = self.settings, self.settings.max_atoms
        return found

    def _check_readings(self, checkpoint: Checkpoint | None) -> None:
        name = self.stream.name
        if self.settings.threshold is None and checkpoint is not None:
            raise ValueError("checkpoint: cannot be used while a threshold is searched for; find it first")
        if self.stream.repeatable:
            return
        if self.centre is True:
            raise ValueError(
                f"{name}: centre=True reads the data twice and an iterator can be read once; give a tensor, a list of"
                " batches or an object whose iter() starts anew, or centre=False, or the mean as a (D,) tensor"
            )
        if self.settings.threshold is None:
            raise ValueError(f"{name}: threshold=None reads the data many times; give a tensor or a list of batches")

    def _mean(self) -> tuple[torch.Tensor | None, Digest | None]:
        """The mean, if it is known before the rows are; and the hash of the rows it was taken from, if they may differ.

        The mean is taken in chunks of one size, whatever the batches."""
        if self.centre is not True:
            return (self.centre if isinstance(self.centre, torch.Tensor) else None), None
        digest = Digest() if self.stream.may_differ else None
        mean = typical_mean(
            lambda: rechunked(self.stream.batches(), CHUNK), skip=self.settings.skip_nonfinite, digest=digest
        )
        return mean.float(), digest

    def _build(
        self,
        mean: torch.Tensor | None,
        data: Digest | None,
        threshold: float,
        settings: Settings,
        checkpoint: Checkpoint | None,
    ) -> Construction:
        chunks, width = first_chunk(chunks_of(self.stream, self.settings))
        if width is None:
            raise ValueError(f"{self.stream.name}: expected at least one row, got none")
        mean = torch.zeros(width) if mean is None else mean
        check_width("centre", len(mean), width, self.stream.name)
        construction = Construction(settings, mean, self.pursuit, threshold=threshold)
        if checkpoint is not None:
            construction, chunks = checkpoint.resumed(construction, chunks)
        feed(construction, chunks, self.stream, checkpoint, self.progress)
        if data is not None and not construction.atoms.full and construction.digest.hex() != data.hex():
            raise ValueError(
                f"{self.stream.name}: the second reading gave other rows than the first, as a loader that shuffles"
                " does; give the rows in one order"
            )
        return construction


def check_partial(settings: Settings, centre: bool | torch.Tensor, *, started: bool) -> None:
    """Refuse to build from a stream what needs all rows at once."""
    if settings.order != "given":
        raise ValueError("order: 'canonical' needs all rows at hand; use fit, or order='given'")
    if not started and centre is True:
        raise ValueError(
            "centre: True needs the mean of all rows before the first; use fit, or give the mean as a (D,) tensor, or"
            " centre=False"
        )
    if not started and settings.threshold is None:
        raise ValueError("threshold: None reads the data many times; use fit, or give a threshold")


def started(settings: Settings, centre: bool | torch.Tensor, pursuit: Pursuit, width: int) -> Construction:
    """An empty dictionary for rows of this width, whose mean is known."""
    assert settings.threshold is not None
    mean = centre if isinstance(centre, torch.Tensor) else torch.zeros(width)
    return Construction(settings, mean, pursuit, threshold=settings.threshold)


def chunks_of(stream: Stream, settings: Settings, first_row: int = 0) -> Iterator[Rows]:
    """In fast mode the batches as they came, else chunks that don't depend on them; float32."""
    batches = stream.batches(first_row)
    if settings.mode == "fast":
        return (batch.as_float32() for batch in batches)
    return rechunked(batches, CHUNK)


def feed(
    construction: Construction,
    chunks: Iterator[Rows],
    stream: Stream,
    checkpoint: Checkpoint | None,
    progress: Progress | bool | None,
) -> None:
    """Test all rows, or those until the dictionary is full."""
    start = construction.counts.rows_seen
    with reporting(progress, "itda", " rows") as report:
        for rows in chunks:
            if construction.atoms.full:
                break
            construction.feed(rows)
            if checkpoint is not None:
                checkpoint.save(construction)
            if report is not None:
                report(construction.counts.rows_seen, 0 if stream.rows is None else stream.rows)
    if checkpoint is not None and construction.counts.rows_seen > start:
        checkpoint.save(construction, force=True)


def first_chunk(chunks: Iterator[Rows]) -> tuple[Iterator[Rows], int | None]:
    """The chunks as they were, and the width of the first if there is one."""
    first = next(chunks, None)
    return (chunks, None) if first is None else (chain([first], chunks), first.values.shape[1])
