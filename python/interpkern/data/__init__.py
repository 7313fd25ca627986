"""Real activations that ship with interpkern, for tests, demos and first steps."""

from pathlib import Path
from typing import TYPE_CHECKING

from interpkern.activations import Activations
from interpkern.validation import choice

if TYPE_CHECKING:
    from interpkern.probing.number_sets import NumberActivations

NAMES = ("minilm", "smollm2")


def load(name: str) -> Activations:
    """Open a shipped set of real activations, some 3,200 rows in fp16 with labels, token ids and words.

    Args:
        name: minilm (width 384, input of layer 3) or smollm2 (width 576, input of layer 15; its first position is an
            attention sink, 160 times as long as the median row).

    Returns:
        Activations: what `benchmarks/make_data.py` wrote; `.origin` says from which model and hook.

    Raises:
        ValueError: another name.

    Example:
        >>> activations = interpkern.data.load("minilm")
        >>> print(activations.describe(1, 4))
        [CLS] find longest matching «block» in a [ alo : ahi
    """
    return Activations(Path(__file__).parent / choice("name", name, NAMES))


def numbers(name: str) -> "NumberActivations":
    """Open a shipped set of what a real model holds at numbers, in fp16, for the probing lab.

    Args:
        name: minilm (the 352 of 1 to 360 that are one token, behind [CLS], width 384, all 7 layers) or smollm2 ("The
            number 1" to 360, width 576, 8 of 30 layers; its tokenizer splits numbers into digits).

    Returns:
        NumberActivations: what `benchmarks/make_number_data.py` wrote; `.origin` says from which weights and prompts.

    Raises:
        ValueError: another name.

    Example:
        >>> interpkern.data.numbers("smollm2").layers
        (0, 1, 5, 10, 15, 20, 25, 29)
    """
    from interpkern.probing.number_sets import NumberActivations

    return NumberActivations.load(Path(__file__).parent / "numbers" / f"{choice('name', name, NAMES)}.safetensors")
