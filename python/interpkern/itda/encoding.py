"""Activations as sparse codes of a dictionary, and how much of them it explains."""

from collections.abc import Callable
from typing import Any

import torch

from interpkern.errors import DTypeError
from interpkern.itda.atoms import Atoms
from interpkern.itda.construction import mean_of
from interpkern.itda.devices import sum_of_squares
from interpkern.itda.pursuit import Pursuit
from interpkern.itda.rows import rechunked
from interpkern.itda.settings import check_width
from interpkern.itda.streams import check_values, open_stream
from interpkern.ops.sparse_code import SparseCode
from interpkern.validation import is_finite

CHUNK = 4096
"""Rows that are centred and encoded at a time."""


def encode(
    x: Any,
    atoms: Atoms,
    mean: torch.Tensor,
    pursuit: Pursuit,
    *,
    precision: str,
    report: Callable[[int, int], object] | None = None,
) -> SparseCode:
    """The codes of (N, D) activations, where they lie, centred in float32 a chunk at a time."""
    if callable(getattr(x, "tensor", None)):
        raise DTypeError(f"x: expected a tensor or an array, got {type(x).__name__}; give its .tensor()")
    values = check_values("x", x)
    check_width("x", values.shape[1], len(mean), "the atoms")
    gram, mean = atoms.gram_on(values.device), mean.to(values.device)
    codes, done = [], 0
    for part in values.split(CHUNK):
        rows = part.to(torch.float32)
        if not is_finite(rows):
            raise ValueError("x: expected finite numbers within float32, got NaN or infinity; leave such rows out")
        codes.append(pursuit.encode(rows - mean, gram, precision=precision))
        done += len(part)
        if report is not None:
            report(done, len(values))
    names = ("indices", "coefficients", "residual_norm")
    return SparseCode(*(torch.cat([getattr(code, name) for code in codes]) for name in names))


def fvu(x: Any, atoms: Atoms, mean: torch.Tensor, pursuit: Pursuit) -> float:
    """Squared error over squared distance from the mean of x, both summed in float64."""
    stream = open_stream(x, name="x")
    if not stream.repeatable:
        raise ValueError("x: expected something that can be read twice, got an iterator; put its batches in a list")
    own_mean = mean_of(rechunked(stream.batches(), CHUNK), skip=False, name="x")
    check_width("x", len(own_mean), len(mean), "the atoms")
    error = total = 0.0
    for rows in rechunked(stream.batches(), CHUNK):
        gram, mean = atoms.gram_on(rows.values.device), mean.to(rows.values.device)
        reconstruction = pursuit.encode(rows.values - mean, gram).decode(gram.atoms) + mean
        error += sum_of_squares(rows.values - reconstruction)
        total += sum_of_squares(rows.values - own_mean.to(rows.values.device))
    if total == 0:
        raise ValueError("x: expected rows that differ; their variance is 0")
    return error / total
