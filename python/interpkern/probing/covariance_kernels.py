"""What smooth and digit-like activations look like: covariances between numbers, with the nuisance projected out."""

from dataclasses import dataclass
from functools import lru_cache

import torch

from interpkern.probing.numbers import are_integers

NATS = (0.12, 0.25, 0.5, 1.0, 2.0)
"""Length scales in ln n."""
SHARES = (1 / 36, 25 / 360, 1 / 6, 1 / 3)
"""Length scales in n, of the largest number: 10, 25, 60 and 120 for 360 numbers."""
MODULI, PERIODS, GROUPS = (2, 5, 10), (5, 10, 100), (10, 100)
LEADING = (0.3, 0.6, 1.2)
"""Length scales of what repeats with each power of ten, as chords of the unit circle."""
LN_10 = 2.302585092994046
MOST_NUMBERS = 3000
SMALL = 1e-6


@dataclass(frozen=True, eq=False)
class Kernels:
    """Covariances of N numbers in the m dimensions that the nuisance leaves, each of mean variance 1."""

    names: tuple[str, ...]
    basis: torch.Tensor
    """(N, m) float64 orthonormal columns, orthogonal to the nuisance."""
    roots: tuple[torch.Tensor, ...]
    """(m, r) float64 each, root @ root.T = covariance; the first is the identity."""

    @property
    def ranks(self) -> list[int]:
        """Columns of each root."""
        return [root.shape[1] for root in self.roots]

    def stacked(self) -> torch.Tensor:
        """(m, R) float64: all roots side by side."""
        return torch.cat(self.roots, 1)

    def summed(self, rows: torch.Tensor) -> torch.Tensor:
        """(K, ...) sums of (R, ...) over the columns of each root."""
        return torch.stack([part.sum(0) for part in rows.split(self.ranks)])

    def gram(self, stacked: torch.Tensor) -> torch.Tensor:
        """(K, K) inner products of the kernels whose roots stand side by side."""
        squares = (stacked.mT @ stacked).square()
        return self.summed(self.summed(squares).mT)


def kernels(numbers: torch.Tensor, nuisance: torch.Tensor) -> Kernels:
    """The kernels of (N,) numbers beside an (N, q) orthonormal nuisance; the last few calls are kept."""
    if len(numbers) > MOST_NUMBERS:
        raise ValueError(
            f"numbers: the coloured null takes up to {MOST_NUMBERS:,} numbers, got {len(numbers):,}; thin them, say"
            " evenly in ln n"
        )
    return _kernels(numbers.numpy().tobytes(), nuisance.contiguous().numpy().tobytes(), nuisance.shape[1])


@lru_cache(maxsize=4)
def _kernels(numbers: bytes, nuisance: bytes, columns: int) -> Kernels:
    n = torch.frombuffer(bytearray(numbers), dtype=torch.float64)
    basis = torch.eye(len(n), dtype=torch.float64)
    if columns:
        q = torch.frombuffer(bytearray(nuisance), dtype=torch.float64).reshape(len(n), columns)
        basis = torch.linalg.qr(q, mode="complete").Q[:, columns:].contiguous()
    m = basis.shape[1]
    names, roots = ["independent"], [torch.eye(m, dtype=torch.float64)]
    for name, full in _covariances(n).items():
        left = basis.mT @ full @ basis
        variance = float(left.trace()) / m
        if variance > SMALL:
            names.append(name)
            roots.append(_root(left / variance))
    return Kernels(tuple(names), basis, tuple(roots))


def _covariances(n: torch.Tensor) -> dict[str, torch.Tensor]:
    nats = (n.log()[:, None] - n.log()).abs()
    steps = (n[:, None] - n).abs()
    found = {f"smooth in ln n over {scale:g}": torch.exp(-0.5 * (nats / scale).square()) for scale in NATS}
    for share in SHARES:
        scale = share * float(n.max())
        found[f"smooth in n over {scale:.3g}"] = torch.exp(-0.5 * (steps / scale).square())
    around = 2 * torch.sin(torch.pi * nats / LN_10)
    found |= {f"leading digits over {scale:g}": torch.exp(-0.5 * (around / scale).square()) for scale in LEADING}
    if are_integers(n):
        found |= _digits(n, steps)
    return found


def _digits(n: torch.Tensor, steps: torch.Tensor) -> dict[str, torch.Tensor]:
    """What goes with the last digit, with the digits before it, and with both."""
    same = {
        size: (n.div(size, rounding_mode="floor")[:, None] == n.div(size, rounding_mode="floor")) for size in GROUPS
    }
    equal = {modulus: steps.remainder(modulus) == 0 for modulus in MODULI}
    found = {f"equal mod {modulus}": alike.double() for modulus, alike in equal.items()}
    found |= {f"period {period} in n": torch.cos(2 * torch.pi * steps / period) for period in PERIODS}
    for size, alike in same.items():
        found[f"same {size}"] = alike.double()
        found[f"smooth within the same {size}"] = alike * torch.exp(-0.5 * (steps / (size / 4)).square())
    found["equal mod 10 within the same 100"] = (equal[10] & same[100]).double()
    return found


def _root(covariance: torch.Tensor) -> torch.Tensor:
    sizes, vectors = torch.linalg.eigh(covariance)
    kept = sizes > SMALL * sizes[-1]
    return vectors[:, kept] * sizes[kept].sqrt()
