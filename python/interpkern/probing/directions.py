"""The linear side: which main directions of activations follow n, sqrt n, ln n or the digit count, with intervals."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy
import pandas
import torch

from interpkern.files import as_path, provenance, write_atomically
from interpkern.probing.components import principal_components
from interpkern.probing.correlations import correlations, interval, resampled, whole
from interpkern.probing.cross_validation import HeldOut, held_out, least_squares, ridge
from interpkern.probing.features import FEATURE_SETS, FEATURES, collinear_sentences, digit_steps, feature_columns
from interpkern.probing.numbers import FEWEST, Numbered, checked, digit_count
from interpkern.random import check_seed
from interpkern.report import json_bytes, parquet
from interpkern.validation import choice, integer, number

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LOG = FEATURES.index("ln n")
TABLES = ("table", "within_digit_count", "partial", "explained", "decoded")


@dataclass(frozen=True, eq=False)
class Directions:
    """What the main directions of activations follow; every interval is of a bootstrap over numbers.

    The directions are held fixed in it: the intervals are of r along this direction, not of where PCA puts it.
    """

    table: pandas.DataFrame
    """component, feature, r, low, high, eigenvalue_share: the component's share of the variance of the activations."""
    within_digit_count: pandas.DataFrame
    """The same among the numbers of one digit count: digits, component, feature, r, low, high."""
    partial: pandas.DataFrame
    """component, r, low, high: of ln n once n, sqrt n and the digit count are taken from both."""
    explained: pandas.DataFrame
    """features, folds, r2, low, high: R^2 of these components on numbers left out, fitted by each set of features."""
    decoded: pandas.DataFrame
    """feature, folds, r2, low, high: R^2 of the feature on numbers left out, by ridge from whole activations."""
    numbers: torch.Tensor
    """(N,) float64, increasing."""
    scores: torch.Tensor
    """(N, C) float64: each number's place along each component."""
    components: torch.Tensor
    """(C, d) float64, orthonormal."""
    draws: torch.Tensor
    """(bootstrap, C, 4) float64: r of every resample."""
    warnings: tuple[str, ...]
    """What makes these numbers say less than they seem to."""
    settings: Mapping[str, Any]

    def to_pandas(self) -> pandas.DataFrame:
        """One row a component and feature: component, feature, r, low, high, eigenvalue_share."""
        return self.table.copy()

    def contrast(self, first: str, second: str) -> pandas.DataFrame:
        """|r| with one feature minus |r| with another, of each component: component, difference, low, high."""
        places = [
            FEATURES.index(choice(name, value, FEATURES)) for name, value in (("first", first), ("second", second))
        ]
        r = torch.tensor(self.table["r"].tolist(), dtype=torch.float64).reshape(1, -1, len(FEATURES))
        one, other = (torch.cat([r, self.draws])[..., place].abs() for place in places)
        low, high = interval((one - other)[1:], self.settings["confidence"])
        columns = {"component": range(1, len(low) + 1), "difference": (one - other)[0], "low": low, "high": high}
        return pandas.DataFrame(columns)

    def plot(self) -> "Figure":
        """Draw the numbers along the first components, coloured by ln n, beside the table."""
        from interpkern.probing.directions_plots import plot_directions

        return plot_directions(self)

    def save(self, directory: str | os.PathLike[str]) -> Path:
        """Write each table as parquet and the warnings and settings as directions.json, which comes last."""
        target = as_path("directory", directory)
        target.mkdir(parents=True, exist_ok=True)
        for name in TABLES:
            write_atomically(target / f"directions_{name}.parquet", parquet(getattr(self, name)))
        record = {"warnings": self.warnings, "settings": dict(self.settings), "provenance": provenance()}
        write_atomically(target / "directions.json", json_bytes(record))
        return target


