"""What the memorisation lab promises of its files and its speed, on the committed sweep.

python benchmarks/memorisation_acceptance.py --out benchmarks/results/memorisation_acceptance.json

damage: every file of the sweep, cut to 16 lengths, and with a bit flipped in each of up to 1,000 bytes; how many are
taken for whole. circuits: how long it takes to take models apart. notebook: how long examples/memorisation.ipynb runs.
"""

import argparse
import json
import os
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.paired import command, machine
from interpkern.memorisation import TableMLPs, circuits, memorise, random_tables
from interpkern.runs import Damaged, Store
from interpkern.runs.packing import unpack, unpack_json

ROOT = Path(__file__).resolve().parent.parent
SWEEP = ROOT / "benchmarks" / "results" / "memorisation_lab"
CUTS, FLIPS = 16, 1000
MODELS, SHAPE = 2048, (32, 32, 20, 20)


def readers() -> Iterator[tuple[Path, Callable[[bytes], Any]]]:
    """Every file of the sweep, and what reads its bytes."""
    store = Store(SWEEP)
    cells = {cell.name: cell for study in store.plans() for cell in store.read_plan(study)[0]}
    for cell in cells.values():
        yield store.path(cell), lambda content, cell=cell: unpack(cell, content)
    for study in store.plans():
        yield SWEEP / f"{study}.json", unpack_json


def damaged(whole: bytes, chance: random.Random) -> Iterator[tuple[str, bytes]]:
    """The bytes, cut and flipped."""
    lengths = [0, 1, len(whole) // 2, len(whole) - 1, *chance.sample(range(2, len(whole) - 1), CUTS - 4)]
    for length in lengths:
        yield "cuts", whole[:length]
    for byte in chance.sample(range(len(whole)), min(FLIPS, len(whole))):
        flipped = bytearray(whole)
        flipped[byte] ^= 1 << chance.randrange(8)
        yield "flips", bytes(flipped)


def damage() -> dict[str, int]:
    """Counts of what was done to the files, and of what nobody noticed."""
    counts = {"files": 0, "cuts": 0, "flips": 0, "not noticed": 0}
    chance = random.Random(0)
    for path, read in readers():
        whole = path.read_bytes()
        read(whole)
        counts["files"] += 1
        for kind, content in damaged(whole, chance):
            counts[kind] += 1
            try:
                read(content)
                counts["not noticed"] += 1
            except Damaged:
                pass
    return counts


def circuit_seconds() -> dict[str, Any]:
    """Of all figures of models as they are drawn, whose units are as many and as active as those of trained ones."""
    rows, cols, d_model, d_hidden = SHAPE
    models = TableMLPs.init(MODELS, rows, cols, d_model, d_hidden)
    run = memorise(models, random_tables(MODELS, rows, cols), steps=0)
    start = time.perf_counter()
    frame = circuits(run).to_pandas()
    return {"models": len(frame), "units": MODELS * d_hidden, "seconds": time.perf_counter() - start}


def notebook_seconds() -> float:
    """Of all its cells, one after the other, in an empty folder."""
    cells = json.loads((ROOT / "examples" / "memorisation.ipynb").read_text())["cells"]
    os.environ["MPLBACKEND"] = "Agg"
    names: dict[str, Any] = {"__name__": "__main__"}
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        for cell in cells:
            if cell["cell_type"] == "code":
                exec("".join(cell["source"]), names)
        os.chdir(ROOT)
    return time.perf_counter() - start


def main() -> None:
    """Do all three, print what came out, and write the result file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="JSON file to write")
    out = parser.parse_args().out
    about = {"machine": machine(), "command": command(), "threads": torch.get_num_threads()}
    found = {"circuits": circuit_seconds(), "notebook": {"seconds": notebook_seconds()}, "damage": damage()}
    print(json.dumps(found, indent=1))
    if out:
        (ROOT / out).write_text(json.dumps(about | found, indent=1) + "\n")


if __name__ == "__main__":
    main()
