"""Matching hidden units across models: is the structure of one table's models their own, or the table's?"""

import itertools
import math
import os
from dataclasses import dataclass
from pathlib import Path

import numpy
import pandas
import torch
from matplotlib.figure import Figure
from scipy.optimize import linear_sum_assignment

from interpkern.files import as_path, write_atomically
from interpkern.memorisation.circuit_plots import plot_matching
from interpkern.memorisation.neurons import unit_patterns
from interpkern.memorisation.run import MemoriseRun
from interpkern.random import check_seed
from interpkern.report import parquet
from interpkern.validation import integer

DRAWS = 2000
TAILS = (2.5, 97.5)


@dataclass(frozen=True, eq=False)
class SharedStructure:
    """How alike the hidden units of two models are, on one table and on different ones."""

    pairs: pandas.DataFrame
    """One row a pair: `first`, `second`, `same` (table), `similarity` (mean correlation of matched units)."""
    same: float
    """Mean over pairs of models of one table."""
    control: float
    """Mean over pairs of models of different tables, matched in size."""
    low: float
    """Lower end of the 95 % interval of the difference, from tables drawn again."""
    high: float

    @property
    def difference(self) -> float:
        """What a shared table adds."""
        return self.same - self.control

    def sentence(self) -> str:
        """What was found, in words."""
        return (
            f"matched hidden units of two models of one table correlate at {self.same:.3f}, of different tables at"
            f" {self.control:.3f}: the table adds {self.difference:+.3f} (95 % interval {self.low:+.3f} to"
            f" {self.high:+.3f})"
        )

    def to_pandas(self) -> pandas.DataFrame:
        """One row a pair."""
        return self.pairs

    def plot(self) -> Figure:
        """Draw both distributions."""
        return plot_matching(self.pairs)

    def save(self, directory: str | os.PathLike[str]) -> Path:
        """Write matching.parquet, one row a pair; returns the directory."""
        target = as_path("directory", directory)
        target.mkdir(parents=True, exist_ok=True)
        write_atomically(target / "matching.parquet", parquet(self.pairs))
        return target


def shared_structure(run: MemoriseRun, *, control_pairs: int = 500, seed: int = 0) -> SharedStructure:
    """Match the hidden units of models of one table, and of models of different tables as a control.

    Units are matched one to one so that the sum of the correlations of their matrices sign(r_j) H_j over facts is the
    largest. Models of one table are recognised by their tables; models must differ in their start, and in their
    embeddings unless sharing those is what is asked.

    Args:
        run: of models of several tables, each learnt by several of them.
        control_pairs: pairs of models of different tables, at most; drawn at random.
        seed: of what is drawn.

    Returns:
        SharedStructure.

    Raises:
        ValueError: no table that two models share, or only one table.

    Example:
        >>> tables = random_tables(3, 6, 6).repeat_interleave(4, dim=0)
        >>> run = memorise(TableMLPs.init(12, 6, 6, 6, 9), tables, steps=1000)
        >>> shared_structure(run).sentence()
    """
    generator = numpy.random.default_rng(check_seed(seed))
    labels = torch.unique(run.tables.flatten(1), dim=0, return_inverse=True)[1].numpy()
    every = list(itertools.combinations(range(len(run)), 2))
    same = [pair for pair in every if labels[pair[0]] == labels[pair[1]]]
    other = [pair for pair in every if labels[pair[0]] != labels[pair[1]]]
    if not same or not other:
        raise ValueError("run: expected several tables, each with several models")
    drawn = generator.permutation(len(other))[: integer("control_pairs", control_pairs, 1)]
    chosen = [*same, *(other[at] for at in sorted(drawn))]
    patterns = unit_patterns(run.models.to("cpu")) * torch.sign(run.models.r.cpu())[:, :, None]
    similarity = [matched_correlation(patterns[a], patterns[b]) for a, b in chosen]
    pairs = pandas.DataFrame(
        {
            "first": [a for a, _ in chosen],
            "second": [b for _, b in chosen],
            "same": [True] * len(same) + [False] * (len(chosen) - len(same)),
            "similarity": similarity,
        }
    )
    low, high = _interval(pairs, labels, generator)
    means = pairs.groupby("same").similarity.mean()
    return SharedStructure(pairs, float(means[True]), float(means[False]), low, high)


def matched_correlation(first: torch.Tensor, second: torch.Tensor) -> float:
    """Mean correlation of the units of two models, (H, N) patterns at length 1, under the best one-to-one matching."""
    similarity = (first @ second.T).numpy()
    rows, cols = linear_sum_assignment(similarity, maximize=True)
    return float(similarity[rows, cols].mean())


def _interval(pairs: pandas.DataFrame, labels: numpy.ndarray, generator: numpy.random.Generator) -> tuple[float, float]:
    """Of the difference: tables are drawn again, and a pair counts as often as both of its tables are."""
    tables = int(labels.max()) + 1
    first, second = labels[pairs["first"]], labels[pairs["second"]]
    same, similarity = pairs.same.to_numpy(), pairs.similarity.to_numpy()
    differences = []
    for _ in range(DRAWS):
        counts = numpy.bincount(generator.integers(tables, size=tables), minlength=tables)
        weights = numpy.where(same, counts[first], counts[first] * counts[second])
        if weights[same].sum() and weights[~same].sum():
            means = [numpy.average(similarity[at], weights=weights[at]) for at in (same, ~same)]
            differences.append(means[0] - means[1])
    if not differences:
        return -math.inf, math.inf
    low, high = numpy.percentile(differences, TAILS)
    return float(low), float(high)
