"""Layer matching on real layers: SmolLM2-135M against itself, with noise, quantised, and in another stream order.

    python benchmarks/itda_layers.py --out benchmarks/results/itda_layers.json --pictures DIR

Residual streams at 14 layers, the same rows of each; a dictionary a layer. The texts are those of make_data.py; the
weights come from `interpkern models get smollm2`. docs/labs/itda_layers.md says what it shows.
"""

import argparse
import gc
import json
import os
import resource
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.make_data import paragraphs
from benchmarks.paired import machine
from interpkern.files import write_atomically
from interpkern.itda import ITDA, LayerMatch, jaccard, layer_match
from interpkern.itda.rows import MASSIVE

ROWS, MAX_TOKENS, BATCH = 4_000, 64, 4
SETS = {"spread": tuple(range(1, 30, 4)), "neighbours": tuple(range(10, 18))}
LAYERS = tuple(sorted({layer for layers in SETS.values() for layer in layers}))
SETTINGS: dict[str, Any] = {"k": 16, "method": "omp", "threshold": 0.5}
SEED, ORDERS = 0, 4
REFERENCE = "full precision"

Layers = dict[int, torch.Tensor]
Dictionaries = dict[int, ITDA]


@dataclass(frozen=True)
class Change:
    """What is done to each row of every matrix inside the blocks; embedding and norms stay."""

    name: str
    noise: float = 0.0
    """Standard deviation of Gaussian noise, in rms of the row."""
    bits: int | None = None
    """Round to nearest, symmetric, 2^bits - 1 levels, the largest of the row at the end of the range."""

    def of(self, weights: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """The (out, in) matrix as changed."""
        if self.bits is not None:
            step = weights.abs().amax(1, keepdim=True) / (2 ** (self.bits - 1) - 1)
            return (weights / step).round() * step
        rms = weights.square().mean(1, keepdim=True).sqrt()
        return weights + self.noise * rms * torch.randn(weights.shape, generator=generator)


CHANGES = (
    Change("8 bits", bits=8),
    Change("4 bits", bits=4),
    Change("noise 15 %", noise=0.15),  # the error of 4 bits
)


@dataclass(frozen=True)
class Run:
    """One model on all texts."""

    activations: Layers
    """(N, D) float16 a layer."""
    nats: float
    """Mean cross-entropy of the next token."""
    error: float
    """Root mean square change of the matrices, relative to their own; 0 for the model itself."""


def tokens_of(bridge: Any) -> list[list[int]]:
    """The token ids of the first texts that have ROWS tokens together."""
    from interpkern.activations.tokenising import token_ids

    found: list[list[int]] = []
    for text in paragraphs():
        found.append(token_ids(bridge, text, MAX_TOKENS))
        if sum(map(len, found)) >= ROWS:
            break
    return found


def run(bridge: Any, texts: Sequence[list[int]], error: float) -> Run:
    """The residual stream before each layer, in the order of the texts, and the loss."""
    hooks = {layer: f"blocks.{layer}.hook_resid_pre" for layer in LAYERS}
    found: dict[int, list[torch.Tensor]] = {layer: [torch.empty(0)] * len(texts) for layer in LAYERS}
    total, predicted = 0.0, 0
    by_length = sorted(range(len(texts)), key=lambda number: len(texts[number]))
    for start in range(0, len(texts), BATCH):
        numbers = by_length[start : start + BATCH]
        longest = max(len(texts[number]) for number in numbers)
        padded = torch.tensor([texts[number] + [0] * (longest - len(texts[number])) for number in numbers])
        mask = torch.tensor([[place < len(texts[number]) for place in range(longest)] for number in numbers])
        with torch.no_grad():
            logits, cache = bridge.run_with_cache(
                padded, names_filter=list(hooks.values()), attention_mask=mask.to(torch.int64)
            )
        kept = mask[:, 1:]
        total += float(torch.nn.functional.cross_entropy(logits[:, :-1][kept], padded[:, 1:][kept], reduction="sum"))
        predicted += int(kept.sum())
        for layer, hook in hooks.items():
            for place, number in enumerate(numbers):
                found[layer][number] = cache[hook][place, : len(texts[number])].half()
    return Run({layer: torch.cat(parts) for layer, parts in found.items()}, total / predicted, error)


@contextmanager
def changed(bridge: Any, change: Change) -> Iterator[float]:
    """The model with its matrices changed, and back as it was; gives the relative error of the matrices."""
    matrices = [w for name, w in bridge.original_model.named_parameters() if ".layers." in name and w.ndim == 2]
    kept = [weights.detach().half() for weights in matrices]  # lossless: the checkpoint is float16
    generator = torch.Generator().manual_seed(SEED)
    error = power = 0.0
    with torch.no_grad():
        for weights, original in zip(matrices, kept, strict=True):
            weights.copy_(change.of(original.float(), generator))
            error += float((weights - original).square().sum())
            power += float(original.float().square().sum())
        yield (error / power) ** 0.5
        for weights, original in zip(matrices, kept, strict=True):
            weights.copy_(original)


def runs_of_all(say: Any) -> tuple[dict[str, Run], list[list[int]]]:
    """Every model on the same texts."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    from transformer_lens.model_bridge import TransformerBridge

    from interpkern.models import get

    bridge = TransformerBridge.boot_transformers(str(get("smollm2")), dtype=torch.float32, device="cpu")
    texts = tokens_of(bridge)
    say(f"{len(texts)} texts, {sum(map(len, texts))} tokens")
    runs = {REFERENCE: run(bridge, texts, 0.0)}
    for change in CHANGES:
        with changed(bridge, change) as error:
            runs[change.name] = run(bridge, texts, error)
        say(f"{change.name}: weights off by {error:.3g}, {runs[change.name].nats:.3f} nats a token")
    return runs, texts


def ordinary(runs: dict[str, Run]) -> torch.Tensor:
    """(N,) bool: rows that are massive at no layer of no model."""
    massive = []
    for one in runs.values():
        for values in one.activations.values():
            norms = torch.linalg.vector_norm(values, dim=1, dtype=torch.float32)
            massive.append(norms > MASSIVE * norms.median())
    return ~torch.stack(massive).any(0)


def typical(activations: Layers, kept: torch.Tensor) -> Layers:
    """The rows that are kept; the others' memory is freed layer by layer."""
    return {layer: activations.pop(layer)[kept] for layer in LAYERS}


def fitted(activations: Layers, rows: torch.Tensor) -> Dictionaries:
    """A dictionary a layer, of these row numbers in this order, labelled by them."""
    labels = torch.stack([rows, torch.zeros_like(rows)], 1)
    return {layer: ITDA(**SETTINGS, threads=1).fit(values[rows], labels) for layer, values in activations.items()}


def principal_share(values: torch.Tensor) -> float:
    """The share of the variance in its first principal direction, which decides linear CKA where it is large."""
    centred = values.double() - values.double().mean(0)
    power = torch.linalg.eigvalsh(centred.mT @ centred)
    return float(power[-1] / power.sum())


def match_of(layers: Sequence[int], a: Dictionaries, b: Dictionaries, of_a: Any = None, of_b: Any = None) -> LayerMatch:
    """layer_match of some layers, with CKA and SVCCA where activations are given."""
    rows = [None if of is None else [of[layer] for layer in layers] for of in (of_a, of_b)]
    sides = [[dictionaries[layer] for layer in layers] for dictionaries in (a, b)]
    return layer_match(*sides, activations_a=rows[0], activations_b=rows[1], progress=False)


def record(layers: str, name: str, order: str, found: LayerMatch) -> dict[str, Any]:
    """A comparison for the result file."""
    return {
        "set": layers,
        "b": name,
        "order_of_a": order,
        "scores": {measure: found.score(measure) for measure in found.measures},
        "similarities": {measure: rounded(getattr(found, measure)) for measure in found.measures},
        "warnings": list(found.warnings),
    }


def rounded(table: torch.Tensor) -> list[list[float]]:
    """(L, L) numbers of four decimals."""
    return [[round(value, 4) for value in row] for row in table.tolist()]


def corresponding(a: Dictionaries, b: Dictionaries, orders: list[Dictionaries], name: str) -> list[dict[str, Any]]:
    """The Jaccard of each layer with the same layer of b, between its two baselines."""
    found = {layer: jaccard(a[layer], b[layer], other_orders=[one[layer] for one in orders]) for layer in LAYERS}
    return [{"b": name, "layer": layer, **one.to_pandas().iloc[0].to_dict()} for layer, one in found.items()]


def compared(runs: dict[str, Run], kept: torch.Tensor, pictures: Path | None, say: Any) -> dict[str, Any]:
    """All dictionaries, all comparisons with the model itself, and their pictures."""
    activations = {name: typical(one.activations, kept) for name, one in runs.items()}
    full = activations[REFERENCE]
    rows = torch.arange(int(kept.sum()))
    generator = torch.Generator().manual_seed(SEED)
    dictionaries = {name: fitted(values, rows) for name, values in activations.items()}
    reference = dictionaries[REFERENCE]
    other_orders = [fitted(full, rows[torch.randperm(len(rows), generator=generator)]) for _ in range(ORDERS)]
    say("dictionaries are built")
    matches, pairs = [], []
    for name, theirs in dictionaries.items():
        for layers, chosen in SETS.items():
            found = match_of(chosen, reference, theirs, full, activations[name])
            across = [match_of(chosen, other, theirs) for other in other_orders]
            matches.append(record(layers, name, "same", found))
            matches += [record(layers, name, f"another ({number})", one) for number, one in enumerate(across)]
            scores = ", ".join(f"{one.score():.3f}" for one in across)
            say(f"{layers:10} {name:14} {shown(found)}; in other orders {scores}")
            if pictures is not None:
                write_picture(pictures, f"{layers} {name}", found)
                write_picture(pictures, f"{layers} {name} another order", across[0])
        pairs += corresponding(reference, theirs, other_orders, name)
    return {
        "atoms": {name: {layer: len(one) for layer, one in of.items()} for name, of in dictionaries.items()},
        "principal_share": {layer: principal_share(values) for layer, values in full.items()},
        "matches": matches,
        "corresponding_layers": pairs,
    }


def shown(found: LayerMatch) -> str:
    """Each score, and how far the right layer is ahead of the best other on the average."""
    texts = []
    for measure in found.measures:
        table = getattr(found, measure)
        ahead = float((table.diagonal() - table.clone().fill_diagonal_(-torch.inf).amax(1)).mean())
        texts.append(f"{measure} {found.score(measure):.3f} ({ahead:+.3f})")
    return ", ".join(texts)


def write_picture(folder: Path, name: str, found: LayerMatch) -> None:
    """The similarity matrices as PNG."""
    from interpkern.report import png

    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / f"{name.replace(' %', '').replace(' ', '_')}.png", png(found.plot()))


