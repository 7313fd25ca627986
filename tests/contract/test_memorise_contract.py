"""Ten thousand bad calls of `memorise`: none crashes, and every message names the argument it is about."""

import random
from typing import Any

import pytest
import torch

import interpkern
from interpkern.memorisation import TableMLPs
from interpkern.reference.memorise import Fields, State
from tests.contract.bad_values import BOOLEAN, CHOICE, FLOAT_TENSOR, INTEGER, NOT_A_NUMBER, PER_MODEL, TABLES, Spoil
from tests.ops.problems import PLAIN, problem, train

BAD_CALLS = 10_000
PAIR: dict[str, Spoil] = {
    "one number": lambda rng, value: 0.9,
    "three": lambda rng, value: (0.9, 0.99, 0.999),
    "nothing": lambda rng, value: None,
    "beta1 = 1": lambda rng, value: (1.0, 0.999),
    "beta2 > 1": lambda rng, value: (0.9, 1.5),
    "one bad": lambda rng, value: (0.9, torch.tensor([0.9, 0.9, 1.0, 0.9])),
}
TRAIN: dict[str, Spoil] = {
    "a string": lambda rng, value: "W",
    "an unknown field": lambda rng, value: ("W", "w"),
    "no field": lambda rng, value: (),
    "nothing": lambda rng, value: None,
    "numbers": lambda rng, value: (1, 2),
}
STATE: dict[str, Spoil] = {
    "a dict": lambda rng, value: {"step": 3},
    "negative step": lambda rng, value: State(value.first, value.second, value.step - 9),
    "float step": lambda rng, value: State(value.first, value.second, value.step.float()),
    "too short": lambda rng, value: State(value.first, value.second, value.step[:2]),
    "negative second": lambda rng, value: State(value.first, value.second._replace(c=value.second.c - 1), value.step),
    "wrong first": lambda rng, value: State(
        value.first._replace(W=rng.choice(list(FLOAT_TENSOR.values()))(rng, value.first.W)), value.second, value.step
    ),
}
NEVER_NONE = {"nothing": lambda rng, value: None}
KINDS: dict[str, dict[str, Spoil]] = {
    "tables": TABLES,
    "steps": INTEGER | NEVER_NONE,
    "lr": PER_MODEL,
    "betas": PAIR,
    "eps": PER_MODEL,
    "weight_decay": PER_MODEL,
    "readout_lr_scale": NOT_A_NUMBER,
    "schedule": CHOICE,
    "warmup": INTEGER | NEVER_NONE,
    "schedule_steps": INTEGER,
    "train": TRAIN,
    "stop_when_solved": BOOLEAN,
    "margin": NOT_A_NUMBER,
    "log_every": INTEGER | {"zero": lambda rng, value: 0},
    "state": STATE,
    "backend": CHOICE,
    "threads": INTEGER | {"zero": lambda rng, value: 0},
    "progress": {"a number": lambda rng, value: 3, "a string": lambda rng, value: "bar"},
    **dict.fromkeys(Fields._fields, FLOAT_TENSOR),
}


def good_call() -> dict[str, Any]:
    weights, tables = problem(4, 5, 3, 2, 6)
    state = train(weights, tables, steps=2).state
    return {**PLAIN, **weights._asdict(), "steps": 3, "tables": tables, "state": state}


def call(arguments: dict[str, Any]) -> None:
    rest = dict(arguments)
    weights = Fields(*(rest.pop(name) for name in Fields._fields))
    train(weights, rest.pop("tables"), **rest)


def test_bad_calls_are_refused_by_name() -> None:
    rng = random.Random(0)
    good = good_call()
    call(good)
    wrong = []
    for _ in range(BAD_CALLS):
        name = rng.choice(list(KINDS))
        how, spoil = rng.choice(list(KINDS[name].items()))
        try:
            call({**good, name: spoil(rng, good[name])})
        except (ValueError, TypeError) as error:
            if name not in str(error):
                wrong.append(f"{name} as {how}: {error}")
        except Exception as error:
            wrong.append(f"{name} as {how}: {error!r}")
        else:
            wrong.append(f"{name} as {how}: accepted")
    assert not wrong, "\n".join(sorted(set(wrong)))


@pytest.mark.parametrize("name", Fields._fields)
@pytest.mark.parametrize("how", sorted(FLOAT_TENSOR.keys() - {"NaN", "infinity"}))  # as runs that diverged have
def test_bad_models_are_refused_by_name(name: str, how: str) -> None:
    weights, _ = problem(4, 5, 3, 2, 6)
    spoilt = FLOAT_TENSOR[how](random.Random(1), getattr(weights, name))
    with pytest.raises((ValueError, TypeError), match=name):
        TableMLPs(**{**weights._asdict(), name: spoilt})


def test_good_calls_of_random_shapes_and_knobs() -> None:
    """The sanitizers' food: shapes and knobs at random, every output finite and of the right shape."""
    rng = random.Random(2)
    for _ in range(60):
        models, rows, columns, width, hidden = (rng.choice([1, 2, 3, 5, 8, 17, 33]) for _ in range(5))
        weights, tables = problem(models, rows, columns, width, hidden, seed=rng.randrange(1000))
        outcome = train(
            weights,
            tables,
            steps=rng.choice([0, 1, 5]),
            train=tuple(rng.sample(Fields._fields, rng.randint(1, 6))),
            threads=rng.choice([1, 2, 5]),
            log_every=rng.choice([None, 1, 2]),
            stop_when_solved=rng.random() < 0.5,
            schedule=rng.choice(["constant", "cosine"]),
            warmup=rng.choice([0, 3]),
        )
        assert outcome.loss.shape == (models, len(outcome.logged_steps))
        assert outcome.loss.isfinite().all()
        assert all(part.isfinite().all() for part in outcome.weights)
        assert ((outcome.correct >= 0) & (outcome.correct <= rows * columns)).all()


def test_messages_say_what_to_do() -> None:
    weights, tables = problem(4, 5, 3, 2, 6)
    with pytest.raises(interpkern.ShapeError, match=r"W: expected \(B, H, D\) with B = 4, D = 2 .*Did you mean W.mT"):
        train(weights._replace(W=weights.W.mT.contiguous()), tables)
    with pytest.raises(ValueError, match=r"schedule: .*Did you mean 'cosine'"):
        train(weights, tables, schedule="cosin")
    with pytest.raises(ValueError, match="detach"):
        train(weights._replace(r=weights.r.clone().requires_grad_()), tables)
    with pytest.raises(ValueError, match=r"backend: .*cpu, reference, got 'gpu'"):
        train(weights, tables, backend="gpu")
    with pytest.raises(interpkern.BackendUnavailable, match=r"cuda: .*; triton: .*; cpu: available"):
        train(weights, tables, backend="cuda")
    with pytest.raises(interpkern.BackendUnavailable, match="float32"):
        train(Fields(*(part.double() for part in weights)), tables)
