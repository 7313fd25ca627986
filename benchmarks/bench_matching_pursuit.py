"""Speed of `matching_pursuit` on few threads, beside the GEMM it begins with, memory's bandwidth and other codes.

python benchmarks/bench_matching_pursuit.py --activations DIR --out benchmarks/results/bench_matching_pursuit.json
pytest benchmarks/bench_matching_pursuit.py                                         pytest-benchmark's record

DIR holds safetensors shards with `activations` (rows, D), as benchmarks/make_data.py writes them; without it the rows
are synthetic, for trying the script out. Atoms are random rows, centred and normalised; samples are others. Grams are
made before anything is timed, and section `gram` times them. Every code is checked before its speed is measured.
"""

import argparse
import functools
import importlib.metadata
import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.bench_memorise import scaled, shown
from benchmarks.matching_pursuit_work import SAMPLES, Sized, described, read, shuffled, synthetic
from benchmarks.paired import Comparison, Work, keep_freed_memory, machine, on_cores, paired_ratio
from benchmarks.peers import matching_pursuit_packages as packages
from benchmarks.peers import matching_pursuit_torch as plain
from benchmarks.peers.matching_pursuit import Encode, PursuitPeer
from interpkern import matching_pursuit, native

PAIRS, FEWEST_PAIRS, FEWEST_CONTROL_PAIRS = 200, 3, 10
SAMPLE_SECONDS = 0.05
MAIN_PICKS = 32
JUDGED = 128
FVU_TOLERANCE, FAST_TOLERANCE = 1e-3, 3e-3
"""Relative to the FVU; in fast precision some samples get other picks, which leave now more, now less."""
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
PEERS = (
    plain.compiled_gram,
    plain.gram,
    plain.plain_gram,
    plain.loop,
    packages.saelens,
    packages.spams,
    packages.batched_omp,
    packages.batched_omp_naive,
    packages.sklearn,
)
STRONGEST = (plain.compiled_gram, packages.spams)
"""Those that are measured at the other numbers of picks, too."""
VARIANTS: tuple[dict[str, Any], ...] = (
    {"method": "mp_refit"},
    {"method": "mp", "precision": "fast"},
    {"method": "omp", "precision": "fast"},
    {"method": "mp", "threads": 1},
)
Row = dict[str, Any]


class Disagreement(Exception):
    """A peer's code is not ours, so that no ratio means anything."""


