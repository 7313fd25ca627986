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
MOST_NUMBERS = 3000
SMALL = 1e-6


@dataclass(frozen=True, eq=False)
class Kernels:
    """Covariances of N numbers in the m dimensions that the nuisance leaves, each of mean variance 1."""

    names: tuple[str, ...]
    basis: torch.Tensor
    """(N, m) float64 orthonormal columns, orthogonal to the nuisance."""
    covariances: torch.Tensor
    """(K, m, m) float32; the first is the identity."""
    roots: tuple[torch.Tensor, ...]
    """(m, r) float32 each, root @ root.T = covariance."""


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
    names, covariances, roots = ["independent"], [torch.eye(m)], [torch.eye(m)]
    for name, full in _covariances(n).items():
        left = basis.mT @ full @ basis
        variance = float(left.trace()) / m
        if variance > SMALL:
            names.append(name)
            covariances.append((left / variance).float())
            roots.append(_root(left / variance))
    return Kernels(tuple(names), basis, torch.stack(covariances), tuple(roots))


def _covariances(n: torch.Tensor) -> dict[str, torch.Tensor]:
    nats = (n.log()[:, None] - n.log()).abs()
    steps = (n[:, None] - n).abs()
    found = {f"smooth in ln n over {scale:g}": torch.exp(-0.5 * (nats / scale).square()) for scale in NATS}
    for share in SHARES:
        scale = share * float(n.max())
        found[f"smooth in n over {scale:.3g}"] = torch.exp(-0.5 * (steps / scale).square())
    if are_integers(n):
        found |= {f"equal mod {modulus}": (steps.remainder(modulus) == 0).double() for modulus in MODULI}
        found |= {f"period {period} in n": torch.cos(2 * torch.pi * steps / period) for period in PERIODS}
        for size in GROUPS:
            group = n.div(size, rounding_mode="floor")
            found[f"same {size}"] = (group[:, None] == group).double()
    return found


def _root(covariance: torch.Tensor) -> torch.Tensor:
    sizes, vectors = torch.linalg.eigh(covariance)
    kept = sizes > SMALL * sizes[-1]
    return (vectors[:, kept] * sizes[kept].sqrt()).float()