def directions(
    acts: Any,
    numbers: Any,
    *,
    components: int = 20,
    bootstrap: int = 1000,
    confidence: float = 0.95,
    folds: int = 5,
    seed: int = 0,
) -> Directions:
    """Correlate the main directions of activations with n, sqrt n, ln n and the digit count, and predict each way.

    n, sqrt n, ln n and the digit count go together on any range, so r with one of them says little. Three things tell
    them apart: r among numbers of one digit count, r with ln n once the others are taken out, and R^2 on numbers left
    out. Folds of random numbers keep the neighbours of each and so favour whatever is smooth; blocks of consecutive
    numbers ask for interpolation (inner blocks) and extrapolation (the lowest and the highest).

    Shapes:
        acts (N, d) floating point, torch or NumPy; numbers (N,), positive, each once.

    Args:
        acts, numbers: activations and the numbers that they are of.
        components: how many principal components, or as many as there are.
        bootstrap: resamples of the numbers for each interval; 0 for none.
        confidence: of the intervals, in (0, 1).
        folds: numbers are left out a `folds`-th at a time.
        seed: of resamples and folds.

    Returns:
        Directions: five tables of r and R^2 (1 is all, 0 no better than the mean of the other numbers).

    Raises:
        ShapeError, DTypeError or ValueError that names the argument.

    Source:
        The comparison is ours; Hastie, Tibshirani and Friedman 2009, "The Elements of Statistical Learning", sections
        7.10 and 7.11 for held-out error and bootstrap.

    Example:
        >>> numbers = torch.arange(1, 361)
        >>> acts = numbers.log()[:, None] * torch.randn(8) + 0.1 * torch.randn(360, 8)
        >>> found = directions(acts, numbers, bootstrap=99)
        >>> found.to_pandas().set_index(["component", "feature"]).r.abs().loc[1].idxmax()
        'ln n'
    """
    rows = checked(acts, numbers)
    settings = _settings(len(rows.numbers), components, bootstrap, confidence, folds, seed)
    found = principal_components(rows.acts, min(settings["components"], len(rows.acts) - 1, rows.acts.shape[1]))
    real = found.variances > 1e-12 * found.variances[0]
    scores, shares = found.scores[:, real], found.variances[real] / rows.acts.var(0, correction=0).sum()
    features = feature_columns(rows.numbers)
    samples = resampled(len(scores), settings["bootstrap"], settings["seed"])
    draws = correlations(scores, features, samples)
    table = _table(correlations(scores, features, whole(len(scores)))[0], draws, FEATURES, settings["confidence"])
    return Directions(
        table=table.assign(eigenvalue_share=shares.repeat_interleave(len(FEATURES)).numpy()),
        within_digit_count=_within(scores, rows.numbers, settings),
        partial=_partial(scores, features, rows.numbers, samples, settings["confidence"]),
        explained=_explained(scores, rows.numbers, samples, settings),
        decoded=_decoded(rows, samples, settings),
        numbers=rows.numbers,
        scores=scores,
        components=found.directions[real],
        draws=draws,
        warnings=tuple(_sentences(rows.numbers)),
        settings=settings,
    )


