"""One tiny problem for each operation: is a backend right here, and how fast is it?"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.functional import normalize

from interpkern.gpu import device_for
from interpkern.machine import one_thread
from interpkern.ops import matching_pursuit as matching_pursuit_op
from interpkern.ops import memorise as memorise_op
from interpkern.ops.sparse_code import SparseCode
from interpkern.reference.matching_pursuit import METHODS
from interpkern.reference.memorise import Fields, Outcome

SECONDS = 0.1
MODELS, ROWS, COLS, D_MODEL, D_HIDDEN = 32, 7, 5, 6, 9
STEPS = 20
TOLERANCE = 5e-6
"""Float32 rounding after twenty updates: training is chaotic, and this is what the spec allows at lr up to 1e-2."""

SAMPLES, ATOMS, WIDTH, PICKS = 64, 97, 31, 8
CODE_TOLERANCE = 1e-5
"""Float32 rounding of samples of norm 1 over eight steps; a wrong pick moves a sample by far more."""


@dataclass(frozen=True)
class Check:
    """What a backend did with the tiny problem of an operation."""

    error: float
    """Largest absolute difference from the float64 reference."""
    tolerance: float
    speed: float
    unit: str

    @property
    def passed(self) -> bool:
        """Whether the error is within tolerance; NaN is not."""
        return self.error <= self.tolerance


def memorise(backend: str) -> Check:
    """Twenty updates of 32 models of odd shape; the error is that of the weights, which start below 0.5."""
    weights, tables = _tiny_models()
    device = device_for(backend)
    here = Fields(*(part.to(device) for part in weights))
    with one_thread():
        exact = _train(Fields(*(part.double() for part in weights)), tables, STEPS, "reference")
        found = _train(here, tables, STEPS, backend)
        steps, seconds = _timed(lambda steps: _train(here, tables, steps, backend), STEPS)
    differences = [(a.cpu().double() - b).abs().max() for a, b in zip(found.weights, exact.weights, strict=True)]
    error = float(torch.stack(differences).max())
    return Check(error, TOLERANCE, MODELS * steps / seconds, f"model-steps/s on {_where(device)}")


def _tiny_models() -> tuple[Fields, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = ((ROWS, D_MODEL), (COLS, D_MODEL), (D_HIDDEN, D_MODEL), (D_HIDDEN,), (D_HIDDEN,), ())
    weights = Fields(*(torch.rand(MODELS, *shape, generator=generator) - 0.5 for shape in shapes))
    return weights, torch.randint(2, (MODELS, ROWS, COLS), generator=generator, dtype=torch.uint8)


def _train(weights: Fields, tables: torch.Tensor, steps: int, backend: str) -> Outcome:
    return memorise_op.memorise(
        weights,
        tables,
        steps=steps,
        lr=1e-2,
        betas=(0.9, 0.999),
        eps=1e-8,
        weight_decay=0.0,
        readout_lr_scale=1.0,
        schedule="constant",
        warmup=0,
        schedule_steps=None,
        train=("W", "c", "r", "c_out"),
        stop_when_solved=False,
        margin=0.0,
        log_every=None,
        state=None,
        backend=backend,
        threads=1,
        progress=False,
    )


def matching_pursuit(backend: str) -> Check:
    """Eight picks of 64 samples by every method; the error is that of the decoded samples, which have norm 1."""
    generator = torch.Generator().manual_seed(0)
    device = device_for(backend)
    x, atoms = (normalize(torch.randn(rows, WIDTH, generator=generator)).to(device) for rows in (SAMPLES, ATOMS))
    with one_thread():
        error = max(_decoding_error(x, atoms, method, backend) for method in METHODS)
        calls, seconds = _timed(lambda calls: [_pursue(x, atoms, "mp", backend) for _ in range(calls)], 1)
    return Check(error, CODE_TOLERANCE, SAMPLES * calls / seconds, f"samples/s on {_where(device)}")


def _where(device: torch.device) -> str:
    return "one thread" if device.type == "cpu" else torch.cuda.get_device_name(device)


def _decoding_error(x: torch.Tensor, atoms: torch.Tensor, method: str, backend: str) -> float:
    exact = _pursue(x.double(), atoms.double(), method, "reference").decode(atoms.double())
    return float((_pursue(x, atoms, method, backend).decode(atoms) - exact).abs().max())


def _pursue(x: torch.Tensor, atoms: torch.Tensor, method: str, backend: str) -> SparseCode:
    return matching_pursuit_op.matching_pursuit(
        x, atoms, PICKS, method=method, backend=backend, threads=1, progress=False
    )


def _timed(run: Callable[[int], Any], work: int) -> tuple[int, float]:
    """The work, doubled until it takes SECONDS, and the time it took."""
    while True:
        start = time.perf_counter()
        run(work)
        seconds = time.perf_counter() - start
        if seconds >= SECONDS:
            return work, seconds
        work *= 2


CHECKS: dict[str, Callable[[str], Check]] = {"memorise": memorise, "matching_pursuit": matching_pursuit}
"""The check of each operation in `interpkern.ops.BACKENDS`, by name of the backend."""
