"""The cells of the demo: many models of one shape on one kind of table, and what each cell found."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy
import pandas
import torch

from interpkern.memorisation.bits import mean_interval, wilson_interval
from interpkern.memorisation.models import TableMLPs
from interpkern.memorisation.tables import random_tables
from interpkern.memorisation.training import memorise
from interpkern.memorisation.unicode_table import unicode_table
from interpkern.progress import Progress
from interpkern.random import words

KINDS = ("real", "columns shuffled", "random")
"""Of the size of the Unicode table: that table; it with each column shuffled; random ones with as many ones in all."""


@dataclass(frozen=True)
class Cell:
    """Models of one shape, all trained in one call with one budget."""

    kind: str
    """Of its tables: "fair coin" for random ones with p = 1/2 of any size, or one of KINDS."""
    rows: int
    cols: int
    d_model: int
    d_hidden: int
    models: int
    steps: int
    lr: float
    stop_when_solved: bool

    @property
    def model_steps(self) -> int:
        """Updates of all models together."""
        return self.models * self.steps

    def seed(self, seed: int) -> int:
        """A seed of its own, from the demo's seed and what the cell is."""
        text = f"{seed} {self.kind} {self.rows} {self.cols} {self.d_model} {self.d_hidden}"
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


@dataclass(frozen=True)
class Trained:
    """What one cell gave."""

    models: pandas.DataFrame
    """One row a model, as `MemoriseRun.to_pandas`, with the kind of table."""
    seconds: float
    provenance: dict[str, Any]


def train_cell(
    cell: Cell, *, seed: int, backend: str, threads: int | None, progress: Progress | bool | None
) -> Trained:
    """Draw the cell's models and tables, and train them."""
    own = cell.seed(seed)
    run = memorise(
        TableMLPs.init(cell.models, cell.rows, cell.cols, cell.d_model, cell.d_hidden, seed=own),
        tables_of(cell, own),
        steps=cell.steps,
        lr=cell.lr,
        schedule="cosine",
        stop_when_solved=cell.stop_when_solved,
        backend=backend,
        threads=threads,
        progress=progress,
    )
    return Trained(run.to_pandas().assign(kind=cell.kind, seed=own), run.provenance["seconds"], run.provenance)


def tables_of(cell: Cell, seed: int) -> torch.Tensor:
    """(B, R, C) uint8: every model gets its own table, except that the real one is the same for all."""
    if cell.kind == "fair coin":
        return random_tables(cell.models, cell.rows, cell.cols, seed=seed)
    real = unicode_table().table
    if cell.kind == "random":
        share = float(real.double().mean())
        return random_tables(cell.models, cell.rows, cell.cols, p=share, balanced=True, seed=seed)
    if cell.kind == "real":
        return real.expand(cell.models, -1, -1)
    keys = [words(seed, model, "tables", real.numel()).reshape(real.shape) for model in range(cell.models)]
    return torch.from_numpy(numpy.take_along_axis(real.numpy()[None], numpy.argsort(keys, axis=1), axis=1))


def summary(cells: Sequence[Cell], trained: Sequence[Trained]) -> pandas.DataFrame:
    """One row a cell: sizes, how many models are solved with Wilson's interval, bits per parameter with Student's."""
    return pandas.DataFrame([_row(cell, each) for cell, each in zip(cells, trained, strict=True)])


def _row(cell: Cell, trained: Trained) -> dict[str, Any]:
    models = trained.models
    solved = int(models.solved.sum())
    low, high = wilson_interval(solved, cell.models)
    bits, bits_low, bits_high = mean_interval(torch.from_numpy(models.bits_per_P2.to_numpy().copy()))
    sizes = {name: models[name].iloc[0] for name in ("d_model", "d_hidden", "P1", "P2", "facts", "facts_per_P1")}
    return {
        "kind": cell.kind,
        **sizes,
        "models": cell.models,
        "solved": solved,
        "solved_low": low,
        "solved_high": high,
        "bits_per_P2": bits,
        "bits_per_P2_low": bits_low,
        "bits_per_P2_high": bits_high,
        "accuracy": models.accuracy.mean(),
        "seconds": trained.seconds,
    }
