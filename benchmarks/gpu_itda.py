"""ITDA on a GPU: 16,384 atoms from 1.2 million activations as wide as GPT-2's, in seconds of the fit alone."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import torch

from benchmarks.gpu_roofs import Roofs
from interpkern.itda import ITDA
from interpkern.itda.sized import FALL, GROWTH
from interpkern.ops.matching_pursuit_backends import BACKENDS

ROWS, WIDTH, ATOMS, PICKS = 1_200_000, 768, 16_384, 32
METHODS = ("omp", "mp")
CHECKED = 4096
"""Rows on which the dictionary of each backend is compared with the reference's."""
PILOT = 64
"""The threshold is looked for on the rows divided by this."""
PILOTS = 3
NEEDED = 60.0
"""Seconds that must be left for a fit to be begun."""
COLUMNS = ("backend", "method", "rows", "width", "atoms", "threshold", "seconds", "rows_per_second",
           "same_as_reference", "encoded_per_second", "note")  # fmt: skip


def timings(roofs: Roofs, left: Callable[[], float]) -> list[dict[str, Any]]:
    """One row a backend and method, until the time is over."""
    rows: list[dict[str, Any]] = []
    x: torch.Tensor | None = None
    for backend, method in cases():
        if left() < NEEDED:
            rows.append(row(backend, method) | {"note": "left out: no time left"})
            continue
        reason = next(known.why_not for known in BACKENDS if known.name == backend)(None)
        if reason is not None:
            rows.append(row(backend, method) | {"note": reason})
            continue
        x = activations(ROWS, WIDTH, torch.device("cuda")) if x is None else x
        rows.append(timed(backend, method, x))
        print(rows[-1], flush=True)
    return rows


def cases() -> Iterator[tuple[str, str]]:
    """What is timed: the default method and the paper's, on each backend for a GPU."""
    yield from ((backend, method) for method in METHODS for backend in ("cuda", "triton"))


def row(backend: str, method: str) -> dict[str, Any]:
    """What every row begins with."""
    return {"backend": backend, "method": method, "width": WIDTH}


def timed(backend: str, method: str, x: torch.Tensor) -> dict[str, Any]:
    """A row; a fit that fails says so in its note, and one whose dictionary is another's is not timed."""
    try:
        same = same_as_reference(backend, method, x[:CHECKED])
        if not same:
            return row(backend, method) | {"same_as_reference": "no", "note": "another dictionary than the reference's"}
        return row(backend, method) | {"same_as_reference": "yes"} | measured(backend, method, x)
    except RuntimeError as error:
        return row(backend, method) | {"note": f"{type(error).__name__}: {str(error).splitlines()[0][:120]}"}


def same_as_reference(backend: str, method: str, x: torch.Tensor) -> bool:
    """Whether a small dictionary has the atoms that the reference gives it, in their order."""
    ours, exact = (fitted(one, method, x, threshold=0.3, max_atoms=256) for one in (backend, "reference"))
    return torch.equal(ours.labels, exact.labels)


def measured(backend: str, method: str, x: torch.Tensor) -> dict[str, Any]:
    """The seconds of a fit at a threshold that gives about ATOMS atoms, and of encoding 65,536 rows with it."""
    threshold = threshold_for(lambda value: fitted(backend, method, x[: len(x) // PILOT], threshold=value), len(x))
    seconds, itda = seconds_of(lambda: fitted(backend, method, x, threshold=threshold, max_atoms=ATOMS))
    some = x[: 1 << 16]
    encoding, _ = seconds_of(lambda: itda.encode(some, progress=False))
    seen = itda.report.rows_seen
    note = f"full after {seen:,} rows" if itda.report.max_atoms_reached else ""
    return {
        "rows": seen,
        "atoms": len(itda),
        "threshold": threshold,
        "seconds": seconds,
        "rows_per_second": seen / seconds,
        "encoded_per_second": len(some) / encoding,
        "note": note,
    }


def threshold_for(build: Callable[[float], ITDA], rows: int) -> float:
    """One at which ATOMS atoms are to be expected of all rows, from dictionaries of a few."""
    threshold, wanted = 0.15, ATOMS * PILOT**-GROWTH
    for _ in range(PILOTS):
        found = len(build(threshold))
        threshold = min(0.9, threshold * (found / wanted) ** (1 / FALL))
    return threshold


def fitted(backend: str, method: str, x: torch.Tensor, *, threshold: float, max_atoms: int | None = None) -> ITDA:
    """A fit by the device of x."""
    itda = ITDA(k=PICKS, method=method, threshold=threshold, max_atoms=max_atoms, backend=backend)
    return itda.fit(x, progress=False)


def seconds_of(work: Callable[[], Any]) -> tuple[float, Any]:
    """Wall time of one run, to the end of what it has enqueued, and what it gives."""
    wait()
    begin = time.perf_counter()
    result = work()
    wait()
    return time.perf_counter() - begin, result


def wait() -> None:
    """For the GPU, where there is one."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def activations(rows: int, width: int, device: torch.device) -> torch.Tensor:
    """(rows, width) float32 as a model has them: a shared mean, a power-law spectrum of directions, norms that vary."""
    generator = torch.Generator(device).manual_seed(0)

    def normal(*size: int) -> torch.Tensor:
        return torch.randn(*size, generator=generator, device=device)

    rank = max(1, width // 2)
    directions = torch.nn.functional.normalize(normal(rank, width), dim=1)
    spectrum = torch.arange(1, rank + 1, device=device) ** -0.7
    mean = torch.nn.functional.normalize(normal(1, width), dim=1)
    parts = []
    for size in torch.arange(rows).split(1 << 16):
        strength = normal(len(size), rank) * spectrum
        noise = normal(len(size), width) * (0.3 / width**0.5)
        parts.append((mean + strength @ directions + noise) * normal(len(size), 1).mul(0.3).exp())
    return torch.cat(parts)
