"""How the Triton kernels of `matching_pursuit` are called: their tensors, their tiles, a chunk of samples at a time."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch

from interpkern import gpu
from interpkern.ops.gram import MAX_GRAM_ATOMS, gram_pays, prepared_on_gpu
from interpkern.ops.gram_stores import ROOM
from interpkern.ops.sparse_code import SparseCode
from interpkern.progress import Progress
from interpkern.reference.matching_pursuit import Picks, Prepared, Problem

MOST_ATOMS, MOST_WIDTH = 1 << 20, 4096
MOST_SLOTS = 128
"""Distinct picks of omp and of a refit."""
ROWS, ATOMS, DEPTH = 64, 128, 16
"""Sides of a tile of products."""
CORRELATIONS, STATES, MOST_ROWS = 1 << 26, 1 << 24, 8192
"""Numbers that a chunk of samples may take as its products with all atoms, and as its least squares; its most rows."""
PROGRAMS = 2
"""Programs for each multiprocessor; each pursues one sample after the other."""
TILE = 2048
"""Correlations that a program has in registers at a time."""
COMPILER = {"num_warps": 8, "enable_fp_fusion": False}
"""Where the compiler chooses which products it adds without rounding them, it may choose otherwise in another form."""
REGISTERS, MOST_REGISTERS, NARROW = 128, 255, 1024
"""Of a thread: so few that PROGRAMS fit, where D is at most NARROW and there are no least squares; else as many as it
takes. Without a word about them, the assembler of sm_90 stops at half as many as there may be, and spills."""
PRODUCT_ERROR, SUM_ERROR = 2.0**-17, 2.0**-24
"""Of a product of a sample with an atom, relative to the sample: half of it for what three products in TF32 leave out
of one in float32, half for sums of DEPTH numbers by tensor cores; and for each sum of these."""


class Chunk(NamedTuple):
    """Samples that are worked on together, and what comes of them."""

    x: torch.Tensor
    """(n, padded D) float32, divided by powers of two."""
    units: torch.Tensor
    """(n,) float64, those powers."""
    picks: Picks
    """Views of the outputs."""


def why_not(problem: Problem | None) -> str | None:
    """Why the Triton kernels cannot take a problem."""
    if problem is None:
        return gpu.why_not_triton()
    atoms, width = problem.atoms.shape
    if problem.atoms.dtype != torch.float32:
        return f"computes in float32, got {problem.x.dtype} samples; the reference takes float64"
    if width > MOST_WIDTH:
        return f"keeps a residual in registers: D may be {MOST_WIDTH:,} at most, and is {width:,}"
    if atoms > MOST_ATOMS:
        return f"keeps the best of each {ATOMS} atoms in registers: M may be {MOST_ATOMS:,} at most, and is {atoms:,}"
    if problem.method != "mp" and min(problem.k, atoms) > MOST_SLOTS:
        return f"does least squares on at most {MOST_SLOTS} atoms, and k is {problem.k:,}"
    return gpu.why_not_triton(problem.x)


def run(problem: Problem, progress: Progress | None) -> Picks:
    """Pursue on torch's current stream of the samples' device; the host waits for each chunk."""
    size, device = (len(problem.x), problem.k), problem.x.device
    prepared = prepared_on_gpu(problem, products=gram_pays(problem))
    picks = Picks(
        torch.empty(size, dtype=torch.int32, device=device),
        torch.empty(size, device=device),
        torch.empty(size[:1], device=device),
    )
    done = 0
    for chunk in chunks(problem, picks, prepared):
        with gpu.on(device):
            _pursue(problem, prepared, chunk)
        gpu.wait(device)
        done += len(chunk.x)
        if progress:
            progress(done, len(problem.x))
    return picks


def replay(problem: Problem, code: SparseCode, known: int) -> torch.Tensor:
    """Tell which codes over the first `known` atoms the others may change, (N,) bool."""
    from interpkern.kernels.matching_pursuit import path_changes

    device, atoms = problem.x.device, prepared_on_gpu(problem, products=False).rows
    paths = code.indices.to(device).contiguous()
    changed = torch.empty(len(paths), dtype=torch.uint8, device=device)
    for start in range(0, len(paths), MOST_ROWS):
        window = slice(start, start + MOST_ROWS)
        x, _ = scaled(problem.x[window], atoms.shape[1])
        programs = min(len(x), PROGRAMS * gpu.multiprocessors(device))
        matrices, vectors, _ = _own(problem, programs, 0, device)
        sizes = (len(x), known, len(problem.atoms), atoms.shape[1], problem.k, slots(problem))
        with gpu.on(device):
            path_changes[(programs,)](
                x, atoms, paths[window], changed[window], matrices, vectors, limits(problem), *sizes,
                ORTHOGONAL=problem.method == "omp", IN_ORDER=problem.method != "mp_refit",
                NONNEGATIVE=problem.nonnegative, **_sides(problem, atoms.shape[1]),
                **compiler_options(atoms.shape[1], least_squares=problem.method == "omp"),
            )  # fmt: skip
        gpu.wait(device)
    return changed.bool()


def _pursue(problem: Problem, prepared: Prepared, chunk: Chunk) -> None:
    (_pursue_on_gram if on_gram(problem, prepared) else _pursue_residuals)(problem, prepared, chunk)
    if problem.method == "mp_refit":
        _refit(problem, prepared, chunk, chunk.picks.indices.clone())


def on_gram(problem: Problem, prepared: Prepared) -> bool:
    """Whether the Gram form is taken."""
    return prepared.products is not None and len(problem.atoms) <= MAX_GRAM_ATOMS


def chunks(problem: Problem, picks: Picks, prepared: Prepared) -> Iterator[Chunk]:
    """The samples in chunks, of which no bit depends."""
    atoms, width = len(problem.atoms), prepared.rows.shape[1]
    correlations = CORRELATIONS // (atoms if on_gram(problem, prepared) else 4 * -(-atoms // ATOMS))
    states = MOST_ROWS if on_gram(problem, prepared) else STATES // (2 * slots(problem) ** 2 + width)
    rows = max(1, min(MOST_ROWS, correlations, states))
    rows -= rows % ROWS if rows > ROWS else 0  # every chunk begins at 16 bytes, and needs no kernel of its own
    for start in range(0, len(problem.x), rows):
        window = slice(start, start + rows)
        yield Chunk(*scaled(problem.x[window], width), Picks(*(part[window] for part in picks)))


def scaled(x: torch.Tensor, width: int) -> tuple[torch.Tensor, torch.Tensor]:
    """(n, width) float32 samples without their powers of two, and these as (n,) float64: no bit is lost."""
    exact = x.double()
    largest = exact.abs().amax(1)
    units = torch.where(largest > 0, largest / torch.frexp(largest).mantissa, 1.0)  # exact, unlike a GPU's powers
    return torch.nn.functional.pad((exact / units[:, None]).float(), (0, width - x.shape[1])), units


def slots(problem: Problem) -> int:
    """Atoms that a sample's least squares have room for, whatever M, since each size is compiled for."""
    return 1 if problem.method == "mp" else min(problem.k, MOST_SLOTS)


