"""Real activations that ship with interpkern, for tests, demos and first steps."""

from pathlib import Path

from interpkern.activations import Activations
from interpkern.validation import choice

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
