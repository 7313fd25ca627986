"""Dictionaries that the paper's code has written: atoms.pt, atom_indices.pt and metadata.yaml, read without trust."""

import hashlib
import math
import os
import pickle
import re
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy
import torch
from numpy.typing import NDArray

from interpkern.errors import ShapeError
from interpkern.extras import need
from interpkern.files import as_path
from interpkern.itda.atoms import RECORD
from interpkern.itda.construction import Counts
from interpkern.itda.dictionary import ITDA
from interpkern.itda.labels import check_labels
from interpkern.itda.settings import Settings
from interpkern.itda.storage import Stored
from interpkern.validation import FLOATS, Dimensions, integer, number, plain_tensor

ATOMS, LABELS, METADATA = "atoms.pt", "atom_indices.pt", "metadata.yaml"
MAX_BYTES = 16 << 30
MAX_METADATA_BYTES = 64 << 10
MAX_DEPTH = 8
PUBLISHED_K = 40
"""What the paper's code takes where metadata.yaml names no k."""
FAULT = (
    "labels: versions of the published code took an inverse map for first occurrences, so that labels, above all those"
    " of the first D atoms, may name other tokens than their atoms were taken from; before you rely on them, compare"
    " atoms with the activations that their labels name, or fit the dictionary again"
)


def load_original(
    directory: str | os.PathLike[str], *, threshold: float | None = None, max_bytes: int = MAX_BYTES
) -> ITDA:
    """Read a dictionary of the paper's code as one of method "mp" without centring, its atoms normalised.

    Nothing in the files is executed: tensors are read by PyTorch's restricted reader, from its zip format alone, and
    the YAML by its safe one.

    Args:
        directory: with atoms.pt (M, D), atom_indices.pt (M, 2) of prompt and position, and metadata.yaml.
        threshold: relative loss, in [0, 1), for going on with partial_fit; None converts loss_threshold t of the
            metadata: the mean over D of (x / |x| - x_hat / |x_hat|)^2 is above t where 1 - (1 - D t / 2)^2 is the
            share of x that is left, for a reconstruction that is a projection, as that of mp nearly is.
        max_bytes: size of a file, packed or unpacked, above which it is refused.

    Returns:
        A fitted ITDA of mode "fast", the nearest to theirs. Norms, losses and tokens of the atoms are not known (NaN,
        -1); `data` has model, hook and the name of the data set as far as the metadata have them.

    Raises:
        FileNotFoundError, ShapeError, DTypeError or ValueError that names the file.

    Warns:
        UserWarning of the fault in the published labels, and where labels are impossible or there twice.

    Source:
        Leask, Nanda and Al Moubayed 2025, "Inference-Time Decomposition of Activations (ITDA)", published code.

    Example:
        >>> load_original("artifacts/runs/abcdefgh").save_pretrained("dictionary")  # doctest: +SKIP
    """
    source = as_path("directory", directory)
    most = integer("max_bytes", max_bytes, 1)
    metadata = _metadata(source / METADATA)
    atoms = _unit_atoms(source / ATOMS, most)
    labels = _labels(source / LABELS, most, len(atoms))
    warnings.warn("; ".join([FAULT, *_faults(labels, metadata)]), UserWarning, stacklevel=2)
    settings = Settings(
        k=integer(f"{METADATA}: k", metadata.get("k", PUBLISHED_K), 1),
        method="mp",
        threshold=_threshold(threshold, metadata, atoms.shape[1]),
        centre=False,
        max_atoms=None,
        mode="fast",
        order="given",
        relative=True,
        nonnegative=False,
        skip_nonfinite=False,
    )
    assert settings.threshold is not None
    stored = Stored(
        settings=settings,
        threshold=settings.threshold,
        atoms=atoms,
        records=_records(labels),
        mean=torch.zeros(atoms.shape[1]),
        counts=Counts(rows_seen=_rows_seen(metadata)),
        data=_origin(source, metadata),
    )
    return ITDA._of(stored, backend="auto", threads=None)


def _check_there(path: Path, most: int) -> None:
    if not path.is_file():
        raise FileNotFoundError(f"directory: {path} is not there; expected {ATOMS}, {LABELS} and {METADATA}")
    if path.stat().st_size > most:
        raise ValueError(f"directory: {path} has {path.stat().st_size:,} bytes, expected at most {most:,}")


def _metadata(path: Path) -> dict[str, Any]:
    yaml = need("yaml", "sae", f"reading {METADATA}")
    _check_there(path, MAX_METADATA_BYTES)
    text = path.read_bytes()
    try:
        _check_events(yaml, text)
        found = yaml.safe_load(text)
    except Exception as error:
        raise ValueError(f"directory: {path} is refused, it is no plain YAML ({error}); write it anew") from None
    if not isinstance(found, dict):
        raise ValueError(f"directory: {path}: expected names and values, got {type(found).__name__}")
    return found


def _check_events(yaml: Any, text: bytes) -> None:
    """Refuse what takes long to read or unfolds: the parser is asked for one event at a time."""
    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH:
            raise ValueError(f"nested more than {MAX_DEPTH} deep")
        if isinstance(event, yaml.AliasEvent):
            raise ValueError("an alias, which can unfold without end")


