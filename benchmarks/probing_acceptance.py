"""Size and power of the test for a circle, on activations with known answers.

python benchmarks/probing_acceptance.py --out benchmarks/results/probing_acceptance.json

Rejection rates of both nulls on every background without a circle, uniformity of permutation's p on independent
activations, and the share of planted circles found at their period. `--sets 20` tries it out in a minute or two.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from scipy import stats

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.paired import machine
from interpkern.probing.circle_test import circle_test
from interpkern.probing.simulated import BACKGROUNDS, background, plant_circle

NUMBERS = torch.arange(1, 361)
CHANNELS = 10
LEVELS = (0.01, 0.05, 0.1)
PERIODS, SHARES = (0.3, 0.5, 0.77, 1.0, 1.5), (0.01, 0.02, 0.05, 0.1, 0.2, 0.3)
POWER_BACKGROUNDS = ("smooth in n", "smooth in ln n", "independent")
NEAR = 0.1
Row = dict[str, Any]


def p_value(null: str, kind: str, surrogates: int, seed: int) -> float:
    """Of one background without a circle."""
    acts = background(kind, NUMBERS, CHANNELS, seed=seed)
    return _test(acts, null, surrogates, seed)[0]


def found(kind: str, period: float, share: float, surrogates: int, seed: int) -> bool:
    """Whether one planted circle is found at its period."""
    acts = plant_circle(background(kind, NUMBERS, CHANNELS, seed=seed), NUMBERS, period, share, seed=seed)
    p, at = _test(acts, "coloured", surrogates, seed)
    return p <= 0.05 and abs(at / period - 1) < NEAR


def _test(acts: torch.Tensor, null: str, surrogates: int, seed: int) -> tuple[float, float]:
    torch.set_num_threads(1)
    test = circle_test(acts, NUMBERS, null=null, surrogates=surrogates, seed=seed, sensitivity=False, progress=False)
    return test.p_value, test.period


def rates(p: Sequence[float]) -> Row:
    """Rejection rates at each level."""
    return {f"rejects at {level}": sum(value <= level for value in p) / len(p) for level in LEVELS}


def sizes(run: Callable[..., list], args: argparse.Namespace) -> list[Row]:
    """Of both nulls on every background."""
    rows = []
    for null in ("permutation", "coloured"):
        for kind in BACKGROUNDS:
            p = run(partial(p_value, null, kind, args.surrogates), range(args.sets))
            rows.append(shown({"null": null, "background": kind, "sets": args.sets, **rates(p)}))
    return rows


def uniformity(run: Callable[..., list], args: argparse.Namespace) -> Row:
    """Permutation's p on independent activations."""
    p = run(partial(p_value, "permutation", "independent", args.surrogates), range(10_000, 10_000 + args.ks_sets))
    return shown({"sets": args.ks_sets, "ks_p": float(stats.kstest(p, "uniform").pvalue), **rates(p)})


def powers(run: Callable[..., list], args: argparse.Namespace) -> list[Row]:
    """Circles found at their period, by period and share of the background's variance."""
    rows = []
    for kind in POWER_BACKGROUNDS:
        for period in PERIODS:
            for share in SHARES:
                seen = run(partial(found, kind, period, share, args.power_surrogates), range(args.power_sets))
                row = {"background": kind, "period": period, "share": share, "sets": args.power_sets}
                rows.append(shown({**row, "found": sum(seen) / len(seen)}))
    return rows


def shown(row: Row) -> Row:
    """The row, printed."""
    print(json.dumps(row), flush=True)
    return row


def main(arguments: Iterable[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", type=int, default=200)
    parser.add_argument("--ks-sets", type=int, default=500)
    parser.add_argument("--power-sets", type=int, default=20)
    parser.add_argument("--surrogates", type=int, default=199)
    parser.add_argument("--power-surrogates", type=int, default=99)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args(None if arguments is None else list(arguments))
    begin = time.perf_counter()
    with ProcessPoolExecutor(args.processes, mp_context=get_context("spawn")) as pool:

        def run(work: Callable[[int], Any], seeds: range) -> list:
            return list(pool.map(work, seeds, chunksize=max(1, len(seeds) // (4 * args.processes))))

        results = {"sizes": sizes(run, args), "uniformity": uniformity(run, args), "power": powers(run, args)}
    about = {"command": sys.argv, "channels": CHANNELS, "numbers": len(NUMBERS), "seconds": time.perf_counter() - begin}
    if args.out is not None:
        args.out.write_text(json.dumps({"machine": machine(), **about, **results}, indent=1) + "\n")


if __name__ == "__main__":
    main()
