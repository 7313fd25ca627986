"""Modular multiplication as a control with a known answer: discrete logarithms, spectra over them and their Gini."""

from typing import Any

import torch

from interpkern.errors import ShapeError
from interpkern.validation import FLOATS, REAL_DTYPES, Dimensions, choice, integer

ORDERS = ("discrete_log", "n")
LARGEST_PRIME = 1 << 20


def gini(power: Any) -> float:
    """Give the Gini coefficient of powers: 0 where all are equal, 1 - 1/F where one of F holds everything.

    Shapes:
        power (F,), numbers >= 0, torch or NumPy.

    Returns:
        2 sum_i i p_i / (F sum_i p_i) - (F + 1) / F over the powers in ascending order, a share in [0, 1).

    Raises:
        ShapeError, DTypeError or ValueError that names power, also where all powers are 0.

    Source:
        Hurley and Rickard 2009, "Comparing Measures of Sparsity", equation 14.

    Example:
        >>> gini(torch.tensor([0.0, 0.0, 0.0, 5.0]))
        0.75
    """
    values = Dimensions().tensor("power", power, "F", REAL_DTYPES).to("cpu", torch.float64).sort().values
    if bool(values[0] < 0):
        raise ValueError(f"power: expected numbers >= 0, got {float(values[0]):g}; square the amplitudes")
    total = float(values.sum())
    if total == 0:
        raise ValueError("power: expected at least one number above 0, got only zeros")
    count = len(values)
    ranks = torch.arange(1, count + 1, dtype=torch.float64)
    return max(0.0, float(2 * (ranks @ values) / (count * total) - (count + 1) / count))


def discrete_log(p: int, generator: int | None = None) -> torch.Tensor:
    """Give the exponents e with generator^e = a (mod p) for a = 1..p-1: they turn products into sums mod p - 1.

    Args:
        p: a prime from 3 to 1,048,576.
        generator: a primitive root of p; by default the smallest.

    Returns:
        (p - 1,) int64; entry a - 1 belongs to a.

    Raises:
        DTypeError or ValueError that names p or generator.

    Example:
        >>> discrete_log(7)  # powers of 3: 1 3 2 6 4 5
        tensor([0, 2, 1, 4, 5, 3])
    """
    p = _prime(p)
    root = _smallest_root(p) if generator is None else _root(p, generator)
    exponents = torch.empty(p - 1, dtype=torch.int64)
    value = 1
    for exponent in range(p - 1):
        exponents[value - 1] = exponent
        value = value * root % p
    return exponents


def embedding_spectrum(
    embedding: Any, p: int, order: str = "discrete_log", *, generator: int | None = None
) -> torch.Tensor:
    """Give the power of an embedding's non-zero residues at each frequency, in the order of the discrete log or of n.

    Both orders have the same rows, 1..p-1, and differ in nothing else. A network that multiplies by adding discrete
    logs has few frequencies in the first and none in the second. Another generator shuffles the frequencies.

    Shapes:
        embedding (V, d) floating point with V >= p, row a for the residue a; rows from p on are not read.

    Args:
        embedding, p: the embedding and its prime modulus.
        order: discrete_log or n.
        generator: of the discrete log; by default the smallest primitive root.

    Returns:
        (F,) float64 shares of the variance of the rows, at 1..(p-1)/2 cycles; they sum to 1.

    Raises:
        ShapeError, DTypeError or ValueError that names the argument.

    Source:
        Nanda et al. 2023, "Progress measures for grokking via mechanistic interpretability" for sums; arXiv 2606.17399
        for products.

    Example:
        >>> angle = 2 * torch.pi * discrete_log(59) * 4 / 58
        >>> circle = torch.stack([angle.cos(), angle.sin()], 1)
        >>> power = embedding_spectrum(torch.cat([torch.zeros(1, 2), circle]), 59)
        >>> int(power.argmax()) + 1
        4
    """
    rows = Dimensions().tensor("embedding", embedding, "V d", FLOATS).to("cpu", torch.float64)
    p = _prime(p)
    if len(rows) < p:
        raise ShapeError(f"embedding: expected at least p = {p} rows, one a residue, got {len(rows)}")
    residues = torch.arange(1, p)
    if choice("order", order, ORDERS) == "discrete_log":
        residues = discrete_log(p, generator).argsort() + 1
    ordered = rows[residues]
    if bool((ordered == ordered[0]).all()):
        raise ValueError("embedding: expected rows 1..p-1 that differ, got the same row for every residue")
    transform = torch.fft.rfft(ordered - ordered.mean(0), dim=0)[1:]
    power = transform.abs().square().sum(1)
    power[:-1] *= 2  # every frequency but the last, p - 1 being even, stands for itself and its negative
    return power / power.sum()


def _prime(p: Any) -> int:
    value = integer("p", p, 3, LARGEST_PRIME)
    if _factors(value) != [value]:
        raise ValueError(f"p: expected a prime, got {value} = {' x '.join(map(str, _factors(value)))}")
    return value


def _factors(number: int) -> list[int]:
    """Prime factors in ascending order, repeated as often as they divide."""
    found, divisor = [], 2
    while divisor * divisor <= number:
        while number % divisor == 0:
            found.append(divisor)
            number //= divisor
        divisor += 1
    return [*found, number] if number > 1 else found


def _is_root(p: int, root: int) -> bool:
    return all(pow(root, (p - 1) // factor, p) != 1 for factor in set(_factors(p - 1)))


def _smallest_root(p: int) -> int:
    return next(root for root in range(2, p) if _is_root(p, root))


def _root(p: int, generator: Any) -> int:
    root = integer("generator", generator, 1, p - 1)
    if not _is_root(p, root):
        raise ValueError(f"generator: expected a primitive root of {p}, say {_smallest_root(p)}, got {root}")
    return root
