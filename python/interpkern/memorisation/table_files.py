"""Reading a table of booleans from a user's file: .npy, .npz, .csv or .parquet."""

import csv
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy
import pandas
import torch
from numpy.typing import NDArray

from interpkern.errors import DTypeError, ShapeError

WORDS = {"true": 1.0, "false": 0.0}
READ_ERRORS = (ValueError, TypeError, EOFError, OSError, KeyError, zipfile.BadZipFile, csv.Error)


class RefusedTable(ValueError):
    """A file that can be read and holds no table of 0 and 1."""


def load_table(path: str | os.PathLike[str]) -> torch.Tensor:
    """Read one table of 0 and 1 (or true and false) from a .npy, .npz, .csv or .parquet file.

    A .csv or .parquet file may have a first row (for .csv) and a first column of labels, which are dropped when they
    are not numbers; a .csv with an empty first cell has both.

    Args:
        path: the file; its suffix says how to read it.

    Returns:
        (R, C) uint8, 0 or 1.

    Raises:
        FileNotFoundError, or a ValueError or TypeError that names the file and says what to do.

    Example:
        >>> numpy.save("/tmp/identity.npy", numpy.eye(3))
        >>> load_table("/tmp/identity.npy").sum()
        tensor(3)
    """
    if not isinstance(path, (str, os.PathLike)):
        raise DTypeError(f"path: expected the name of a file, got {type(path).__name__}")
    file = Path(path)
    read = READERS.get(file.suffix.lower())
    if not file.exists():
        raise FileNotFoundError(f"{file}: no such file; expected a table in {', '.join(READERS)}")
    if read is None or not file.is_file():
        raise ValueError(f"{file}: expected a file that ends in {', '.join(READERS)}")
    try:
        array = read(file)
    except RefusedTable:
        raise
    except READ_ERRORS as error:
        raise ValueError(f"{file}: cannot be read as {file.suffix} ({error}); write it again or convert it") from error
    return _checked(file, array)


def _checked(file: Path, array: NDArray[Any]) -> torch.Tensor:
    if array.ndim != 2 or array.size == 0:
        hint = "; save one table of the stack, array[0]" if array.ndim == 3 else ""
        raise ShapeError(f"{file}: expected a table of shape (R, C) with no empty side, got {array.shape}{hint}")
    if array.dtype.kind not in "buif":
        raise DTypeError(
            f"{file}: expected numbers or booleans, got dtype {array.dtype}; convert with .astype('uint8')"
        )
    wrong = numpy.argwhere((array != 0) & (array != 1))
    if len(wrong):
        row, col = wrong[0].tolist()
        value = array[row, col].item()
        shown = "an empty cell or NaN" if value != value else f"{value:g}"
        raise RefusedTable(
            f"{file}: expected only 0 and 1, got {shown} at row {row}, column {col} of the values"
            f" ({len(wrong)} such); threshold or fill them first"
        )
    return torch.from_numpy(array.astype(numpy.uint8))


def _numpy(file: Path) -> NDArray[Any]:
    loaded = numpy.load(file, allow_pickle=False)
    if isinstance(loaded, numpy.ndarray):
        return loaded
    with loaded:
        if len(loaded.files) != 1:
            names = ", ".join(loaded.files) or "none"
            raise RefusedTable(f"{file}: expected one array, got {len(loaded.files)} ({names}); save one alone as .npy")
        return loaded[loaded.files[0]]


def _csv(file: Path) -> NDArray[numpy.float64]:
    with file.open(newline="", encoding="utf-8-sig") as lines:
        cells = [[cell.strip() for cell in row] for row in csv.reader(lines) if row]
    widths = sorted({len(row) for row in cells})
    if len(widths) != 1:
        raise RefusedTable(
            f"{file}: expected rows of one length, got {widths or 'an empty file'}; separate cells by commas"
        )
    first, rest = cells[0], cells[1:]
    both = first[0] == "" and not _looks_like_facts(first[1:])
    labelled_column = both or (len(first) > 1 and any(_is_word(row[0]) for row in rest))
    header = both or any(map(_is_word, first[1:])) or (_is_word(first[0]) and bool(rest) and not labelled_column)
    values = [row[1:] if labelled_column else row for row in (rest if header else cells)]
    return numpy.array([[_value(file, cell) for cell in row] for row in values], dtype=numpy.float64)


def _looks_like_facts(cells: list[str]) -> bool:
    """Whether a first row is data rather than labels; 0, 1, 2... are the labels that pandas gives."""
    return set(cells) <= {"0", "1"} and cells != [str(col) for col in range(len(cells))]


def _is_word(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return cell != "" and cell.lower() not in WORDS
    return False


def _value(file: Path, cell: str) -> float:
    if not cell:
        return numpy.nan
    if _is_word(cell):
        raise RefusedTable(f"{file}: expected only 0 and 1, got {cell[:40]!r}; separate cells by commas")
    return WORDS[cell.lower()] if cell.lower() in WORDS else float(cell)


def _parquet(file: Path) -> NDArray[numpy.float64]:
    frame = pandas.read_parquet(file)
    if frame.shape[1] and pandas.api.types.is_string_dtype(frame.iloc[:, 0]):
        frame = frame.iloc[:, 1:]
    numeric = [pandas.api.types.is_numeric_dtype(kind) for kind in frame.dtypes]
    if not all(numeric):
        name = frame.columns[numeric.index(False)]
        raise RefusedTable(f"{file}: expected columns of 0 and 1, got column {name!r} of another kind; drop it")
    return frame.to_numpy(dtype=numpy.float64, na_value=numpy.nan)


READERS: dict[str, Callable[[Path], NDArray[Any]]] = {
    ".npy": _numpy,
    ".npz": _numpy,
    ".csv": _csv,
    ".parquet": _parquet,
}
