"""Prompts of arithmetic whose operands and answers are one token each, as a model's tokenizer cuts them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from interpkern.activations.tokenising import token_ids
from interpkern.errors import DTypeError
from interpkern.probing.bases import number_array
from interpkern.validation import choice

OPERATORS: dict[str, Callable[[int, int], int]] = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
}
SHOWN = 8
"""Numbers that a message names."""
Encode = Callable[[str], Sequence[int]]


@dataclass(frozen=True, eq=False)
class Prompts:
    """Some prompts with what they are about."""

    tokens: torch.Tensor
    """(P, S) int64."""
    a: torch.Tensor
    """(P,) float64."""
    b: torch.Tensor
    """(P,) float64."""
    answers: torch.Tensor
    """(P,) int64 token ids; -1 where the answer is more than one token."""

    def __getitem__(self, rows: torch.Tensor) -> "Prompts":
        return Prompts(self.tokens[rows], self.a[rows], self.b[rows], self.answers[rows])

    def __len__(self) -> int:
        return len(self.a)


class Arithmetic:
    """A template of prompts, as one tokenizer cuts it.

    Args:
        bridge: whose tokenizer is used.
        numbers: the operands, integers >= 0.
        template: text with {a} and {b}, and {prefix} and {operator} where they belong.
        operator: "+", "-" or "*": what the answer is.
        prefix: what stands in front, such as an instruction or solved examples.
        encode: gives the token ids of a text, where the bridge has no tokenizer.

    Raises:
        ValueError that names the operands that are more than one token.

    Example:
        >>> Arithmetic(bridge, range(100), "{prefix}{a}{operator}{b}=").positions  # doctest: +SKIP
        {'a': 1, 'b': 3, 'last': 4}
    """

    def __init__(
        self,
        bridge: Any,
        numbers: Any,
        template: str,
        *,
        operator: str = "+",
        prefix: str = "",
        encode: Encode | None = None,
    ) -> None:
        if not isinstance(template, str) or "{a}" not in template or "{b}" not in template:
            raise ValueError(f"template: expected a text with {{a}} and {{b}}, got {template!r}")
        if not isinstance(prefix, str):
            raise DTypeError(f"prefix: expected a text, got {prefix!r}")
        self.numbers = operands(numbers)
        self.operator, self.template, self.prefix = choice("operator", operator, tuple(OPERATORS)), template, prefix
        self._encode = encode or _tokenizer_of(bridge)
        self.length = 0
        self.positions = {"a": self._position("a"), "b": self._position("b"), "last": self.length - 1}

    def text(self, a: int, b: int) -> str:
        """The prompt of two numbers."""
        try:
            return self.template.format(prefix=self.prefix, a=a, b=b, operator=self.operator)
        except (KeyError, IndexError, ValueError) as error:
            raise ValueError(f"template: expected no fields but a, b, prefix and operator, got {error}") from None

    def result(self, a: int, b: int) -> int:
        """What the answer is."""
        return OPERATORS[self.operator](a, b)

    def prompts(self, pairs: Sequence[tuple[int, int]]) -> Prompts:
        """The prompts of pairs of operands."""
        ids = [self._ids(self.text(a, b)) for a, b in pairs]
        for (a, b), one in zip(pairs, ids, strict=True):
            if len(one) != self.length:
                raise ValueError(
                    f"numbers: {self.text(a, b)!r} is {len(one)} tokens and others are {self.length}; the tokenizer"
                    " joins what stands beside the operands: put spaces into the template"
                )
        answers = [self._answer(one, a, b) for one, (a, b) in zip(ids, pairs, strict=True)]
        both = torch.tensor(pairs, dtype=torch.float64).reshape(-1, 2)
        return Prompts(torch.tensor(ids), both[:, 0], both[:, 1], torch.tensor(answers))

    def _ids(self, text: str) -> list[int]:
        return [int(token) for token in self._encode(text)]

    def _position(self, operand: str) -> int:
        """Where an operand is: the one position at which prompts differ that differ in nothing else."""
        other = self.numbers[0]
        texts = [self.text(n, other) if operand == "a" else self.text(other, n) for n in self.numbers]
        ids = [self._ids(text) for text in texts]
        shortest = min(map(len, ids))
        split = [n for n, one in zip(self.numbers, ids, strict=True) if len(one) > shortest]
        if split:
            raise ValueError(
                f"numbers: {len(split)} of {len(ids)} are more than one token to this tokenizer ({_shown(split)}); an"
                f" operand has to be one token: give the others alone, {_shown(sorted(set(self.numbers) - set(split)))}"
            )
        differing = [place for place in range(shortest) if len({one[place] for one in ids}) > 1]
        if len(differing) != 1:
            raise ValueError(
                f"numbers: each of {_shown(self.numbers)} is {len(differing)} tokens to this tokenizer (positions"
                f" {differing} of {texts[0]!r}); an operand has to be one token: give other numbers or another model"
            )
        self.length = shortest
        return differing[0]

    def _answer(self, ids: list[int], a: int, b: int) -> int:
        """The token of the answer, -1 where it is none of its own."""
        whole = self._ids(self.text(a, b) + str(self.result(a, b)))
        return whole[-1] if len(whole) == len(ids) + 1 and whole[:-1] == ids else -1


def operands(numbers: Any) -> list[int]:
    """Different integers >= 0, in rising order."""
    values = number_array("numbers", numbers)
    if not bool(((values >= 0) & (values == values.round())).all()):
        raise ValueError("numbers: expected integers >= 0, got others; operands are written out in prompts")
    found = sorted({int(value) for value in values.tolist()})
    if len(found) < len(values):
        raise ValueError("numbers: expected each number once; leave repeats out")
    if len(found) < 8:
        raise ValueError(f"numbers: expected at least 8 operands, got {len(found)}")
    return found


def _tokenizer_of(bridge: Any) -> Encode:
    if getattr(bridge, "tokenizer", None) is None:
        raise ValueError("encode: this model has no tokenizer; pass a function that gives the token ids of a text")
    return lambda text: token_ids(bridge, text, 1 << 20)


def _shown(numbers: Sequence[int]) -> str:
    if not numbers:
        return "none"
    if len(numbers) > 2 and list(numbers) == list(range(numbers[0], numbers[-1] + 1)):
        return f"{numbers[0]} to {numbers[-1]}"
    return ", ".join(map(str, numbers[:SHOWN])) + (", ..." if len(numbers) > SHOWN else "")
