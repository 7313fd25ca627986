"""The operation `memorise`: whole training runs of many tiny MLPs in one call."""

import math
from collections.abc import Sequence
from typing import Any

import torch

from interpkern.backends import choose
from interpkern.errors import DTypeError
from interpkern.ops import memorise_library
from interpkern.ops.memorise_backends import BACKENDS
from interpkern.progress import Progress, reporting
from interpkern.reference.memorise import Fields, Outcome, Problem, State
from interpkern.validation import (
    REAL_DTYPES,
    Dimensions,
    boolean,
    choice,
    integer,
    number,
    per_model,
    zeros_and_ones,
)

FIELD_SHAPES = {"E1": "B R D", "E2": "B C D", "W": "B H D", "c": "B H", "r": "B H", "c_out": "B"}
SCHEDULES = ("constant", "cosine")
MAX_STEPS = 100_000_000


def memorise(
    weights: Fields,
    tables: torch.Tensor,
    *,
    steps: int,
    lr: float | torch.Tensor,
    betas: tuple[float | torch.Tensor, float | torch.Tensor],
    eps: float | torch.Tensor,
    weight_decay: float | torch.Tensor,
    readout_lr_scale: float,
    schedule: str,
    warmup: int,
    schedule_steps: int | None,
    train: Sequence[str],
    stop_when_solved: bool,
    margin: float,
    log_every: int | None,
    state: State | None,
    backend: str,
    threads: int | None,
    progress: Progress | bool | None,
) -> Outcome:
    """Check the arguments, choose a backend and train; `interpkern.memorise` says what each argument means."""
    dimensions = Dimensions()
    weights = check_fields(dimensions, "", weights, (torch.float32, torch.float64))
    models = dimensions.sizes["B"]
    tables = zeros_and_ones("tables", dimensions.tensor("tables", tables, "B R C", (*REAL_DTYPES, torch.bool)))
    state = fresh_state(weights) if state is None else check_state(dimensions, state, weights)
    steps = integer("steps", steps, 0, MAX_STEPS)
    beta1, beta2 = _pair("betas", betas)
    stop = boolean("stop_when_solved", stop_when_solved)
    margin = number("margin", margin, 0.0)
    problem = Problem(
        weights=weights,
        state=state,
        tables=tables.to(weights.W.device),
        lr=per_model("lr", lr, models, 0.0),
        beta1=per_model("betas", beta1, models, 0.0, below=1.0),
        beta2=per_model("betas", beta2, models, 0.0, below=1.0),
        eps=per_model("eps", eps, models, 0.0),
        weight_decay=per_model("weight_decay", weight_decay, models, 0.0),
        readout_lr_scale=number("readout_lr_scale", readout_lr_scale, 0.0),
        schedule=_factors(schedule, steps, warmup, schedule_steps, state.step),
        train=_trained(train),
        steps=steps,
        stop_margin=margin if stop else None,
        logged_steps=_logged(log_every, steps),
        threads=torch.get_num_threads() if threads is None else integer("threads", threads, 1, 4096),
    )
    chosen = choose("memorise", BACKENDS, backend, problem)
    with reporting(progress, "memorise", " model-steps") as report:
        if chosen.name == "reference":  # it needs autograd, which torch switches off inside an operator
            return chosen.run(problem, report)
        return memorise_library.call(problem, chosen.name, report)


def check_fields(
    dimensions: Dimensions, prefix: str, fields: Fields, dtypes: Sequence[torch.dtype], *, finite: bool = True
) -> Fields:
    """The six tensors with shapes that fit each other, one dtype and one device."""
    checked: list[torch.Tensor] = []
    for value, (name, letters) in zip(fields, FIELD_SHAPES.items(), strict=True):
        tensor = dimensions.tensor(prefix + name, value, letters, dtypes, finite=finite)
        checked.append(tensor)
        dtypes = (tensor.dtype,)
        if tensor.device != checked[0].device:
            raise ValueError(f"{prefix}{name}: expected device {checked[0].device} to match E1, got {tensor.device}")
    return Fields(*checked)


def fresh_state(weights: Fields) -> State:
    """Adam before its first update."""
    zeros = Fields(*(torch.zeros_like(part) for part in weights))
    step = torch.zeros(len(weights.c_out), dtype=torch.int64, device=weights.c_out.device)
    return State(zeros, Fields(*(part.clone() for part in zeros)), step)


def check_state(dimensions: Dimensions, state: State, weights: Fields) -> State:
    """An optimiser state that fits the weights."""
    if not isinstance(state, State):
        raise DTypeError(f"state: expected the state of an earlier run, got {type(state).__name__}")
    dtypes = (weights.W.dtype,)
    first = check_fields(dimensions, "state.first.", state.first, dtypes)
    second = check_fields(dimensions, "state.second.", state.second, dtypes)
    if any(bool((part < 0).any()) for part in second):
        raise ValueError("state.second: expected no negative number in a second moment")
    step = dimensions.tensor("state.step", state.step, "B", (torch.int64,))
    if not bool(((step >= 0) & (step <= MAX_STEPS)).all()):
        raise ValueError(f"state.step: expected integers from 0 to {MAX_STEPS}")
    device = weights.W.device
    return State(Fields(*(p.to(device) for p in first)), Fields(*(p.to(device) for p in second)), step.to(device))


def _pair(name: str, value: Any) -> tuple[Any, Any]:
    if not isinstance(value, (tuple, list)) or len(value) != 2:
        raise DTypeError(f"{name}: expected a pair (beta1, beta2), got {value!r}")
    return value[0], value[1]


def _trained(train: Sequence[str]) -> tuple[str, ...]:
    if isinstance(train, str) or not isinstance(train, (tuple, list)):
        raise DTypeError(f"train: expected a tuple of field names such as ('W', 'c'), got {train!r}")
    for name in train:
        choice("train", name, Fields._fields)
    if not train:
        raise ValueError("train: expected at least one field, got none")
    return tuple(name for name in Fields._fields if name in train)


def _logged(log_every: int | None, steps: int) -> torch.Tensor:
    every = max(steps, 1) if log_every is None else integer("log_every", log_every, 1)
    return torch.cat([torch.arange(0, steps, every), torch.tensor([steps])])


def _factors(name: str, steps: int, warmup: int, schedule_steps: int | None, step: torch.Tensor) -> torch.Tensor:
    choice("schedule", name, SCHEDULES)
    warmup = integer("warmup", warmup, 0, MAX_STEPS)
    horizon = int(step.max()) + steps if schedule_steps is None else schedule_steps
    horizon = integer("schedule_steps", horizon, 0, 2 * MAX_STEPS)
    t = torch.arange(1 + max(warmup, horizon if name == "cosine" else 0), dtype=torch.float64)
    factor = (1 + torch.cos(math.pi * (t / max(horizon, 1)).clamp(max=1))) / 2 if name == "cosine" else 1
    return factor * ((t + 1) / max(warmup, 1)).clamp(max=1)
