"""Train the control that ships as data/modmul59.safetensors: a one-layer transformer that multiplies modulo 59.

    python benchmarks/train_modmul59.py --out python/interpkern/data/modmul59.safetensors

Full batch on half of the pairs, AdamW with weight decay 1, on one core, until it has 99.5 % of the other half right.
"""

import argparse
import shlex
import sys
import time
from pathlib import Path

import torch
from safetensors.torch import save

from interpkern.files import write_atomically
from interpkern.probing.modular import ORDERS, embedding_spectrum, gini
from interpkern.probing.modular_model import MODULUS, ModularTransformer, random_pairs

ENOUGH, CHECK_EVERY = 0.995, 50


def train(model: ModularTransformer, *, steps: int, lr: float, decay: float) -> int:
    """Train in place until the pairs left out are known; returns the updates made."""
    a, b = model.trained_pairs.nonzero(as_tuple=True)
    optimiser = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=decay, betas=(0.9, 0.98))
    start = time.perf_counter()
    for step in range(1, steps + 1):
        loss = torch.nn.functional.cross_entropy(model.logits(a, b), a * b % model.p)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        if step % CHECK_EVERY == 0:
            known = model.accuracy()
            taken = time.perf_counter() - start
            print(f"{step:6d} loss {loss.item():.2e} held out {known:.4f} {taken:.0f} s", flush=True)
            if known >= ENOUGH:
                return step
    return steps


def main() -> None:
    """Train, print what it shows, save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=5000)
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--decay", type=float, default=1.0)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(chosen.seed)
    model = ModularTransformer(MODULUS)
    model.trained_pairs.copy_(random_pairs(MODULUS, 0.5, chosen.seed))
    steps = train(model, steps=chosen.steps, lr=chosen.lr, decay=chosen.decay)
    embedding = model.embedding.detach()
    sparsity = {order: gini(embedding_spectrum(embedding, MODULUS, order)) for order in ORDERS}
    about = {
        "seed": str(chosen.seed),
        "heads": str(model.heads),
        "steps": str(steps),
        "accuracy": f"{model.accuracy():.4f}",
        "gini": ", ".join(f"{order} {value:.3f}" for order, value in sparsity.items()),
        "command": shlex.join(["python", "benchmarks/train_modmul59.py", *sys.argv[1:]]),
        "torch": torch.__version__,
    }
    write_atomically(chosen.out, save(model.state_dict(), metadata=about))
    print(about)


if __name__ == "__main__":
    main()
