"""Rows of activations, side by side with their labels and token ids."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy
import torch

from interpkern.errors import DTypeError, ShapeError
from interpkern.validation import FLOATS, plain_tensor, short

INTEGERS = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)
NAMED = 5


@dataclass(frozen=True)
class Rows:
    """(n, D) activations, (n, 2) int64 labels (prompt id, position), and (n,) int64 token ids or None."""

    activations: torch.Tensor
    labels: torch.Tensor
    tokens: torch.Tensor | None = None

    def __len__(self) -> int:
        return len(self.activations)

    def __getitem__(self, index: slice | torch.Tensor) -> "Rows":
        tokens = None if self.tokens is None else self.tokens[index]
        return Rows(self.activations[index], self.labels[index], tokens)

    def finite(self, *, skip: bool) -> "Rows":
        """The rows without NaN or infinity, or where `skip` is off an error that names the others."""
        finite = torch.isfinite(self.activations).all(dim=1).cpu()
        if bool(finite.all()):
            return self
        if skip:
            return self[finite]
        named = ", ".join(str(tuple(label)) for label in self.labels[~finite][:NAMED].tolist())
        raise ValueError(
            f"activations: {int((~finite).sum())} rows hold NaN or infinity, with labels (prompt id, position) "
            f'{named}; look for what made them, or read with nonfinite="skip"'
        )

    def as_stored_or_float32(self) -> "Rows":
        """These rows, float64 as float32."""
        if self.activations.dtype != torch.float64:
            return self
        return Rows(self.activations.float(), self.labels, self.tokens)


def checked_rows(name: str, activations: Any, labels: Any, tokens: Any, first: int) -> Rows:
    """Rows from what a file or a caller gave; without labels, row i of the source gets (i, 0)."""
    values = tensor(name, activations)
    if values.ndim != 2 or values.shape[1] < 1:
        hint = f" Did you mean {name}.flatten(0, -2)?" if values.ndim > 2 else ""
        raise ShapeError(f"{name}: expected (N, D), got {tuple(values.shape)}.{hint}")
    if values.dtype not in FLOATS:
        raise DTypeError(f"{name}: expected {' or '.join(map(short, FLOATS))}, got {short(values.dtype)}")
    count = len(values)
    marks = default_labels(first, count) if labels is None else integers(f"{name} labels", labels, (count, 2))
    return Rows(values, marks, None if tokens is None else integers(f"{name} tokens", tokens, (count,)))


def check_width(name: str, width: int, before: int | None) -> int:
    """The width of a piece, refused when it is not that of those before."""
    if before not in (None, width):
        raise ShapeError(f"{name}: expected (N, {before}) like the pieces before, got (N, {width})")
    return width


def default_labels(first: int, count: int) -> torch.Tensor:
    """(count, 2) labels (row number, 0)."""
    numbers = torch.arange(first, first + count)
    return torch.stack([numbers, torch.zeros_like(numbers)], dim=1)


def integers(name: str, value: Any, shape: tuple[int, ...]) -> torch.Tensor:
    """An int64 tensor of this shape."""
    found = tensor(name, value)
    if found.dtype not in INTEGERS:
        raise DTypeError(f"{name}: expected int64, got {short(found.dtype)}")
    if tuple(found.shape) != shape:
        raise ShapeError(f"{name}: expected {shape} to match the activations, got {tuple(found.shape)}")
    return found.to(torch.int64)


def tensor(name: str, value: Any) -> torch.Tensor:
    """A dense tensor; a NumPy array shares its memory where it can."""
    plain = isinstance(value, numpy.ndarray) and not isinstance(value, numpy.ma.MaskedArray)
    if plain and value.dtype.isnative and value.flags.writeable:
        try:
            return torch.from_numpy(value)
        except (TypeError, ValueError):  # a dtype that torch lacks, or negative strides: plain_tensor copies or refuses
            pass
    return plain_tensor(name, value)


def joined(parts: Sequence[Rows]) -> Rows:
    """The rows of all parts, in order; with token ids where all parts have them."""
    if len(parts) == 1:
        return parts[0]
    tokens = [part.tokens for part in parts if part.tokens is not None]
    return Rows(
        torch.cat([part.activations for part in parts]),
        torch.cat([part.labels for part in parts]),
        torch.cat(tokens) if len(tokens) == len(parts) else None,
    )
