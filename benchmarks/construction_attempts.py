"""Two ways to a better construction than the zigzag that did not lead there.

python benchmarks/construction_attempts.py --out benchmarks/results/construction_attempts.json

directions: a zigzag along a line through rows in d dimensions, found by annealing on the units that the columns need,
for tables of 512 x 512; ties are rows that fall together, which no zigzag tells apart. offsets: hidden units that look
along random directions with signs that are fixed too; for each column of 64 facts Adam searches the offsets alone.
"""

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy
import torch
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.paired import command, machine
from interpkern.memorisation import random_tables
from interpkern.memorisation.zigzag import crossing_counts

SIDE, DIMENSIONS, SECONDS = 512, (1, 2, 4, 8, 16, 32), 15.0
GRID = 64
"""Places and directions are integers up to this, so that float32 adds them up exactly."""
SHARPNESS, TIE = 0.6, 3.0
COLUMN, COLUMNS, STEPS = 64, 16, 3000


def parameters(units: int, dimensions: int) -> int:
    """P1 of a zigzag."""
    return units * (SIDE + dimensions + 2) + 1


def along(table: NDArray, places: NDArray, direction: NDArray) -> tuple[float, int, int]:
    """A soft maximum over columns of the units that they need, that maximum, and ties."""
    positions = places @ direction
    order = numpy.argsort(positions, kind="stable")
    counts = crossing_counts(table, order)
    ties = int((numpy.diff(positions[order]) == 0).sum())
    soft = numpy.log(numpy.exp(SHARPNESS * (counts - SIDE / 2)).sum()) / SHARPNESS
    return float(soft) + TIE * ties, int(counts.max()), ties


def annealed(table: NDArray, dimensions: int) -> dict[str, Any]:
    """The best line that some seconds of annealing find."""
    generator = numpy.random.default_rng([0, dimensions])
    places = generator.integers(-GRID, GRID + 1, size=(SIDE, dimensions))
    if dimensions == 1:
        places = numpy.arange(SIDE)[:, None]
    direction = generator.integers(1, GRID + 1, size=dimensions)
    now = best = along(table, places, direction)
    start, tried = time.perf_counter(), 1
    while (passed := (time.perf_counter() - start) / SECONDS) < 1 and dimensions > 1:
        step = numpy.zeros(dimensions, dtype=int)
        step[generator.integers(dimensions)] = round(generator.normal() * GRID * 10 ** generator.uniform(-1.8, -0.3))
        near = numpy.clip(direction + step, -GRID, GRID)
        found = along(table, places, near)
        tried += 1
        if generator.random() < numpy.exp(min(0.0, (now[0] - found[0]) / (0.5 * (1 - passed) ** 2 + 1e-3))):
            direction, now = near, found
            best = min(best, found)
    _, units, ties = best
    bits = SIDE * SIDE / parameters(units, dimensions) if not ties else 0.0
    return {"dimensions": dimensions, "lines": tried, "units": units, "ties": ties, "bits_per_P1": bits}


def offsets(dimensions: int, units: int) -> dict[str, Any]:
    """How many columns, and facts, offsets alone get right."""
    generator = torch.Generator().manual_seed(0)
    facts = random_tables(1, COLUMN, COLUMNS)[0].T.float()
    directions = torch.nn.functional.normalize(torch.randn(units, dimensions, generator=generator))
    rows = torch.randn(COLUMN, dimensions, generator=generator) @ directions.T
    signs = torch.ones(units)
    signs[1::2] = -1
    free = torch.randn(COLUMNS, 1, units, generator=generator).requires_grad_()
    optimiser = torch.optim.Adam([free], lr=0.03)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, STEPS)
    for _ in range(STEPS):
        logits = 4 * torch.relu(rows + free) @ signs
        optimiser.zero_grad()
        torch.nn.functional.binary_cross_entropy_with_logits(logits, facts, reduction="sum").backward()
        optimiser.step()
        schedule.step()
    right = (torch.relu(rows + free.detach()) @ signs > 0) == facts.bool()
    share = {"columns_right": int(right.all(1).sum()), "facts_right": float(right.double().mean())}
    return {"dimensions": dimensions, "units": units, "columns": COLUMNS, "facts_a_column": COLUMN} | share


def main() -> None:
    """Try both, print what they reach, and write the result file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="JSON file to write")
    arguments = parser.parse_args()
    about = {"machine": machine(), "command": command(), "seconds_a_line": SECONDS}
    table = random_tables(1, SIDE, SIDE)[0].numpy().astype(bool)
    found: dict[str, list] = {"directions": [], "offsets": []}
    for dimensions in DIMENSIONS:
        found["directions"].append(annealed(table, dimensions))
        print(found["directions"][-1], flush=True)
    for dimensions in (1, 2, 4, 8):
        found["offsets"].append(offsets(dimensions, 36))
        print(found["offsets"][-1], flush=True)
    if arguments.out:
        arguments.out.write_text(json.dumps(about | found, indent=1) + "\n")


if __name__ == "__main__":
    main()
