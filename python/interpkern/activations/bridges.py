"""What every run of a TransformerLens bridge needs: a hook point that it has, texts side by side, and no dropout."""

import difflib
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from interpkern.errors import DTypeError


def check_hook(bridge: Any, hook: Any) -> None:
    """Refuse what is no bridge, and a hook point that it does not have."""
    if not (hasattr(bridge, "hook_dict") and hasattr(bridge, "run_with_cache")):
        raise DTypeError(
            f"bridge: expected a transformer_lens TransformerBridge, got {type(bridge).__name__}; make one with"
            " TransformerBridge.boot_transformers(folder)"
        )
    if not isinstance(hook, str):
        raise DTypeError(f"hook: expected the name of a hook point, got {hook!r}")
    if hook not in bridge.hook_dict:
        close = difflib.get_close_matches(hook, bridge.hook_dict, n=3)
        raise ValueError(
            f"hook: this model has no {hook!r}. Did you mean {' or '.join(map(repr, close)) or 'another'}?"
        )


def hook_layer(hook: str) -> int | None:
    """The layer of a hook point, None where it is in none."""
    found = re.match(r"blocks\.(\d+)\.", hook)
    return int(found[1]) if found else None


def padded(ids: Sequence[Sequence[int]], device: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """(P, S) int64 token ids, filled up with 0, and a mask of the same shape and type: 1 where there is a token."""
    longest = max(map(len, ids))
    tokens = [[*text, *[0] * (longest - len(text))] for text in ids]
    mask = [[1] * len(text) + [0] * (longest - len(text)) for text in ids]
    return torch.tensor(tokens, device=device), torch.tensor(mask, device=device)


@contextmanager
def evaluating(bridge: Any) -> Iterator[None]:
    """Without dropout and gradients, and afterwards as it was."""
    training = bridge.training
    bridge.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        bridge.train(training)