def power(size: int, least: int = 16) -> int:
    """The power of two from `size` on."""
    return max(least, 1 << (size - 1).bit_length())


def limits(problem: Problem) -> torch.Tensor:
    """(3,) float64, relative to a sample: the residual that is enough, rounding level, the error of a product."""
    sums = problem.x.shape[1] / DEPTH + 1
    error = PRODUCT_ERROR + SUM_ERROR * sums if problem.precision == "exact" else 0.0
    numbers = [max(problem.tol, problem.level), problem.level, error]
    return torch.tensor(numbers, dtype=torch.float64, device=problem.x.device)


def _pursue_on_gram(problem: Problem, prepared: Prepared, chunk: Chunk) -> None:
    from interpkern.kernels import matching_pursuit as kernels
    from interpkern.kernels import matching_pursuit_products as products

    assert prepared.products is not None
    (rows, width), count = chunk.x.shape, len(problem.atoms)
    side = -(-count // ROOM) * ROOM
    correlations = torch.empty(rows, side, device=chunk.x.device)
    products.products[_tiles(rows, side)](
        chunk.x, prepared.rows, correlations, rows, count, width, side, 1.0, **tile_options(problem)
    )
    programs = min(rows, PROGRAMS * gpu.multiprocessors(chunk.x.device))
    sizes = (rows, count, width, problem.k, slots(problem), side, prepared.products.stride(0))
    kernels.pursue_on_gram[(programs,)](
        chunk.x, chunk.units, correlations, prepared.rows, prepared.products, *chunk.picks,
        *_own(problem, programs, width, chunk.x.device), limits(problem), *sizes,
        **_kind(problem), TILE=TILE, **_sides(problem, width),
        **compiler_options(width, least_squares=problem.method == "omp"),
    )  # fmt: skip


def _pursue_residuals(problem: Problem, prepared: Prepared, chunk: Chunk) -> None:
    """A product of all residuals with all atoms a step, until no sample goes on."""
    from interpkern.kernels import matching_pursuit as kernels
    from interpkern.kernels import matching_pursuit_products as products

    (rows, width), count = chunk.x.shape, len(problem.atoms)
    blocks, device = -(-count // ATOMS), chunk.x.device
    tops, seconds = torch.empty(2, rows, blocks, device=device)
    places = torch.empty(rows, blocks, dtype=torch.int32, device=device)
    residuals, rounded = chunk.x.double(), chunk.x.clone()
    made = torch.zeros(rows, dtype=torch.int32, device=device)
    matrices, vectors, _ = _own(problem, rows, 0, device)
    least = limits(problem)

    picks = (prepared.rows, chunk.picks.indices, chunk.picks.coefficients)
    options = compiler_options(width, least_squares=problem.method == "omp")
    for step in range(problem.k):
        products.peaks[_tiles(rows, count)](
            rounded, prepared.rows, tops, places, seconds, rows, count, width, blocks, 1.0,
            NONNEGATIVE=problem.nonnegative, **tile_options(problem),
        )  # fmt: skip
        kernels.pick_from_peaks[(rows,)](
            chunk.x, chunk.units, residuals, rounded, made, tops, places, seconds, *picks, matrices, vectors, least,
            step, count, width, blocks, problem.k, slots(problem),
            **_kind(problem), BLOCKS=power(blocks), ATOMS=ATOMS, **_sides(problem, width), **options,
        )  # fmt: skip
        if not bool((made > step).any()):
            break
    kernels.finish_codes[(rows,)](
        chunk.x, chunk.units, residuals, made, *picks, chunk.picks.residual_norm, vectors,
        width, problem.k, slots(problem), ORTHOGONAL=problem.method == "omp", **_sides(problem, width), **options,
    )  # fmt: skip


def _refit(problem: Problem, prepared: Prepared, chunk: Chunk, path: torch.Tensor) -> None:
    from interpkern.kernels import matching_pursuit as kernels

    rows, width = chunk.x.shape
    programs = min(rows, PROGRAMS * gpu.multiprocessors(chunk.x.device))
    matrices, vectors, _ = _own(problem, programs, 0, chunk.x.device)
    kernels.refit[(programs,)](
        chunk.x, chunk.units, prepared.rows, path, *chunk.picks, matrices, vectors, limits(problem),
        rows, width, problem.k, slots(problem),
        NONNEGATIVE=problem.nonnegative, **_sides(problem, width), **compiler_options(width, least_squares=True),
    )  # fmt: skip


def _tiles(rows: int, atoms: int) -> tuple[int, int]:
    return -(-rows // ROWS), -(-atoms // ATOMS)


def tile_options(problem: Problem) -> dict[str, Any]:
    """How the products are compiled: in exact precision three products in TF32 make one in float32."""
    precision = "tf32x3" if problem.precision == "exact" else "tf32"
    sides = {"ROWS": ROWS, "ATOMS": ATOMS, "DEPTH": DEPTH}
    return {"PRECISION": precision, **sides, "num_warps": 8, "num_stages": 3, "enable_fp_fusion": False}


def compiler_options(width: int, *, least_squares: bool) -> dict[str, int]:
    """How kernels of one sample a program are compiled."""
    return {**COMPILER, "maxnreg": REGISTERS if width <= NARROW and not least_squares else MOST_REGISTERS}


def _kind(problem: Problem) -> dict[str, bool]:
    orthogonal, exact = problem.method == "omp", problem.precision == "exact"
    return {"ORTHOGONAL": orthogonal, "NONNEGATIVE": problem.nonnegative, "EXACT": exact}


def _sides(problem: Problem, width: int) -> dict[str, int]:
    return {"WIDTH": power(width), "K": power(slots(problem))}


def _own(problem: Problem, owners: int, width: int, device: torch.device) -> tuple[torch.Tensor, ...]:
    """Memory of each program or sample: two matrices and six vectors of its least squares, and a residual."""
    side = slots(problem)
    shapes = ((owners, 2, side, side), (owners, 6, side), (owners, max(width, 1)))
    return tuple(torch.empty(shape, dtype=torch.float64, device=device) for shape in shapes)
