"""Ways to spoil an argument, by kind; each returns something that must be refused."""

import math
import random
import warnings
from collections.abc import Callable
from typing import Any

import numpy
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

Spoil = Callable[[random.Random, Any], Any]


def _one_element(value: float) -> Spoil:
    def spoil(rng: random.Random, tensor: torch.Tensor) -> torch.Tensor:
        spoilt = tensor.to(torch.float32).clone()
        spoilt.view(-1)[rng.randrange(spoilt.numel())] = value
        return spoilt

    return spoil


def _resized(rng: random.Random, tensor: torch.Tensor) -> torch.Tensor:
    shape = list(tensor.shape)
    dimension = rng.randrange(len(shape))
    shape[dimension] = rng.choice([0, shape[dimension] + rng.randint(1, 5)])
    return torch.zeros(shape, dtype=tensor.dtype)


def _fake(rng: random.Random, tensor: torch.Tensor) -> torch.Tensor:
    with FakeTensorMode() as mode:
        return mode.from_tensor(tensor)


def _quantised(rng: random.Random, tensor: torch.Tensor) -> torch.Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.quantize_per_tensor(tensor.float(), 0.1, 0, torch.qint8)


def _nested(rng: random.Random, tensor: torch.Tensor) -> torch.Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.nested.nested_tensor([tensor.float(), tensor.float()])


TENSOR: dict[str, Spoil] = {
    "a list": lambda rng, tensor: tensor.tolist(),
    "nothing": lambda rng, tensor: None,
    "a string": lambda rng, tensor: "weights",
    "an object array": lambda rng, tensor: numpy.array([None, 1], dtype=object),
    "a masked array": lambda rng, tensor: numpy.ma.masked_array(tensor.numpy(), mask=False),
    "too many dimensions": lambda rng, tensor: tensor[None],
    "too few dimensions": lambda rng, tensor: tensor.reshape(-1) if tensor.ndim > 1 else tensor.sum(),
    "another size": _resized,
    "complex numbers": lambda rng, tensor: tensor.to(torch.complex64),
    "NaN": _one_element(math.nan),
    "infinity": _one_element(-math.inf),
    "requires_grad": lambda rng, tensor: tensor.float().clone().requires_grad_(),
    "sparse": lambda rng, tensor: tensor.float().to_sparse(),
    "meta": lambda rng, tensor: tensor.to("meta"),
    "fake": _fake,
    "quantised": _quantised,
    "nested": _nested,
    "a negative view": lambda rng, tensor: torch._neg_view(tensor.float()),
    "a conjugate view": lambda rng, tensor: tensor.to(torch.complex64).conj(),
}
FLOAT_TENSOR = TENSOR | {
    "half precision": lambda rng, tensor: tensor.half(),
    "integers": lambda rng, tensor: tensor.long(),
}
TABLES = TENSOR | {"a two": _one_element(2.0), "a half": _one_element(0.5), "minus one": _one_element(-1.0)}
NOT_A_NUMBER: dict[str, Spoil] = {
    "nothing": lambda rng, value: None,
    "a string": lambda rng, value: "0.1",
    "a boolean": lambda rng, value: True,
    "complex": lambda rng, value: 1j,
    "a list": lambda rng, value: [0.1],
    "NaN": lambda rng, value: math.nan,
    "infinity": lambda rng, value: math.inf,
    "negative": lambda rng, value: -rng.random() - 1e-9,
    "a huge integer": lambda rng, value: 10**400,
}
PER_MODEL = NOT_A_NUMBER | {
    "another number of models": lambda rng, value: torch.full((rng.choice([0, 2, 9]),), 0.1),
    "a matrix": lambda rng, value: torch.full((4, 1), 0.1),
    "one NaN": lambda rng, value: torch.tensor([0.1, math.nan, 0.1, 0.1]),
    "one negative": lambda rng, value: numpy.array([0.1, 0.1, -0.1, 0.1]),
    "complex tensor": lambda rng, value: torch.full((4,), 0.1 + 0j),
    "a boolean tensor": lambda rng, value: torch.ones(4, dtype=torch.bool),
}
INTEGER: dict[str, Spoil] = {
    "a string": lambda rng, value: "3",
    "a boolean": lambda rng, value: True,
    "a fraction": lambda rng, value: 2.5,
    "NaN": lambda rng, value: math.nan,
    "negative": lambda rng, value: -rng.randint(1, 1 << 70),
    "too large": lambda rng, value: 1 << rng.randint(63, 90),
    "a tensor of two": lambda rng, value: torch.tensor([1, 2]),
}
CHOICE: dict[str, Spoil] = {
    "nothing": lambda rng, value: None,
    "a number": lambda rng, value: 3,
    "an unknown name": lambda rng, value: rng.choice(["", "Cosine", "cpus", "linear", "\x00", "W"]),
}
BOOLEAN: dict[str, Spoil] = {
    "nothing": lambda rng, value: None,
    "a number": lambda rng, value: 1,
    "a string": lambda rng, value: "yes",
    "a tensor": lambda rng, value: torch.ones(2),
}