@dataclass(frozen=True)
class Bench:
    """What to measure."""

    rows: torch.Tensor
    """(R, D) centred, in random order: atoms from the front, then samples."""
    atoms: tuple[int, ...]
    picks: tuple[int, ...]
    threads: int
    seconds: float
    """Time of one comparison, about, which has PAIRS pairs where they fit."""

    @functools.cached_property
    def sizes(self) -> list[Sized]:
        """One for every number of atoms."""
        return [Sized(self.rows, M, self.threads) for M in self.atoms]

    def cells(self) -> Iterator[tuple[Sized, int]]:
        """Every number of atoms with every number of picks."""
        return ((sized, k) for sized in self.sizes for k in self.picks)

    @property
    def main_picks(self) -> int:
        """The number of picks at which everything is measured."""
        return MAIN_PICKS if MAIN_PICKS in self.picks else self.picks[0]

    def compare(
        self, a: Work, b: Work, clock: str = "wall", *, seconds_b: float | None = None, all_pairs: bool = False
    ) -> Comparison:
        """time(b) / time(a), with its control, in as many pairs as there is time for; both have run before."""
        affordable = int(self.seconds / (2 * seconds_of(a) + (seconds_b or seconds_of(b))))
        pairs = PAIRS if all_pairs else min(PAIRS, max(FEWEST_PAIRS, affordable))
        control = paired_ratio(a, a, max(pairs // 2, FEWEST_CONTROL_PAIRS), CLOCKS[clock])
        return Comparison(paired_ratio(a, b, pairs, CLOCKS[clock]), control)

    def row(self, sized: Sized, k: int, comparison: Comparison, **others: Any) -> Row:
        """A row of the results, printed; `a` of the comparison is our call."""
        rate = SAMPLES / comparison.ratio.seconds_a
        return shown({"atoms": sized.M, "picks": k, **others, **scaled(comparison, 1), "samples_per_second": rate})


def seconds_of(work: Work, calls: int = 1, clock: str = "wall") -> float:
    """The shortest of some calls."""
    times = []
    for _ in range(calls):
        begin = CLOCKS[clock]()
        work()
        times.append(CLOCKS[clock]() - begin)
    return min(times)


def against_float64(sized: Sized, k: int, method: str, **settings: Any) -> Row:
    """How our code compares with the reference in float64; nothing is reported when they explain different shares."""
    x = sized.x[:JUDGED]
    ours = sized.encode(x, k, method, **settings)
    exact = matching_pursuit(x.double(), sized.dictionary.atoms.double(), k, method=method, backend="reference")
    fvu, best = (sized.fvu(x, code.to_dense(sized.M)) for code in (ours, exact))
    tolerance = FAST_TOLERANCE if settings.get("precision") == "fast" else FVU_TOLERANCE
    if not abs(fvu - best) <= tolerance * best:
        raise SystemExit(f"{method} with {sized.M} atoms and {k} picks leaves {fvu}, the reference {best}")
    return {"fvu": fvu, "same_supports": float((ours.indices == exact.indices).all(1).float().mean())}


def against_peer(sized: Sized, peer: PursuitPeer, encode: Encode, k: int, n: int) -> tuple[Row, float]:
    """How a peer's code compares with ours; one that picks by a better rule may leave a third less.

    Returns: the comparison, and the seconds that the peer took for its n samples.
    """
    x = sized.x[:n]
    begin = time.perf_counter()
    code = encode(x)
    seconds = time.perf_counter() - begin
    ours, theirs = sized.encode(x, k, peer.method).to_dense(sized.M), peer.dense(code, sized.M)
    fvu, our_fvu = sized.fvu(x, theirs), sized.fvu(x, ours)
    least = our_fvu * (2 / 3 if peer.explains_more else 1 - FVU_TOLERANCE)
    if not least <= fvu <= our_fvu * (1 + FVU_TOLERANCE):
        raise Disagreement(f"{peer.name} leaves {fvu} of the variance of {n} samples, matching_pursuit {our_fvu}")
    same = ((ours != 0) == (theirs != 0)).all(1)
    return {"fvu": fvu, "our_fvu": our_fvu, "same_supports": float(same.float().mean())}, seconds


def in_batches(encode: Encode, x: torch.Tensor, n: int) -> Work:
    """Encodes x, n samples at a time."""
    parts = x.split(n)

    def work() -> None:
        for part in parts:
            encode(part)

    return work


def fastest(sized: Sized, peer: PursuitPeer, k: int) -> tuple[Encode, int]:
    """The peer's encoder of the number of samples a call at which it is fastest."""
    prepared = {n: peer.prepare(sized.dictionary, k, n) for n in peer.batches}
    if len(prepared) > 1:
        x = sized.x[: max(prepared)]
        times = {n: seconds_of(in_batches(encode, x, n), calls=2) for n, encode in prepared.items()}
        prepared = {n: encode for n, encode in prepared.items() if times[n] == min(times.values())}
    return next((encode, n) for n, encode in prepared.items())


def without_its_gram(encode: Encode, x: torch.Tensor, clock: str, seconds: float) -> float:
    """The share of a call's seconds that is due to its samples x, and not to the Gram that every call makes."""
    few = x[: max(1, len(x) // 32)]
    fixed = seconds_of(lambda: encode(few), calls=2, clock=clock)
    return (seconds - fixed) / seconds * len(x) / (len(x) - len(few))


def peer_results(bench: Bench, sized: Sized, peer: PursuitPeer, k: int) -> Iterator[Row]:
    """How many times as long the peer takes for a sample, by each of its clocks."""
    encode, n = fastest(sized, peer, k)
    found, seconds = against_peer(sized, peer, encode, k, n)
    batches = max(1, min(SAMPLES // n, round(SAMPLE_SECONDS / seconds)))
    x = sized.x[: n * batches]
    for clock in peer.clocks if k == bench.main_picks else peer.clocks[-1:]:
        ours, theirs = sized.ours(k, peer.method), in_batches(encode, x, n)
        comparison = bench.compare(ours, theirs, clock, seconds_b=seconds * batches)
        row = {
            "atoms": sized.M,
            "picks": k,
            "peer": peer.name,
            "version": peer.package and importlib.metadata.version(peer.package),
            "method": peer.method,
            "clock": clock,
            "batch": n,
            **found,
            **scaled(comparison, SAMPLES / len(x)),
            "samples_per_second": SAMPLES / comparison.ratio.seconds_a,
            "peer_samples_per_second": len(x) / comparison.ratio.seconds_b,
        }
        if peer.makes_gram:
            row["ratio_without_its_gram"] = row["ratio"] * without_its_gram(
                encode, x, clock, comparison.ratio.seconds_b
            )
        yield shown(row)


def gram_rows(bench: Bench) -> list[Row]:
    """Seconds to make what is reused: ours (16-bit Gram, panels, checks), and a float32 Gram by PyTorch."""
    rows = []
    for sized in bench.sizes:
        multiply = functools.partial(torch.mm, sized.dictionary.atoms, sized.dictionary.atoms.T)
        times = {"seconds": seconds_of(sized.build, calls=3), "torch_seconds": seconds_of(multiply, calls=3)}
        rows.append(shown({"atoms": sized.M, **times}))
    return rows


def gemm_rows(bench: Bench) -> list[Row]:
    """A single pick, which is our own products and little else, as a share of the rate of PyTorch's GEMM."""
    rows = []
    for sized in bench.sizes:
        comparison = bench.compare(sized.ours(1), sized.gemm(), all_pairs=True)
        rate = SAMPLES / comparison.ratio.seconds_b
        gflops = 2e-9 * sized.M * sized.x.shape[1] * rate
        rows.append(bench.row(sized, 1, comparison, gemm_samples_per_second=rate, gemm_gflops=gflops))
    return rows


def bandwidth_rows(bench: Bench) -> list[Row]:
    """mp as a share of the rate at which a random row of the 16-bit Gram can be read for every pick."""
    rows, k = [], bench.main_picks
    for sized in bench.sizes:
        comparison = bench.compare(sized.ours(k), sized.reads(k))
        rate = SAMPLES / comparison.ratio.seconds_b
        gigabytes = 2e-9 * rate * k * sized.M
        rows.append(bench.row(sized, k, comparison, reads_samples_per_second=rate, gigabytes_per_second=gigabytes))
    return rows


def mp_rows(bench: Bench) -> list[Row]:
    """mp as a share of the rate of the GEMM alone."""
    rows = []
    for sized, k in bench.cells():
        found = against_float64(sized, k, "mp")
        comparison = bench.compare(sized.ours(k), sized.gemm(), all_pairs=k == bench.main_picks)
        rate = SAMPLES / comparison.ratio.seconds_b
        rows.append(bench.row(sized, k, comparison, gemm_samples_per_second=rate, **found))
    return rows


def omp_rows(bench: Bench) -> list[Row]:
    """omp as a share of mp's rate."""
    rows = []
    for sized, k in bench.cells():
        found = against_float64(sized, k, "omp")
        comparison = bench.compare(sized.ours(k, "omp"), sized.ours(k), all_pairs=k == bench.main_picks)
        rate = SAMPLES / comparison.ratio.seconds_b
        rows.append(bench.row(sized, k, comparison, mp_samples_per_second=rate, **found))
    return rows


def variant_rows(bench: Bench) -> list[Row]:
    """Other settings as a share of mp's rate, which is exact and on all threads."""
    rows, k = [], bench.main_picks
    for sized in bench.sizes:
        for variant in VARIANTS:
            found = against_float64(sized, k, **variant)
            comparison = bench.compare(sized.ours(k, **variant), sized.ours(k))
            rate = SAMPLES / comparison.ratio.seconds_b
            rows.append(bench.row(sized, k, comparison, **variant, mp_samples_per_second=rate, **found))
    return rows


def isa_rows(bench: Bench) -> list[Row]:
    """How many times as long mp and omp take on the next narrower instruction set of this machine."""
    isas, rows = native.load("_cpu").isas(), []
    for isa in isas[: isas.index(native.isa())][-1:]:
        for sized in bench.sizes:
            for k, method in ((1, "mp"), (bench.main_picks, "mp"), (bench.main_picks, "omp")):
                comparison = bench.compare(sized.ours(k, method), sized.on(isa, k, method))
                rate = SAMPLES / comparison.ratio.seconds_b
                rows.append(bench.row(sized, k, comparison, method=method, isa=isa, isa_samples_per_second=rate))
    return rows


def peer_rows(bench: Bench) -> list[Row]:
    """Every peer that is installed at the main number of picks, the strongest at the others; times faster we are."""
    rows: list[Row] = []
    for sized, k in bench.cells():
        for peer in PEERS if k == bench.main_picks else STRONGEST:
            try:
                rows += peer_results(bench, sized, peer, k)
            except ImportError as error:
                print(f"without {peer.name}: {error}")
            except Disagreement as error:
                rows.append(shown({"atoms": sized.M, "picks": k, "peer": peer.name, "disagrees": str(error)}))
    return rows


SECTIONS: dict[str, Callable[[Bench], list[Row]]] = {
    "gram": gram_rows,
    "gemm": gemm_rows,
    "bandwidth": bandwidth_rows,
    "mp": mp_rows,
    "omp": omp_rows,
    "variants": variant_rows,
    "isas": isa_rows,
    "peers": peer_rows,
}


@pytest.mark.parametrize("method", ["mp", "mp_refit", "omp"])
@pytest.mark.parametrize("M", [2048, 8192])
def test_matching_pursuit(benchmark: Any, M: int, method: str) -> None:
    """pytest-benchmark's record: 32 picks, synthetic rows, one thread."""
    torch.set_num_threads(1)
    benchmark(Sized(shuffled(synthetic(M + SAMPLES)), M, 1).ours(MAIN_PICKS, method))


def table(rows: list[Row]) -> str:
    """Rows with a ratio as Markdown; controls in brackets."""
    lines = ["| M | k | what | samples/s | other's | ratio [control] | pairs | FVU |", "|---" * 8 + "|"]
    for row in rows:
        what = " ".join(f"{row[name]}" for name in ("method", "precision", "isa", "peer", "clock") if name in row)
        what += f" {row['threads']} threads" if "threads" in row else ""
        rates = [value for name, value in row.items() if name.endswith("_samples_per_second")]
        ratio = f"{row['ratio']:.3f} [{row['control']:.3f}]"
        if "ratio_without_its_gram" in row:
            ratio += f"; {row['ratio_without_its_gram']:.3f} without its Gram"
        cells = (
            *(row["atoms"], row["picks"], what, f"{row['samples_per_second']:,.0f}", f"{rates[0]:,.1f}"),
            *(ratio, row["pairs"], f"{row['fvu']:.4f}" if "fvu" in row else ""),
        )
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines)


def numbers(text: str) -> tuple[int, ...]:
    """Numbers with commas between them."""
    return tuple(int(number) for number in text.split(","))


def parsed(arguments: list[str] | None) -> argparse.Namespace:
    """The command line's settings."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--activations", type=Path, metavar="DIR", help="folder of shards; synthetic rows without it")
    parser.add_argument("--out", type=Path, help="JSON file to write, or to put the measured sections into")
    parser.add_argument("--only", default=",".join(SECTIONS), help="sections (default %(default)s)")
    parser.add_argument("--atoms", type=numbers, default=(2048, 8192, 16384), help="(default 2048,8192,16384)")
    parser.add_argument("--picks", type=numbers, default=(16, 32, 64), help="(default 16,32,64)")
    parser.add_argument("--threads", type=int, default=2, help="(default 2)")
    parser.add_argument("--seconds", type=float, default=6.0, help="time of a comparison, about (default 6)")
    settings = parser.parse_args(arguments)
    settings.only = settings.only.split(",")
    if unknown := set(settings.only) - set(SECTIONS):
        parser.error(f"--only: no sections {', '.join(sorted(unknown))}; there are {', '.join(SECTIONS)}")
    return settings


def main(arguments: list[str] | None = None) -> None:
    """Measure the sections asked for, and put them into the result file beside the others."""
    settings = parsed(arguments)
    needed = max(settings.atoms) + SAMPLES
    rows = read(settings.activations) if settings.activations else synthetic(needed)
    if len(rows) < needed:
        raise SystemExit(f"--activations: expected {needed} rows for the atoms and samples, got {len(rows)}")
    bench = Bench(shuffled(rows), settings.atoms, settings.picks, settings.threads, settings.seconds)
    results = json.loads(settings.out.read_text()) if settings.out and settings.out.exists() else {}
    words = sys.argv if arguments is None else arguments
    about = {
        "machine": machine(),
        "isa": native.isa(),
        "threads": settings.threads,
        "activations": described(settings.activations) | {"rows": len(rows), "width": rows.shape[1]},
        "command": [Path(word).name if Path(word).is_absolute() else word for word in words],
    }
    keep_freed_memory()
    with on_cores(settings.threads):
        for section in settings.only:
            begin = time.perf_counter()
            measured = SECTIONS[section](bench)
            results[section] = about | {"seconds": round(time.perf_counter() - begin), "rows": measured}
            if settings.out:
                settings.out.write_text(json.dumps(results, indent=1) + "\n")
    for section in settings.only:
        compared = [row for row in results[section]["rows"] if "ratio" in row]
        if compared:
            print(f"\n{section}: {SECTIONS[section].__doc__}\n\n{table(compared)}")


if __name__ == "__main__":
    main()
