"""Tables of text, one definition for the terminal and for a page."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

Row = Any
"""What a cell is made of."""


@dataclass(frozen=True)
class Column:
    """A column of a table of text."""

    heading: str
    width: int
    cell: Callable[[Row], str]
    left: bool = False
    """Whether it is set to the left."""

    def padded(self, text: str) -> str:
        """The text at the width of the column."""
        return f"{text:<{self.width}}" if self.left else f"{text:>{self.width}}"


def headings(columns: Sequence[Column]) -> str:
    """The first line of a table on the terminal."""
    return "".join(column.padded(column.heading) for column in columns)


def line(columns: Sequence[Column], row: Row) -> str:
    """One line of it."""
    return "".join(column.padded(column.cell(row)) for column in columns)


def html_table(columns: Sequence[Column], rows: Iterable[Row]) -> tuple[list[str], list[list[str]]]:
    """Headings and cells of the same table for a page."""
    return [column.heading for column in columns], [[column.cell(row) for column in columns] for row in rows]
