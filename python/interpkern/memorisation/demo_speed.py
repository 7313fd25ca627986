"""How long the demo's training would take in PyTorch, from a small slice measured on the spot."""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch

from interpkern.machine import one_thread
from interpkern.memorisation.demo_training import Cell, tables_of
from interpkern.memorisation.models import TableMLPs
from interpkern.memorisation.torch_form import UPDATES_PER_CALL, Trained, started
from interpkern.memorisation.training import memorise

AGREEMENT = 1e-5
"""Mean difference of a weight after UPDATES_PER_CALL updates at which two forms count as the same training.

Not the largest: Adam's first updates divide by the gradient, and so magnify a gradient that is all rounding.
"""
TURNS = 5
UPDATES_PER_TURN = 250


@dataclass(frozen=True)
class Comparison:
    """Time of the same training here and, extrapolated, in PyTorch."""

    form: str
    compiled: bool
    shape: tuple[int, int]
    model_steps: int
    """In the slice that PyTorch trained."""
    rates: tuple[tuple[float, float], ...]
    """Model-steps/s of PyTorch and of this backend on one thread, turn by turn."""
    preparation: float
    """Seconds until PyTorch's first result: compilation."""
    job_model_steps: int
    seconds: float
    """Measured here for the whole job, with all its threads."""
    difference: float
    """Mean absolute difference of a weight between the two after UPDATES_PER_CALL updates."""

    @property
    def times(self) -> float:
        """How many times as long PyTorch takes: the median over the turns, both on one thread."""
        return statistics.median(ours / theirs for theirs, ours in self.rates)

    def sentence(self) -> str:
        """The comparison in words, with what it rests on."""
        if not self.difference <= AGREEMENT:
            return f"PyTorch disagrees with this backend by {self.difference:.1e} after {UPDATES_PER_CALL} updates."
        theirs, ours = (statistics.median(side) / 1e3 for side in zip(*self.rates, strict=True))
        took = f"{self.job_model_steps / 1e6:.1f} million model-steps on coin tosses took {duration(self.seconds)} here"
        basis = f"{self.form} at {self.shape}, {theirs:,.0f} against {ours:,.0f} thousand model-steps a second"
        extra = "" if self.compiled else " torch.compile was not used; where it works it is several times as fast."
        return (
            f"The {took}. PyTorch would take about {duration(self.seconds * self.times)}, {self.times:.1f} times as"
            f" long: an extrapolation from {self.model_steps:,} model-steps of {basis}, in turns on one thread each."
            f" The {duration(self.preparation)} before PyTorch's first result are not counted.{extra}"
        )


def compare(
    cells: Sequence[Cell],
    *,
    models: int,
    slice_seconds: float,
    seconds: float,
    seed: int,
    backend: str,
) -> Comparison:
    """Measure PyTorch on the middle cell's shape beside `backend`, after checking that they train alike.

    Args:
        cells: the job.
        models: how many models the slice trains side by side; few stay in the cache.
        slice_seconds: how long to measure either side.
        seconds: what the job took here.
        seed: as in the job.
        backend: that of the job.
    """
    cell = replace(cells[len(cells) // 2], models=models)
    own = cell.seed(seed)
    start = TableMLPs.init(models, cell.rows, cell.cols, cell.d_model, cell.d_hidden, seed=own)
    tables = tables_of(cell, own)

    def train(steps: int) -> TableMLPs:
        return memorise(start, tables, steps=steps, lr=cell.lr, backend=backend, threads=1, progress=False).models

    with one_thread():
        began = time.perf_counter()
        form = started(start.fields(), tables, lr=cell.lr)
        preparation = time.perf_counter() - began
        difference = _difference(form.training.weights, train(UPDATES_PER_CALL))
        rates = tuple(
            (
                _rate(form.advance, form.model_steps, slice_seconds / TURNS),
                _rate(lambda: train(UPDATES_PER_TURN), UPDATES_PER_TURN * models, slice_seconds / TURNS),
            )
            for _ in range(TURNS)
        )
    return Comparison(
        form=form.name,
        compiled=form.compiled,
        shape=(cell.d_model, cell.d_hidden),
        model_steps=(form.step - 1) * models,
        rates=rates,
        preparation=preparation,
        job_model_steps=sum(each.model_steps for each in cells),
        seconds=seconds,
        difference=difference,
    )


def _rate(run: Callable[[], object], work: int, seconds: float) -> float:
    done, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        run()
        done += work
    return done / (time.perf_counter() - start)


def _difference(theirs: Trained, ours: TableMLPs) -> float:
    pairs = zip(theirs, (ours.W, ours.c, ours.r, ours.c_out), strict=True)
    return float(torch.cat([(part.movedim(-1, 0) - mine.cpu()).abs().flatten() for part, mine in pairs]).mean())


def duration(seconds: float) -> str:
    """Seconds for a reader: 3.2 s, 38 s, 4 min 2 s, 2 h 5 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