def _tensor(path: Path, most: int) -> Any:
    """The object in a file of torch.save, if it is made of tensors, numbers and lists alone."""
    _check_there(path, most)
    _check_archive(path, most)
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        asked = re.search(r"GLOBAL\s+(\S+)", str(error))
        raise ValueError(
            f"directory: {path} is refused: it holds {asked[1] if asked else 'something'} besides tensors, and reading"
            " that could run code; don't load it another way, but ask for a file of tensors alone"
        ) from None
    except Exception as error:
        raise ValueError(f"directory: {path} cannot be read ({error}); fetch it again") from None


def _check_archive(path: Path, most: int) -> None:
    """Refuse what is no zip, and what would be too large once unpacked, before PyTorch sees it."""
    try:
        with zipfile.ZipFile(path) as archive:
            parts = archive.infolist()
    except Exception:
        raise ValueError(
            f"directory: {path} is refused, it is no zip as torch.save has written since 1.6; save it again"
        ) from None
    unpacked = sum(part.file_size for part in parts)
    if unpacked > most:
        raise ValueError(f"directory: {path} unpacks to {unpacked:,} bytes, above max_bytes {most:,}")
    if any(part.compress_type != zipfile.ZIP_STORED for part in parts):
        raise ValueError(f"directory: {path} is refused, its parts are packed as torch.save never does; save it again")


def _dense(name: str, value: Any, most: int) -> torch.Tensor:
    """A plain tensor whose numbers, written out, stay below the limit; strides of 0 can make much of a small file."""
    tensor = plain_tensor(name, value.detach() if isinstance(value, torch.Tensor) else value)
    if tensor.numel() * tensor.element_size() > most:
        raise ValueError(f"{name}: expected at most {most:,} bytes, got {tuple(tensor.shape)}; raise max_bytes")
    return tensor


def _unit_atoms(path: Path, most: int) -> torch.Tensor:
    name = f"directory: {path}"
    atoms = Dimensions().tensor(name, _dense(name, _tensor(path, most), most), "M D", FLOATS).double()
    norms = atoms.norm(dim=1, keepdim=True)
    if not bool((norms > 0).all()):
        raise ValueError(f"{name}: expected atoms other than 0, got one of norm 0 in row {int(norms.argmin())}")
    return (atoms / norms).float()


def _labels(path: Path, most: int, atoms: int) -> torch.Tensor:
    name = f"directory: {path}"
    found = _tensor(path, most)
    labels = _dense(name, torch.tensor(found) if _is_numbers(found) else found, most)
    if labels.ndim == 1:
        raise ShapeError(
            f"{name}: expected (M, 2) of prompt and position, got {tuple(labels.shape)}; an early form that numbers"
            " activations needs the number of tokens in a prompt: save torch.stack([n // tokens, n % tokens], 1)"
        )
    return check_labels(labels, atoms, name)


def _is_numbers(found: Any) -> bool:
    return isinstance(found, list) and all(type(one) is int and abs(one) < 1 << 62 for one in found)


def _records(labels: torch.Tensor) -> NDArray[numpy.void]:
    records = numpy.empty(len(labels), RECORD)
    records["prompt_id"], records["position"] = labels.numpy().T
    for name, unknown in {
        "token_id": -1,
        "source_norm": math.nan,
        "birth_step": -1,
        "admission_loss": math.nan,
    }.items():
        records[name] = unknown
    return records


def _faults(labels: torch.Tensor, metadata: dict[str, Any]) -> list[str]:
    """What is plainly wrong with these labels."""
    distinct = len(torch.unique(labels, dim=0))
    unknown = int((labels < 0).any(1).sum())
    length = metadata.get("seq_len")
    beyond = int((labels[:, 1] >= length).sum()) if type(length) is int else 0
    found = {
        f"{len(labels) - distinct:,} labels are there before": distinct < len(labels),
        f"{unknown:,} are below 0": unknown > 0,
        f"{beyond:,} have a position beyond seq_len {length}": beyond > 0,
    }
    return [f"in this file {text}" for text, is_so in found.items() if is_so]


def _rows_seen(metadata: dict[str, Any]) -> int:
    """Tokens that the stream had, where the metadata say so; 0 where they don't."""
    sizes = [metadata.get(name) for name in ("steps", "batch_size", "seq_len")]
    known = [size for size in sizes if isinstance(size, int) and 0 < size < 1 << 20]
    return math.prod(known) if len(known) == len(sizes) else 0


def _threshold(given: float | None, metadata: dict[str, Any], width: int) -> float:
    if given is not None:
        return number("threshold", given, 0.0, below=1.0)
    if "loss_threshold" not in metadata:
        raise ValueError(f"threshold: {METADATA} has no loss_threshold, so give a relative threshold in [0, 1)")
    published = number(f"{METADATA}: loss_threshold", metadata["loss_threshold"], 0.0)
    return min(1 - max(1 - width * published / 2, 0.0) ** 2, 1 - 2**-20)


def _origin(source: Path, metadata: dict[str, Any]) -> dict[str, Any]:
    def text(name: str) -> str | None:
        value = metadata.get(name)
        return value if isinstance(value, str) else None

    layer = metadata.get("layer")
    digests = []
    for name in (ATOMS, LABELS):
        with (source / name).open("rb") as file:
            digests.append(hashlib.file_digest(file, "sha256").hexdigest())
    return {
        "sha256": hashlib.sha256("".join(digests).encode()).hexdigest(),
        "id": text("dataset"),
        "model": text("lm_name"),
        "hook": f"blocks.{layer}.hook_resid_post" if type(layer) is int else None,
        "tokenizer_sha256": None,
    }
