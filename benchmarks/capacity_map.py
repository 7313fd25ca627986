"""How long the map of m = 32 takes: 49 shapes x 16 seeds x 20,000 updates, and how long `interpkern capacity` said.

python benchmarks/capacity_map.py --out benchmarks/results/capacity_map.json
"""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.paired import command, machine
from interpkern.memorisation import capacity_sweep


def main() -> None:
    """Run the study in a folder of its own, print the times, and write the result file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="JSON file to write")
    arguments = parser.parse_args()
    said: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        found = capacity_sweep(Path(folder) / "runs", study="map", sizes=(32,), seeds=16, steps=20_000, say=said.append)
        seconds = time.perf_counter() - start
    result = {
        "machine": machine(),
        "command": command(),
        "threads": found.provenance["threads"],
        "shapes": len(found.shapes()),
        "models": len(found.models),
        "updates": 20_000,
        "said": said[0].split("; ")[1].split(",")[0],
        "seconds": seconds,
        "model_steps_per_second": len(found.models) * 20_000 / seconds,
    }
    print(json.dumps({name: result[name] for name in ("shapes", "models", "said", "seconds")}))
    if arguments.out:
        arguments.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
