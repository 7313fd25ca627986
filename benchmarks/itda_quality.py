"""Quality of ITDA on real activations: the table of recipes, and rules for choosing atoms, at equal size.

python benchmarks/make_data.py minilm DIR --rows 60000 --max-tokens 128    (and smollm2, 30000 rows)
python benchmarks/itda_quality.py --minilm DIR --smollm2 DIR --out benchmarks/results/itda_quality.json
"""

import argparse
import json
import math
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch

from benchmarks.paired import command, machine
from benchmarks.selection_rules import CORE, RULES, Problem
from interpkern.activations import Activations
from interpkern.activations.rows import default_labels
from interpkern.itda import ITDA, metrics
from interpkern.itda.evaluation import DEFAULT, evaluate, held_out_rows
from interpkern.itda.rows import MASSIVE, Rows
from interpkern.ops.gram import Gram
from interpkern.ops.matching_pursuit import matching_pursuit

HOLDOUT = 0.2


def recipes(source: Activations, arguments: argparse.Namespace) -> dict[str, Any]:
    """The table of `interpkern itda eval`."""
    begin = time.perf_counter()
    found = evaluate(
        source, atoms=arguments.atoms, k=arguments.k, holdout=HOLDOUT, threads=arguments.threads, progress=False
    )
    print(found, flush=True)
    table = json.loads(json.dumps(asdict(found)))
    return _finite(table | {"seconds": time.perf_counter() - begin})


def rules(source: Activations, threshold: float, seed: int, arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Held-out FVU of every rule on one split, by OMP, without massive tokens."""
    values, labels = source.tensor().float(), source.labels
    norm = values.norm(dim=1)
    ordinary = norm <= MASSIVE * norm.median()
    held_out = held_out_rows(labels, HOLDOUT, seed)
    train, test = values[ordinary & ~held_out], values[ordinary & held_out]
    numbers = default_labels(0, len(train))
    rows = Rows(train, numbers, torch.full((len(train),), -1), numbers[:, 0])
    itda = ITDA(k=arguments.k, threshold=threshold, max_atoms=arguments.atoms, threads=arguments.threads)
    problem = Problem(rows, itda.fit(train, numbers), seed, arguments.threads)
    return [_judged(name, problem, test, seed) for name in (RULES if seed == 0 else CORE)]


def massive_fitted_too(source: Activations, threshold: float, arguments: argparse.Namespace) -> dict[str, Any]:
    """The default fitted with the tokens of massive norm, which move its mean, judged as the others are."""
    held_out = held_out_rows(source.labels, HOLDOUT, 0)
    train, test = source[~held_out], source[held_out]
    itda = ITDA(k=arguments.k, threshold=threshold, max_atoms=arguments.atoms, threads=arguments.threads).fit(train)
    return {"atoms": len(itda), "ordinary": _finite(asdict(metrics(itda, test, progress=False).ordinary))}


def _judged(name: str, problem: Problem, test: torch.Tensor, seed: int) -> dict[str, Any]:
    begin = time.perf_counter()
    chosen = RULES[name](problem)
    seconds = time.perf_counter() - begin
    gram = Gram(problem.unit[chosen], threads=problem.threads)
    code = matching_pursuit(
        test - problem.itda.mean,
        gram.atoms,
        problem.itda.settings.k,
        method="omp",
        gram=gram,
        threads=problem.threads,
        progress=False,
    )
    error = float(code.residual_norm.double().square().sum())
    fvu = error / float((test - test.mean(0)).double().square().sum())
    used = int(code.indices[code.indices >= 0].unique().numel())
    line = {"rule": name, "seed": seed, "atoms": len(chosen.unique()), "fvu": fvu, "dead_atoms": len(chosen) - used}
    print(f"{name:45s} seed {seed} {line['atoms']} atoms, FVU {fvu:.5f}, {seconds:.0f} s", flush=True)
    return line | {"seconds": seconds}


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _finite(part) for name, part in value.items()}
    if isinstance(value, list):
        return [_finite(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def main() -> None:
    """Measure the models whose folders are given; other models that the result file has stay in it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minilm", type=Path, help="folder of activations")
    parser.add_argument("--smollm2", type=Path, help="folder of activations")
    parser.add_argument("--atoms", type=int, default=4096)
    parser.add_argument("--k", type=int, default=32)
    parser.add_argument("--seeds", type=int, default=2, help="splits for the selection rules")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--out", type=Path, help="JSON file to write")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    for name in ("smollm2", "minilm"):
        if (folder := getattr(arguments, name)) is not None:
            measured = model(Activations(folder), arguments)
            if arguments.out:
                known = json.loads(arguments.out.read_text()) if arguments.out.exists() else {}
                arguments.out.write_text(json.dumps(known | {name: measured}, indent=1) + "\n")


def model(source: Activations, arguments: argparse.Namespace) -> dict[str, Any]:
    """Everything about one model."""
    table = recipes(source, arguments)
    threshold = next(line["threshold"] for line in table["variants"] if line["name"] == DEFAULT)
    lines = [line for seed in range(arguments.seeds) for line in rules(source, threshold, seed, arguments)]
    return {
        "command": command(),
        "machine": machine(),
        "origin": source.origin,
        "rows": len(source),
        "recipes": table,
        "massive_fitted_too": massive_fitted_too(source, threshold, arguments) if table["massive_tokens"] else None,
        "selection": lines,
    }


if __name__ == "__main__":
    main()
