"""Size and power of the test for a circle, on activations with known answers and on those of two models.

python benchmarks/probing_acceptance.py --out benchmarks/results/probing_acceptance.json

sizes: rejection rates of both nulls on every background without a circle. uniformity: p of both nulls on independent
activations. planted: circles of period .5 and 5 % of the variance. power: circles found at their period, by period and
share of the variance; after a share at which all are found, larger ones are not tried. bounds: the share that a test
which knew the background's covariance would find in 80 % of cases, by the non-central chi-squared distribution.
models: p at each layer of the shipped activations. A row that is in `--out` already is not done again.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import lru_cache, partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from scipy import optimize, stats

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import interpkern
from benchmarks.paired import command, machine
from interpkern.probing.circle_test import CircleTest, circle_test
from interpkern.probing.numbers import checked
from interpkern.probing.residuals import residuals, waves
from interpkern.probing.simulated import BACKGROUNDS, NOISE, background, plant_circle

NUMBERS = torch.arange(1, 361)
CHANNELS = 10
LEVELS = (0.01, 0.05, 0.1)
PERIODS, SHARES = (0.3, 0.5, 0.77, 1.0, 1.5, 1.95), (0.01, 0.02, 0.05, 0.1, 0.2, 0.4, 1.0)
POWER_BACKGROUNDS = ("smooth in n", "smooth in ln n", "independent", "minilm 3", "smollm2 20")
PLANTED, PLANTED_IN = (0.5, 0.05), ("independent", "smooth in n", "smooth in ln n")
EXACTLY, NEAR = 0.03, 0.1
CYCLES = 57
"""From 3 to 60 over the numbers, so many independent frequencies."""
SECTIONS = ("bounds", "models", "planted", "sizes", "uniformity", "power")
Row = dict[str, Any]
Run = Callable[[Callable[[int], Any], range], list]


class Rows:
    """Finished rows, in a file if there is one."""

    def __init__(self, out: Path | None) -> None:
        self.out = out
        self.rows: list[Row] = []
        self.before = 0.0
        if out is not None and out.exists():
            stored = json.loads(out.read_text())
            self.rows, self.before = stored["rows"], stored["seconds"]
        self.begin = time.perf_counter()
        self.about = {"machine": machine(), "command": command(), "channels": CHANNELS, "numbers": len(NUMBERS)}

    def find(self, settings: Row) -> Row | None:
        return next((row for row in self.rows if settings.items() <= row.items()), None)

    def get(self, settings: Row, work: Callable[[], Row]) -> Row:
        """The row of these settings, done now unless it is there."""
        found = self.find(settings)
        if found is None:
            found = {**settings, **work()}
            self.rows.append(found)
            self.save()
        print(json.dumps(found), flush=True)
        return found

    def save(self) -> None:
        if self.out is None:
            return
        about = {**self.about, "seconds": self.before + time.perf_counter() - self.begin}
        rows = ",\n  ".join(json.dumps(row) for row in self.rows)
        head = json.dumps(about, indent=1)[:-2]
        self.out.write_text(f'{head},\n "rows": [\n  {rows}\n ]\n}}\n')


def outcome(acts: torch.Tensor, numbers: torch.Tensor, null: str, surrogates: int, seed: int) -> CircleTest:
    torch.set_num_threads(1)
    return circle_test(acts, numbers, null=null, surrogates=surrogates, seed=seed, sensitivity=False, progress=False)


def p_value(null: str, kind: str, surrogates: int, seed: int) -> tuple[float, bool]:
    """Of one background without a circle, and whether the test warns of its own null."""
    found = outcome(background(kind, NUMBERS, CHANNELS, seed=seed), NUMBERS, null, surrogates, seed)
    return found.p_value, any("cannot support" in text for text in found.warnings)


@lru_cache(maxsize=1)
def rows_of(model: str, layer: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Activations that ship with the package."""
    found = interpkern.data.numbers(model)
    return found[layer], found.numbers


def found(kind: str, period: float, share: float, surrogates: int, slack: float, seed: int) -> bool:
    """Whether one planted circle is found at its period."""
    if kind in BACKGROUNDS:
        rows, numbers = background(kind, NUMBERS, CHANNELS, seed=seed), NUMBERS
    else:
        model, layer = kind.split()
        rows, numbers = rows_of(model, int(layer))
    test = outcome(plant_circle(rows, numbers, period, share, seed=seed), numbers, "coloured", surrogates, seed)
    return test.p_value <= 0.05 and abs(test.period / period - 1) < slack


def rates(p: Sequence[float]) -> Row:
    """Rejection rates at each level."""
    return {f"rejects at {level}": sum(value <= level for value in p) / len(p) for level in LEVELS}


def sizes(rows: Rows, run: Run, args: argparse.Namespace) -> None:
    """Of both nulls on every background."""

    def row(null: str, kind: str) -> Row:
        outcomes = run(partial(p_value, null, kind, args.surrogates), range(args.sets))
        return {**rates([p for p, _ in outcomes]), "warns": sum(warns for _, warns in outcomes) / len(outcomes)}

    for null in ("permutation", "coloured"):
        for kind in BACKGROUNDS:
            settings = {"section": "sizes", "null": null, "background": kind, "sets": args.sets}
            rows.get({**settings, "surrogates": args.surrogates}, partial(row, null, kind))


