"""Speed of the null pass of the spectral scan, beside the plain GEMM form and the GEMM's own roof.

python benchmarks/bench_spectral_scan.py --out benchmarks/results/bench_spectral_scan.json
pytest benchmarks/bench_spectral_scan.py                                         pytest-benchmark's record

Both take orthonormal pairs of columns and sets of channels and give each set's largest power over the frequencies. The
plain form multiplies them a chunk of frequencies at a time, squares, sums pairs and channels, and takes the maximum.
The frequencies lie between 3 and 60 cycles, as those of a scan do; `wide` has them a fifth of a cycle apart instead, up
to 2,003 cycles. What is prepared once for the data, pairs and blocks, is timed apart. Seconds are CPU time of a thread.
"""

import argparse
import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.paired import command, keep_freed_memory, machine, with_control
from interpkern.probing.numbers import checked
from interpkern.probing.pair_power import Block, blocks_of, largest_power
from interpkern.probing.residuals import orthonormal_pairs, residuals

NUMBERS, CHANNELS, FREQUENCIES, NULLS = 360, 20, 10_000, 1_000
CHUNKS = (32, 128, 512)
TOLERANCE = 1e-4
CPU = torch.device("cpu")
Row = dict[str, Any]


@dataclass(frozen=True)
class Problem:
    """Pairs and sets of one size."""

    pairs: torch.Tensor
    """(N, 2, F) float64."""
    cycles: torch.Tensor
    """(F,)."""
    sets: torch.Tensor
    """(N, P, C) float32."""

    @property
    def flops(self) -> float:
        """Of the plain product."""
        return 4.0 * len(self.cycles) * self.sets.numel()

    def blocks(self) -> list[Block]:
        """What our pass prepares."""
        return blocks_of(self.pairs, self.cycles, torch.float32, CPU)


def problem(frequencies: int, nulls: int, *, wide: bool) -> Problem:
    """Orthonormal pairs of numbers 1 to 360 in ln n, and normal sets."""
    generator = torch.Generator().manual_seed(0)
    data = checked(torch.randn(NUMBERS, CHANNELS, generator=generator), range(1, NUMBERS + 1))
    left = residuals(data, "log", CHANNELS, "default")
    last = 3 + (frequencies - 1) / 5 if wide else 60.0
    cycles = torch.linspace(3, last, frequencies, dtype=torch.float64)
    pairs = orthonormal_pairs(left.pairs(cycles / left.range), left.root_weights.norm())[0]
    return Problem(pairs, cycles, torch.randn(NUMBERS, nulls, CHANNELS, generator=generator))


def plain(columns: torch.Tensor, sets: torch.Tensor, chunk: int) -> torch.Tensor:
    """(P,): the GEMM form on (F, 2, N) columns, a chunk of frequencies at a time."""
    flat = sets.flatten(1)
    largest = torch.zeros(sets.shape[1])
    for part in columns.split(chunk):
        product = part.flatten(0, 1) @ flat
        power = product.square_().reshape(len(part), 2, *sets.shape[1:]).sum((1, 3))
        torch.maximum(largest, power.amax(0), out=largest)
    return largest


def compared(name: str, given: Problem, pairs: int) -> Row:
    """Our pass against the best chunk of the plain form, after a check that they agree."""
    columns = given.pairs.permute(2, 1, 0).float().contiguous()
    prepared, blocks = seconds(given.blocks), given.blocks()
    expected, ours = plain(columns, given.sets, CHUNKS[0]), largest_power(blocks, given.sets)
    error = float(((ours - expected) / expected).abs().max())
    if not error < TOLERANCE:
        raise SystemExit(f"{name}: the two differ by {error}, so that no ratio means anything")
    chunk = min(CHUNKS, key=lambda size: seconds(lambda: plain(columns[:2048], given.sets, size)))
    found = with_control(lambda: largest_power(blocks, given.sets), lambda: plain(columns, given.sets, chunk), pairs)
    roof = gemm_flops(given.sets, chunk)
    ratio = found.ratio
    row = {
        "frequencies": name,
        "sizes": {"frequencies": len(given.cycles), "channels": CHANNELS, "nulls": given.sets.shape[1], "N": NUMBERS},
        "plain_over_ours": ratio.median,
        "quartiles": [ratio.lower_quartile, ratio.upper_quartile],
        "of_minima": ratio.of_minima,
        "control": found.control.median,
        "pairs": ratio.pairs,
        "seconds_ours": ratio.seconds_a,
        "seconds_plain": ratio.seconds_b,
        "seconds_preparing_blocks": prepared,
        "plain_over_ours_and_preparation": ratio.seconds_b / (ratio.seconds_a + prepared),
        "chunk_of_plain": chunk,
        "gemm_roof_gflops": roof / 1e9,
        "plain_share_of_roof": given.flops / ratio.seconds_b / roof,
        "ours_work_of_plain_over_roof": given.flops / ratio.seconds_a / roof,
        "directions": sum(len(block.directions) for block in blocks),
        "largest_relative_difference": error,
    }
    print(json.dumps(row, indent=1), flush=True)
    return row


def gemm_flops(sets: torch.Tensor, chunk: int) -> float:
    """Operations a second of the plain form's product alone, with the result's memory at hand."""
    left, right = torch.randn(2 * chunk, len(sets)), sets.flatten(1)
    out = torch.empty(2 * chunk, right.shape[1])
    best = min(seconds(lambda: torch.mm(left, right, out=out)) for _ in range(5))
    return 2.0 * left.numel() * right.shape[1] / best


def seconds(work: Any) -> float:
    """CPU time of one call, after one that is not timed."""
    work()
    begin = time.process_time()
    work()
    return time.process_time() - begin


def test_null_pass(benchmark: Any) -> None:
    given = problem(2_000, 200, wide=False)
    benchmark(largest_power, given.blocks(), given.sets)


def test_plain_form(benchmark: Any) -> None:
    given = problem(2_000, 200, wide=False)
    benchmark(plain, given.pairs.permute(2, 1, 0).float().contiguous(), given.sets, CHUNKS[1])


@pytest.mark.parametrize("wide", [False, True])
def test_the_two_agree(wide: bool) -> None:
    given = problem(500, 20, wide=wide)
    expected = plain(given.pairs.permute(2, 1, 0).float().contiguous(), given.sets, CHUNKS[0])
    torch.testing.assert_close(largest_power(given.blocks(), given.sets), expected, rtol=TOLERANCE, atol=0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frequencies", type=int, default=FREQUENCIES)
    parser.add_argument("--nulls", type=int, default=NULLS)
    parser.add_argument("--pairs", type=int, default=20)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()
    rows = [
        compared(name, problem(args.frequencies, args.nulls, wide=name == "wide"), args.pairs)
        for name in ("3 to 60 cycles", "wide")
    ]
    results = {"machine": machine(), "command": command(), "threads": 1, "null_pass": rows}
    if args.out is not None:
        args.out.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
