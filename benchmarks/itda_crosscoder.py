"""Cross-coders of real layers beside a dictionary for each layer: what a shared code costs, and what it predicts.

    for layer in 10 15 20; do
        python benchmarks/make_data.py smollm2 DATA/smollm2_l$layer --rows 8000 --max-tokens 128 \
            --hook blocks.$layer.hook_resid_pre
    done
    (the same with minilm and layers 2, 3, 4)
    python benchmarks/itda_crosscoder.py --data DATA --out benchmarks/results/itda_crosscoder.json

Three cases: layers of SmolLM2, layers of MiniLM, and one layer of both, at the tokens after which both have read the
same characters. Four fifths of the prompts are fitted, the last fifth is measured on. Rows whose norm is above ten
times the median at any of the sites are left out at all of them.
"""

import argparse
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch

from benchmarks.paired import command, machine
from interpkern import Activations, CrosscoderITDA
from interpkern.itda import compare_with_separate

K, ATOMS, MASSIVE, FITTED = 32, 1024, 10.0, 0.8
RIDGE = 1e-3
"""Of the linear map, relative to the mean variance of a dimension."""
SPECIAL = ("[CLS]", "[SEP]", "<|im_start|>")

Sites = dict[str, Activations]


def cases(data: Path) -> Iterator[Sites]:
    """Aligned rows of the sites of each case."""
    for model, layers in {"smollm2": (10, 15, 20), "minilm": (2, 3, 4)}.items():
        yield {f"{model} {layer}": Activations(data / f"{model}_l{layer}") for layer in layers}
    yield aligned({"smollm2 15": Activations(data / "smollm2_l15"), "minilm 3": Activations(data / "minilm_l3")})


def aligned(models: Sites) -> Sites:
    """The rows at which both models have read the same characters of a text, by the labels of the first."""
    (first, a), (second, b) = models.items()
    ours, theirs = read_so_far(a), read_so_far(b)
    shared = [text for text in ours if text in theirs]
    labels = a.labels[[ours[text] for text in shared]]
    return {
        site: Activations(rows.tensor()[[at[text] for text in shared]], labels=labels)
        for site, rows, at in ((first, a, ours), (second, b, theirs))
    }


def read_so_far(rows: Activations) -> dict[tuple[int, str], int]:
    """(prompt id, text up to a row without spaces and case) -> number of the row, but for special tokens."""
    found: dict[tuple[int, str], int] = {}
    prompt, text = -1, ""
    for number, (token, label) in enumerate(zip(rows.tokens.tolist(), rows.labels[:, 0].tolist(), strict=True)):
        prompt, text = label, text if label == prompt else ""
        if rows.words[token] not in SPECIAL:
            text += "".join(rows.words[token].split()).lower()
            found[prompt, text] = number
    return found


def divided(sites: Sites) -> tuple[Sites, Sites, dict[str, int]]:
    """What is fitted, what is measured on, and how many rows there are."""
    labels = next(iter(sites.values())).labels
    usual = torch.ones(len(labels), dtype=torch.bool)
    for rows in sites.values():
        norms = torch.linalg.vector_norm(rows.tensor(), dim=1, dtype=torch.float32)
        usual &= norms <= MASSIVE * norms.median()
    early = labels[:, 0] < FITTED * (int(labels[:, 0].max()) + 1)
    fitted, held_out = ({site: rows[usual & part] for site, rows in sites.items()} for part in (early, ~early))
    counts = {"fitted": int((usual & early).sum()), "measured": int((usual & ~early).sum())}
    return fitted, held_out, {"rows": len(labels), "massive": int((~usual).sum()), **counts}


def measured(sites: Sites) -> dict[str, Any]:
    """All figures of one case."""
    fitted, held_out, rows = divided(sites)
    begin = time.process_time()
    crosscoder = CrosscoderITDA(list(sites), k=K, threshold=None, max_atoms=ATOMS, threads=1)
    crosscoder.fit(fitted, progress=False)
    seconds = time.process_time() - begin
    comparison = compare_with_separate(crosscoder, fitted, held_out, progress=False)
    shares = crosscoder.exclusivity()
    print(rows, crosscoder, comparison.to_pandas().to_string(), shares.summary().to_string(), sep="\n")
    return {
        "sites": {site: {"width": part.width, "scale": crosscoder.scales[site]} for site, part in sites.items()},
        "rows": rows,
        "atoms": len(crosscoder),
        "threshold": crosscoder.threshold,
        "cpu_seconds_of_search_for_threshold": seconds,
        "fvu": [asdict(one) for one in comparison.sites],
        "picks_when_split": comparison.split_k,
        "transcoder": list(transcoder(crosscoder, fitted, held_out)),
        "exclusivity": json.loads(shares.summary().to_json(orient="index")),
        "mean_effective_sites": float(shares.effective_sites.mean()),
    }


def transcoder(crosscoder: CrosscoderITDA, fitted: Sites, held_out: Sites) -> Iterator[dict[str, Any]]:
    """FVU of each site from the code of each other site alone, beside a linear map between the two."""
    for source in crosscoder.sites:
        for target, fvu in crosscoder.fvu(held_out, sites=[source]).items():
            linear = None if source == target else linear_map(fitted, held_out, source, target)
            yield {"from": source, "to": target, "fvu": fvu, "fvu_of_linear_map": linear}
            print(f"{source} -> {target}: {fvu:.3f}, linear map {linear}")


def linear_map(fitted: Sites, held_out: Sites, source: Any, target: Any) -> float:
    """FVU of ridge regression, which is as wide as the site and not sparse."""
    x, y = (fitted[site].tensor().double() for site in (source, target))
    means = x.mean(0), y.mean(0)
    x, y = x - means[0], y - means[1]
    products = x.mT @ x
    products.diagonal().add_(RIDGE * products.diagonal().mean())
    weights = torch.linalg.solve(products, x.mT @ y)
    new, wanted = (held_out[site].tensor().double() for site in (source, target))
    left = (wanted - means[1] - (new - means[0]) @ weights).square().sum()
    return float(left / (wanted - wanted.mean(0)).square().sum())


def main() -> None:
    """Measure every case, print it, and write the result file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with smollm2_l10 and so on")
    parser.add_argument("--out", type=Path, help="JSON file to write")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    settings = {"k": K, "max_atoms": ATOMS, "method": "omp", "massive_above": MASSIVE, "share_fitted": FITTED}
    found = [measured(sites) for sites in cases(arguments.data)]
    if arguments.out:
        results = {"machine": machine(), "command": " ".join(command()), "settings": settings, "cases": found}
        arguments.out.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