def uniformity(rows: Rows, run: Run, args: argparse.Namespace) -> None:
    """Kolmogorov-Smirnov: of permutation's p in both directions, of the coloured null's whether it is too small."""

    def row(null: str) -> Row:
        p = [
            p
            for p, _ in run(
                partial(p_value, null, "independent", args.surrogates), range(10_000, 10_000 + args.ks_sets)
            )
        ]
        sides = "two-sided" if null == "permutation" else "greater"
        ks = float(stats.kstest(p, "uniform", alternative=sides).pvalue)
        return {"ks_p": ks, "alternative": sides, "smallest_p": min(p), **rates(p)}

    for null in ("permutation", "coloured"):
        settings = {"section": "uniformity", "null": null, "sets": args.ks_sets, "surrogates": args.surrogates}
        rows.get(settings, partial(row, null))


def planted(rows: Rows, run: Run, args: argparse.Namespace) -> None:
    """Of 20 circles, those that are found with their period within 3 %."""
    period, share = PLANTED
    for kind in PLANTED_IN:
        settings = {"section": "planted", "background": kind, "period": period, "share": share, "sets": 20}
        work = partial(found, kind, period, share, args.surrogates, EXACTLY)
        rows.get(
            {**settings, "surrogates": args.surrogates}, lambda work=work: {"found": sum(run(work, range(20))) / 20}
        )


def power(rows: Rows, run: Run, args: argparse.Namespace) -> None:
    """Circles found at their period to a tenth, by period and share of the background's variance."""

    def row(kind: str, period: float, share: float) -> Row:
        seen = run(partial(found, kind, period, share, args.power_surrogates, NEAR), range(args.power_sets))
        return {"found": sum(seen) / len(seen)}

    for kind in POWER_BACKGROUNDS:
        for period in PERIODS:
            for share in SHARES:
                settings = {"section": "power", "background": kind, "period": period, "share": share}
                settings |= {"sets": args.power_sets, "surrogates": args.power_surrogates}
                if rows.get(settings, partial(row, kind, period, share))["found"] == 1.0:
                    break


def bounds(rows: Rows, run: Run, args: argparse.Namespace) -> None:
    """Where the covariance is known: 80 % power at .05 over the frequencies, by Bonferroni."""
    n = NUMBERS.double()
    for kind in ("smooth in n", "smooth in ln n", "independent"):
        for period in PERIODS:
            settings = {"section": "bounds", "background": kind, "period": period}
            rows.get(settings, partial(bound, kind, n, period))


def bound(kind: str, n: torch.Tensor, period: float) -> Row:
    """The share whose pair, seen through the inverse of the covariance, is found with 80 % power."""
    left = residuals(checked(torch.randn(len(n), CHANNELS), n), "log", CHANNELS, "default")
    covariance = covariance_of(kind, n)
    centre = torch.eye(len(n)).double() - 1 / len(n)
    circle = waves(left.positions, torch.tensor([1 / period], dtype=torch.float64))[..., 0]
    circle = circle - circle.mean(0)
    projection = torch.eye(len(n)).double() - left.nuisance @ left.nuisance.mT
    inverse = torch.linalg.pinv(projection @ covariance @ projection, hermitian=True)
    variance = CHANNELS * float((centre @ covariance).trace())
    each = float((circle.mT @ inverse @ circle).trace() / circle.square().sum()) * variance
    critical = stats.chi2.isf(0.05 / CYCLES, 2 * CHANNELS)
    needed = optimize.brentq(lambda size: stats.ncx2.sf(critical, 2 * CHANNELS, size) - 0.8, 1e-3, 1e4)
    return {"share": needed / each}


def covariance_of(kind: str, n: torch.Tensor) -> torch.Tensor:
    """(N, N) of the simulated background."""
    if kind == "independent":
        return torch.eye(len(n), dtype=torch.float64)
    positions = n / 60 if kind == "smooth in n" else n.log() / 0.5
    return torch.exp(-0.5 * (positions[:, None] - positions).square()) + NOISE**2 * torch.eye(len(n)).double()


def models(rows: Rows, run: Run, args: argparse.Namespace) -> None:
    """Both nulls at each layer."""
    for model in ("minilm", "smollm2"):
        for layer in interpkern.data.numbers(model).layers:
            for null in ("permutation", "coloured"):
                settings = {"section": "models", "model": model, "layer": layer, "null": null, "surrogates": 199}
                rows.get(settings, partial(at_layer, model, layer, null))


def at_layer(model: str, layer: int, null: str) -> Row:
    test = outcome(*rows_of(model, layer), null, 199, 0)
    figures = {"p_value": test.p_value, "period": test.period, "power": test.power, "best_lambda": test.best_lambda}
    return {**figures, "extrapolation": test.extrapolation.gain, "verdict": test.verdict}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sections", nargs="+", choices=SECTIONS, default=SECTIONS)
    parser.add_argument("--sets", type=int, default=200)
    parser.add_argument("--ks-sets", type=int, default=500)
    parser.add_argument("--power-sets", type=int, default=10)
    parser.add_argument("--surrogates", type=int, default=99)
    parser.add_argument("--power-surrogates", type=int, default=99)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    rows = Rows(args.out)
    torch.set_num_threads(1)
    work = {
        "sizes": sizes,
        "uniformity": uniformity,
        "planted": planted,
        "power": power,
        "bounds": bounds,
        "models": models,
    }
    with ProcessPoolExecutor(args.processes, mp_context=get_context("spawn")) as pool:

        def run(each: Callable[[int], Any], seeds: range) -> list:
            return list(pool.map(each, seeds, chunksize=max(1, len(seeds) // (4 * args.processes))))

        for section in args.sections:
            work[section](rows, run, args)


if __name__ == "__main__":
    main()
