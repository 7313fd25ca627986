"""Files of activations as parts: .npy, .safetensors, parquet, and folders of them, read as far as they are used."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy

from interpkern.activations.manifest import MANIFEST, Manifest, Shard, checked_shard
from interpkern.activations.parts import Part, part_of
from interpkern.activations.rows import Rows, checked_rows
from interpkern.errors import ShapeError

LABELS, TOKENS = "labels", "tokens"
COLUMNS = ("prompt_id", "position", "token_id")
KEY = "activations"


def parts_of(path: Path, first: int, key: str | None, *, verify: bool) -> list[Part]:
    """The parts of a file or folder whose first row has number `first` in the source."""
    if path.is_dir():
        return _folder(path, first, key, verify=verify)
    reader = READERS.get(path.suffix)
    if reader is None or not path.is_file():
        found = f"{path.suffix or 'no suffix'}" if path.exists() else "no such file"
        raise ValueError(f"activations: {path}: expected a folder or a file {', '.join(READERS)}, got {found}")
    return reader(path, first, key)


def _folder(path: Path, first: int, key: str | None, *, verify: bool) -> list[Part]:
    if (path / MANIFEST).exists():
        return list(_shards(path, first, verify=verify))
    files = sorted(file for file in path.iterdir() if file.suffix in READERS)
    if not files:
        raise ValueError(f"activations: {path} holds no {MANIFEST} and no files {', '.join(READERS)}")
    parts: list[Part] = []
    for file in files:
        parts += parts_of(file, first + sum(part.rows for part in parts), key, verify=verify)
    return parts


def _shards(folder: Path, first: int, *, verify: bool) -> Iterator[Part]:
    manifest = Manifest.read(folder)
    if not manifest.complete:
        raise ValueError(f"{folder}: not complete; call collect again with the same arguments to go on")
    for shard in manifest.shards:
        yield Part(shard.file, shard.rows, manifest.width, _loader(folder, shard, first, verify=verify))
        first += shard.rows


def _loader(folder: Path, shard: Shard, first: int, *, verify: bool) -> Callable[[], Rows]:
    """How to load a shard; its checksum is compared when it is read for the first time."""
    to_verify = verify

    def load() -> Rows:
        nonlocal to_verify
        if to_verify:
            checked_shard(folder, shard)
            to_verify = False
        return _read_safetensors(folder / shard.file, first, KEY)

    return load


def _npy(path: Path, first: int, key: str | None) -> list[Part]:
    try:
        values = numpy.load(path, mmap_mode="c", allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise ValueError(f"{path}: expected an array of numbers as numpy.save writes it: {error}") from error
    return [part_of(path.name, checked_rows(str(path), values, None, None, first))]


def _safetensors(path: Path, first: int, key: str | None) -> list[Part]:
    return [part_of(path.name, _read_safetensors(path, first, key))]


def _read_safetensors(path: Path, first: int, key: str | None) -> Rows:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            names = list(file.keys())
            chosen = _key(path, names, key)
            values, labels, tokens = (
                file.get_tensor(name) if name in names else None for name in (chosen, LABELS, TOKENS)
            )
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path}: damaged, or no safetensors file: {error}") from error
    return checked_rows(f"{path} {chosen}", values, labels, tokens, first)


def _key(path: Path, names: list[str], key: str | None) -> str:
    """The tensor that holds the activations: the one named, "activations", or the only one there is."""
    others = [name for name in names if name not in (LABELS, TOKENS)]
    chosen = key or (KEY if KEY in names else others[0] if len(others) == 1 else None)
    if chosen not in names:
        raise ValueError(f"key: {path} holds {', '.join(sorted(names)) or 'nothing'}; say which are the activations")
    return chosen


def _parquet(path: Path, first: int, key: str | None) -> list[Part]:
    import pyarrow.parquet

    with _parquet_errors(path):
        file = pyarrow.parquet.ParquetFile(path)
    parts: list[Part] = []
    for group in range(file.num_row_groups):
        load = _group_loader(path, group, first, key)
        rows = file.metadata.row_group(group).num_rows
        if not parts:
            width = load().activations.shape[1]
        parts.append(Part(path.name, rows, width, load))
        first += rows
    return parts


@contextmanager
def _parquet_errors(path: Path) -> Iterator[None]:
    import pyarrow

    try:
        yield
    except (pyarrow.ArrowException, OSError) as error:
        raise ValueError(f"{path}: damaged, or no parquet file: {error}") from error


def _group_loader(path: Path, group: int, first: int, key: str | None) -> Callable[[], Rows]:
    def load() -> Rows:
        import pyarrow.parquet

        with _parquet_errors(path):
            table = pyarrow.parquet.ParquetFile(path).read_row_group(group)
        marks = [table[name].to_numpy() for name in COLUMNS if name in table.column_names]
        labels = numpy.stack(marks[:2], axis=1) if {"prompt_id", "position"} <= set(table.column_names) else None
        tokens = marks[-1] if "token_id" in table.column_names else None
        return checked_rows(str(path), _values(path, table, key), labels, tokens, first)

    return load


def _values(path: Path, table: Any, key: str | None) -> numpy.ndarray:
    """(n, D) values: a column of lists, or one column a dimension."""
    import pyarrow

    name = key or KEY
    if name not in table.column_names:
        if key:
            raise ValueError(f"key: {path} has no column {key!r}, only {', '.join(table.column_names)}")
        columns = [column for column in table.column_names if column not in COLUMNS]
        if not columns:
            raise ValueError(f"{path}: expected columns of numbers besides {', '.join(table.column_names)}, got none")
        return numpy.stack([table[column].to_numpy() for column in columns], axis=1)
    column = table[name].combine_chunks()
    lists = column.type
    if not (
        pyarrow.types.is_fixed_size_list(lists) or pyarrow.types.is_list(lists) or pyarrow.types.is_large_list(lists)
    ):
        raise ValueError(f"key: column {name!r} of {path} holds {lists}, expected lists of numbers")
    if len(column.value_lengths().unique()) > 1 or column.null_count:
        raise ShapeError(f"{path}: expected lists of equal length in {name!r} and none missing")
    return column.flatten().to_numpy(zero_copy_only=False).reshape(len(column), -1)


READERS: dict[str, Callable[[Path, int, str | None], list[Part]]] = {
    ".safetensors": _safetensors,
    ".npy": _npy,
    ".parquet": _parquet,
}
