"""Which prompts an addition study fits on and which it tests on: other prompts, and other numbers as operands."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from interpkern.probing.addition_prompts import Arithmetic, Prompts
from interpkern.probing.fits import split_numbers

ROUNDS = 20
"""How often new test prompts are drawn before fewer are taken."""


@dataclass(frozen=True, eq=False)
class Pairs:
    """Prompts, and the same prompts with another operand that no fit has seen in its place."""

    prompts: Prompts
    counterfactual: Prompts
    answers: torch.Tensor
    """(P, 2) int64 tokens: the answer and the counterfactual answer."""


@dataclass(frozen=True, eq=False)
class Design:
    """All prompts of a study."""

    arithmetic: Arithmetic
    fitted: Prompts
    """On which activations are read; fits leave out those of a held-out operand."""
    held_out: torch.Tensor
    """(n,) float64 operands that no fit sees, in rising order; they are the counterfactual ones of the tests."""
    tests: dict[str, Pairs]
    """By the operand that is replaced: a or b."""


def make_design(
    arithmetic: Arithmetic, replaced: set[str], *, per_number: int, tested: int, share: float, seed: int
) -> Design:
    """Draw the prompts: each operand `per_number` times on each side, and `tested` test prompts an operand replaced."""
    numbers = torch.tensor(arithmetic.numbers, dtype=torch.float64)
    _, mask = split_numbers(numbers, share, seed)
    generator = torch.Generator().manual_seed(seed)
    pairs: dict[tuple[int, int], None] = {}
    for _ in range(per_number):
        order = torch.randperm(len(numbers), generator=generator).tolist()
        pairs |= {(a, arithmetic.numbers[place]): None for a, place in zip(arithmetic.numbers, order, strict=True)}
    held_out = numbers[mask]
    tests = {
        operand: _tests(arithmetic, operand, set(pairs), held_out, tested, generator) for operand in sorted(replaced)
    }
    return Design(arithmetic, arithmetic.prompts(list(pairs)), held_out, tests)


def _tests(
    arithmetic: Arithmetic,
    operand: str,
    known: set[tuple[int, int]],
    held_out: torch.Tensor,
    count: int,
    generator: torch.Generator,
) -> Pairs:
    """Pairs of prompts outside `known` whose answers are one token each and differ."""
    found: dict[tuple[int, int], tuple[int, int]] = {}
    for _ in range(ROUNDS):
        drawn = dict(_draw(arithmetic.numbers, operand, held_out, 2 * count, generator))
        drawn = {one: new for one, new in drawn.items() if one not in known and new not in known and one not in found}
        if drawn:
            answers = [arithmetic.prompts(list(side)).answers for side in (drawn.keys(), drawn.values())]
            usable = (answers[0] >= 0) & (answers[1] >= 0) & (answers[0] != answers[1])
            found |= {one: drawn[one] for one, good in zip(list(drawn), usable.tolist(), strict=True) if good}
        if len(found) >= count:
            break
    if not found:
        raise ValueError(
            f"numbers: no answer of {arithmetic.text(1, 2)!r} and the like is one token to this tokenizer, so no logit"
            " stands for it; give smaller numbers or another template"
        )
    chosen = list(found.items())[:count]
    prompts, other = arithmetic.prompts([one for one, _ in chosen]), arithmetic.prompts([new for _, new in chosen])
    return Pairs(prompts, other, torch.stack([prompts.answers, other.answers], dim=1))


def _draw(
    numbers: list[int], operand: str, held_out: torch.Tensor, count: int, generator: torch.Generator
) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
    """Prompts and the same with a held-out operand, as pairs of numbers."""
    places = torch.randint(len(numbers), (count, 2), generator=generator).tolist()
    news = held_out[torch.randint(len(held_out), (count,), generator=generator)].tolist()
    for (first, second), new in zip(places, news, strict=True):
        old, other = numbers[first], numbers[second]
        if old != int(new):
            yield ((old, other), (int(new), other)) if operand == "a" else ((other, old), (other, int(new)))
