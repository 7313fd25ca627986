"""The rows of a cross-coder as the activations of a plain dictionary, which builds from them."""

from collections.abc import Iterator, Mapping
from typing import Any

import torch

from interpkern.errors import DTypeError
from interpkern.itda.construction import Digest
from interpkern.itda.crosscoder_sites import Site, Space
from interpkern.itda.crosscoder_streams import SiteStream

FACTS = ("model", "hook", "tokenizer_sha256")


class JointRows:
    """(N, sum of D_l) joint rows, with as much of interpkern.Activations as ITDA takes.

    Args:
        stream: the rows in the units of the activations.
        space: how they are laid side by side.
        skip: let rows that are not finite through, to be left out later.
        first_row: rows that came before, for default labels.
        known: hash of the finite rows as they were read before; other rows are refused.
    """

    def __init__(
        self, stream: SiteStream, space: Space, *, skip: bool, first_row: int = 0, known: str | None = None
    ) -> None:
        self._stream, self._space, self._skip = stream, space, skip
        self._first_row, self._known = first_row, known
        self.rereadable = stream.repeatable
        facts = facts_of(stream)
        self.origin = {name: _common([facts[site][name] for site in stream.sites]) for name in FACTS}

    def __len__(self) -> int:
        if self._stream.rows is None:
            raise DTypeError(f"{self._stream.name}: batches are read piece by piece, and their number is not known")
        return self._stream.rows

    @property
    def tokens(self) -> torch.Tensor | None:
        """(N,) token ids of the first site that knows them."""
        found = (getattr(source, "tokens", None) for source in self._stream.sources.values())
        return next((tokens for tokens in found if tokens is not None), None)

    def batches(self, size: int, *, nonfinite: str) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Joint rows and labels, in the batches that they come in."""
        digest = Digest()
        for rows in self._stream.batches(self._first_row):
            kept = self._stream.finite(rows, self._space.widths, skip=self._skip)
            if self._known is not None:
                digest.update(kept)
            yield self._space.enter(rows.values), rows.labels
        if self._known not in (None, digest.hex()):
            raise ValueError(
                f"{self._stream.name}: the second reading gave other rows than the first, as a loader that shuffles"
                " does; give the rows in one order"
            )


def facts_of(stream: SiteStream) -> dict[Site, dict[str, Any]]:
    """Model, hook and tokenizer of each site, None where they are not known."""
    origins: Mapping[Site, Mapping[str, Any]] = {
        site: getattr(stream.sources.get(site), "origin", {}) for site in stream.sites
    }
    return {site: {name: origin.get(name) for name in FACTS} for site, origin in origins.items()}


def _common(values: list[Any]) -> Any:
    """What all are, or None."""
    return values[0] if all(value == values[0] for value in values) else None
