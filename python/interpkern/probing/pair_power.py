"""The null pass: power of many sets of channels at many frequencies; sets x channels x frequencies never exist.

Pairs of neighbouring frequencies are nearly dependent: all of a block lie in few directions W, up to rounding. What a
set of channels Y has to say to a block is then the small matrix S = (W Y)(W Y)^T, summed over channels, and the power
at each frequency is the inner product of S with the frequency's own form u^T u: two small products in place of a large
one, and no channel is left when frequencies come in.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch

SPAN = 3.0
"""Cycles of a block: wider blocks have more directions, narrower ones share theirs among fewer frequencies."""
FEWEST, MOST = 60, 512
"""Frequencies of a block, whatever its cycles."""
DIRECTIONS = 48
"""Directions that are tried for a block before all of its columns are taken."""
ROUNDING = {torch.float32: 1e-6, torch.float64: 1e-12}
"""What may be left out of unit columns."""
SET_ENTRIES = 1 << 24
"""Numbers of the sets that are looked at at a time."""


@dataclass(frozen=True, eq=False)
class Block:
    """Neighbouring frequencies by the directions that their pairs share."""

    directions: torch.Tensor
    """(r, m) orthonormal rows."""
    forms: torch.Tensor
    """(r (r + 1) / 2, F) quadratic forms of the frequencies, upper triangles with doubled corners."""
    upper: torch.Tensor
    """(r (r + 1) / 2,) int64 places of the upper triangle in an (r, r) matrix."""


def blocks_of(pairs: torch.Tensor, cycles: torch.Tensor, dtype: torch.dtype, device: torch.device) -> list[Block]:
    """Compress (m, 2, F) float64 orthonormal pairs of rising frequencies, which make `cycles` (F,) over the numbers."""
    found, start = [], 0
    while start < len(cycles):
        within = int(torch.searchsorted(cycles, cycles[start] + SPAN))
        stop = min(max(within, start + FEWEST), start + MOST, len(cycles))
        found.append(_block(pairs[:, :, start:stop], dtype, device))
        start = stop
    return found


def pair_power(blocks: list[Block], sets: torch.Tensor) -> torch.Tensor:
    """(P, F): squared projections on the pair of each frequency, summed over the channels of (m, P, C) sets."""
    return torch.cat(list(_powers(blocks, sets)), 1)


def largest_power(blocks: list[Block], sets: torch.Tensor) -> torch.Tensor:
    """(P,): the largest over the frequencies, block by block."""
    largest = torch.zeros(sets.shape[1], dtype=sets.dtype, device=sets.device)
    for power in _powers(blocks, sets):
        torch.maximum(largest, power.amax(1), out=largest)
    return largest


def sets_at_once(size: int, channels: int) -> int:
    """How many sets of channels to draw at a time."""
    return max(1, SET_ENTRIES // (size * channels))


def _powers(blocks: list[Block], sets: torch.Tensor) -> Iterator[torch.Tensor]:
    flat = sets.flatten(1)
    for block in blocks:
        seen = (block.directions @ flat).reshape(-1, *sets.shape[1:]).permute(1, 0, 2)
        products = torch.bmm(seen, seen.mT).flatten(1)
        yield products[:, block.upper] @ block.forms


def _block(pairs: torch.Tensor, dtype: torch.dtype, device: torch.device) -> Block:
    m, _, count = pairs.shape
    columns = pairs.reshape(m, -1)
    directions = _shared_directions(columns, ROUNDING[dtype])
    along = (directions.mT @ columns).reshape(-1, 2, count)
    r = len(along)
    forms = torch.einsum("ajf,bjf->abf", along, along).reshape(r * r, count)
    row, column = torch.triu_indices(r, r)
    upper = row * r + column
    twice = torch.where(row == column, 1.0, 2.0).double()
    forms = forms[upper] * twice[:, None]
    return Block(directions.mT.to(device, dtype).contiguous(), forms.to(device, dtype), upper.to(device))


def _shared_directions(columns: torch.Tensor, rounding: float) -> torch.Tensor:
    """(m, r) orthonormal: what the columns span up to rounding, tried with few random mixtures of them first."""
    count = columns.shape[1]
    if min(columns.shape) > DIRECTIONS:
        generator = torch.Generator().manual_seed(0)
        mixing = torch.randn(count, DIRECTIONS, generator=generator, dtype=columns.dtype)
        tried = torch.linalg.qr(columns @ mixing).Q
        along = tried.mT @ columns
        if float(torch.linalg.vector_norm(columns - tried @ along, dim=0).max()) < rounding:
            return tried @ _main_directions(along, rounding)
    return _main_directions(columns, rounding)


def _main_directions(columns: torch.Tensor, rounding: float) -> torch.Tensor:
    left, sizes, _ = torch.linalg.svd(columns, full_matrices=False)
    return left[:, sizes > rounding * sizes.max().clamp(min=1e-300)]
