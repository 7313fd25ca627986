"""The folder that `collect` writes: shards, the words of their tokens, and a manifest of where they came from."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pandas
import torch
from safetensors.torch import save

from interpkern.files import write_atomically

SCHEMA = 1
MANIFEST = "manifest.json"
VOCABULARY = "vocabulary.parquet"


@dataclass(frozen=True)
class Shard:
    """One file of a folder of activations."""

    file: str
    rows: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """What a folder of activations holds and where it came from.

    `settings` fix the bytes of every shard: a run resumes only with equal settings. `provenance` is for the reader.
    """

    settings: Mapping[str, Any]
    width: int = 0
    shards: tuple[Shard, ...] = ()
    complete: bool = False
    provenance: Mapping[str, Any] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        """Rows in all shards, samples."""
        return sum(shard.rows for shard in self.shards)

    def write(self, folder: Path) -> None:
        """Write it into `folder`, whole or not at all."""
        content = json.dumps({"schema": SCHEMA, **asdict(self)}, indent=1, allow_nan=False)
        write_atomically(folder / MANIFEST, f"{content}\n".encode())

    @staticmethod
    def read(folder: Path) -> "Manifest":
        """Read the manifest of `folder`."""
        path = folder / MANIFEST
        try:
            found = json.loads(path.read_text())
            if found.pop("schema") != SCHEMA:
                raise ValueError("another schema")
            return Manifest(**found | {"shards": tuple(Shard(**shard) for shard in found["shards"])})
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{path}: expected a manifest of activations, schema {SCHEMA}: {error}") from error


def shard_name(number: int) -> str:
    """The file of the shard with this number."""
    return f"activations-{number:05d}.safetensors"


def write_shard(
    folder: Path, number: int, activations: torch.Tensor, labels: torch.Tensor, tokens: torch.Tensor | None
) -> Shard:
    """Write one shard, whole or not at all: (n, D) activations, (n, 2) int64 labels, (n,) token ids as int32."""
    tensors = {"activations": activations.contiguous(), "labels": labels.contiguous()}
    if tokens is not None:
        tensors["tokens"] = tokens.to(torch.int32)
    content = save(tensors)
    write_atomically(folder / shard_name(number), content)
    return Shard(shard_name(number), len(activations), hashlib.sha256(content).hexdigest())


def file_sha256(path: Path) -> str:
    """The SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def checked_shard(folder: Path, shard: Shard) -> Path:
    """The path of a shard whose bytes are those that were written; a damaged or missing one is named."""
    path = folder / shard.file
    if not path.is_file():
        raise ValueError(f"{path}: missing; collect again into the same folder to write it anew")
    if file_sha256(path) != shard.sha256:
        raise ValueError(f"{path}: damaged, its SHA-256 is not that of {MANIFEST}; delete it and collect again")
    return path


def sha256_of(parts: Iterable[bytes]) -> str:
    """The SHA-256 of a list of byte strings; the same bytes cut elsewhere give another one."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "little"))
        digest.update(part)
    return digest.hexdigest()


def write_vocabulary(folder: Path, words: Mapping[int, str]) -> None:
    """Write the text of every token id that occurs, so that rows print without a tokenizer."""
    table = pandas.DataFrame({"token_id": list(words), "text": list(words.values())})
    write_atomically(folder / VOCABULARY, lambda file: table.to_parquet(file, index=False))


def read_vocabulary(folder: Path) -> dict[int, str]:
    """The text of every token id that occurs; empty when the folder has none."""
    path = folder / VOCABULARY
    if not path.exists():
        return {}
    table = pandas.read_parquet(path)
    return dict(zip(table["token_id"].tolist(), table["text"].tolist(), strict=True))
