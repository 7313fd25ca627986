"""CE score of dictionaries at one layer of SmolLM2: what replacing activations costs the model's prediction.

    python benchmarks/make_data.py smollm2 DIR --rows 30000 --max-tokens 128
    python benchmarks/itda_ce_score.py --activations DIR --threads 1 --out benchmarks/results/itda_ce_score.json

The paper's recipe, the default and `refine`, each of the same size, built from the tokens of four fifths of the prompts
but those of massive norm, and measured on prompts held out, the same as in itda_quality.py. Massive tokens, the first
of every text above all, are not what these dictionaries were built for, so the score to read is `ordinary`, for which
they stay as they are. One more dictionary is built from all tokens, and its score with all tokens replaced is beside
them.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch

from benchmarks.paired import command, machine
from interpkern.activations import Activations
from interpkern.files import write_atomically
from interpkern.itda import ITDA, ce_score, metrics, refine
from interpkern.itda.evaluation import DEFAULT, PAPER, held_out_rows
from interpkern.itda.rows import MASSIVE, Rows, joined
from interpkern.itda.sized import Recipe
from interpkern.itda.streams import open_stream

HOLDOUT, SEED, K = 0.2, 0, 32
REFINED, WITH_MASSIVE = "default + refine", "default, fitted with massive tokens too"
STARTS = {PAPER: 3284.917415178608, DEFAULT: 0.1916966003158341}
"""Where the search for thresholds begins: those of 4,096 atoms in itda_quality.json, for the same dictionaries."""


@dataclass(frozen=True)
class Divided:
    """What dictionaries are built from, and what they are judged on."""

    all_tokens: Rows
    ordinary: Rows
    """Those among them that are not massive."""
    test: Activations
    """The tokens of the texts."""
    texts: list[list[int]]
    """Token ids of prompts held out."""


def divided(source: Activations, texts: int) -> Divided:
    """Four fifths of the prompts, and the first `texts` of the others."""
    assert source.labels is not None
    assert source.tokens is not None
    held_out = held_out_rows(source.labels, HOLDOUT, SEED)
    norms = torch.cat([torch.linalg.vector_norm(batch.float(), dim=1) for batch, _ in source.batches()])
    ordinary = norms <= MASSIVE * norms.median()
    prompts = source.labels[:, 0]
    judged = prompts[held_out].unique()[:texts]
    return Divided(
        rows_of(source[~held_out]),
        rows_of(source[~held_out & ordinary]),
        source[torch.isin(prompts, judged)],
        [source.tokens[prompts == prompt].tolist() for prompt in judged],
    )


def rows_of(source: Activations) -> Rows:
    """All rows in memory."""
    return joined([batch.as_float32() for batch in open_stream(source).batches()])


def dictionaries(data: Divided, atoms: int, threads: int) -> Iterator[tuple[str, ITDA]]:
    """Those of one size."""
    recipe = Recipe(data.ordinary, K, "auto", threads)
    yield PAPER, recipe.of_size(atoms, STARTS[PAPER], method="mp", centre=False, relative=False)
    default = recipe.of_size(atoms, STARTS[DEFAULT])
    yield DEFAULT, default
    yield REFINED, refine(default, data.ordinary.values, data.ordinary.labels, seed=SEED, progress=False)
    yield WITH_MASSIVE, Recipe(data.all_tokens, K, "auto", threads).of_size(atoms, default.threshold)


def measured(name: str, itda: ITDA, bridge: Any, data: Divided, hook: str) -> dict[str, Any]:
    """One line of the result."""
    begin = time.perf_counter()
    found = ce_score(itda, bridge, data.texts, hook, progress=False)
    quality = metrics(itda, data.test, progress=False)
    print(f"{name:45s} {len(itda):6,} atoms, FVU {quality.ordinary.fvu:.4f}, {found}", flush=True)
    return {
        "recipe": name,
        "atoms": len(itda),
        "threshold": itda.threshold,
        "fvu_of_ordinary_tokens": quality.ordinary.fvu,
        "distinct_l0": quality.ordinary.distinct_l0,
        "ce": asdict(found),
        "seconds_of_measuring": round(time.perf_counter() - begin, 1),
    }


def main() -> None:
    """Build and measure all dictionaries, print them, and write the result file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--activations", type=Path, required=True, help="folder that make_data.py wrote, of smollm2")
    parser.add_argument("--atoms", type=int, nargs="+", default=[1024, 4096])
    parser.add_argument("--texts", type=int, default=32, help="prompts held out that are run through the model")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--out", type=Path, help="JSON file to write")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    os.environ["HF_HUB_OFFLINE"] = "1"
    from transformer_lens.model_bridge import TransformerBridge

    from interpkern.models import get

    begin = time.perf_counter()
    source = Activations(arguments.activations)
    model, hook = source.origin["model"], source.origin["hook"]
    bridge = TransformerBridge.boot_transformers(str(get(model)), dtype=torch.float32, device="cpu")
    data = divided(source, arguments.texts)
    lines = [
        measured(name, itda, bridge, data, hook)
        for atoms in arguments.atoms
        for name, itda in dictionaries(data, atoms, arguments.threads)
    ]
    results = {
        "machine": machine(),
        "command": command(),
        "origin": source.origin,
        "k": K,
        "holdout": HOLDOUT,
        "seed": SEED,
        "built_from_tokens": {"ordinary": len(data.ordinary), "all": len(data.all_tokens)},
        "texts": len(data.texts),
        "dictionaries": lines,
        "seconds": round(time.perf_counter() - begin),
    }
    if arguments.out:
        write_atomically(arguments.out, (json.dumps(results, indent=1) + "\n").encode())


if __name__ == "__main__":
    main()
