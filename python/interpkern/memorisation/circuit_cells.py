"""Cells whose models are looked into: trained weights, what rounding them costs, and constructions beside them."""

import time
from dataclasses import dataclass, replace
from typing import Any

import numpy
import pandas
import torch

from interpkern.files import provenance
from interpkern.machine import cpu_model
from interpkern.memorisation.constructions import compare_constructions
from interpkern.memorisation.models import TableMLPs
from interpkern.memorisation.places import Place
from interpkern.memorisation.quantisation import quantise, quantise_retrained
from interpkern.memorisation.run import MemoriseRun
from interpkern.memorisation.tables import random_tables
from interpkern.memorisation.training import LAYERS, memorise
from interpkern.memorisation.training_cells import Training, drawn, made_by, trained
from interpkern.progress import Progress
from interpkern.runs import Cell, Result

WEIGHTS, ROUNDED, CONSTRUCTED = "weights", "quantised", "construction"
BITS = (10, 9, 8, 7, 6, 5, 4, 3)


def weights_cell(training: Training) -> Cell:
    """Of the trained weights of some models."""
    return Cell(WEIGHTS, training.spec)


def weights_result(training: Training, place: Place, *, progress: Progress | bool | None) -> Result:
    """One row a model, each field as a list; embeddings are not trained, so the seed gives them again."""
    run = trained(training, place, progress=progress)
    models = run.models.to("cpu")
    fields = {name: list(getattr(models, name).flatten(1).numpy()) for name in ("W", "c", "r")}
    return Result(pandas.DataFrame(fields | {"c_out": models.c_out.numpy()}), made_by(run))


def restored(training: Training, result: Result) -> MemoriseRun:
    """The run, without the way there: trained models, tables, loss at the end."""
    models, tables = drawn(training)
    columns = {name: numpy.stack(result.table[name].to_list()) for name in ("W", "c", "r")}
    tensors: dict[str, Any] = {
        name: torch.from_numpy(values.astype(numpy.float32)).reshape(getattr(models, name).shape)
        for name, values in columns.items()
    }
    c_out = torch.from_numpy(result.table.c_out.to_numpy(dtype=numpy.float32).copy())
    weights = TableMLPs(E1=models.E1, E2=models.E2, c_out=c_out, embedding=models.embedding, **tensors)
    return memorise(weights, tables, steps=0, lr=training.lr, train=LAYERS)


@dataclass(frozen=True)
class Rounding:
    """Models that are trained, and then quantised to each of BITS."""

    training: Training
    per: str
    """tensor or row."""
    retraining: int
    """Updates of each of three retrainings; 0 for none."""

    def cell(self) -> Cell:
        """Its cell."""
        about = {"training": self.training.spec, "per": self.per, "retraining": self.retraining, "bits": list(BITS)}
        return Cell(ROUNDED, about)

    @property
    def like(self) -> Training:
        """A training of as many updates as this and all retrainings."""
        return replace(self.training, steps=self.training.steps + 3 * len(BITS) * self.retraining)


def rounding_result(rounding: Rounding, place: Place, *, progress: Progress | bool | None) -> Result:
    """One row a model and number of bits, and one a model as it was trained, with 32 bits."""
    run = trained(rounding.training, place, progress=progress)
    parts = [_stored(run, run.models, 32)]
    for bits in BITS:
        if rounding.retraining:
            models = quantise_retrained(
                run,
                bits,
                per=rounding.per,
                steps=rounding.retraining,
                backend=place.backend,
                threads=place.threads,
                progress=False,
            )
        else:
            models = quantise(run.models, bits, per=rounding.per)
        parts.append(_stored(run, models, bits))
    table = pandas.concat(parts, ignore_index=True)
    return Result(table.assign(per=rounding.per, retraining=rounding.retraining), made_by(run))


def _stored(run: MemoriseRun, models: TableMLPs, bits: int) -> pandas.DataFrame:
    frame = memorise(models, run.tables, steps=0, train=LAYERS).to_pandas()
    names = ["model", "rows", "d_model", "d_hidden", "P1", "P2", "facts", "loss", "accuracy", "solved", "bits_ce"]
    return frame[names].assign(weight_bits=bits)


@dataclass(frozen=True)
class Construction:
    """Random tables, each made by one construction."""

    name: str
    rows: int
    cols: int
    tables: int
    seed: int

    def cell(self) -> Cell:
        """Its cell."""
        return Cell(CONSTRUCTED, vars(self))


def construction_result(construction: Construction) -> Result:
    """One row a table, as `compare_constructions`."""
    seed = construction.cell().seed
    tables = random_tables(construction.tables, construction.rows, construction.cols, seed=seed)
    where, start = provenance(), time.perf_counter()
    table = compare_constructions(tables, [construction.name])
    seconds = time.perf_counter() - start
    return Result(table, where | {"cpu": cpu_model(), "backend": "none", "isa": None, "threads": 1, "seconds": seconds})
