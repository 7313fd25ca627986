"""What a baseline of `matching_pursuit` is: another implementation of the same decomposition over the same atoms."""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch

Encode = Callable[[torch.Tensor], Any]
"""Samples (n, D) float32 -> their code, in the baseline's own format; the call to time."""


class Dictionary(NamedTuple):
    """What is made once, outside the timing."""

    atoms: torch.Tensor
    """(M, D) float32, unit rows."""
    gram: torch.Tensor
    """(M, M) float32, atoms @ atoms.T."""


@dataclass(frozen=True)
class PursuitPeer:
    """One baseline; it computes on PyTorch's number of threads where it can."""

    name: str
    method: str
    """The method of `matching_pursuit` that it computes: "mp" or "omp"."""
    prepare: Callable[[Dictionary, int, int], Encode]
    """(dictionary, k, n) -> a function of n samples; whatever compiles or converts the atoms has done so by then."""
    dense: Callable[[Any, int], torch.Tensor]
    """(code, M) -> (n, M) coefficients, untimed."""
    batches: tuple[int, ...]
    """Numbers of samples a call; the fastest is timed."""
    package: str | None = None
    """The distribution that it comes from, whose absence makes `prepare` raise ImportError."""
    explains_more: bool = False
    """Whether it picks by a costlier rule, so that it may leave less of a sample than `method` does."""
    makes_gram: bool = False
    """Whether every call makes a Gram of its own, which cannot be handed to it."""
    clocks: tuple[str, ...] = ("wall",)
    """What to time it by: "wall", and "cpu" where threads idle or are not used; the last counts most."""


def scattered(code: tuple[torch.Tensor, torch.Tensor], M: int) -> torch.Tensor:
    """(n, M) coefficients from indices (n, k) int64 and coefficients (n, k), those of a repeated atom summed."""
    indices, coefficients = code
    return coefficients.new_zeros(len(indices), M).scatter_add_(1, indices, coefficients)


def imported(module: str, package: str, extra: str) -> Any:
    """The module, or an ImportError that says what to install."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(
            f"{package} is not installed: it is in the extra `{extra}`, pip install 'interpkern[{extra}]'"
        ) from error
