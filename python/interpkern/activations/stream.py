"""Activations that come one piece after another, from an iterable or a function that returns one."""

from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from typing import Any

from interpkern.activations.rows import Rows, check_width, checked_rows
from interpkern.errors import DTypeError


class Stream:
    """Checked rows of an iterable of (n, D) tensors or (activations, labels) pairs."""

    def __init__(self, source: Iterable[Any] | Callable[[], Iterable[Any]]) -> None:
        self._source = source
        self.rereadable = callable(source) or iter(source) is not source
        self._spent = False
        self._width: int | None = None

    def __iter__(self) -> Iterator[Rows]:
        count = 0
        for number, piece in enumerate(self._open()):
            rows = piece_rows(f"activations, piece {number}", piece, count)
            self._width = check_width(f"activations, piece {number}", rows.activations.shape[1], self._width)
            count += len(rows)
            yield rows

    @property
    def width(self) -> int:
        """D, of the first piece, which a reader still gets; 0 when there is none."""
        if self._width is None:
            pieces = iter(self._open())
            first = next(pieces, None)
            if not self.rereadable:
                self._spent, self._source = False, iter(() if first is None else chain([first], pieces))
            self._width = None if first is None else piece_rows("activations, piece 0", first, 0).activations.shape[1]
        return self._width or 0

    def _open(self) -> Iterable[Any]:
        if self._spent:
            raise ValueError(
                "activations: this iterator can be read once, and was; give a list or a function that returns a new "
                "iterator, or write it to a folder with .save() and read that"
            )
        self._spent = not self.rereadable
        pieces = self._source() if callable(self._source) else self._source
        if not isinstance(pieces, Iterable):
            raise DTypeError(
                f"source: the function returned a {type(pieces).__name__}, expected an iterable of tensors"
            )
        return pieces


def piece_rows(name: str, piece: Any, first: int) -> Rows:
    """Rows of a tensor, or of a pair of activations and labels."""
    if not isinstance(piece, (tuple, list)):
        return checked_rows(name, piece, None, None, first)
    if len(piece) != 2:
        raise DTypeError(f"{name}: expected a tensor or a pair (activations, labels), got {len(piece)} things")
    return checked_rows(name, piece[0], piece[1], None, first)
