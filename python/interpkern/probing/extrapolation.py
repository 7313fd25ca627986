"""Does a circle fitted on some octaves predict the others? A curve that only looks like one there does not."""

from dataclasses import dataclass

import pandas
import torch

from interpkern.probing.residuals import Residuals, waves

FEWEST_NUMBERS = 8
LN_2 = 0.6931471805599453


@dataclass(frozen=True)
class Extrapolation:
    """Gain of the circle over the nuisance on octaves that neither was fitted on."""

    period: float
    """Units of the coordinate."""
    octaves: tuple[int, ...]
    """Each octave holds the numbers from 2^octave up to 2^(octave + 1)."""
    gains: tuple[float, ...]
    """1 - squared error with the circle / squared error without it; below 0 where the circle predicts worse."""
    gain: float
    """The same over the errors of all octaves together."""

    def to_pandas(self) -> pandas.DataFrame:
        """One row an octave."""
        return pandas.DataFrame({"octave": self.octaves, "gain": self.gains})


def extrapolate(left: Residuals, scores: torch.Tensor, numbers: torch.Tensor, frequency: float) -> Extrapolation:
    """Leave out each octave with enough numbers and predict its (N, C) scores from all others.

    The period is that of the whole scan; the octave left out had a part in finding it.
    """
    octave = (numbers.log() / LN_2 + 1e-12).floor().long()
    pair = waves(left.positions, torch.tensor([frequency], dtype=torch.float64))[..., 0] * left.root_weights[:, None]
    octaves, errors = [], []
    for one in octave.unique().tolist():
        inside = octave == one
        if int(inside.sum()) < FEWEST_NUMBERS or int((~inside).sum()) < left.nuisance.shape[1] + 3:
            continue
        without = _error(left.nuisance, scores, inside)
        beside = _error(torch.cat([left.nuisance, pair], 1), scores, inside)
        octaves.append(one)
        errors.append((without, beside))
    gains = tuple(_gain(without, beside) for without, beside in errors)
    total = _gain(sum(error[0] for error in errors), sum(error[1] for error in errors))
    return Extrapolation(1 / frequency, tuple(octaves), gains, total)


def _error(design: torch.Tensor, scores: torch.Tensor, inside: torch.Tensor) -> float:
    """Squared error on the rows inside of a fit to those outside."""
    fitted = torch.linalg.lstsq(design[~inside], scores[~inside], driver="gelsd", rcond=1e-8).solution
    return float((scores[inside] - design[inside] @ fitted).square().sum())


def _gain(without: float, beside: float) -> float:
    return 1 - beside / without if without > 0 else 0.0
