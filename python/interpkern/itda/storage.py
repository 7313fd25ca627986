"""A dictionary as a directory: JSON, safetensors and parquet, with a checksum of every file."""

import hashlib
import io
import json
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy
import pandas
import pyarrow
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors
from safetensors.torch import save as safetensors_bytes

from interpkern.files import as_path, claim_directory, write_atomically
from interpkern.itda.atoms import RECORD
from interpkern.itda.construction import Counts
from interpkern.itda.packing import COLUMNS, records_of
from interpkern.itda.saelens_config import saelens_cfg
from interpkern.itda.settings import Settings
from interpkern.validation import integer, number, unit_rows

KIND = "interpkern.itda"
SCHEMA = 1
CONFIG, WEIGHTS, TABLE, PROVENANCE = "cfg.json", "sae_weights.safetensors", "atoms.parquet", "provenance.json"
CHECKED = (WEIGHTS, TABLE, PROVENANCE)
OWN = "own_checksum"
PACKAGES = ("interpkern", "torch", "numpy")


@dataclass(frozen=True)
class Stored:
    """What a directory holds."""

    settings: Settings
    threshold: float
    atoms: torch.Tensor
    """(M, D) float32 unit rows."""
    records: NDArray[numpy.void]
    """(M,) of RECORD."""
    mean: torch.Tensor
    """(D,) float32."""
    counts: Counts
    data: dict[str, Any]
    """What is known of the activations: their sha256, and id, model, hook and tokenizer_sha256, None where unknown."""


def save(stored: Stored, directory: Any) -> Path:
    """Write it, cfg.json with the checksums of the other files last; the same dictionary gives the same bytes."""
    target = as_path("directory", directory)
    claim(target)
    weights = {"W_dec": stored.atoms, "b_dec": stored.mean, "scale": torch.ones(())}
    contents = {
        WEIGHTS: safetensors_bytes({name: part.contiguous() for name, part in weights.items()}),
        TABLE: _parquet(stored.records),
        PROVENANCE: _json(_provenance(stored)),
    }
    config = _config(stored) | {"checksums": {name: _sha256(content) for name, content in contents.items()}}
    (target / CONFIG).unlink(missing_ok=True)
    for name, content in contents.items():
        write_atomically(target / name, content)
    write_atomically(target / CONFIG, _json(config | {OWN: _sha256(_json(config))}))
    return target


def load(directory: Any) -> Stored:
    """Read what `save` wrote; whatever is wrong, the file is named."""
    source = as_path("directory", directory)
    config = _checked_config(source / CONFIG)
    try:
        checksums, settings = config["checksums"], Settings(**config["settings"])
        threshold, counts = number("threshold", config["threshold"], 0.0), Counts(**config["counts"])
        shape = (integer("d_sae", config["d_sae"], 0), integer("d_in", config["d_in"], 1))
        wanted = {name: str(checksums[name]) for name in CHECKED}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _wrong(source / CONFIG, f"lacks or misstates what a dictionary needs ({error})") from None
    contents = {name: _content(source / name, wanted[name]) for name in CHECKED}
    atoms, mean = _weights(source / WEIGHTS, contents[WEIGHTS], shape)
    records = _records(source / TABLE, contents[TABLE], len(atoms))
    data = _parsed(source / PROVENANCE, contents[PROVENANCE]).get("data")
    if not isinstance(data, dict) or not isinstance(data.get("sha256"), str):
        raise _wrong(source / PROVENANCE, "lacks the sha256 of the data")
    return Stored(settings, threshold, atoms, records, mean, counts, data)


def _config(stored: Stored) -> dict[str, Any]:
    """cfg.json but for the checksums; the names at the top are those of SAELens."""
    return {
        "kind": KIND,
        "schema": SCHEMA,
        **saelens_cfg(stored),
        "settings": asdict(stored.settings),
        "threshold": stored.threshold,
        "counts": asdict(stored.counts),
    }


