"""Registers, stack, shared memory and occupancy of every CUDA kernel, as the assembler left them; needs no GPU.

python benchmarks/kernel_resources.py --out benchmarks/results/kernel_resources.json      and a table beside it
"""

import argparse
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.paired import command, machine
from interpkern import native
from interpkern.reference.memorise import Fields

FIELDS = r"REG:(\d+) STACK:(\d+) SHARED:(\d+) LOCAL:(\d+)"


@dataclass(frozen=True)
class Architecture:
    """What one multiprocessor has for its blocks (CUDA C++ Programming Guide, technical specifications)."""

    name: str
    shared_bytes: int
    shared_bytes_per_block: int
    threads: int
    blocks: int
    registers: int = 65_536
    reserved_bytes_per_block: int = 1024


ARCHITECTURES = {
    known.name: known
    for known in (
        Architecture("sm_80", 167_936, 166_912, 2048, 32),
        Architecture("sm_90", 233_472, 232_448, 2048, 32),
        Architecture("sm_120", 102_400, 101_376, 1536, 24),
    )
}
MEMORISE_SHAPES = [(16, 8, 8), (16, 16, 16), (32, 16, 32), (32, 20, 20), (48, 32, 32), (64, 48, 48), (128, 128, 128)]
"""(m, d_model, d_hidden)"""
PURSUITS = [
    ("mp", (4096, 384, 32), True),
    ("mp", (16_384, 2304, 40), True),
    ("mp_refit", (16_384, 2304, 40), True),
    ("omp", (16_384, 2304, 40), True),
    ("mp", (65_536, 768, 40), True),
    ("mp", (200_000, 4096, 40), False),
    ("omp", (200_000, 4096, 40), False),
]
"""(method, (M, D, k), whether there is a Gram)"""
SCREENS = ("correlations", "last products", "panels")
"""In the order of the kernels' template argument."""
PURSUIT_THREADS = 256


@dataclass(frozen=True)
class Kernel:
    """One kernel for one architecture."""

    name: str
    arch: str
    registers: int
    stack: int
    """Bytes of a thread's frame in local memory: arrays and spilled registers."""
    local: int


def cuobjdump() -> str | None:
    """CUDA's tool that reads compiled kernels: on PATH, beside nvcc, or the one that Triton brings."""
    triton = find_spec("triton")
    folders = [Path("/usr/local/cuda/bin")]
    if triton and triton.origin:
        folders.append(Path(triton.origin).parent / "backends/nvidia/bin")
    paths = (str(folder / "cuobjdump") for folder in folders)
    return shutil.which("cuobjdump") or next(filter(None, map(shutil.which, paths)), None)


def resource_usage(binary: Path) -> list[Kernel]:
    """Every kernel in a library or a cubin."""
    tool = cuobjdump()
    if tool is None:
        raise FileNotFoundError("cuobjdump: expected it on PATH or in Triton's package")
    dump = [tool, "--dump-resource-usage", str(binary)]
    text = subprocess.run(dump, capture_output=True, text=True, check=True).stdout
    kernels, arch = [], ""
    for line in text.splitlines():
        if found := re.search(r"arch = (\S+)", line):
            arch = found[1]
        if found := re.search(r"Function (\S+):", line):
            name = found[1]
        if found := re.search(FIELDS, line):
            registers, stack, _, local = map(int, found.groups())
            kernels.append(Kernel(plain_name(name), arch, registers, stack, local))
    return kernels


def plain_name(name: str) -> str:
    """A kernel's name and template arguments without its types, by c++filt where that is there."""
    if shutil.which("c++filt"):
        name = subprocess.run(["c++filt", name], capture_output=True, text=True, check=True).stdout.strip()
    short = re.sub(r"\(anonymous namespace\)::|interpkern::|^void |\((int|bool|interpkern::Screen|Screen)\)", "", name)
    return re.sub(r"\(.*\)$", "", short)


