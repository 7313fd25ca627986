"""A model whose inside is known: it multiplies by adding logarithms that it holds along one direction."""

from dataclasses import dataclass
from typing import Any

import torch

from interpkern.extras import need
from interpkern.validation import integer, number

CONSTANT, LOGARITHM, DECOY, SUM = 0, 1, 2, 3
"""Directions of the residual, before it is turned."""
FEATURES = 4
TIMES, EQUALS = 0, 1
"""The first tokens; then come the numbers from 1."""


@dataclass(frozen=True, eq=False)
class LogMultiplier:
    """A bridge that answers "a * b =" with exp(ln a + ln b), and what is known of it."""

    bridge: Any
    """TransformerBridge of two layers: the first adds nothing, the second sums over the operands."""
    prompts: torch.Tensor
    """(P, 4) int64 tokens of a, "*", b, "=": all pairs."""
    answers: torch.Tensor
    """(P,) int64 tokens of a b."""
    operands: torch.Tensor
    """(P, 2) int64 positions of a and b."""
    a: torch.Tensor
    """(P,) int64."""
    b: torch.Tensor
    """(P,) int64."""
    log_direction: torch.Tensor
    """(D,) of norm 1, along which the residual of the token n holds ln n; the only one that is read at the operands."""
    decoy_direction: torch.Tensor
    """(D,) of norm 1, along which it holds the logarithms in another order: the same variance, read by nothing."""


def log_multiplier(*, largest: int = 9, width: int = 16, sharpness: float = 8.0, seed: int = 0) -> LogMultiplier:
    """Build a model that multiplies by adding logarithms, as a positive control with a known answer.

    A residual holds a constant, ln n, a decoy and noise along orthogonal directions, turned at random. The last
    position attends to all four tokens alike and so gets s = ln a + ln b. The logit of the number n is
    2 c s ln n - c (ln n)^2 = c s^2 - c (s - ln n)^2, c the sharpness: largest at n = a b.

    Args:
        largest: operands are 1 to this.
        width: D of the residual, at least 6.
        sharpness: c; how much an answer stands out.
        seed: of the turn, the noise and the decoy.

    Returns:
        LogMultiplier, whose accuracy is 1.

    Raises:
        DTypeError or ValueError that names the argument; MissingExtra without transformer_lens.

    Example:
        >>> toy = log_multiplier(largest=5)  # doctest: +SKIP
        >>> bool((toy.bridge(toy.prompts)[:, -1].argmax(1) == toy.answers).all())  # doctest: +SKIP
        True
    """
    largest, width = integer("largest", largest, 2, 40), integer("width", width, FEATURES + 2, 1024)
    sharpness = number("sharpness", sharpness, 1e-3)
    generator = torch.Generator().manual_seed(integer("seed", seed, 0))
    numbers = torch.arange(1, largest**2 + 1)
    turn = torch.linalg.qr(torch.randn(width, width, generator=generator, dtype=torch.float64)).Q
    bridge = _bare_bridge(width, tokens=2 + len(numbers))
    _set_weights(bridge.original_model, _embedding(numbers, largest, width, generator), numbers, turn, sharpness)
    a, b = (pair.flatten() for pair in torch.meshgrid(numbers[:largest], numbers[:largest], indexing="ij"))
    times, equals = (torch.full_like(a, token) for token in (TIMES, EQUALS))
    return LogMultiplier(
        bridge=bridge,
        prompts=torch.stack([token_of(a), times, token_of(b), equals], 1),
        answers=token_of(a * b),
        operands=torch.tensor([0, 2]).repeat(len(a), 1),
        a=a,
        b=b,
        log_direction=turn[LOGARITHM],
        decoy_direction=turn[DECOY],
    )


def token_of(numbers: torch.Tensor) -> torch.Tensor:
    """The tokens of numbers from 1."""
    return numbers + 1


def _bare_bridge(width: int, tokens: int) -> Any:
    """Two layers of attention alone, without normalisation; weights are set later."""
    lens = need("transformer_lens.model_bridge", "probe", "a model built by hand")
    config = need("transformer_lens.config", "probe", "a model built by hand")
    return lens.TransformerBridge.boot_native(
        config.TransformerBridgeConfig(
            d_model=width,
            d_head=width,
            n_heads=1,
            n_layers=2,
            n_ctx=4,
            d_vocab=tokens,
            attn_only=True,
            act_fn="relu",
            normalization_type=None,
            seed=0,
        )
    )


def _embedding(numbers: torch.Tensor, largest: int, width: int, generator: torch.Generator) -> torch.Tensor:
    """(tokens, D) float64 before the turn: the decoy is the logarithms of the operands in a random order."""
    logs = numbers.double().log()
    features = torch.zeros(2 + len(numbers), width, dtype=torch.float64)
    features[:, CONSTANT] = 1
    features[2:, LOGARITHM] = logs
    order = torch.randperm(largest, generator=generator)
    features[2 : 2 + largest, DECOY] = logs[:largest][order]
    noise = torch.randn(len(features), width - FEATURES, generator=generator, dtype=torch.float64)
    features[:, FEATURES:] = noise * float(logs[:largest].std())
    return features


def _set_weights(
    model: Any, embedding: torch.Tensor, numbers: torch.Tensor, turn: torch.Tensor, sharpness: float
) -> None:
    """Directions are rows of `turn`; a linear map of torch has the output in front."""
    logs = numbers.double().log()
    reading = torch.zeros(2 + len(numbers), turn.shape[0], dtype=torch.float64)
    reading[2:, SUM], reading[2:, CONSTANT] = 2 * sharpness * logs, -sharpness * logs.square()
    reading[:2, CONSTANT] = -1e3
    with torch.no_grad():
        for weight in model.parameters():
            weight.zero_()
        model.tok_embed.weight.copy_(embedding @ turn)
        model.head.weight.copy_(reading @ turn)
        attention = model.layers[1].attn
        # four tokens share the attention of the last position, so four times their mean is their sum
        attention.v.weight[0].copy_(turn[LOGARITHM])
        attention.o.weight[:, 0].copy_(4 * turn[SUM])
