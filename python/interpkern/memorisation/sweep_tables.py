"""Tables of a sweep: shapes with intervals over seeds, thresholds with bootstrap intervals."""

import math
from collections.abc import Sequence
from typing import Any

import numpy
import pandas
import torch

from interpkern.memorisation.bits import entropy, mean_interval, wilson_interval
from interpkern.memorisation.bootstrap import bootstrap_curves
from interpkern.memorisation.capacity import fit_capacity
from interpkern.validation import choice

SHAPE = ["rows", "cols", "p", "embedding", "train", "schedule", "solver", "steps", "lr", "d_model", "d_hidden"]
"""What the models of one row of `shapes` share."""
CRITERIA = ("solved", "learnt")
LEARNT = 0.95
"""Share of a table's bits that a model must store, by its loss, to have learnt it."""
NINE_TO_ONE = 9.0
FEWEST_PARTIAL = 2
TAILS = (2.5, 97.5)


def shapes(models: pandas.DataFrame) -> pandas.DataFrame:
    """One row a shape and budget: sizes, solved and learnt models, bits per parameter with Student's interval."""
    groups = models.assign(learnt=learnt(models)).groupby(SHAPE, sort=False)
    return pandas.DataFrame([dict(zip(SHAPE, key, strict=True)) | _shape(group) for key, group in groups])


def learnt(models: pandas.DataFrame) -> pandas.Series:
    """Which models store almost all of their table's bits, by their loss."""
    table = models.facts * entropy(torch.from_numpy(models.density.to_numpy().copy())).numpy()
    return models.bits_ce >= LEARNT * table


def _shape(group: pandas.DataFrame) -> dict[str, Any]:
    first, models = group.iloc[0], len(group)
    solved = int(group.solved.sum())
    low, high = wilson_interval(solved, models)
    bits, bits_low, bits_high = mean_interval(torch.from_numpy(group.bits_per_P2.to_numpy().copy()))
    return {
        "P1": int(first.P1),
        "P2": int(first.P2),
        "facts": int(first.facts),
        "facts_per_P1": float(first.facts_per_P1),
        "table_bits_per_P1": float(first.facts_per_P1 * entropy(float(first.p))),
        "models": models,
        "solved": solved,
        "solved_low": low,
        "solved_high": high,
        "learnt": int(group.learnt.sum()),
        "bits_per_P2": bits,
        "bits_per_P2_low": bits_low,
        "bits_per_P2_high": bits_high,
        "bits_accuracy_per_P2": float((group.bits_accuracy / group.P2).mean()),
        "accuracy": float(group.accuracy.mean()),
    }


def thresholds(shapes: pandas.DataFrame, by: Sequence[str], criterion: str) -> pandas.DataFrame:
    """One row for each value of `by`: bits of the table per P1 at which half of the models meet the criterion.

    `shapes` are the rows of the function of that name. `low` and `high` are the bootstrap's where at least two shapes
    are met by some models and not by others; fewer leave nothing to resample, and they are the likelihood's.
    `profile_low` and `profile_high` are always the likelihood's, and hold the scatter between shapes of one size too.
    `width` is the factor in facts per parameter from where nine in ten models meet the criterion to where one in ten
    does, with the bootstrap's interval.
    """
    counts = shapes.rename(columns={"solved": "solved_count"})
    counts["met"] = counts.solved_count if choice("criterion", criterion, CRITERIA) == "solved" else counts.learnt
    return pandas.DataFrame(
        [
            dict(zip(by, key, strict=True)) | {"criterion": criterion} | threshold(group)
            for key, group in counts.groupby(list(by))
        ]
    )


def threshold(group: pandas.DataFrame) -> dict[str, Any]:
    """The threshold of some shapes, from the column `met` of their models."""
    data = (group.table_bits_per_P1.tolist(), group.met.tolist(), group.models.tolist())
    fitted = fit_capacity(*data)
    low, high, width = fitted.low, fitted.high, (math.nan, math.nan)
    if int(((group.met > 0) & (group.met < group.models)).sum()) >= FEWEST_PARTIAL:
        drawn = bootstrap_curves(*data, fitted)
        low, high = numpy.percentile(drawn.halves, TAILS, method="inverted_cdf")
        flattest, steepest = numpy.percentile(drawn.slopes, TAILS)
        width = (_width(steepest), _width(flattest))
    return {
        "half": fitted.half,
        "low": float(low),
        "high": float(high),
        "profile_low": fitted.low,
        "profile_high": fitted.high,
        "slope": fitted.slope,
        "width": _width(fitted.slope),
        "width_low": width[0],
        "width_high": width[1],
        "shapes": len(group),
        "models": int(group.models.sum()),
    }


def _width(slope: float) -> float:
    """The factor from nine in ten to one in ten on a logistic curve in the logarithm."""
    return NINE_TO_ONE ** (2 / slope) if slope > 0 else math.inf
