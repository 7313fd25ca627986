"""Rows that stand for several numbers: what a test finds in them is the rule by which numbers share tokens."""

import torch

from interpkern.probing.numbers import Numbered

ALIKE = 0.01
"""Rows are alike that differ by less than this share of the median distance of rows from the middle one."""
ROUNDING = 1e-7
"""Of the largest norm: what a distance may be off by."""
ROWS_AT_ONCE = 512
SHOWN = 4
"""Numbers that a sentence names at most."""


def duplicate_sentences(rows: Numbered, share: float = 0.0) -> list[str]:
    """Say how many rows are alike and which numbers share one; nothing where none are, or `share` of them or fewer."""
    groups = _groups(rows.acts)
    found, inverse, sizes = groups.unique(return_inverse=True, return_counts=True)
    repeated = sizes[inverse] > 1
    if int(repeated.sum()) <= share * len(groups):
        return []
    first = rows.numbers[groups == groups[repeated][0]]
    return [
        f"duplicated rows: {int(repeated.sum())} of {len(groups)} rows are another's to within {ALIKE:.0%},"
        f" {len(found)} are distinct (the numbers {named(first)} share one), so one token stands for several numbers;"
        " look at their tokens"
    ]


def named(numbers: torch.Tensor) -> str:
    """A few of the numbers, and how many more."""
    shown = ", ".join(f"{value:g}" for value in numbers[:SHOWN].tolist())
    more = len(numbers) - SHOWN
    return f"{shown} and {more} more" if more > 0 else shown


def _groups(acts: torch.Tensor) -> torch.Tensor:
    """(N,) for each row, the first that is like it."""
    centred = acts - acts.median(0).values
    sizes = centred.norm(dim=1)
    apart = max(ALIKE * float(sizes.median()), ROUNDING * float(sizes.max()))
    parts = [torch.cdist(part, centred) <= apart for part in centred.split(ROWS_AT_ONCE)]
    return torch.cat([part.byte().argmax(1) for part in parts])
