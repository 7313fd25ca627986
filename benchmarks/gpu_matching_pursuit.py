"""`matching_pursuit` on a GPU: whole public calls in samples/s, against roofs and the strongest forms in PyTorch."""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch.nn.functional import normalize

from benchmarks.gpu_roofs import Roofs, seconds_of
from benchmarks.kernel_resources import ARCHITECTURES, pursuit_bytes, pursuit_flops, pursuit_geometry
from benchmarks.peers import matching_pursuit_packages, matching_pursuit_torch
from benchmarks.peers.matching_pursuit import Dictionary, PursuitPeer
from interpkern import Gram, SparseCode, matching_pursuit

DEVICE = "cuda"
K = 40
SECONDS = 0.25
"""What a timed call should take."""
FEW, MOST = 2048, 1 << 20
"""Samples of a first call, which tells how many fill SECONDS, and of any call."""
DRAWN = 8192
"""Samples that are drawn; larger batches repeat them."""
BATCHES = (1024, 4096, 16_384)
"""Of a baseline; the fastest counts."""
NUMBERS = 1 << 30
"""Correlations of a baseline's batch, at most."""
CHECKED = 64
FVU = 1e-3
COLUMNS = ("form", "method", "precision", "M", "D", "gram", "samples", "seconds", "samples_per_second", "share_of_copy",
           "share_of_half", "peak_mb", "ours_is_times_as_fast", "note")  # fmt: skip


@dataclass(frozen=True)
class Case:
    """One thing that is timed."""

    form: str
    M: int
    D: int
    method: str = "mp"
    precision: str = "exact"
    gram: bool = True


def cases() -> Iterator[Case]:
    """Ours: the main size first, then the others, then methods, precision and form."""
    yield from (Case(form, 16_384, 2304) for form in ("cuda", "triton"))
    yield Case("cuda", 16_384, 2304, precision="fast")
    yield from (Case("cuda", 16_384, 2304, method=method) for method in ("mp_refit", "omp"))
    yield from (Case("cuda", 16_384, D) for D in (768, 4096))
    yield Case("cuda", 16_384, 768, method="omp", gram=False)
    yield from (Case("cuda", 65_536, D) for D in (768, 2304, 4096))
    yield from (Case("cuda", 200_000, D, gram=False) for D in (768, 2304, 4096))
    yield Case("cuda", 200_000, 4096, precision="fast", gram=False)
    yield Case("triton", 200_000, 2304, gram=False)


PEERS: tuple[tuple[PursuitPeer, int, int], ...] = (
    (matching_pursuit_torch.compiled_gram, 16_384, 2304),
    (matching_pursuit_torch.gram, 16_384, 2304),
    (matching_pursuit_torch.loop, 16_384, 2304),
    (matching_pursuit_torch.compiled_loop, 16_384, 2304),
    (matching_pursuit_packages.saelens, 16_384, 2304),
    (matching_pursuit_torch.compiled_gram, 65_536, 768),
    (matching_pursuit_torch.compiled_loop, 200_000, 2304),
)
"""Baselines, and the sizes (M, D) at which they are timed."""


def timings(roofs: Roofs, left: Callable[[], float]) -> list[dict[str, Any]]:
    """One row a form and size, until the time is over."""
    rows: list[dict[str, Any]] = []
    for case in cases():
        rows.append(timed(lambda case=case: ours(case, roofs), case) if left() > 20 else late(case))
    for peer, M, D in PEERS:
        case = Case(peer.name, M, D, gram="Gram" in peer.name)
        enough = left() > 45
        rows.append(timed(lambda p=peer, c=case: theirs(p, c, roofs, rows), case) if enough else late(case))
    return rows


def late(case: Case) -> dict[str, Any]:
    """A row for what the time did not allow."""
    return asdict(case) | {"note": "left out: no time left"}


def timed(measure: Callable[[], dict[str, Any]], case: Case) -> dict[str, Any]:
    """A row; a form that fails, say for want of memory or of a package, says so in its note."""
    try:
        found = asdict(case) | measure()
    except (RuntimeError, ImportError) as error:
        found = asdict(case) | {"note": f"{type(error).__name__}: {str(error).splitlines()[0][:120]}"}
    print(found, flush=True)
    if DEVICE == "cuda":
        torch.cuda.empty_cache()
    return found


