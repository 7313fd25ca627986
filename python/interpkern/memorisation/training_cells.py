"""Cells of the lab's sweeps: a block of models of one shape, drawn and trained by one budget."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import pandas
import torch

from interpkern.machine import cpu_model
from interpkern.memorisation.bits import entropy
from interpkern.memorisation.initialisation import POINTS, gaussian_points
from interpkern.memorisation.models import TableMLPs
from interpkern.memorisation.places import Place
from interpkern.memorisation.readouts import solve_readout
from interpkern.memorisation.run import MemoriseRun
from interpkern.memorisation.tables import random_tables
from interpkern.memorisation.training import LAYERS, memorise
from interpkern.progress import Progress
from interpkern.reference.memorise import Fields
from interpkern.runs import Cell, Result

KIND = "memorise"
BLOCK_FLOPS = 400e9
"""A block has enough models for this, or all of a shape: seconds on one core."""
LANES = 16
"""Models that the CPU kernel trains side by side."""


@dataclass(frozen=True)
class Training:
    """Models of one shape on random tables, and the budget that trains them."""

    rows: int
    cols: int
    d_model: int
    d_hidden: int
    models: int
    steps: int
    lr: float
    embedding: str = "random"
    """Or points: Gaussian inputs of their own, in tables of one column."""
    p: float = 0.5
    """Probability that a fact is 1."""
    train: tuple[str, ...] = LAYERS
    schedule: str = "cosine"
    solver: str = "adam"
    """Or exact: a readout by linear programming on the first layer as it was drawn, without any update."""
    seed: int = 0
    """Of the sweep; a cell draws from its own, made from this and all else."""
    first: int = 0
    """Number of its first model among those of this shape."""
    copies: int = 1
    """Models that learn each table, from different starts."""

    @property
    def facts(self) -> int:
        """R * C."""
        return self.rows * self.cols

    @property
    def parameters(self) -> int:
        """P1, the numbers that are trained, with one logit."""
        sizes = {"W": self.d_hidden * self.d_model, "c": self.d_hidden, "r": self.d_hidden, "c_out": 1}
        sizes |= {"E1": self.rows * self.d_model, "E2": self.cols * self.d_model}
        return sum(sizes[name] for name in self.train)

    @property
    def bits_per_parameter(self) -> float:
        """Bits in the table for each of P1: facts per parameter where p = 1/2."""
        return self.facts * float(entropy(self.p)) / self.parameters

    @property
    def flops(self) -> int:
        """Of the whole training, counted as the spec of memorisation does; for a linear program, a guess."""
        if self.solver == "exact":
            return 2000 * self.facts * self.d_hidden * self.models
        layers = 4 * (self.rows + self.cols) * self.d_model * self.d_hidden
        step = layers + 9 * self.facts * self.d_hidden + 10 * self.facts + 12 * self.parameters
        return step * self.models * self.steps

    @property
    def spec(self) -> dict[str, Any]:
        """It as JSON has it; what came after the first version is left out where it is as it was then."""
        spec = asdict(self) | {"train": list(self.train)}
        return spec if self.copies > 1 else {name: value for name, value in spec.items() if name != "copies"}

    def cell(self) -> Cell:
        """Its cell."""
        return Cell(KIND, self.spec)

    @classmethod
    def of(cls, cell: Cell) -> "Training":
        """The training that a cell is."""
        return cls(**{**cell.spec, "train": tuple(cell.spec["train"])})


def trained_embeddings(training: Training) -> Training:
    """The same with embeddings that are trained too."""
    return replace(training, embedding="trained", train=Fields._fields)


def blocks(training: Training) -> list[Training]:
    """The training in cells of some seconds each; more models of a shape only add blocks."""
    lasting = math.ceil(BLOCK_FLOPS * training.models / max(training.flops, 1) / LANES)
    size = LANES * max(1, 1 << max(lasting - 1, 0).bit_length())
    return [
        replace(training, first=first, models=min(size, training.models - first))
        for first in range(0, training.models, size)
    ]


def drawn(training: Training) -> tuple[TableMLPs, torch.Tensor]:
    """The models and tables that a cell starts from, from a seed of its own."""
    seed = replace(training, models=0).cell().seed
    sizes = (training.models, training.rows, training.cols)
    if training.embedding == POINTS:
        points = gaussian_points(training.models, training.rows, training.d_model, seed)
        models = TableMLPs.of_points(points, training.d_hidden, seed=seed)
    else:
        width = None if training.embedding == "basis" else training.d_model
        models = TableMLPs.init(*sizes, width, training.d_hidden, embedding=training.embedding, seed=seed)
    tables = random_tables(math.ceil(training.models / training.copies), *sizes[1:], p=training.p, seed=seed)
    return models, tables.repeat_interleave(training.copies, dim=0)[: training.models]


def trained(training: Training, place: Place, *, progress: Progress | bool | None) -> MemoriseRun:
    """Draw the models of one cell, and train them at a place."""
    models, tables = drawn(training)
    if training.solver == "exact":
        models = solve_readout(models, tables, progress=progress)
    return memorise(
        models.to(place.device),
        tables,
        steps=training.steps,
        lr=training.lr,
        schedule=training.schedule,
        train=training.train,
        backend=place.backend,
        threads=place.threads,
        progress=progress,
    )


def result(training: Training, place: Place, *, progress: Progress | bool | None) -> Result:
    """One row a model, as `MemoriseRun.to_pandas`, numbered among all models of its shape, and what made it."""
    run = trained(training, place, progress=progress)
    text = " ".join(training.train)
    table = run.to_pandas().assign(p=training.p, schedule=training.schedule, train=text, solver=training.solver)
    table["model"] += training.first
    return Result(table, made_by(run))


def made_by(run: MemoriseRun) -> dict[str, Any]:
    """The provenance of a run, with the processor."""
    return run.provenance | {"cpu": cpu_model()}


def joined(results: Sequence[Result]) -> pandas.DataFrame:
    """All rows of all results."""
    return pandas.concat([each.table for each in results], ignore_index=True)
