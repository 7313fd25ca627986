"""Labels of rows, (prompt id, position): their check, and the order that they give."""

from typing import Any

import numpy
import torch
from numpy.typing import NDArray

from interpkern.activations.rows import INTEGERS
from interpkern.errors import DTypeError, ShapeError
from interpkern.validation import plain_tensor, short


def check_labels(value: Any, rows: int, name: str = "labels") -> torch.Tensor:
    """`value` as (rows, 2) int64 on the CPU, of its own memory."""
    labels = plain_tensor(name, value)
    if labels.dtype not in INTEGERS:
        raise DTypeError(f"{name}: expected int64, got {short(labels.dtype)}; convert them with .to(torch.int64)")
    if labels.shape != (rows, 2):
        hint = " Stack prompt ids and positions: torch.stack([prompt_ids, positions], 1)." if labels.ndim == 1 else ""
        raise ShapeError(
            f"{name}: expected (N, 2) of (prompt id, position) with N = {rows} to match activations,"
            f" got {tuple(labels.shape)}.{hint}"
        )
    return labels.to("cpu", torch.int64, copy=True).contiguous()


def canonical_order(labels: torch.Tensor) -> torch.Tensor:
    """(N,) int64: the rows by a hash of their label, the same whatever order they came in."""
    prompts, positions = (numpy.ascontiguousarray(column) for column in labels.numpy().T)
    order = numpy.lexsort((positions, prompts, _hash(prompts, positions)))
    same = (prompts[order][1:] == prompts[order][:-1]) & (positions[order][1:] == positions[order][:-1])
    if same.any():
        twice = labels[order[int(same.argmax())]].tolist()
        raise ValueError(f"labels: expected distinct labels for order='canonical', {tuple(twice)} is there twice")
    return torch.from_numpy(order)


def _hash(prompts: NDArray[numpy.int64], positions: NDArray[numpy.int64]) -> NDArray[numpy.uint64]:
    return _mixed(_mixed(prompts.view(numpy.uint64)) ^ positions.view(numpy.uint64))


def _mixed(numbers: NDArray[numpy.uint64]) -> NDArray[numpy.uint64]:
    """One step of SplitMix64 (Steele, Lea and Flood 2014), the same on every machine."""
    z = numbers + numpy.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> numpy.uint64(30))) * numpy.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> numpy.uint64(27))) * numpy.uint64(0x94D049BB133111EB)
    mixed: NDArray[numpy.uint64] = z ^ (z >> numpy.uint64(31))
    return mixed
