"""Rows of a stream, side by side with who they are, so that nothing can come apart."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from interpkern.activations.grouping import regrouped
from interpkern.validation import is_finite

MASSIVE = 10.0
"""Norm above which an activation is massive, as a multiple of the median norm."""


@dataclass(frozen=True, eq=False)
class Rows:
    """Some rows of a stream, in order."""

    values: torch.Tensor
    """(n, D) floating point, on any device; what is beside them lies on the CPU."""
    labels: torch.Tensor
    """(n, 2) int64, prompt id and position."""
    tokens: torch.Tensor
    """(n,) int64 token ids, -1 where unknown."""
    numbers: torch.Tensor
    """(n,) int64, how many rows of the stream came before."""

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, chosen: Any) -> "Rows":
        """The rows that a slice, a mask or indices choose."""
        return Rows(self.values[chosen], self.labels[chosen], self.tokens[chosen], self.numbers[chosen])

    def with_values(self, values: torch.Tensor) -> "Rows":
        """The same rows with other numbers in them."""
        return replace(self, values=values)

    def as_float32(self) -> "Rows":
        """The rows as contiguous float32 where they lie; a copy only where they are not."""
        return self.with_values(self.values.to(torch.float32).contiguous())

    def on_host(self) -> "Rows":
        """The same on the CPU."""
        return self.with_values(self.values.cpu())

    def finite(self, *, skip: bool, name: str = "activations") -> "Rows":
        """The finite rows where `skip` is set, else all of them or an error that names the first that is not finite."""
        if is_finite(self.values):
            return self
        good = torch.isfinite(self.values).all(1).cpu()
        if not skip:
            bad = self[~good]
            prompt, position = bad.labels[0].tolist()
            others = f" and {len(bad) - 1:,} more nearby" if len(bad) > 1 else ""
            raise ValueError(
                f"{name}: expected finite numbers within float32, got NaN or infinity in row {int(bad.numbers[0])}"
                f" (label ({prompt}, {position})){others}; leave such rows out, say by skip_nonfinite=True of ITDA"
            )
        return self[good]


def joined(parts: Sequence[Rows]) -> Rows:
    """The rows of all parts, in order."""
    if len(parts) == 1:
        return parts[0]
    names = ("values", "labels", "tokens", "numbers")
    return Rows(*(torch.cat([getattr(part, name) for part in parts]) for name in names))


def rechunked(batches: Iterable[Rows], size: int) -> Iterator[Rows]:
    """The same rows as float32 in chunks of `size`, the last one shorter, however they came in."""
    return regrouped(batches, size, Rows.as_float32, joined)
