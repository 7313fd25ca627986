"""What in activations and numbers would pass for structure: found by looking, said in sentences."""

import math
from collections.abc import Sequence
from typing import Any

import torch

from interpkern.errors import DTypeError
from interpkern.probing.bases import check_periods
from interpkern.probing.duplicates import duplicate_sentences, named
from interpkern.probing.features import collinear_sentences
from interpkern.probing.numbers import (
    Coordinate,
    Numbered,
    are_integers,
    checked,
    coordinate,
    digit_count,
    positive_numbers,
)
from interpkern.validation import Dimensions, boolean

SINK = 5.0
"""How many times the median norm of other positions makes position 0 a sink."""
MASSIVE = 10.0
"""How many times the median norm makes a row massive."""
FEWEST_CYCLES = 3
HARMONICS = 9
"""The leading digit changes nine times in ln 10, so k runs to 9."""
DEPENDENT = 1e-8


def find_confounds(
    acts: Any,
    numbers: Any,
    *,
    positions: Any = None,
    token_counts: Any = None,
    digit_split: bool | None = None,
    periods: Sequence[float] = (),
    coordinate: Coordinate = "log",
) -> tuple[str, ...]:
    """Look for what passes for structure of numbers and is none, and say what to do about it.

    Looked for, in this order: rows that are the same or nearly so, position 0 (an attention sink), a tokenizer that
    splits digits, rows of massive norm, regressors that go together, and with `periods` a basis without full rank,
    fewer than three cycles, and periods of the leading digit.

    Shapes:
        acts (N, d) floating point; numbers (N,), positive; positions and token_counts (N,) integers; torch or NumPy.

    Args:
        acts, numbers: activations and the numbers that they are of.
        positions: of each number's token in its prompt, 0 being the first.
        token_counts: how many tokens each number takes.
        digit_split: whether the tokenizer makes a token of each digit; by default told from token_counts.
        periods: of circles that will be fitted, in the unit of the coordinate.
        coordinate: log (periods in nats), linear, sqrt, or the exponent of (n^lambda - 1) / lambda.

    Returns:
        Sentences, none where nothing was found.

    Raises:
        ShapeError, DTypeError or ValueError that names the argument.

    Source:
        Kantamneni and Tegmark 2025, arXiv 2502.00873, whose bare prompts and period 2 show two of them; Xiao et al.
        2024, "Efficient Streaming Language Models with Attention Sinks"; Sun et al. 2024, "Massive Activations in Large
        Language Models".

    Example:
        >>> numbers = torch.arange(100, 200)
        >>> find_confounds(torch.randn(100, 4), numbers, periods=(2,), coordinate="linear")[-1][:20]
        'rank-deficient basis'
    """
    rows = checked(acts, numbers)
    order = positive_numbers(numbers).argsort()
    where = _whole("positions", positions, len(order), 0)
    counts = _whole("token_counts", token_counts, len(order), 1)
    found = duplicate_sentences(rows)
    found += _position(rows, None if where is None else where[order])
    found += _tokens(rows.numbers, None if counts is None else counts[order], digit_split)
    found += _massive(rows)
    found += collinear_sentences(rows.numbers)
    return (*found, *period_confounds(rows.numbers, periods, coordinate))


def period_confounds(numbers: Any, periods: Sequence[float], kind: Coordinate = "log") -> list[str]:
    """Sentences on periods that these numbers cannot tell from something else, in the unit of the coordinate."""
    wanted = check_periods(tuple(periods) if isinstance(periods, (list, tuple, range)) else periods)
    if not wanted:
        return []
    values = coordinate(numbers, kind)
    reach = float(values.max() - values.min())
    found = _rank(values, wanted)
    few = [period for period in wanted if reach / period < FEWEST_CYCLES]
    if few:
        cycles = ", ".join(f"{reach / period:.1f} of period {period:g}" for period in few)
        found.append(
            f"fewer than {FEWEST_CYCLES} cycles: these numbers span {cycles}; "
            "a bend looks like a circle there, so take a wider range or shorter periods"
        )
    return found + (_leading_digit(wanted, reach) if kind in ("log", 0, 0.0) else [])