def _provenance(stored: Stored) -> dict[str, Any]:
    names = ("order", "mode", "method", "relative")
    return {
        "data": stored.data,
        "threshold": stored.threshold,
        **{name: getattr(stored.settings, name) for name in names},
        "versions": {name: version(name) for name in PACKAGES},
    }


def claim(target: Path, name: str = "directory") -> None:
    """Make the directory, or refuse one that holds other things than a dictionary."""
    claim_directory(target, (CONFIG, *CHECKED), (target / CONFIG).exists, name)


def _checked_config(path: Path) -> dict[str, Any]:
    try:
        content = path.read_bytes()
    except OSError:
        raise FileNotFoundError(f"directory: {path.parent} holds no finished dictionary (no {CONFIG})") from None
    config = _parsed(path, content)
    if config.get("kind") != KIND:
        raise _wrong(path, f"is not of a dictionary that interpkern saved (kind {config.get('kind')!r})")
    if config.get("schema") != SCHEMA:
        raise _wrong(path, f"has schema {config.get('schema')!r} and this version reads {SCHEMA}; upgrade")
    whole = _json(config)
    if config.pop(OWN, None) != _sha256(_json(config)) or whole != content:
        raise _wrong(path, "was changed after it was written: its own checksum is wrong")
    return config


def _content(path: Path, checksum: str) -> bytes:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise _wrong(path, f"cannot be read ({error.strerror})") from error
    if _sha256(content) != checksum:
        raise _wrong(path, f"was changed after it was written: its checksum is not the one in {CONFIG}")
    return content


def _weights(path: Path, content: bytes, shape: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor]:
    try:
        tensors = load_safetensors(content)
    except SafetensorError as error:
        raise _wrong(path, f"cannot be read ({error})") from error
    for name, wanted in {"W_dec": shape, "b_dec": shape[1:], "scale": ()}.items():
        found = tensors.get(name)
        if found is None or found.dtype != torch.float32 or tuple(found.shape) != wanted:
            shown = "nothing" if found is None else f"{found.dtype} {tuple(found.shape)}"
            raise _wrong(path, f"expected {name} as float32 {wanted}, got {shown}")
        if not bool(found.isfinite().all()):
            raise _wrong(path, f"holds NaN or infinity in {name}")
    try:
        return unit_rows("W_dec", tensors["W_dec"]), tensors["b_dec"]
    except ValueError as error:
        raise _wrong(path, str(error)) from None


def _records(path: Path, content: bytes, atoms: int) -> NDArray[numpy.void]:
    try:
        table = pandas.read_parquet(io.BytesIO(content), columns=list(COLUMNS))
    except (pyarrow.ArrowException, OSError, ValueError, KeyError) as error:
        raise _wrong(path, f"cannot be read ({error})") from error
    if len(table) != atoms:
        raise _wrong(path, f"has {len(table)} rows for {atoms} atoms")
    for name in COLUMNS:
        if table[name].dtype != RECORD[name]:
            raise _wrong(path, f"expected column {name} as {RECORD[name]}, got {table[name].dtype}")
    return records_of(table)


def _parquet(records: NDArray[numpy.void]) -> bytes:
    buffer = io.BytesIO()
    pandas.DataFrame({name: records[name] for name in COLUMNS}).to_parquet(buffer, index=False)
    return buffer.getvalue()


def _parsed(path: Path, content: bytes) -> dict[str, Any]:
    try:
        parsed = json.loads(content)
    except ValueError as error:
        raise _wrong(path, f"is no JSON ({error})") from None
    if not isinstance(parsed, dict):
        raise _wrong(path, f"expected a JSON object, got {type(parsed).__name__}")
    return parsed


def _json(content: dict[str, Any]) -> bytes:
    return (json.dumps(content, indent=2, sort_keys=True) + "\n").encode()


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _wrong(path: Path, what: str) -> ValueError:
    return ValueError(f"directory: {path} {what}; save the dictionary again, or fetch the file anew")
