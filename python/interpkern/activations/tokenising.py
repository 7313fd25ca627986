"""Texts as token ids, and token ids as words, through whatever tokenizer a bridge brings."""

import re
from collections.abc import Iterable, Sequence
from typing import Any

import torch

from interpkern.activations.manifest import sha256_of
from interpkern.errors import DTypeError

Text = str | Sequence[int]
HEAD = 256


def checked_texts(texts: Iterable[Text]) -> list[Text]:
    """The texts as a list: strings, or lists of token ids; anything else is named."""
    if isinstance(texts, str) or not isinstance(texts, Iterable):
        raise DTypeError(f"texts: expected an iterable of strings, got {type(texts).__name__}; put it in a list")
    found: list[Text] = []
    for number, text in enumerate(texts):
        ids = text.tolist() if hasattr(text, "tolist") else text
        is_ids = isinstance(ids, (list, tuple)) and all(type(token) is int and token >= 0 for token in ids)
        if not (isinstance(ids, str) or is_ids) or len(ids) == 0:
            shown = repr(text)[:60]
            raise DTypeError(f"texts: expected non-empty strings or lists of token ids, got {shown} at {number}")
        found.append(ids if isinstance(ids, str) else list(ids))
    if not found:
        raise ValueError("texts: expected at least one text, got none")
    return found


def texts_sha256(texts: Iterable[Text]) -> str:
    """A hash of texts and their order."""
    return sha256_of(
        text.encode("utf-8", "surrogatepass") if isinstance(text, str) else repr(text).encode() for text in texts
    )


def tokenizer_sha256(tokenizer: Any) -> str | None:
    """A hash of the ids of all tokens, None when there is no tokenizer."""
    if tokenizer is None:
        return None
    vocabulary = sorted((number, token) for token, number in tokenizer.get_vocab().items())
    return sha256_of(f"{number} {token}".encode("utf-8", "surrogatepass") for number, token in vocabulary)


def weights_sha256(bridge: Any, layer: int | None) -> str:
    """A fingerprint of the weights up to a layer, or of all: name, shape, dtype and first numbers of each.

    Heads are left out where a layer is given: a checkpoint without one gets random numbers there at every load.
    """
    lines = []
    for name, weights in sorted(bridge.original_model.state_dict().items()):
        number = re.search(r"\.(\d+)\.", name)
        if layer is None or (number and int(number[1]) <= layer):
            head = weights.detach().reshape(-1)[:HEAD].to("cpu", torch.float32)
            lines.append(f"{name} {tuple(weights.shape)} {weights.dtype}".encode() + head.numpy().tobytes())
    return sha256_of(lines)


def token_ids(bridge: Any, text: Text, most: int) -> list[int]:
    """The first `most` ids of a text, with what the model wants in front (BOS, [CLS])."""
    if not isinstance(text, str):
        return list(text[:most])
    if getattr(bridge, "tokenizer", None) is None:
        raise ValueError("texts: this model has no tokenizer; give lists of token ids instead of strings")
    return [int(token) for token in bridge.to_tokens(text)[0, :most].tolist()]


def words(tokenizer: Any, ids: Iterable[int]) -> dict[int, str]:
    """The text of each id, such that texts side by side read as the original: a leading space belongs to the token."""
    ordered = sorted(set(ids))
    if tokenizer is None:
        return {token: f"<{token}>" for token in ordered}
    special = set(tokenizer.all_special_ids)
    anchor = tokenizer.encode("a", add_special_tokens=False)
    start = tokenizer.decode(anchor, clean_up_tokenization_spaces=False)
    found = {}
    for token, name in zip(ordered, tokenizer.convert_ids_to_tokens(ordered), strict=True):
        after = tokenizer.decode([*anchor, token], clean_up_tokenization_spaces=False)
        found[token] = str(name) if token in special or not after.startswith(start) else after[len(start) :]
    return found
