"""Tensors and a description as the bytes of one safetensors file that holds its own checksum."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from interpkern.itda.atoms import RECORD

COLUMNS = RECORD.names or ()


def pack(tensors: Mapping[str, torch.Tensor], about: Mapping[str, Any]) -> bytes:
    """The file; the same content gives the same bytes."""
    text = json.dumps(about, sort_keys=True, allow_nan=False)
    contiguous = {name: part.contiguous() for name, part in tensors.items()}
    # In one entry, since safetensors writes several in no fixed order.
    return save(contiguous, {"about": f"{_checksum(contiguous, text)} {text}"})


def unpack(argument: str, path: Path, kind: str, schema: int) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """What `pack` took, if the file is whole and of this kind; else an error that names `argument` and the file."""
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        checksum, _, text = metadata.get("about", "").partition(" ")
        intact = checksum == _checksum(tensors, text)
        about = json.loads(text) if intact else {}
    except (OSError, SafetensorError, ValueError) as error:
        raise ValueError(f"{argument}: {path} cannot be read ({error}); remove it") from error
    if not intact:
        raise ValueError(f"{argument}: {path} is damaged, its checksum is wrong; remove it")
    if about.get("kind") != kind or about.get("schema") != schema:
        raise ValueError(f"{argument}: {path} is no {kind} of schema {schema}; choose another directory")
    return tensors, about


def columns_of(records: NDArray[numpy.void]) -> dict[str, torch.Tensor]:
    """The records as one tensor a column."""
    return {name: torch.from_numpy(records[name].copy()) for name in COLUMNS}


def records_of(columns: Mapping[str, Any]) -> NDArray[numpy.void]:
    """The records of columns, tensors or arrays."""
    records = numpy.empty(len(columns[COLUMNS[0]]), RECORD)
    for name in COLUMNS:
        records[name] = numpy.asarray(columns[name])
    return records


def _checksum(tensors: Mapping[str, torch.Tensor], text: str) -> str:
    digest = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        part = tensors[name]
        digest.update(f"{name} {part.dtype} {tuple(part.shape)}".encode())
        digest.update(part.numpy().data)
    return digest.hexdigest()
