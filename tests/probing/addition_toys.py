"""A transformer that adds, built by hand: helices in the embedding, one head for each operand, one MLP that adds."""

import re
from collections.abc import Sequence
from typing import Any

import numpy
import torch

NUMBERS = 30
PERIODS = (2, 5, 10, 30)
PLUS, EQUALS, BEGIN = 2 * NUMBERS - 1, 2 * NUMBERS, 2 * NUMBERS + 1
VOCABULARY = 2 * NUMBERS + 2
HELIX, ANSWER, PLACES, NOISE = 8, 20, 5, 7
A, B = slice(HELIX, 2 * HELIX), slice(2 * HELIX, 3 * HELIX)
RESULT = slice(3 * HELIX, 3 * HELIX + ANSWER)
PLACE = slice(RESULT.stop, RESULT.stop + PLACES)
UNREAD = slice(PLACE.stop, PLACE.stop + NOISE)
WIDTH, HEADS, HEAD_WIDTH, HIDDEN = 64, 4, 16, 1000
LAYERS = 3
MOVES_A, MOVES_B = (0, 2), (0, 0)
"""Layer and head that bring an operand to the last position."""
ADDS = 1
"""Layer of the MLP that adds."""


def encode(text: str) -> list[int]:
    """Begin, and then a token for each number, + and =; numbers that are no token come digit by digit."""
    ids = [BEGIN]
    for piece in re.findall(r"\d+|[+=]", text):
        if piece in "+=":
            ids.append(PLUS if piece == "+" else EQUALS)
        elif int(piece) < PLUS:
            ids.append(int(piece))
        else:
            ids += [int(digit) for digit in piece]
    return ids


def split_digits(text: str) -> list[int]:
    """The same with a token for each digit."""
    return [BEGIN, *(int(c) if c.isdigit() else PLUS if c == "+" else EQUALS for c in text)]


def helix(numbers: torch.Tensor, periods: Sequence[float] = PERIODS) -> torch.Tensor:
    """(N, 8): line, cos 2, and cos and sin of three more periods, each of variance 1 or so."""
    columns = [(numbers - NUMBERS / 2) / 9, torch.cos(torch.pi * numbers)]
    for period in periods[1:]:
        angle = 2 * torch.pi * numbers / period
        columns += [1.4 * torch.cos(angle), 1.4 * torch.sin(angle)]
    return torch.stack(columns, 1)


def adder(*, noise: float = 0.0, seed: int = 0) -> Any:
    """A TransformerBridge that adds two numbers below 30; `noise` is the deviation of what nothing reads."""
    from transformer_lens.config import TransformerBridgeConfig
    from transformer_lens.model_bridge import TransformerBridge

    config = TransformerBridgeConfig(
        d_model=WIDTH,
        d_head=HEAD_WIDTH,
        n_heads=HEADS,
        n_layers=LAYERS,
        n_ctx=PLACES,
        d_vocab=VOCABULARY,
        d_mlp=HIDDEN,
        act_fn="relu",
        normalization_type=None,
        seed=seed,
    )
    bridge = TransformerBridge.boot_native(config)
    model = bridge.original_model
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in model.parameters():
            weight.zero_()
        embedding = torch.zeros(VOCABULARY, WIDTH)
        operands = torch.arange(NUMBERS, dtype=torch.float64)
        embedding[:NUMBERS, :HELIX] = helix(operands).float()
        embedding[:NUMBERS, UNREAD] = noise * torch.randn(NUMBERS, NOISE, generator=generator)
        _set(model.tok_embed, embedding)
        places = torch.zeros(PLACES, WIDTH)
        places[:, PLACE] = torch.eye(PLACES)
        _set(model.pos, places)
        _move(model.layers[MOVES_A[0]].attn, MOVES_A[1], 1, A)
        _move(model.layers[MOVES_B[0]].attn, MOVES_B[1], 3, B)
        codes = torch.linalg.qr(torch.randn(2 * NUMBERS, ANSWER, generator=generator, dtype=torch.float64))[0]
        codes = codes / codes.norm(dim=1, keepdim=True)
        _add(model.layers[ADDS].mlp, operands, codes, generator)
        unembedding = torch.zeros(VOCABULARY, WIDTH)
        unembedding[:PLUS, RESULT] = 12 * codes[:PLUS].float()
        _set(model.head, unembedding)
    return bridge


def _weight(module: Any, name: str = "weight") -> torch.Tensor:
    return getattr(getattr(module, "original_component", module), name)


def _set(module: Any, value: torch.Tensor, name: str = "weight") -> None:
    _weight(module, name).copy_(value)


def _move(attention: Any, head: int, place: int, target: slice) -> None:
    """The last position looks at one place and copies its helix."""
    rows = slice(head * HEAD_WIDTH, (head + 1) * HEAD_WIDTH)
    first = rows.start
    _weight(attention.q)[first, PLACE.start + PLACES - 1] = 400.0
    _weight(attention.k)[first, PLACE.start + place] = 1.0
    for dimension in range(HELIX):
        _weight(attention.v)[first + dimension, dimension] = 1.0
        _weight(attention.o)[target.start + dimension, first + dimension] = 1.0


def _add(mlp: Any, operands: torch.Tensor, codes: torch.Tensor, generator: torch.Generator) -> None:
    """Random hidden units, and an output that gives the code of the sum for every pair of operands, all but exactly."""
    a, b = operands.repeat_interleave(NUMBERS), operands.repeat(NUMBERS)
    inner = torch.randn(HIDDEN, 2 * HELIX, generator=generator, dtype=torch.float64) / 4
    bias = torch.randn(HIDDEN, generator=generator, dtype=torch.float64)
    hidden = (torch.cat([helix(a), helix(b)], 1) @ inner.mT + bias).relu()
    wanted = codes[(a + b).long()]
    penalty = torch.eye(len(hidden), dtype=torch.float64)
    outer = hidden.mT @ torch.linalg.solve(hidden @ hidden.mT + penalty, wanted)
    reading = torch.zeros(HIDDEN, WIDTH)
    reading[:, A], reading[:, B] = inner[:, :HELIX].float(), inner[:, HELIX:].float()
    modules = dict(mlp.named_modules())
    enter, leave = (modules.get(name) or modules[f"_original_component.{name}"] for name in ("fc_in", "fc_out"))
    _set(enter, reading)
    _set(enter, bias.float(), "bias")
    writing = torch.zeros(WIDTH, HIDDEN)
    writing[RESULT] = outer.mT.float()
    _set(leave, writing)


def all_pairs() -> list[tuple[int, int]]:
    return [(int(a), int(b)) for a, b in numpy.ndindex(NUMBERS, NUMBERS)]