def main() -> None:
    """Run the models, compare their layers, print it, and write the result file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="JSON file to write")
    parser.add_argument("--pictures", type=Path, help="folder for a PNG of each comparison")
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", "order of the rows differs")
    runs, texts = runs_of_all(print)
    gc.collect()  # the model refers to itself, and is large
    kept = ordinary(runs)
    found = compared(runs, kept, options.pictures, print)
    results = {
        "machine": machine(),
        "command": ["benchmarks/itda_layers.py", "--out", str(options.out)],
        "versions": {name: version(name) for name in ("transformer_lens", "transformers")},
        "model": "smollm2 (SmolLM2-135M-Instruct, weights of 4 bits in blocks of 32, kept as float16)",
        "texts": len(texts),
        "tokens": sum(map(len, texts)),
        "rows": int(kept.sum()),
        "hook": "resid_pre",
        "sets": SETS,
        "settings": SETTINGS,
        "changes": [asdict(change) for change in CHANGES],
        "models": {name: {"nats_a_token": one.nats, "error_of_weights": one.error} for name, one in runs.items()},
        **found,
        "cpu_seconds": time.process_time(),
        "peak_memory_megabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }
    print({name: results[name] for name in ("rows", "cpu_seconds", "peak_memory_megabytes")})
    if options.out:
        write_atomically(options.out, (json.dumps(results, indent=1) + "\n").encode())


if __name__ == "__main__":
    main()