def blocks_per_multiprocessor(arch: Architecture, registers: int, threads: int, shared_bytes: int) -> int:
    """Blocks that one multiprocessor holds, by registers (given to each warp in units of 256), memory and threads."""
    by_registers = arch.registers // ((registers + 7) // 8 * 256 * (threads // 32))
    by_memory = arch.shared_bytes // (shared_bytes + arch.reserved_bytes_per_block)
    return min(by_registers, by_memory, arch.threads // threads, arch.blocks)


def memorise_rows(kernels: list[Kernel]) -> list[dict[str, Any]]:
    """Geometry and occupancy of `memorise` at some shapes."""
    rows = []
    for arch in ARCHITECTURES.values():
        for m, width, hidden in MEMORISE_SHAPES:
            geometry = memorise_geometry(m, width, hidden, arch)
            threads, memory = geometry["threads"], geometry["shared_bytes"]
            name = memorise_kernel(geometry)
            known = [kernel for kernel in kernels if kernel.name == name and kernel.arch == arch.name]
            if not known:
                continue
            blocks = blocks_per_multiprocessor(arch, known[0].registers, threads, memory)
            warps = blocks * threads // 32
            shape = {"arch": arch.name, "shape": [m, width, hidden], "kernel": name}
            rows.append(
                {
                    **shape,
                    **geometry,
                    "blocks_per_multiprocessor": blocks,
                    "warps_per_multiprocessor": warps,
                    "issue_cycles": issue_cycles(m, width, hidden),
                }
            )
    return rows


def pursuit_rows(kernels: list[Kernel]) -> list[dict[str, Any]]:
    """Form, memory, occupancy and traffic of `matching_pursuit` at some sizes."""
    rows = []
    for arch in ARCHITECTURES.values():
        for method, shape, products in PURSUITS:
            geometry = pursuit_geometry(shape, method, arch, products=products)
            name = pursuit_kernel(geometry["screen"], method)
            known = [kernel for kernel in kernels if kernel.name == name and kernel.arch == arch.name]
            if not known:
                continue
            memory = geometry["shared_bytes"]
            blocks = blocks_per_multiprocessor(arch, known[0].registers, PURSUIT_THREADS, memory)
            about = {"arch": arch.name, "method": method, "shape": list(shape), "kernel": name}
            moved = pursuit_bytes(method, shape, products=products, on_chip=geometry["on_chip"])
            work = {"mb_a_sample": round(moved / 1e6, 2)}
            work["gflop_a_sample"] = round(pursuit_flops(shape, products=products) / 1e9, 3)
            rows.append({**about, **geometry, "blocks_per_multiprocessor": blocks, **work})
    return rows


def pursuit_geometry(
    shape: Sequence[int], method: str, arch: Architecture, *, products: bool | None = None
) -> dict[str, Any]:
    """Form, memory and slots for a million signed samples; whether there is a Gram is looked up unless it is said."""
    if products is None:
        products = next(kept for name, known, kept in PURSUITS if name == method and list(known) == list(shape))
    M, D, k = shape
    sizes = {"samples": 1 << 20, "width": D, "atoms": M, "k": k}
    settings = {"method": method, "nonnegative": False, "products": products}
    limit = arch.shared_bytes_per_block
    return native.load("_cpu")._matching_pursuit_geometry(**sizes, **settings, shared_bytes_per_block=limit)


def pursuit_kernel(screen: str, method: str) -> str:
    """The instance that runs a geometry, as matching_pursuit_cuda.cu chooses it."""
    return f"pursue_samples<{SCREENS.index(screen)}, {'false' if method == 'mp' else 'true'}>"


def pursuit_bytes(method: str, shape: Sequence[int], *, products: bool, on_chip: int) -> int:
    """Bytes that the picks of a sample read and write beyond the caches, if nothing is found in them: a prediction.

    A row of the Gram a pick and the correlations that are not on the chip, or for omp all of them and a row for each
    atom of the support; the picked atom, for omp also the support twice a pick, for a refit the support once a pick and
    once more; first products once written and once read, without a Gram the residual and the panels' peaks for every
    pick.
    """
    M, D, k = shape
    atoms = 4 * D * {"mp": k, "mp_refit": k + k * (k + 1) // 2 + k, "omp": k + k * (k + 1)}[method]
    if not products:
        return atoms + k * (2 * 4 * M // 32 + 2 * 4 * D)
    rows = k + k * (k - 1) // 2 if method == "omp" else k
    kept = 0 if method == "omp" else 8 * max(0, M - on_chip) * k
    return atoms + 4 * M * (rows + 2) + kept


def pursuit_flops(shape: Sequence[int], *, products: bool) -> int:
    """Operations of a sample's products with all atoms on tensor cores, three of float16 numbers for each."""
    M, D, k = shape
    return 3 * 2 * M * D * (1 if products else k)


def issue_cycles(m: int, width: int, hidden: int) -> int:
    """Cycles of a multiprocessor for one step of one model if its four schedulers never waited: a prediction.

    Instructions that count, for a 4 x 4 tile and four terms of its sums: 8 quads read (9 for logits) and 64 times what
    a term takes, which is one multiply-add, or a maximum and a multiply-add, or a comparison and an addition. About 26
    are for an error, 20 for a weight's Adam, 80 for a hidden unit's. A warp with an idle thread costs what a full one
    costs.
    """

    def warps(items: int) -> int:
        return -(-items // 32)

    tokens, units, widths = -(-m // 4), -(-hidden // 4), -(-width // 4)
    hidden_pass = warps(2 * tokens * units) * widths * (8 + 64)
    logits = warps(tokens * tokens) * (units * (9 + 2 * 64 + 16) + 16 * 26)
    sums = warps(2 * tokens * units) * tokens * (8 + 2 * 64)
    weights = warps(units * widths) * (2 * m * (2 + 16) + 16 * 20)
    return (hidden_pass + logits + sums + weights + warps(hidden + 1) * 80) // 4


def memorise_geometry(m: int, width: int, hidden: int, arch: Architecture) -> dict[str, int]:
    """Threads and bytes of a block when W, c, r and c_out are trained."""
    train = [name not in ("E1", "E2") for name in Fields._fields]
    sizes = {"rows": m, "columns": m, "width": width, "hidden": hidden}
    limit = arch.shared_bytes_per_block
    return native.load("_cpu")._memorise_geometry(**sizes, train=train, shared_bytes_per_block=limit)


def memorise_kernel(geometry: dict[str, int]) -> str:
    """The instance that runs a geometry, as memorise_cuda.cu chooses it."""
    if geometry["global_bytes"]:
        return "train_blocks<false, 512, 1>"
    threads, resident = next(bound for bound in ((128, 5), (192, 3), (512, 1)) if geometry["threads"] <= bound[0])
    return f"train_blocks<true, {threads}, {resident}>"


def markdown(result: dict[str, Any]) -> str:
    """The result as tables."""
    lines = ["# Resources of the CUDA kernels", "", f"`{' '.join(result['command'])}`, commit {result['commit']}.", ""]
    lines += _table(result["kernels"], ["name", "arch", "registers", "stack", "local"])
    lines += [
        "",
        "`memorise` by (m, d_model, d_hidden); bytes are a block's; issue_cycles is predicted, not measured.",
        "",
    ]
    lines += _table(result["memorise"], list(result["memorise"][0]))
    lines += [
        "",
        "`matching_pursuit` by (M, D, k), exact; bytes are a block's of 256 threads, but for workspace_bytes.",
        "mb_a_sample and gflop_a_sample are predicted, not measured.",
        "",
    ]
    return "\n".join([*lines, *_table(result["matching_pursuit"], list(result["matching_pursuit"][0])), ""])


def _table(rows: list[dict[str, Any]], columns: list[str]) -> list[str]:
    lines = [columns, ["---"] * len(columns), *([str(row[column]) for column in columns] for row in rows)]
    return [f"| {' | '.join(line)} |" for line in lines]


def main() -> None:
    """Read the module that is installed, print the tables, and write them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="JSON file to write; the tables go beside it")
    out = parser.parse_args().out
    module = native.load("_cuda")
    if isinstance(module, str):
        raise SystemExit(module)
    kernels = resource_usage(Path(module.__file__))
    result = {
        "command": command(),
        "commit": machine()["commit"],
        "compiler": module.compiler(),
        "kernels": [asdict(kernel) for kernel in kernels],
        "memorise": memorise_rows(kernels),
        "matching_pursuit": pursuit_rows(kernels),
    }
    print(markdown(result))
    if out:
        out.write_text(json.dumps(result, indent=1) + "\n")
        out.with_suffix(".md").write_text(markdown(result))


if __name__ == "__main__":
    main()
