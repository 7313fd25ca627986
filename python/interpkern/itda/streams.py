"""What callers pass as activations, as one kind of stream: batches of labelled rows that are checked as they come."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from os import PathLike
from types import FunctionType
from typing import Any, NamedTuple

import numpy
import torch

from interpkern.activations.rows import default_labels
from interpkern.errors import DTypeError, ShapeError
from interpkern.itda.labels import canonical_order, check_labels
from interpkern.itda.rows import Rows
from interpkern.validation import FLOATS, plain_tensor, short

BATCH = 1024
"""Rows read at a time where the caller's data has no batches of its own."""


class Batch(NamedTuple):
    """What came, before it is checked."""

    values: Any
    labels: Any
    tokens: Any = None


@dataclass(frozen=True)
class Stream:
    """Activations that can be read from the start, once or again and again."""

    name: str
    """The argument that they came in."""
    read: Callable[[], Iterator[Batch]]
    repeatable: bool
    may_differ: bool
    """Whether a second reading may give other rows, as that of a loader which shuffles does."""
    rows: int | None
    """How many there are, if known."""
    source: Any = None
    """An Activations object, which knows its tokens and texts."""

    def batches(self, first_row: int = 0) -> Iterator[Rows]:
        """Checked rows as they come, numbered from `first_row`; default labels are these numbers."""
        width: int | None = None
        for number, batch in enumerate(self.read()):
            name = self.name if self.rows is not None else f"{self.name} (batch {number})"
            values = check_values(name, batch.values)
            width = values.shape[1] if width is None else width
            if values.shape[1] != width:
                raise ShapeError(f"{name}: expected width D = {width} to match the first batch, got {values.shape[1]}")
            n = len(values)
            labels = default_labels(first_row, n) if batch.labels is None else check_labels(batch.labels, n)
            tokens = torch.full((n,), -1) if batch.tokens is None else torch.as_tensor(batch.tokens)
            yield Rows(values, labels, tokens.to("cpu", torch.int64), torch.arange(first_row, first_row + n))
            first_row += n


def check_values(name: str, value: Any) -> torch.Tensor:
    """`value` as an (n, D) floating point tensor; n may be 0."""
    tensor = plain_tensor(name, value)
    if tensor.dtype not in FLOATS:
        accepted = " or ".join(short(dtype) for dtype in FLOATS)
        raise DTypeError(f"{name}: expected {accepted}, got {short(tensor.dtype)}; convert it with .to()")
    if tensor.ndim != 2 or tensor.shape[1] == 0:
        hints = {
            1: f" Did you mean {name}[None]?" if name.isidentifier() else " Stack single rows: torch.stack(rows).",
            3: f" Flatten prompts and positions: {name.split()[0]}.flatten(0, 1).",
        }
        raise ShapeError(
            f"{name}: expected (N, D), one activation a row, got {tuple(tensor.shape)}.{hints.get(tensor.ndim, '')}"
        )
    return tensor


def open_stream(activations: Any, labels: Any = None, *, order: str = "given", name: str = "activations") -> Stream:
    """The stream of a tensor, an array, an Activations object, or an iterable of batches."""
    if isinstance(activations, (torch.Tensor, numpy.ndarray)):
        return _of_array(activations, labels, order, name)
    if callable(getattr(activations, "batches", None)):
        _no_labels(labels, "the Activations object has its own")
        return _of_source(activations, order, name)
    hint = _hint(activations)
    if hint or isinstance(activations, (bytes, Mapping)) or not isinstance(activations, Iterable):
        raise DTypeError(
            f"{name}: expected a tensor, an array, interpkern.Activations or an iterable of (activations, labels)"
            f" batches, got {type(activations).__name__}{hint}"
        )
    _no_labels(labels, "give batches of (activations, labels)")
    if order == "canonical":
        raise ValueError("order: 'canonical' needs all rows at hand; pass one tensor instead of batches")
    repeatable = not isinstance(activations, Iterator)
    return Stream(name, lambda: _batches(activations, name), repeatable, may_differ=True, rows=None)


def _hint(activations: Any) -> str:
    """What to do with things that are near to what is accepted."""
    if isinstance(activations, (str, PathLike)):
        return "; open files with interpkern.Activations(path), and shipped sets with interpkern.data.load(name)"
    if hasattr(activations, "to_numpy"):
        return "; give its .to_numpy()"
    return "; give interpkern.Activations(function)" if isinstance(activations, FunctionType) else ""


def _no_labels(labels: Any, instead: str) -> None:
    if labels is not None:
        raise ValueError(f"labels: expected None with activations of this kind; {instead}")


def _of_array(array: Any, labels: Any, order: str, name: str) -> Stream:
    """Slices of an array, which may be a memory map: it is never copied whole."""
    check_values(name, array if isinstance(array, torch.Tensor) else array[:0])
    checked = default_labels(0, len(array)) if labels is None else check_labels(labels, len(array))
    by = canonical_order(checked) if order == "canonical" else None

    def read() -> Iterator[Batch]:
        for start in range(0, len(array), BATCH):
            window: Any = slice(start, start + BATCH)
            if by is not None:
                window = by[window] if isinstance(array, torch.Tensor) else by[window].numpy()
            yield Batch(array[window], None if labels is None and by is None else checked[window])

    return Stream(name, read, repeatable=True, may_differ=False, rows=len(array))


def _of_source(source: Any, order: str, name: str) -> Stream:
    """The rows of an Activations object with their tokens; one of an iterator knows neither its length nor tokens."""
    rows: int | None = None
    tokens: torch.Tensor | None = None
    with suppress(DTypeError):
        rows, tokens = len(source), source.tokens

    def read() -> Iterator[Batch]:
        start = 0
        for values, labels in source.batches(BATCH, nonfinite="keep"):
            stop = start + len(values)
            yield Batch(values, labels, None if tokens is None else tokens[start:stop])
            start = stop

    stream = Stream(name, read, repeatable=source.rereadable, may_differ=True, rows=rows, source=source)
    return _in_canonical_order(stream) if order == "canonical" else stream


def _in_canonical_order(stream: Stream) -> Stream:
    """The rows of an Activations object, read into memory and sorted."""
    whole = list(stream.batches())
    if not whole:
        return stream
    values, labels, tokens = (torch.cat([getattr(p, part) for p in whole]) for part in ("values", "labels", "tokens"))
    by = canonical_order(labels)

    def read() -> Iterator[Batch]:
        for window in by.split(BATCH):
            yield Batch(values[window], labels[window], tokens[window])

    return Stream(stream.name, read, repeatable=True, may_differ=False, rows=len(by), source=stream.source)


def _batches(activations: Iterable[Any], name: str) -> Iterator[Batch]:
    for number, batch in enumerate(activations):
        if not isinstance(batch, (tuple, list)):
            yield Batch(batch, None)
        elif 1 <= len(batch) <= 2:
            yield Batch(batch[0], batch[1] if len(batch) == 2 else None)
        else:
            raise DTypeError(
                f"{name} (batch {number}): expected activations or (activations, labels), got {len(batch)} parts"
            )
