"""The studies that look into models: circuits, quantisation and constructions, as cells in the directory of a sweep."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas
from matplotlib.figure import Figure

from interpkern.files import as_path, write_atomically
from interpkern.memorisation import lab_text
from interpkern.memorisation.circuit_cells import (
    Construction,
    Rounding,
    construction_result,
    restored,
    rounding_result,
    weights_cell,
    weights_result,
)
from interpkern.memorisation.circuits import circuits
from interpkern.memorisation.lab_plots import plot_constructions, plot_rounding
from interpkern.memorisation.places import Place, places
from interpkern.memorisation.prediction import in_words, predicted_seconds
from interpkern.memorisation.run import MemoriseRun
from interpkern.memorisation.training_cells import Training, joined
from interpkern.progress import Progress, reporting
from interpkern.random import check_seed
from interpkern.report import parquet
from interpkern.runs import Cell, Compute, Result, Store, run_cells
from interpkern.validation import choice, integer, number

STUDIES = ("circuits", "quantisation", "constructions")
ROWS = 32
CIRCUIT_SHAPE = (20, 20)
ROUNDED_SHAPES = ((20, 24), (20, 20))
"""Just below the capacity of m = 32 and at it."""
COPIES = 4
RETRAINING = 1000
CONSTRUCTION_SIZES = {
    "row lookup": (8, 16, 32, 64, 128),
    "threshold slabs": (8, 16, 32),
    "rectangle cover": (8, 16, 32),
    "ternary": (8, 16, 32),
    "zigzag": (8, 16, 32, 64, 128, 256, 512),
}
"""m of the tables that each construction makes."""
MOST_LARGE_TABLES = 2

Make = Callable[[Place, Progress], Result]
"""Makes a cell at a place."""


@dataclass(frozen=True)
class _Work:
    """A cell and what makes it."""

    cell: Cell
    make: Make
    cost: int
    like: Training | None = None
    """A training that takes about as long."""


@dataclass(frozen=True, eq=False)
class LabStudy:
    """What a study found."""

    study: str
    about: dict[str, Any]
    results: tuple[Result, ...]
    run: MemoriseRun | None
    """The trained models of circuits."""

    def to_pandas(self) -> pandas.DataFrame:
        """One row a model, or a model and number of bits, or a table."""
        return circuits(self.run).to_pandas() if self.run is not None else joined(self.results)

    def plot(self) -> Figure:
        """Draw how circuits are spread, what rounding costs, or what constructions hold."""
        if self.run is not None:
            return circuits(self.run).plot()
        if self.study == "quantisation":
            return plot_rounding(lab_text.rounded_table(self.to_pandas()))
        return plot_constructions(lab_text.constructed_table(self.to_pandas()))

    def save(self, directory: str | os.PathLike[str]) -> Path:
        """Write STUDY.parquet; returns the directory."""
        target = as_path("directory", directory)
        target.mkdir(parents=True, exist_ok=True)
        write_atomically(target / f"{self.study}.parquet", parquet(self.to_pandas()))
        return target


def lab_study(
    directory: str | os.PathLike[str],
    *,
    study: str,
    seeds: int = 16,
    steps: int = 20_000,
    lr: float = 0.03,
    seed: int = 0,
    backend: str = "auto",
    threads: int | None = None,
    device: str = "cpu",
    say: Callable[[str], object] = lambda line: None,
    progress: Progress | bool | None = None,
) -> LabStudy:
    """Train models to look into, or make tables by construction, in the directory of a sweep.

    Args:
        directory: as in `capacity_sweep`, and gone on with in the same way.
        study: circuits (four models for each of seeds / 4 tables, at capacity), quantisation (to 10 to 3 bits, just
            below capacity and at it, with and without retraining) or constructions.
        seeds: models of each shape, for circuits at least 5; or tables of each construction, at most 2 of those with
            128 rows and more.
        steps: updates of each model.
        lr: learning rate of Adam, cosine to 0.
        seed, backend, threads, device, say, progress: as in `capacity_sweep`.

    Returns:
        LabStudy.

    Raises:
        ValueError or TypeError that names the argument; BackendUnavailable.
    """
    fewest = COPIES + 1 if choice("study", study, STUDIES) == "circuits" else 1
    about = {
        "seeds": integer("seeds", seeds, fewest),
        "steps": integer("steps", steps, 1),
        "lr": number("lr", lr, 0.0),
        "seed": check_seed(seed),
    }
    work = _work(study, about)
    where = places(device, backend, threads)
    cells = [each.cell for each in work]
    store = Store(directory)
    left = [each for each in work if not store.path(each.cell).exists()]
    training = [each.like for each in left if each.like is not None]
    wait = in_words(predicted_seconds(training, where[0]) / len(where)) if training or not left else "no training"
    say(f"{study}: {len(cells) - len(left)} of {len(cells)} cells are there; {wait}")
    with store.holding():
        store.write_plan(study, cells, about)
    make = {each.cell.name: each.make for each in work}
    cost = {each.cell.name: each.cost for each in work}
    with reporting(progress, study, " FLOP") as report:
        results = run_cells(
            store,
            cells,
            [_maker(make, place) for place in where],
            cost=lambda cell: cost[cell.name],
            say=say,
            progress=report,
        )
    return _found(study, about, results)


def _maker(make: dict[str, Make], place: Place) -> Compute:
    """What makes cells at a place."""
    return lambda cell, within: make[cell.name](place, within)


def load_lab_study(directory: str | os.PathLike[str], study: str) -> LabStudy:
    """What a study found, from a directory in which it was finished.

    Raises:
        ValueError: a study that was not begun or not finished here, or a damaged file.
    """
    store = Store(directory)
    if choice("study", study, STUDIES) not in store.plans():
        raise ValueError(f"study: {store.directory} holds no {study}, only {', '.join(store.plans()) or 'nothing'}")
    cells, about = store.read_plan(study)
    results = [each for each in map(store.read, cells) if each is not None]
    if len(results) < len(cells):
        raise ValueError(f"study: {len(cells) - len(results)} cells of {study} are missing; give its command again")
    return _found(study, about, results)


def _found(study: str, about: dict[str, Any], results: Sequence[Result]) -> LabStudy:
    run = restored(_circuits(about), results[0]) if study == "circuits" else None
    return LabStudy(study, about, tuple(results), run)


def _training(about: dict[str, Any], shape: tuple[int, int]) -> Training:
    budget = {name: about[name] for name in ("steps", "lr", "seed")}
    return Training(rows=ROWS, cols=ROWS, d_model=shape[0], d_hidden=shape[1], models=about["seeds"], **budget)


def _circuits(about: dict[str, Any]) -> Training:
    return Training(**{**vars(_training(about, CIRCUIT_SHAPE)), "copies": COPIES})


def _work(study: str, about: dict[str, Any]) -> list[_Work]:
    if study == "circuits":
        training = _circuits(about)

        def train(place: Place, within: Progress) -> Result:
            return weights_result(training, place, progress=within)

        return [_Work(weights_cell(training), train, training.flops, training)]
    if study == "quantisation":
        roundings = [
            Rounding(_training(about, shape), per, retraining)
            for shape in ROUNDED_SHAPES
            for per in ("tensor", "row")
            for retraining in (0, RETRAINING)
        ]

        def round_(rounding: Rounding) -> Make:
            return lambda place, within: rounding_result(rounding, place, progress=within)

        return [_Work(each.cell(), round_(each), each.like.flops, each.like) for each in roundings]
    return [_constructed(name, m, about) for name, sizes in CONSTRUCTION_SIZES.items() for m in sizes]


def _constructed(name: str, m: int, about: dict[str, Any]) -> _Work:
    count = min(about["seeds"], MOST_LARGE_TABLES) if m >= 128 else about["seeds"]
    made = Construction(name, m, m, count, about["seed"])
    return _Work(made.cell(), lambda place, within: construction_result(made), m * m * count * 1000)
