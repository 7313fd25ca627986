"""Circuits: what the hidden units of trained models do, for thousands of models at once."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy
import pandas
import torch
from matplotlib.figure import Figure

from interpkern.errors import DTypeError
from interpkern.files import as_path, write_atomically
from interpkern.memorisation.circuit_plots import plot_circuits
from interpkern.memorisation.low_rank import equal_rank, svd_accuracy
from interpkern.memorisation.neurons import Neurons, correlations, neurons
from interpkern.memorisation.run import MemoriseRun
from interpkern.report import parquet


@dataclass(frozen=True, eq=False)
class Circuits:
    """Figures of every hidden unit of B models, and of every model."""

    run: MemoriseRun
    units: Neurons
    """Each figure (B, H)."""
    correlation: torch.Tensor
    """(B, H, H), over facts, between the matrices of the units."""
    svd_accuracy: torch.Tensor
    """(B,) float64, of the truncated SVD of the table with at most as many numbers as P1."""
    svd_rank: int

    def to_pandas(self) -> pandas.DataFrame:
        """One row a model; means over hidden units leave out those that are never active.

        active_fraction: share of (fact, unit) that is above 0. dead: share of units that never are. stable_rank,
        top_energy: of the units' matrices; top_energy is the share of the largest singular value, 1 / stable rank.
        rectangle: share of energy of each unit's best rectangle. participation: (sum e)^2 / sum e^2 over H, with e the
        energies of r_j H_j: 1 when all units do as much. correlation: mean |r| of two units. ablated_accuracy,
        worst_ablated_accuracy: without one unit. svd_accuracy: of the low-rank table at equal parameters.
        """
        units, frame = self.units, self.run.to_pandas()
        energy, width = units.energy.double(), self.run.models.d_hidden
        spread = energy.sum(1) ** 2 / (energy**2).sum(1) / width
        off = self.correlation.abs().sum((1, 2)) - self.correlation.abs().diagonal(dim1=1, dim2=2).sum(1)
        columns = {
            "active_fraction": units.active.mean(1),
            "dead": (units.active == 0).double().mean(1),
            "stable_rank": units.stable_rank.nanmean(1),
            "top_energy": (1 / units.stable_rank).nanmean(1),
            "rectangle": units.rectangle.nanmean(1),
            "participation": spread,
            "correlation": off / max(width * (width - 1), 1),
            "ablated_accuracy": units.ablated_accuracy.mean(1),
            "worst_ablated_accuracy": units.ablated_accuracy.min(1).values,
            "svd_accuracy": self.svd_accuracy,
        }
        return frame.assign(**{name: values.double().numpy() for name, values in columns.items()})

    def neurons(self) -> pandas.DataFrame:
        """One row a hidden unit: its figures, with its readout weight."""
        models, width = self.units.active.shape
        columns: dict[str, Any] = {
            "model": numpy.repeat(numpy.arange(models), width),
            "neuron": numpy.tile(numpy.arange(width), models),
            "readout": self.run.models.r.flatten().numpy(),
        }
        for name, values in vars(self.units).items():
            columns[name] = values.flatten().numpy()
        return pandas.DataFrame(columns).rename(columns={"active": "active_fraction"})

    def plot(self) -> Figure:
        """Draw how the figures of hidden units are spread."""
        return plot_circuits(self.to_pandas(), self.neurons())

    def save(self, directory: str | os.PathLike[str]) -> Path:
        """Write circuits.parquet, one row a model, and neurons.parquet, one row a unit; returns the directory."""
        target = as_path("directory", directory)
        target.mkdir(parents=True, exist_ok=True)
        write_atomically(target / "circuits.parquet", parquet(self.to_pandas()))
        write_atomically(target / "neurons.parquet", parquet(self.neurons()))
        return target


def circuits(run: MemoriseRun) -> Circuits:
    """Take the models of a run apart: each hidden unit is a matrix H_j over facts, and logits = sum_j r_j H_j + c_out.

    Args:
        run: of `memorise`; models that were made otherwise become one by a run of 0 steps.

    Returns:
        Circuits, with `to_pandas()` (one row a model) and `neurons()` (one row a hidden unit).

    Raises:
        DTypeError that names run; ValueError where a model has diverged.

    Source:
        Newgas 2025, "Progress report on a Toy Model Of Memorization" (the circuits as a decomposition of the table).

    Example:
        >>> run = memorise(TableMLPs.init(8, 6, 6, 6, 9), random_tables(8, 6, 6), steps=1000)
        >>> circuits(run).to_pandas()[["stable_rank", "active_fraction", "participation"]].mean()
    """
    if not isinstance(run, MemoriseRun):
        raise DTypeError(f"run: expected a MemoriseRun, as memorise gives it, got {type(run).__name__}")
    finite = run.models.finite()
    if not bool(finite.all()):
        raise ValueError("run: expected finite weights; leave out models that diverged, run[run.models.finite()]")
    models = run.models.to("cpu")
    rank = equal_rank(models.rows, models.cols, run.parameters("one_logit"))
    return Circuits(run, neurons(models, run.tables), correlations(models), svd_accuracy(run.tables, rank), rank)
