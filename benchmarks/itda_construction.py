"""What building a dictionary costs late in a build, beside encoding the same rows over the finished dictionary.

    python benchmarks/make_data.py minilm DIR --rows 60000 --max-tokens 128
    python benchmarks/itda_construction.py --activations DIR --out benchmarks/results/itda_construction.json

A dictionary is built from all rows but the last; those are then either added to it (`partial_fit`, exact mode) or
encoded with what it has become. Seconds on the clock, in pairs that alternate.
"""

import argparse
import copy
import json
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch

from benchmarks.paired import command, machine, with_control
from interpkern.activations import Activations
from interpkern.files import write_atomically
from interpkern.itda import ITDA

K = 32
CASES = (("mp", 0.3), ("mp", 0.22), ("mp", 0.16), ("omp", 0.22), ("omp", 0.16))
"""Methods with thresholds, which set how many of the last rows are accepted."""


def measured(
    rows: torch.Tensor, late: int, method: str, threshold: float, arguments: argparse.Namespace
) -> dict[str, Any]:
    """One line of the result."""
    first, last = rows[:-late], rows[-late:]
    itda = ITDA(k=K, method=method, threshold=threshold, centre=rows.mean(0), threads=arguments.threads)
    itda.fit(first, progress=False)
    copies = [copy.deepcopy(itda) for _ in range(2 * arguments.pairs + 2)]
    finished = copies.pop().partial_fit(last, progress=False)

    def build() -> None:
        copies.pop().partial_fit(last, progress=False)

    def encode() -> None:
        finished.encode(last, progress=False)

    comparison = with_control(encode, build, arguments.pairs, time.perf_counter)
    line = {
        "method": method,
        "threshold": threshold,
        "atoms_before": len(itda),
        "late_rows": late,
        "accepted_share": (len(finished) - len(itda)) / late,
        "ratio": comparison.ratio.median,
        "quartiles": [comparison.ratio.lower_quartile, comparison.ratio.upper_quartile],
        "control": comparison.control.median,
        "rows_per_second": late / comparison.ratio.seconds_b,
    }
    print(
        f"{method:4s} {len(itda):6,} atoms, {line['accepted_share']:.1%} of the last {late:,} rows accepted: "
        f"{line['ratio']:.2f} times as long as encoding [A/A {line['control']:.3f}]",
        flush=True,
    )
    return line


def main() -> None:
    """Measure all cases, print them, and write the result file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--activations", type=Path, required=True, help="folder that make_data.py wrote")
    parser.add_argument("--late", type=int, default=16384, help="rows at the end that are timed")
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--out", type=Path, help="JSON file to write")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    source = Activations(arguments.activations)
    rows = source.tensor().float()
    results = {
        "machine": machine(),
        "command": command(),
        "origin": source.origin,
        "rows": len(rows),
        "k": K,
        "threads": arguments.threads,
        "cases": [measured(rows, arguments.late, method, threshold, arguments) for method, threshold in CASES],
    }
    if arguments.out:
        write_atomically(arguments.out, (json.dumps(results, indent=1) + "\n").encode())


if __name__ == "__main__":
    main()
