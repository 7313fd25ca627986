"""What bench_matching_pursuit.py times: samples and atoms from real or synthetic rows, our calls, and their roofs."""

import functools
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy
import torch
from safetensors.torch import load_file
from torch.nn.functional import embedding_bag, normalize

from benchmarks.paired import Work
from benchmarks.peers.matching_pursuit import Dictionary
from interpkern import Gram, SparseCode, matching_pursuit, native
from interpkern.ops.gram_stores import zeros

GEMM_ROWS = 256
SAMPLES = 1024
"""Of a call that is timed. In calls of a few hundred a sample takes longer."""
WIDTH = 384


class Sized:
    """Samples, and M atoms with their Grams."""

    def __init__(self, rows: torch.Tensor, M: int, threads: int) -> None:
        self.M, self.threads = M, threads
        self.x, atoms = rows[M : M + SAMPLES].contiguous(), normalize(rows[:M], dim=1)
        self.build = functools.partial(Gram, atoms, threads=threads)
        self.gram = self.build()
        self.dictionary = Dictionary(atoms, atoms @ atoms.T)

    def encode(self, x: torch.Tensor, k: int, method: str = "mp", **settings: Any) -> SparseCode:
        """Our code."""
        given = {"gram": self.gram, "threads": self.threads, "backend": "cpu", "progress": False, **settings}
        return matching_pursuit(x, given["gram"].atoms, k, method=method, **given)

    def ours(self, k: int, method: str = "mp", **settings: Any) -> Work:
        """The call that is timed."""
        return lambda: self.encode(self.x, k, method, **settings)

    def on(self, isa: str, k: int, method: str = "mp") -> Work:
        """The same call on another instruction set."""
        with forced(isa):
            gram = self.build()
        work = self.ours(k, method, gram=gram)

        def work_there() -> None:
            with forced(isa):
                work()

        return work_there

    def gemm(self) -> Work:
        """The products of as many samples with all atoms, as PyTorch computes them."""
        chunks, out = self.x.split(GEMM_ROWS), torch.empty(GEMM_ROWS, self.M)

        def multiply() -> None:
            for chunk in chunks:
                torch.mm(chunk, self.dictionary.atoms.T, out=out)

        return multiply

    def reads(self, k: int) -> Work:
        """Reading k random rows of 2 M bytes, those of a 16-bit Gram, for each of as many samples."""
        gram = zeros((self.M, max(1, self.M // 2)), numpy.float32).fill_(1)  # in the pages that ours is in
        rows = torch.randint(self.M, (SAMPLES, k))
        return lambda: embedding_bag(rows, gram, mode="sum")

    def fvu(self, x: torch.Tensor, dense: torch.Tensor) -> float:
        """Share of the squares of samples x (n, D) that dense codes (n, M) leave; of the variance, as x is centred."""
        left = x.double() - dense.double() @ self.dictionary.atoms.double()
        return float((left**2).sum() / (x.double() ** 2).sum())


@contextmanager
def forced(isa: str) -> Iterator[None]:
    """The CPU kernels on one instruction set."""
    before = os.environ.get(native.ISA_VARIABLE)
    os.environ[native.ISA_VARIABLE] = isa
    try:
        yield
    finally:
        del os.environ[native.ISA_VARIABLE]
        if before is not None:
            os.environ[native.ISA_VARIABLE] = before


def shuffled(rows: torch.Tensor) -> torch.Tensor:
    """The rows centred, in an order of a fixed seed."""
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(0))
    return (rows - rows.mean(0))[order]


def synthetic(count: int, width: int = WIDTH) -> torch.Tensor:
    """(count, D) rows with a power-law spectrum and norms that vary."""
    random = torch.Generator().manual_seed(0)
    directions = normalize(torch.randn(width, width, generator=random), dim=1)
    strength = torch.randn(count, width, generator=random) * torch.arange(1, width + 1) ** -0.7
    return strength @ directions * torch.randn(count, 1, generator=random).mul(0.3).exp()


def read(folder: Path) -> torch.Tensor:
    """All rows of a folder of shards, float32."""
    shards = [load_file(path) for path in sorted(folder.glob("*.safetensors"))]
    if not shards or any("activations" not in shard for shard in shards):
        raise SystemExit(f"--activations: {folder} has no shards of `activations`; benchmarks/make_data.py makes some")
    return torch.cat([shard["activations"] for shard in shards]).float()


def described(folder: Path | None) -> dict[str, Any]:
    """Where the rows are from."""
    if folder is None:
        return {"source": "synthetic"}
    manifest = folder / "manifest.json"
    return {"source": folder.name, **(json.loads(manifest.read_text())["settings"] if manifest.exists() else {})}