def _settings(rows: int, components: Any, bootstrap: Any, confidence: Any, folds: Any, seed: Any) -> dict[str, Any]:
    level = number("confidence", confidence, 0.0, below=1.0)
    if level == 0:
        raise ValueError("confidence: expected a number in (0, 1), got 0; 0.95 is common")
    return {
        "components": integer("components", components, 1),
        "bootstrap": integer("bootstrap", bootstrap, 0, 1_000_000),
        "confidence": level,
        "folds": integer("folds", folds, 3, rows // 2),
        "seed": check_seed(seed),
    }


def _sentences(numbers: torch.Tensor) -> list[str]:
    found = collinear_sentences(numbers)
    digits = digit_count(numbers)
    if digits[0] == digits[-1]:
        found.append(f"every number has {digits[0]:g} digits, so nothing can be said of the digit count")
    return found


def _table(r: torch.Tensor, draws: torch.Tensor, features: Sequence[str], confidence: float) -> pandas.DataFrame:
    """One row a component and feature, from (C, F) and (B, C, F)."""
    low, high = interval(draws, confidence)
    columns = {
        "component": numpy.repeat(range(1, len(r) + 1), len(features)),
        "feature": list(features) * len(r),
    }
    figures = {"r": r, "low": low, "high": high}
    return pandas.DataFrame(columns | {name: figure.flatten().numpy() for name, figure in figures.items()})


def _within(scores: torch.Tensor, numbers: torch.Tensor, settings: Mapping[str, Any]) -> pandas.DataFrame:
    """The table for the numbers of each digit count that at least eight have."""
    digits, tables = digit_count(numbers), []
    for count in digits.unique():
        own = digits == count
        if int(own.sum()) >= FEWEST:
            features = feature_columns(numbers[own])[:, : FEATURES.index("digits")]
            samples = resampled(int(own.sum()), settings["bootstrap"], settings["seed"])
            r = correlations(scores[own], features, whole(len(features)))[0]
            draws = correlations(scores[own], features, samples)
            table = _table(r, draws, FEATURES[: features.shape[1]], settings["confidence"])
            table.insert(0, "digits", int(count))
            tables.append(table)
    names = ["digits", "component", "feature", "r", "low", "high"]
    return pandas.concat(tables, ignore_index=True) if tables else pandas.DataFrame(columns=names)


def _partial(
    scores: torch.Tensor, features: torch.Tensor, numbers: torch.Tensor, samples: torch.Tensor, confidence: float
) -> pandas.DataFrame:
    """r of each component with ln n, given n, sqrt n and a step at each digit count."""
    given = torch.cat([features[:, :LOG], digit_steps(numbers)], 1)
    log = features[:, LOG : LOG + 1]
    r = correlations(scores, log, whole(len(scores)), given)[0]
    return _table(r, correlations(scores, log, samples, given), ["ln n"], confidence).drop(columns="feature")


def _explained(
    scores: torch.Tensor, numbers: torch.Tensor, samples: torch.Tensor, settings: Mapping[str, Any]
) -> pandas.DataFrame:
    """R^2 of the components, together, by each set of features."""
    rows: list[dict[str, Any]] = []
    for name, design in FEATURE_SETS.items():
        by_kind = held_out(design(numbers), scores, least_squares, count=settings["folds"], seed=settings["seed"])
        for kind, part in by_kind.items():
            rows += _r2_rows("features", [name], kind, part.pooled(), samples, settings["confidence"])
    return pandas.DataFrame(rows)


def decoded_features(rows: Numbered, settings: Mapping[str, Any]) -> Mapping[str, HeldOut]:
    """Errors of each of FEATURES, decoded by ridge regression from whole activations, by kind of fold."""
    features = feature_columns(rows.numbers)
    return held_out(rows.acts, features, ridge, count=settings["folds"], seed=settings["seed"])


def _decoded(rows: Numbered, samples: torch.Tensor, settings: Mapping[str, Any]) -> pandas.DataFrame:
    found: list[dict[str, Any]] = []
    for kind, part in decoded_features(rows, settings).items():
        found += _r2_rows("feature", FEATURES, kind, part, samples, settings["confidence"])
    return pandas.DataFrame(found)


def _r2_rows(
    heading: str, names: Sequence[str], kind: str, part: HeldOut, samples: torch.Tensor, confidence: float
) -> list[dict[str, Any]]:
    """R^2 of each target with its interval; the fits are held fixed and the numbers left out drawn again."""
    value = part.r2(whole(samples.shape[1]))[0]
    low, high = interval(part.r2(samples), confidence)
    figures = zip(names, value.tolist(), low.tolist(), high.tolist(), strict=True)
    return [{heading: name, "folds": kind, "r2": r2, "low": a, "high": b} for name, r2, a, b in figures]