def _whole(name: str, value: Any, rows: int, least: int) -> torch.Tensor | None:
    """(N,) integers as float64, refused below `least`."""
    if value is None:
        return None
    if isinstance(value, (list, tuple, range)):
        try:
            value = torch.tensor(value)
        except (TypeError, ValueError, RuntimeError):
            raise DTypeError(f"{name}: expected ({rows},) integers, got {value!r:.60}") from None
    dtypes = (torch.int64, torch.int32, torch.int16, torch.uint8)
    found = Dimensions({"N": rows}, {"N": "numbers"}).tensor(name, value, "N", dtypes)
    if int(found.min()) < least:
        raise ValueError(f"{name}: expected integers >= {least}, got {int(found.min())}")
    return found.to("cpu", torch.float64)


def _position(rows: Numbered, positions: torch.Tensor | None) -> list[str]:
    """Whether numbers stand where the model keeps its attention sink."""
    if positions is None:
        return []
    first = positions == 0
    remedy = "put a prefix before the number"
    if bool(first.all()):
        return [f"position 0: every number is the first token, which models use as an attention sink; {remedy}"]
    norms = rows.acts.norm(dim=1)
    if bool(first.any()):
        ratio = float(norms[first].median() / norms[~first].median())
        if ratio > SINK:
            count = int(first.sum())
            return [
                f"position 0: {count} of {len(first)} numbers ({named(rows.numbers[first])}) are the first token, an "
                f"attention sink with {ratio:.0f} times the norm of the others; {remedy}"
            ]
    return []


def _tokens(numbers: torch.Tensor, counts: torch.Tensor | None, digit_split: bool | None) -> list[str]:
    """Whether the number of tokens says how large a number is."""
    split = None if digit_split is None else boolean("digit_split", digit_split)
    if counts is not None and split is None:
        split = bool((counts == digit_count(numbers)).all() and (counts > 1).any())
    if split:
        return [
            "digit-split tokenizer: a token is one digit, so the last token's position tells the digit count and "
            "its identity the last digit, whatever the model computes; compare within one digit count"
        ]
    if counts is not None and bool((counts > 1).any()):
        several = counts > 1
        return [
            f"several tokens: {int(several.sum())} of {len(counts)} numbers ({named(numbers[several])}) take more "
            "than one token, so their last token is a part of the number; leave them out"
        ]
    return []


def _massive(rows: Numbered) -> list[str]:
    norms = rows.acts.norm(dim=1)
    large = norms > MASSIVE * norms.median()
    if not bool(large.any()):
        return []
    return [
        f"massive activations: {int(large.sum())} of {len(norms)} rows ({named(rows.numbers[large])}) are up to "
        f"{float(norms.max() / norms.median()):.0f} times as long as the median row, and the first components are "
        "theirs; leave them out or divide rows by their norms"
    ]


def _rank(values: torch.Tensor, periods: Sequence[float]) -> list[str]:
    """Periods whose cosine and sine, beside those before them, are not two more dimensions on these values."""
    basis = torch.full((len(values), 1), len(values) ** -0.5, dtype=torch.float64)
    lost = []
    for period in periods:
        angle = 2 * math.pi * torch.remainder(values, period) / period
        for name, column in (("cosine", angle.cos()), ("sine", angle.sin())):
            left = column
            for _ in range(2):
                left = left - basis @ (basis.mT @ left)
            length = float(left.norm())
            if length <= DEPENDENT * len(values) ** 0.5:
                lost.append(f"the {name} of period {period:g}")
            else:
                basis = torch.cat([basis, (left / length)[:, None]], 1)
    if not lost:
        return []
    integers = ", as on integers the sine of period 2 is zero" if are_integers(values) and 2 in periods else ""
    return [
        f"rank-deficient basis: {' and '.join(lost)} {'is' if len(lost) == 1 else 'are'} 0 or a sum of other columns "
        f"on these numbers{integers}; leave {'it' if len(lost) == 1 else 'them'} out"
    ]


def _leading_digit(periods: Sequence[float], reach: float) -> list[str]:
    """Periods in nats that lie within half a resolution element, 1 / (2 reach), of ln 10 / k."""
    near = []
    for period in periods:
        harmonic = max(1, round(math.log(10) / period))
        if harmonic <= HARMONICS and abs(1 / period - harmonic / math.log(10)) < 0.5 / reach:
            near.append(f"{period:g} (ln 10 / {harmonic} = {math.log(10) / harmonic:.3f})")
    if not near:
        return []
    return [
        f"leading digit: {'periods' if len(near) > 1 else 'the period'} {' and '.join(near)} cannot be told from the "
        "leading digit, which repeats with ln n; take it into the nuisance"
    ]
