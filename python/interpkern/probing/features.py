"""What activations of numbers are explained by: the number, its square root, its logarithm, its digits, a helix."""

from collections.abc import Callable, Mapping

import numpy
import torch

from interpkern.probing.bases import helix_basis, polynomial_basis
from interpkern.probing.numbers import coordinate, digit_count

FEATURES = ("n", "sqrt n", "ln n", "digits")
COLLINEAR = 0.8
"""Correlation from which two features are said to say much the same."""


def feature_columns(numbers: torch.Tensor) -> torch.Tensor:
    """(N, 4) float64, a column for each of FEATURES."""
    kinds = [coordinate(numbers, kind) for kind in ("linear", "sqrt", "log")]
    return torch.stack([*kinds, digit_count(numbers)], 1)


def digit_steps(numbers: torch.Tensor) -> torch.Tensor:
    """(N, q) float64 with a step for each number of digits but the fewest; q = 0 where all have as many."""
    digits = digit_count(numbers)
    return (digits[:, None] >= digits.unique()[1:]).double()


def _beside(*columns: torch.Tensor) -> torch.Tensor:
    return torch.cat([part if part.ndim == 2 else part[:, None] for part in columns], 1)


FEATURE_SETS: Mapping[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "digits": digit_steps,
    "linear": lambda numbers: _beside(coordinate(numbers, "linear")),
    "sqrt": lambda numbers: _beside(coordinate(numbers, "sqrt")),
    "log": lambda numbers: _beside(coordinate(numbers, "log")),
    "poly2": lambda numbers: polynomial_basis(numbers, 2, intercept=False).matrix,
    "digits+log": lambda numbers: _beside(digit_steps(numbers), coordinate(numbers, "log")),
    "helix": lambda numbers: helix_basis(numbers, intercept=False).matrix,
}
"""Designs (N, q) without the intercept: digits has a step at each power of ten, helix the periods 2, 5, 10 and 100."""


def collinearity(numbers: torch.Tensor) -> dict[str, float]:
    """r of ln n with each other feature on these numbers; NaN where one does not vary."""
    columns = feature_columns(numbers).numpy().T
    log = FEATURES.index("ln n")
    with numpy.errstate(invalid="ignore", divide="ignore"):
        r = numpy.corrcoef(columns)[log]
    return {name: float(r[place]) for place, name in enumerate(FEATURES) if place != log}


def collinear_sentences(numbers: torch.Tensor) -> list[str]:
    """What makes ln n hard to tell from n, sqrt n and the number of digits on these numbers, with figures."""
    found = collinearity(numbers)
    digits = found.pop("digits")
    where = f"on these {len(numbers)} numbers from {float(numbers.min()):g} to {float(numbers.max()):g}"
    sentences = []
    if max(found.values()) >= COLLINEAR:
        figures = ", ".join(f"r({name}, ln n) = {r:.3f}" for name, r in found.items())
        sentences.append(
            f"collinear regressors: {figures} {where}, so a correlation with one of them alone says little; "
            "read the partial correlation and R^2 on held-out numbers, or spread the numbers over more decades"
        )
    if digits >= COLLINEAR:
        sentences.append(
            f"digit count goes with ln n: r(digits, ln n) = {digits:.3f} {where}; "
            "what follows the number of digits looks logarithmic, so compare within one digit count"
        )
    return sentences
