"""A source as parts of known size, each loaded when it is read."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch

from interpkern.activations.rows import Rows, integers
from interpkern.errors import DTypeError


@dataclass(frozen=True)
class Part:
    """A piece of a source: how many rows of which width, and how to load them."""

    name: str
    rows: int
    width: int
    load: Callable[[], Rows]

    def take(self, index: slice | torch.Tensor) -> "Part":
        """Some rows of it."""
        kept = len(range(*index.indices(self.rows))) if isinstance(index, slice) else len(index)
        return replace(self, rows=kept, load=lambda: self.load()[index])

    def marked(self, labels: torch.Tensor | None, tokens: torch.Tensor | None) -> "Part":
        """It with other labels and token ids, where they are given."""

        def load() -> Rows:
            rows = self.load()
            return Rows(
                rows.activations, rows.labels if labels is None else labels, rows.tokens if tokens is None else tokens
            )

        return replace(self, load=load)


def part_of(name: str, rows: Rows) -> Part:
    """Rows in memory, or memory-mapped, as a part."""
    return Part(name, len(rows), rows.activations.shape[1], lambda: rows)


def marked(parts: list[Part], labels: Any, tokens: Any) -> list[Part]:
    """The parts, with labels and token ids that a caller gave for all rows."""
    sizes = [part.rows for part in parts]
    marks = [None] * len(sizes) if labels is None else integers("labels", labels, (sum(sizes), 2)).split(sizes)
    ids = [None] * len(sizes) if tokens is None else integers("tokens", tokens, (sum(sizes),)).split(sizes)
    return [part.marked(*given) for part, *given in zip(parts, marks, ids, strict=True)]


def taken(parts: list[Part], rows: slice | torch.Tensor) -> list[Part]:
    """The parts that hold the rows of a slice or a (N,) bool mask, without the other rows."""
    sizes = [part.rows for part in parts]
    masks = _mask(rows, sum(sizes)).split(sizes)
    found = list(_chosen(parts, masks))
    return found or [parts[0].take(slice(0, 0))]


def _mask(rows: Any, count: int) -> torch.Tensor:
    if isinstance(rows, slice) and rows.step in (None, 1):
        mask = torch.zeros(count, dtype=torch.bool)
        mask[rows] = True
        return mask
    if isinstance(rows, torch.Tensor) and rows.dtype == torch.bool and rows.shape == (count,):
        return rows.cpu()
    raise DTypeError(f"rows: expected a slice without step or a ({count},) bool mask, got {type(rows).__name__}")


def _chosen(parts: list[Part], masks: tuple[torch.Tensor, ...]) -> Iterator[Part]:
    for part, mask in zip(parts, masks, strict=True):
        numbers = mask.nonzero()[:, 0]
        if len(numbers):
            low, high = int(numbers[0]), int(numbers[-1]) + 1
            yield part.take(slice(low, high) if high - low == len(numbers) else numbers)
