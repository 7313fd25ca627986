"""Speed of `memorise` on one core, against the strongest PyTorch and JAX forms and the core's own arithmetic roof.

python benchmarks/bench_memorise.py --out benchmarks/results/bench_memorise.json     paired ratios, with controls
pytest benchmarks/bench_memorise.py                                                  pytest-benchmark's record
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.paired import Comparison, keep_freed_memory, machine, on_cores, paired_ratio, with_control
from benchmarks.peers import Peer, memorise_torch
from interpkern import native
from interpkern.memorisation import TableMLPs, memorise, random_tables

MODELS = 256
MAIN_SHAPE = (32, 16, 32)
SHAPES = [(16, 16, 16), MAIN_SHAPE, (32, 32, 32), (48, 32, 32), (64, 48, 48)]
WIDE_SHAPES = [(80, 64, 64), (96, 96, 96), (112, 112, 112), (128, 128, 128)]
SAMPLE_SECONDS = 0.1
PAIRS = 200


def flops(m: int, d_model: int, d_hidden: int) -> int:
    """FLOPs of one update of one model, counted as the spec of memorisation does everywhere."""
    parameters = d_hidden * (d_model + 2) + 1
    return 8 * m * d_model * d_hidden + 9 * m * m * d_hidden + 10 * m * m + 12 * parameters


class Job:
    """One shape's models, with our run and a peer's as functions of nothing."""

    def __init__(self, shape: tuple[int, int, int], models: int = MODELS) -> None:
        m, d_model, d_hidden = shape
        self.shape, self.size = shape, models
        self.models = TableMLPs.init(models, m, m, d_model, d_hidden)
        self.tables = random_tables(models, m, m)
        self.flops = models * flops(*shape)

    def ours(self, steps: int, threads: int = 1) -> Callable[[], object]:
        """Our training run."""
        return lambda: memorise(
            self.models, self.tables, steps=steps, lr=0.01, threads=threads, backend="cpu", progress=False
        )

    def peer(self, peer: Peer, steps: int) -> Callable[[], object]:
        """The peer's, already compiled."""
        return peer.prepare(self.models.state_dict(), self.tables, steps, 0.01)


def calibrated(
    make: Callable[[int], Callable[[], object]], sample: float = SAMPLE_SECONDS
) -> tuple[int, Callable[[], object]]:
    """The number of steps that fills a sample, and the work of that many; what a call costs beside is in it too."""
    steps, seconds = 1, 0.0
    while seconds < sample / 2:
        steps *= 2
        work = make(steps)
        work()
        begin = time.process_time()
        work()
        seconds = time.process_time() - begin
    steps = max(1, round(steps * sample / seconds))
    return steps, make(steps)


def check(job: Job, peer: Peer) -> float:
    """Largest difference in loss from the peer after 5 steps; no ratio is reported when it is more than 1e-4."""
    ours = memorise(job.models, job.tables, steps=5, lr=0.01, backend="cpu", progress=False)
    _, theirs = peer.train(job.models.state_dict(), job.tables, steps=5, lr=0.01)
    difference = float((ours.loss[:, -1] - theirs).abs().max())
    if difference > 1e-4:
        raise SystemExit(f"{peer.name} disagrees with memorise by {difference} nats after 5 steps")
    return difference


def against(job: Job, peer: Peer, sample: float = SAMPLE_SECONDS) -> dict[str, Any]:
    """How many times faster we are, per model-step."""
    difference = check(job, peer)
    our_steps, ours = calibrated(job.ours, sample)
    peer_steps, theirs = calibrated(lambda steps: job.peer(peer, steps), sample)
    comparison = with_control(ours, theirs, PAIRS)
    return {
        "shape": job.shape,
        "peer": peer.name,
        "largest_loss_difference": difference,
        **scaled(comparison, our_steps / peer_steps),
        "model_steps_per_second": job.size * our_steps / comparison.ratio.seconds_a,
        "peer_model_steps_per_second": job.size * peer_steps / comparison.ratio.seconds_b,
    }


def scaled(comparison: Comparison, factor: float) -> dict[str, Any]:
    """A comparison's numbers for JSON, times a factor that puts both sides at the same work."""
    ratio, control = comparison.ratio, comparison.control
    return {
        "ratio": ratio.median * factor,
        "quartiles": [ratio.lower_quartile * factor, ratio.upper_quartile * factor],
        "ratio_of_minima": ratio.of_minima * factor,
        "pairs": ratio.pairs,
        "control": control.median,
        "control_quartiles": [control.lower_quartile, control.upper_quartile],
    }


