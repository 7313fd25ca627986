"""Sweeps of capacity: cells in a directory, the time they will take, and what they found."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas
from matplotlib.figure import Figure

from interpkern.files import as_path, write_atomically
from interpkern.memorisation import sweep_tables
from interpkern.memorisation.places import Place, places
from interpkern.memorisation.prediction import in_words, predicted_seconds
from interpkern.memorisation.studies import STUDIES
from interpkern.memorisation.sweep_plots import plot_sweep
from interpkern.memorisation.training_cells import Training, joined, result, trained
from interpkern.progress import Progress, reporting
from interpkern.random import check_seed
from interpkern.report import parquet
from interpkern.runs import Compute, Damaged, Result, Store, run_cells
from interpkern.validation import choice, integer, number

MAX_SIZE = 1 << 12
BUDGET = ("steps", "lr", "seed")
"""Settings that all models of a study share."""


@dataclass(frozen=True, eq=False)
class Sweep:
    """What a study of capacity found."""

    study: str
    about: dict[str, Any]
    """The settings that were asked for."""
    models: pandas.DataFrame
    """One row a model, as `MemoriseRun.to_pandas`."""
    provenance: dict[str, Any]
    """Of the last cell, with `seconds` of all of them, and every backend and processor that made one."""

    def to_pandas(self) -> pandas.DataFrame:
        """One row a model."""
        return self.models

    def shapes(self) -> pandas.DataFrame:
        """One row a shape: how many models are solved and what they store, with 95 % intervals."""
        return self._shapes.copy()

    def thresholds(self, criterion: str = "solved") -> pandas.DataFrame:
        """One row for each size, embedding or budget: where half of the models are solved, with 95 % intervals.

        Args:
            criterion: solved (every fact right) or learnt (at least 95 % of the table's bits stored, by the loss).
        """
        if criterion not in self._thresholds:
            found = sweep_tables.thresholds(self._shapes, STUDIES[self.study].by, criterion)
            self._thresholds[criterion] = found
        return self._thresholds[criterion].copy()

    @cached_property
    def _shapes(self) -> pandas.DataFrame:
        return sweep_tables.shapes(self.models)

    @cached_property
    def _thresholds(self) -> dict[str, pandas.DataFrame]:
        """By criterion, those that were asked for."""
        return {}

    def plot(self) -> Figure:
        """Draw what the study asked."""
        return plot_sweep(self.study, self.shapes(), self.thresholds())

    def save(self, directory: str | os.PathLike[str]) -> Path:
        """Write STUDY-models.parquet, STUDY-shapes.parquet and STUDY-thresholds.parquet; returns the directory."""
        target = as_path("directory", directory)
        target.mkdir(parents=True, exist_ok=True)
        tables = {"models": self.models, "shapes": self.shapes(), "thresholds": self.thresholds()}
        for name, table in tables.items():
            write_atomically(target / f"{self.study}-{name}.parquet", parquet(table))
        return target


def capacity_sweep(
    directory: str | os.PathLike[str],
    *,
    study: str = "growth",
    sizes: Sequence[int] | None = None,
    seeds: int = 16,
    steps: int = 20_000,
    lr: float = 0.03,
    seed: int = 0,
    backend: str = "auto",
    threads: int | None = None,
    device: str = "cpu",
    say: Callable[[str], object] = lambda line: None,
    progress: Progress | bool | None = None,
) -> Sweep:
    """Train the models of a study, each on its own random table, in a directory that can be gone on with.

    The same call on the same directory goes on where the last one was stopped or killed; several processes may work on
    one directory at once; more seeds or sizes reuse what is there, and are added to the study that `load_sweep` gives.

    Args:
        directory: where the cells are kept; new, empty, or of an earlier sweep.
        study: growth, map, budget, embeddings, tables, frozen or points; from the command line also circuits,
            quantisation or constructions.
        sizes: m, for tables of m x m facts, or m x m points; by default those of the study.
        seeds: models of each shape.
        steps: updates of each model.
        lr: learning rate of Adam, cosine to 0.
        seed: an integer from 0 to 2^64 - 1, of the whole sweep.
        backend: auto, cpu, cuda, triton or reference.
        threads: CPU threads; by default torch.get_num_threads().
        device: cpu, cuda for every GPU of the machine, or some of them: cuda:0,cuda:1. Each works on a cell of its own.
        say: prints a line: the time it will take, and files that are damaged.
        progress: True or False for a bar or none, or a function of (done, total); by default a bar on a terminal.

    Returns:
        Sweep, with the models of this call's study.

    Raises:
        ValueError or TypeError that names the argument; BackendUnavailable.

    Example:
        >>> found = capacity_sweep("/tmp/example-sweep", sizes=(8,), steps=2000)
        >>> found.thresholds()[["rows", "half", "low", "high"]]
    """
    wanted, about = _wanted(study, sizes, seeds, steps, lr, seed)
    where = places(device, backend, threads)
    for place in where:
        trained(replace(wanted[0], models=1, steps=0), place, progress=False)
    store = Store(directory)
    cells = [training.cell() for training in wanted]
    with store.holding():
        _extend_plan(store, study, wanted, about, say)
    cost = {cell.name: training.flops for cell, training in zip(cells, wanted, strict=True)}
    left = [each for each, cell in zip(wanted, cells, strict=True) if not store.path(cell).exists()]
    seconds = predicted_seconds(left, where[0]) / len(where)
    say(f"{study}: {_count(wanted)} in {len(cells)} cells, {len(cells) - len(left)} of them there; {in_words(seconds)}")
    with reporting(progress, study, " FLOP") as report:
        results = run_cells(
            store,
            cells,
            [_maker(place) for place in where],
            cost=lambda cell: cost[cell.name],
            say=say,
            progress=report,
        )
    return _sweep(study, about, results)


def _maker(place: Place) -> Compute:
    """What trains cells at a place."""
    return lambda cell, within: result(Training.of(cell), place, progress=within)


def _extend_plan(
    store: Store, study: str, wanted: Sequence[Training], about: dict[str, Any], say: Callable[[str], object]
) -> None:
    """Add trainings to those of earlier calls with the same budget; of two that begin alike, keep the larger."""
    before: list[Training] = []
    if study in store.plans():
        try:
            cells, earlier = store.read_plan(study)
        except Damaged as damage:
            say(str(damage))
            cells, earlier = [], about
        if all(earlier[name] == about[name] for name in BUDGET):
            before = [Training.of(cell) for cell in cells]
            about = about | {"sizes": sorted({*about["sizes"], *earlier["sizes"]})}
    kept: dict[Training, Training] = {}
    for training in [*before, *wanted]:
        begins = replace(training, models=0)
        kept[begins] = max(kept.get(begins, training), training, key=lambda each: each.models)
    store.write_plan(study, [training.cell() for training in kept.values()], about)


def load_sweep(directory: str | os.PathLike[str], study: str) -> Sweep:
    """What a study found, all calls of one budget together, from a directory in which it was finished.

    Raises:
        ValueError: a study that was not begun or not finished here, or a damaged file.
    """
    store = Store(directory)
    if choice("study", study, tuple(STUDIES)) not in store.plans():
        raise ValueError(f"study: {store.directory} holds no {study}, only {', '.join(store.plans()) or 'nothing'}")
    cells, about = store.read_plan(study)
    results = [store.read(cell) for cell in cells]
    missing = results.count(None)
    if missing:
        raise ValueError(f"study: {missing} of {len(cells)} cells of {study} are missing; give its command again")
    return _sweep(study, about, [each for each in results if each is not None])


def _wanted(
    study: str, sizes: Sequence[int] | None, seeds: int, steps: int, lr: float, seed: int
) -> tuple[list[Training], dict[str, Any]]:
    chosen = STUDIES[choice("study", study, tuple(STUDIES))]
    sides = chosen.sizes if sizes is None else tuple(integer("sizes", m, 1, MAX_SIZE) for m in sizes)
    if not sides:
        raise ValueError("sizes: expected at least one m")
    base = Training(
        rows=1,
        cols=1,
        d_model=1,
        d_hidden=1,
        models=integer("seeds", seeds, 1),
        steps=integer("steps", steps, 1),
        lr=number("lr", lr, 0.0),
        seed=check_seed(seed),
    )
    about = {"sizes": list(sides), "seeds": base.models, "steps": base.steps, "lr": base.lr, "seed": base.seed}
    return chosen.trainings(base, sides), about


def _sweep(study: str, about: dict[str, Any], results: Sequence[Result]) -> Sweep:
    records = [dict(each.record) for each in results]
    provenance = records[-1] | {"seconds": sum(record["seconds"] for record in records)}
    for name in ("backend", "isa", "cpu", "threads"):
        provenance[name] = ", ".join(sorted({str(record[name]) for record in records}))
    return Sweep(study, about, joined(results), provenance)


def _count(trainings: Sequence[Training]) -> str:
    models = sum(training.models for training in trainings)
    return f"{models:,} models of {len({replace(each, first=0, models=0) for each in trainings}):,} shapes and budgets"