def drawn(samples: int, M: int, D: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Samples (n, D) and atoms (M, D) of one power-law spectrum, made where they are used."""
    random = torch.Generator(DEVICE).manual_seed(0)
    directions = normalize(torch.randn(D, D, generator=random, device=DEVICE), dim=1)
    spectrum = torch.arange(1, D + 1, device=DEVICE) ** -0.7

    def rows(count: int) -> torch.Tensor:
        return torch.randn(count, D, generator=random, device=DEVICE) * spectrum @ directions

    return rows(samples), normalize(rows(M), dim=1)


def ours(case: Case, roofs: Roofs) -> dict[str, Any]:
    """Our public call with as many samples as fill SECONDS, the Gram made before."""
    few, atoms = drawn(DRAWN, case.M, case.D)
    gram = Gram(atoms, products=case.gram)
    settings = {"method": case.method, "precision": case.precision, "backend": case.form, "progress": False}

    def call(x: torch.Tensor) -> SparseCode:
        return matching_pursuit(x, gram.atoms, K, gram=gram, **settings)

    first = seconds_of(lambda: call(few[:FEW]), 1, 1)
    samples = int(max(FEW, min(MOST, FEW * SECONDS / first)))
    x = few[torch.arange(samples, device=DEVICE) % DRAWN]
    before = memory()
    seconds = seconds_of(lambda: call(x), 3, 1)
    return rates(case, samples, seconds, roofs) | {"peak_mb": (peak() - before) / 1e6}


def theirs(peer: PursuitPeer, case: Case, roofs: Roofs, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """A baseline at its fastest batch, once it explains as much as we do."""
    few, atoms = drawn(DRAWN, case.M, case.D)
    gram = Gram(atoms, products=case.gram)
    dictionary = Dictionary(atoms, gram.prepared.products[: case.M, : case.M] if case.gram else atoms[:0])
    differs = disagreement(peer, dictionary, few[:CHECKED], K)
    if not differs <= FVU:
        return {"note": f"explains {differs:.1e} of the squares less or more than we do"}
    best: dict[str, Any] = {}
    for batch in BATCHES:
        if batch * case.M > NUMBERS:
            continue
        x = few[torch.arange(batch, device=DEVICE) % DRAWN]
        before = memory()
        encode = peer.prepare(dictionary, K, batch)
        found = rates(case, batch, seconds_of(lambda e=encode, x=x: e(x), 3, 1), roofs)
        found["peak_mb"] = (peak() - before) / 1e6
        if found["samples_per_second"] > best.get("samples_per_second", 0):
            best = found
    same = [row for row in rows if (row["form"], row["M"], row["D"]) == ("cuda", case.M, case.D)]
    rate = next((row["samples_per_second"] for row in same if "samples_per_second" in row), None)
    return best | ({"ours_is_times_as_fast": rate / best["samples_per_second"]} if rate and best else {})


def disagreement(peer: PursuitPeer, dictionary: Dictionary, x: torch.Tensor, k: int) -> float:
    """By how much the share of the squares that a baseline leaves differs from ours, as a share of ours."""
    code = matching_pursuit(x, dictionary.atoms, k, method=peer.method, progress=False)
    left = (x - code.decode(dictionary.atoms)).double().square().sum()
    theirs = peer.dense(peer.prepare(dictionary, k, len(x))(x), len(dictionary.atoms))
    other = (x - theirs.to(x) @ dictionary.atoms).double().square().sum()
    return float(abs(other / left - 1))


def rates(case: Case, samples: int, seconds: float, roofs: Roofs) -> dict[str, float | int]:
    """Speed, and shares of what the bytes and the operations that we predict would take by each roof alone."""
    per_second, shape = samples / seconds, (case.M, case.D, K)
    flops = pursuit_flops(shape, products=case.gram) / (1 if case.precision == "exact" else 3)
    on_chip = pursuit_geometry(shape, case.method, ARCHITECTURES["sm_90"], products=case.gram)["on_chip"]
    moved = pursuit_bytes(case.method, shape, products=case.gram, on_chip=on_chip)
    return {
        "samples": samples,
        "seconds": seconds,
        "samples_per_second": per_second,
        "share_of_copy": per_second * moved / (roofs.copy_gbps * 1e9),
        "share_of_half": per_second * flops / (roofs.half_tflops * 1e12),
    }


def memory() -> int:
    """Bytes in use, from where `peak` counts."""
    torch.cuda.reset_peak_memory_stats()
    return torch.cuda.memory_allocated()


def peak() -> int:
    """The most bytes in use since."""
    return torch.cuda.max_memory_allocated()
