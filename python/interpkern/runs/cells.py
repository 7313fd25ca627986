"""Cells: pure functions of a spec, named by its hash."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas

NAME_DIGITS = 32


@dataclass(frozen=True)
class Cell:
    """One piece of work: which function makes its table, and all that the function is told."""

    kind: str
    """The function."""
    spec: Mapping[str, Any]
    """Its arguments, as JSON has them."""
    version: int = 1
    """Of the function: results of another version are never taken for its own."""

    @property
    def name(self) -> str:
        """The hash of kind, version and spec."""
        return hashlib.sha256(canonical(self.identity).encode()).hexdigest()[:NAME_DIGITS]

    @property
    def identity(self) -> dict[str, Any]:
        """What the cell is, as JSON has it."""
        return {"kind": self.kind, "version": self.version, "spec": dict(self.spec)}

    @property
    def seed(self) -> int:
        """A seed of its own, which no other cell has."""
        digest = hashlib.sha256(f"seed {canonical(self.identity)}".encode()).digest()
        return int.from_bytes(digest[:8], "big")


@dataclass(frozen=True)
class Result:
    """What a cell gave."""

    table: pandas.DataFrame
    record: Mapping[str, Any]
    """Provenance, as JSON has it: versions, device, seconds."""


def canonical(value: Any) -> str:
    """The one text of a value as JSON: sorted names, no spaces, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