def against_roof(job: Job) -> dict[str, Any]:
    """Our FLOPs per second as a share of a loop of fused multiply-adds on the same core, in alternation."""
    cpu, isa = native.load("_cpu"), native.isa()
    steps, ours = calibrated(job.ours, 2 * SAMPLE_SECONDS)
    iterations = 4_000_000
    loop_flops = cpu.fma_loop(isa, iterations)
    ratio = paired_ratio(ours, lambda: cpu.fma_loop(isa, iterations), PAIRS)
    factor = job.flops * steps / loop_flops
    return {
        "shape": job.shape,
        "share_of_fma_peak": ratio.median * factor,
        "share_of_minima": ratio.of_minima * factor,
        "quartiles": [ratio.lower_quartile * factor, ratio.upper_quartile * factor],
        "fma_peak_gflops": loop_flops / ratio.seconds_b / 1e9,
        "model_steps_per_second": job.size * steps / ratio.seconds_a,
    }


def two_threads(job: Job) -> dict[str, Any]:
    """Wall time of one thread over that of two."""
    steps, one = calibrated(job.ours, 5 * SAMPLE_SECONDS)
    ratio = paired_ratio(job.ours(steps, threads=2), one, PAIRS // 2, time.perf_counter)
    return {"shape": job.shape, "speed_up": ratio.median, "of_minima": ratio.of_minima, "pairs": ratio.pairs}


def peers() -> Iterator[Peer]:
    """The baselines, strongest first; JAX's where it is installed."""
    yield memorise_torch.compiled
    yield memorise_torch.compiled_plain
    try:
        from benchmarks.peers import memorise_jax
    except ImportError as error:
        print(f"without JAX: {error}")
    else:
        yield memorise_jax.mapped
    yield memorise_torch.vmap


def roof_rows() -> list[dict[str, Any]]:
    """Shares of the arithmetic roof; the wide shapes with as many models as there are lanes."""
    with on_cores(1):
        rows = [shown(against_roof(Job(shape))) for shape in SHAPES]
        return rows + [shown(against_roof(Job(shape, models=16))) for shape in WIDE_SHAPES]


def peer_rows() -> list[dict[str, Any]]:
    """Every peer at the main shape, the strongest at the others; vmap also before the heap is told to keep memory."""
    with on_cores(1):
        rows = [shown(against(Job(MAIN_SHAPE), memorise_torch.vmap) | {"heap": "as glibc has it"})]
        keep_freed_memory()
        rows += [shown(against(Job(MAIN_SHAPE), peer)) for peer in peers()]
        return rows + [shown(against(Job(shape), memorise_torch.compiled)) for shape in SHAPES if shape != MAIN_SHAPE]


def strongest_rows() -> list[dict[str, Any]]:
    """The strongest peer in samples so long that the cost of a call, which only our side pays, hardly counts."""
    with on_cores(1):
        keep_freed_memory()
        return [shown(against(Job(MAIN_SHAPE), memorise_torch.compiled, 4 * SAMPLE_SECONDS))]


def thread_rows() -> list[dict[str, Any]]:
    """Two threads against one."""
    return [shown(two_threads(Job(MAIN_SHAPE)))]


SECTIONS = {"threads": thread_rows, "roof": roof_rows, "peers": peer_rows, "strongest": strongest_rows}


def shown(row: dict[str, Any]) -> dict[str, Any]:
    """The row, printed."""
    print({key: round(value, 4) if isinstance(value, float) else value for key, value in row.items()}, flush=True)
    return row


@pytest.mark.parametrize("shape", SHAPES)
def test_memorise(benchmark: Any, shape: tuple[int, int, int]) -> None:
    """pytest-benchmark's record: 256 models, 10 steps, one thread."""
    torch.set_num_threads(1)
    benchmark(Job(shape).ours(10))


def main() -> None:
    """Measure the sections asked for, and put them into the result file beside the others."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="JSON file to write")
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=list(SECTIONS), help="sections to measure")
    arguments = parser.parse_args()
    results = json.loads(arguments.out.read_text()) if arguments.out and arguments.out.exists() else {}
    about = {"machine": machine(), "isa": native.isa(), "models": MODELS, "command": sys.argv}
    for section in arguments.only:
        results[section] = about | {"rows": SECTIONS[section]()}
    if arguments.out:
        arguments.out.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
