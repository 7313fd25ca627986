"""Rows from anywhere as a folder of shards."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from interpkern.activations.manifest import Manifest, write_shard, write_vocabulary
from interpkern.activations.rows import Rows
from interpkern.files import provenance
from interpkern.validation import short


def save_rows(groups: Iterable[Rows], folder: Path, origin: Mapping[str, Any], words: Mapping[int, str]) -> None:
    """Write each group as a shard, the words, and last the manifest without which the folder does not open."""
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise ValueError(f"folder: {folder} holds files already; choose an empty one")
    shards, width, dtype = [], 0, ""
    for number, rows in enumerate(groups):
        shards.append(write_shard(folder, number, rows.activations.cpu(), rows.labels, rows.tokens))
        width, dtype = rows.activations.shape[1], short(rows.activations.dtype)
    if not shards:
        raise ValueError("activations: expected at least one row to save, got none")
    if words:
        write_vocabulary(folder, words)
    settings = {**origin, "dtype": dtype}
    Manifest(settings, width, tuple(shards), complete=True, provenance=provenance()).write(folder)
