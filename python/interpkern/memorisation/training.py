"""Training: many tiny MLPs memorise their tables in one call."""

import time
from collections.abc import Sequence
from typing import Any

import numpy
import torch

from interpkern import native
from interpkern.errors import DTypeError
from interpkern.files import provenance
from interpkern.memorisation.models import TableMLPs
from interpkern.memorisation.run import MemoriseRun
from interpkern.ops.memorise import memorise as train_fields
from interpkern.progress import Progress
from interpkern.reference.memorise import Fields, Outcome, State
from interpkern.validation import plain_tensor

LAYERS = ("W", "c", "r", "c_out")
PerModel = float | torch.Tensor | numpy.ndarray


def memorise(
    models: TableMLPs,
    tables: torch.Tensor | numpy.ndarray,
    *,
    steps: int,
    lr: PerModel = 0.03,
    betas: tuple[PerModel, PerModel] = (0.9, 0.999),
    eps: PerModel = 1e-8,
    weight_decay: PerModel = 0.0,
    readout_lr_scale: float = 1.0,
    schedule: str = "constant",
    warmup: int = 0,
    schedule_steps: int | None = None,
    train: Sequence[str] | None = None,
    stop_when_solved: bool = False,
    margin: float = 0.0,
    log_every: int | None = None,
    state: State | None = None,
    backend: str = "auto",
    threads: int | None = None,
    progress: Progress | bool | None = None,
) -> MemoriseRun:
    """Train every model on its own table by full-batch Adam on the cross-entropy.

    `lr`, `betas`, `eps` and `weight_decay` are numbers, or (B,) tensors with one value a model. Two halves make exactly
    one whole run when the second goes on from `run.models` and `state=run.state`, and both have the whole run's
    `schedule_steps`.

    Shapes:
        models of B times (R, C, D, H); tables (B, R, C) of 0 and 1: bool, uint8, any integer or float.

    Args:
        models: the models to start from, which are not changed.
        tables: the facts of each model.
        steps: updates to make.
        lr: learning rate of Adam.
        betas: decay of Adam's first and second moment, each in [0, 1).
        eps: added to the root of the second moment.
        weight_decay: decoupled; each update takes lr * weight_decay of a weight, whatever readout_lr_scale is.
        readout_lr_scale: factor on the learning rate of r and c_out; 2 reproduces training with two logits.
        schedule: constant, or cosine from lr to 0.
        warmup: updates in which the learning rate rises linearly to its schedule.
        schedule_steps: updates in which a cosine reaches 0; by default those made before plus steps.
        train: fields to train among E1, E2, W, c, r, c_out; by default W, c, r, c_out, and E1, E2 where trained.
        stop_when_solved: stop a model as soon as all its facts are right.
        margin: how far from 0 every logit must be for stop_when_solved.
        log_every: updates between records of the loss; by default only the first and last loss.
        state: optimiser state of an earlier run to go on from.
        backend: auto, cpu, cuda, triton or reference.
        threads: CPU threads; by default torch.get_num_threads().
        progress: True or False for a bar or none, or a function of (done, total); by default a bar on a terminal.

    Returns:
        MemoriseRun, with the trained models, the loss in nats per fact, accuracy and bits.

    Raises:
        ShapeError, DTypeError or ValueError that names the argument; BackendUnavailable with every backend's reason.

    Source:
        Newgas 2025, "Progress report on a Toy Model Of Memorization"; Kingma and Ba 2015 (Adam).

    Example:
        >>> models = TableMLPs.init(models=8, rows=6, cols=6, d_model=8, d_hidden=16)
        >>> memorise(models, random_tables(8, 6, 6), steps=1000, schedule="cosine").solved.sum()
        tensor(8)
    """
    if not isinstance(models, TableMLPs):
        raise DTypeError(f"models: expected TableMLPs, say from TableMLPs.init(...), got {type(models).__name__}")
    _refuse_diverged(models)
    tables = plain_tensor("tables", tables)
    if train is None:
        train = Fields._fields if models.embedding == "trained" else LAYERS
    arguments: dict[str, Any] = {
        "steps": steps,
        "lr": lr,
        "betas": betas,
        "eps": eps,
        "weight_decay": weight_decay,
        "readout_lr_scale": readout_lr_scale,
        "schedule": schedule,
        "warmup": warmup,
        "schedule_steps": schedule_steps,
        "train": train,
        "stop_when_solved": stop_when_solved,
        "margin": margin,
        "log_every": log_every,
        "backend": backend,
        "threads": threads,
    }
    start = time.perf_counter()
    outcome = train_fields(models.fields(), tables, **arguments, state=state, progress=progress)
    seconds = time.perf_counter() - start
    facts = models.rows * models.cols
    before = 0 if state is None else state.step.cpu()
    embedding = "trained" if {"E1", "E2"} <= set(train) else models.embedding
    return MemoriseRun(
        models=TableMLPs(**outcome.weights._asdict(), embedding=embedding, seed=models.seed),
        tables=tables.to("cpu", torch.uint8, copy=True).contiguous(),
        state=outcome.state,
        loss=outcome.loss.cpu(),
        logged_steps=outcome.logged_steps.cpu(),
        steps_taken=outcome.state.step.cpu() - before,
        accuracy=outcome.correct.cpu().double() / facts,
        solved=outcome.correct.cpu() == facts,
        settings={name: _plain(value) for name, value in arguments.items()} | _horizon(schedule_steps, before, steps),
        provenance=provenance() | _machine(outcome, models, threads, seconds),
    )


def _refuse_diverged(models: TableMLPs) -> None:
    finite = models.finite()
    if not bool(finite.all()):
        where = ", ".join(name for name, part in models.state_dict().items() if not bool(part.isfinite().all()))
        first, count = int(finite.byte().argmin()), int((~finite).sum())
        raise ValueError(
            f"models: expected finite weights, got NaN or infinity in {where} of {count} of {len(models)} models"
            f" (first: {first})"
            "; go on with models[models.finite()], or run[run.models.finite()] of the run that diverged"
        )


def _horizon(schedule_steps: int | None, before: int | torch.Tensor, steps: int) -> dict[str, int]:
    """The horizon of the schedule in force when the caller named none."""
    made = int(before.max()) if isinstance(before, torch.Tensor) else before
    return {"schedule_steps": made + steps} if schedule_steps is None else {}


def _machine(outcome: Outcome, models: TableMLPs, threads: int | None, seconds: float) -> dict[str, Any]:
    return {
        "backend": outcome.backend,
        "isa": native.isa() if outcome.backend == "cpu" else None,
        "threads": torch.get_num_threads() if threads is None else int(threads),
        "device": str(models.W.device),
        "gpu": torch.cuda.get_device_name(models.W.device) if models.W.is_cuda else None,
        "seconds": seconds,
        "seed": models.seed,
    }


def _plain(value: Any) -> Any:
    """A setting as JSON has it: numbers, text and lists."""
    if isinstance(value, (torch.Tensor, numpy.ndarray, numpy.generic)):
        return value.tolist()
    return [_plain(part) for part in value] if isinstance(value, (tuple, list)) else value
