"""Tables in files."""

from os import PathLike
from pathlib import Path

import pandas

from interpkern.files import as_path, write_atomically
from interpkern.report import parquet


def save_table(path: str | PathLike[str], table: pandas.DataFrame) -> Path:
    """Write a table as parquet, whole or not at all."""
    target = as_path("path", path)
    write_atomically(target, parquet(table))
    return target
