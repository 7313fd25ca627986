"""A run of `memorise` as a directory: safetensors, parquet and JSON, each written whole or not at all."""

import io
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from safetensors.torch import save as safetensors_bytes

from interpkern.errors import ShapeError
from interpkern.files import as_path, claim_directory, write_atomically
from interpkern.memorisation.models import TableMLPs
from interpkern.reference.memorise import Fields, State

if TYPE_CHECKING:
    from interpkern.memorisation.run import MemoriseRun

KIND = "interpkern.memorise.run"
SCHEMA = 1
MODELS, TRAINING, TABLE, RECORD = "models.safetensors", "training.safetensors", "runs.parquet", "run.json"
RESULTS = ("tables", "loss", "logged_steps", "steps_taken", "accuracy", "solved")


def save(run: "MemoriseRun", directory: str | os.PathLike[str]) -> Path:
    """Write `run`; run.json comes last, so that a directory with one is complete."""
    target = as_path("directory", directory)
    claim(target)
    models = run.models
    about = {"kind": KIND, "schema": SCHEMA, "embedding": models.embedding, "seed": models.seed, "models": len(run)}
    record = about | {"settings": run.settings, "provenance": run.provenance}
    text = json.dumps(record, indent=2, allow_nan=False)
    table = io.BytesIO()
    run.to_pandas().to_parquet(table, index=False)
    (target / RECORD).unlink(missing_ok=True)
    write_atomically(target / MODELS, _packed(models.state_dict()))
    write_atomically(target / TRAINING, _packed(_training(run)))
    write_atomically(target / TABLE, table.getvalue())
    write_atomically(target / RECORD, text.encode())
    return target


def load(directory: str | os.PathLike[str]) -> dict[str, Any]:
    """The fields of the run in `directory`."""
    source = as_path("directory", directory)
    record = _record(source)
    if record is None:
        raise FileNotFoundError(f"directory: {source} holds no finished run of memorise (no {RECORD} of that kind)")
    if record.get("schema") != SCHEMA:
        raise ValueError(f"directory: {source} has schema {record.get('schema')}, this version reads {SCHEMA}; upgrade")
    tensors = _tensors(source / TRAINING)
    try:
        models = TableMLPs.from_state_dict(
            _tensors(source / MODELS), embedding=record["embedding"], seed=record["seed"]
        )
        fields = {name: tensors[name] for name in RESULTS} | {
            "models": models,
            "state": State(_moment(tensors, "first"), _moment(tensors, "second"), tensors["step"]),
            "settings": record["settings"],
            "provenance": record["provenance"],
        }
    except KeyError as error:
        raise ValueError(f"directory: {source} lacks {error} of a saved run; save the run again") from None
    wanted = (len(models), models.rows, models.cols)
    if tensors["tables"].shape != wanted or len(tensors["loss"]) != len(models):
        raise ShapeError(
            f"directory: {source} holds models of (B, R, C) = {wanted} and results of others; save it again"
        )
    return fields


def claim(target: Path, name: str = "directory") -> None:
    """Make the directory, or refuse one that holds more than an earlier run, whole or half written."""
    claim_directory(target, (MODELS, TRAINING, TABLE, RECORD), lambda: _record(target) is not None, name)


def _record(source: Path) -> dict[str, Any] | None:
    """run.json, if it is there and is one of ours."""
    try:
        record = json.loads((source / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) and record.get("kind") == KIND else None


def _packed(tensors: dict[str, torch.Tensor]) -> bytes:
    return safetensors_bytes({name: part.detach().to("cpu", copy=True) for name, part in tensors.items()})


def _training(run: "MemoriseRun") -> dict[str, torch.Tensor]:
    tensors = {name: getattr(run, name) for name in RESULTS}
    for moment, fields in (("first", run.state.first), ("second", run.state.second)):
        tensors |= {f"{moment}.{name}": part for name, part in fields._asdict().items()}
    return tensors | {"step": run.state.step}


def _moment(tensors: dict[str, torch.Tensor], moment: str) -> Fields:
    return Fields(*(tensors[f"{moment}.{name}"] for name in Fields._fields))


def _tensors(path: Path) -> dict[str, torch.Tensor]:
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise ValueError(f"directory: {path} cannot be read ({error}); save the run again") from error
