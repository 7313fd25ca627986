"""A directory of cells: one file a cell, named by its spec, and the plans that say which cells belong together."""

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from interpkern.files import as_path, write_atomically
from interpkern.runs.cells import Cell, Result
from interpkern.runs.claims import claimed
from interpkern.runs.packing import Damaged, pack, pack_json, unpack, unpack_json

CELLS, CLAIMS = "cells", "claims"
KIND = "interpkern.runs.plan"
SCHEMA = 1
SECONDS_BETWEEN_LOOKS = 0.05


class Store:
    """Reads and writes cells and plans below one directory.

    Raises:
        ValueError: a directory that holds something else, or a file in its place.

    Example:
        >>> store = Store("/tmp/example-runs")
        >>> cell = Cell("square", {"x": 3})
        >>> store.write(cell, Result(pandas.DataFrame({"y": [9]}), {}))
        >>> store.read(cell).table.y[0]
        9
    """

    def __init__(self, directory: str | os.PathLike[str]) -> None:
        self.directory = as_path("directory", directory)
        _refuse_foreign(self.directory)

    def make(self) -> None:
        """Make the directory; the first of the calls that write. ValueError where that cannot be done."""
        for name in (CELLS, CLAIMS):
            try:
                (self.directory / name).mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise ValueError(
                    f"directory: cannot make {self.directory / name}: {error.strerror}; choose another"
                ) from error

    def path(self, cell: Cell) -> Path:
        """Where the cell's file is, or will be."""
        return self.directory / CELLS / f"{cell.name}.parquet"

    def read(self, cell: Cell) -> Result | None:
        """The cell's result; None where there is none yet, and Damaged, with the file's name, where it is not whole."""
        path = self.path(cell)
        try:
            return unpack(cell, path.read_bytes())
        except FileNotFoundError:
            return None
        except Damaged as error:
            raise Damaged(f"{path}: {error}") from None

    def write(self, cell: Cell, result: Result) -> None:
        """Put the cell's file in its place, whole."""
        self.make()
        write_atomically(self.path(cell), pack(cell, result))

    @contextmanager
    def claim(self, cell: Cell) -> Iterator[bool]:
        """Keep other processes from the cell for the block; False where one of them has it."""
        self.make()
        with claimed(self.directory / CLAIMS / f"{cell.name}.lock") as free:
            if free:
                for leftover in (self.directory / CELLS).glob(f".{cell.name}.*.tmp"):
                    leftover.unlink(missing_ok=True)
            yield free

    @contextmanager
    def holding(self) -> Iterator[None]:
        """Keep other processes from the files beside the cells, and remove what killed ones left there."""
        self.make()
        while True:
            with claimed(self.directory / CLAIMS / "directory.lock") as free:
                if free:
                    for leftover in self.directory.glob(".*.tmp"):
                        leftover.unlink(missing_ok=True)
                    yield
                    return
            time.sleep(SECONDS_BETWEEN_LOOKS)

    def tidy(self) -> None:
        """Remove the lock files of processes that were killed."""
        for lock in (self.directory / CLAIMS).glob("*.lock"):
            with claimed(lock):
                pass

    def write_plan(self, name: str, cells: Sequence[Cell], about: Mapping[str, Any]) -> None:
        """Say which cells make the study `name`, and with which settings; within `holding`, where others may too."""
        self.make()
        record = {"kind": KIND, "schema": SCHEMA, "name": name, "about": dict(about)}
        record |= {"cells": [cell.identity for cell in cells]}
        write_atomically(self.directory / f"{name}.json", pack_json(record))

    def plans(self) -> list[str]:
        """The names of the studies that were begun here."""
        return sorted(path.stem for path in self.directory.glob("*.json"))

    def read_plan(self, name: str) -> tuple[list[Cell], dict[str, Any]]:
        """The cells and the settings of a study; Damaged, with the file's name, where it is not whole."""
        path = self.directory / f"{name}.json"
        try:
            record = unpack_json(path.read_bytes())
        except Damaged as error:
            raise Damaged(f"{path}: {error}; give the commands that made it again, their cells are kept") from None
        if (record["kind"], record["schema"]) != (KIND, SCHEMA):
            raise Damaged(f"{path}: expected {KIND}, schema {SCHEMA}, got {record['kind']}, {record['schema']}")
        return [Cell(**cell) for cell in record["cells"]], record["about"]


def _refuse_foreign(directory: Path) -> None:
    if directory.exists() and not directory.is_dir():
        raise ValueError(f"directory: {directory} is a file; expected a new or empty directory")
    if directory.exists() and not (directory / CELLS).is_dir() and any(directory.iterdir()):
        raise ValueError(f"directory: {directory} holds other files; expected that of a sweep, or a new or empty one")
