"""Rows in groups of one size, however the pieces come."""

from collections.abc import Callable, Iterable, Iterator
from typing import Protocol, Self, TypeVar


class Sliced(Protocol):
    """Rows of some kind."""

    def __len__(self) -> int: ...

    def __getitem__(self, rows: slice, /) -> Self: ...


Rows = TypeVar("Rows", bound=Sliced)


def regrouped(
    pieces: Iterable[Rows], size: int, prepared: Callable[[Rows], Rows], joined: Callable[[list[Rows]], Rows]
) -> Iterator[Rows]:
    """The same rows, `size` at a time and fewer at the end; parts of pieces are prepared, and then joined to groups."""
    held: list[Rows] = []
    missing = size
    for piece in pieces:
        start = 0
        while start < len(piece):
            part = prepared(piece[start : start + missing])
            start += len(part)
            missing -= len(part)
            held.append(part)
            if missing == 0:
                yield joined(held)
                held, missing = [], size
    if held:
        yield joined(held)
