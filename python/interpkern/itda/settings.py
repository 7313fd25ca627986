"""What a dictionary is built by: the arguments of ITDA, checked once."""

from dataclasses import dataclass
from typing import Any

import numpy
import torch

from interpkern.errors import DTypeError, ShapeError
from interpkern.ops.matching_pursuit import MAX_PICKS
from interpkern.reference.matching_pursuit import METHODS
from interpkern.validation import FLOATS, Dimensions, boolean, choice, integer, number

MODES = ("exact", "fast")
ORDERS = ("given", "canonical")
MAX_ATOMS = (1 << 31) - 1


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What decides which rows become atoms; together with the data it fixes the dictionary."""

    k: int
    """Picks of a sample at most."""
    method: str
    """mp, mp_refit or omp."""
    threshold: float | None
    """Loss above which a row becomes an atom; None looks for the threshold that gives max_atoms."""
    centre: bool | str
    """Whether the mean of the data is taken off; "given" where the caller named the vector."""
    max_atoms: int | None
    mode: str
    """exact: every row meets the dictionary as it stands at its turn. fast: rows of a batch are first screened."""
    order: str
    """given, or canonical: by a hash of the label."""
    relative: bool
    """Loss as a share of ||x||^2, or in the units of ||x||^2."""
    nonnegative: bool
    skip_nonfinite: bool

    def __post_init__(self) -> None:
        checks: dict[str, Any] = {
            "k": integer("k", self.k, 1, MAX_PICKS),
            "max_atoms": None if self.max_atoms is None else integer("max_atoms", self.max_atoms, 1, MAX_ATOMS),
            **{name: boolean(name, getattr(self, name)) for name in ("relative", "nonnegative", "skip_nonfinite")},
        }
        choice("method", self.method, METHODS)
        choice("mode", self.mode, MODES)
        choice("order", self.order, ORDERS)
        if self.centre != "given":
            boolean("centre", self.centre)
        checks["threshold"] = self._threshold()
        for name, value in checks.items():
            object.__setattr__(self, name, value)

    def _threshold(self) -> float | None:
        if self.threshold is not None:
            limits = {"below": 1.0} if self.relative else {}
            return number("threshold", self.threshold, 0.0, **limits)
        if self.max_atoms is None:
            raise ValueError("threshold: None asks for a dictionary of max_atoms atoms, so give max_atoms")
        if not self.relative:
            raise ValueError("threshold: None looks for a relative threshold; give one, or relative=True")
        return None


def check_centre(value: Any) -> bool | torch.Tensor:
    """`centre` as True, False, or a (D,) float32 vector of its own."""
    if isinstance(value, (bool, numpy.bool_)):
        return bool(value)
    if not isinstance(value, (torch.Tensor, numpy.ndarray)):
        raise DTypeError(f"centre: expected True, False or a (D,) tensor, got {type(value).__name__}")
    vector = Dimensions().tensor("centre", value, "D", FLOATS).to("cpu", torch.float32, copy=True)
    if not bool(vector.isfinite().all()):
        raise ValueError("centre: expected numbers within float32; scale the activations")
    return vector


def check_width(name: str, width: int, expected: int, of: str) -> None:
    """Refuse rows or a mean of another width than `of` has."""
    if width != expected:
        raise ShapeError(f"{name}: expected width D = {expected} to match {of}, got {width}")
