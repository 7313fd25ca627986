"""The compiled modules, and which of the instruction sets they were built for is used."""

import importlib
import os
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch.utils.dlpack import to_dlpack

from interpkern.validation import choice

ISA_VARIABLE = "INTERPKERN_ISA"


@cache
def load(name: str) -> Any:
    """The compiled module `name` ("_cpu", "_cuda"), or the reason why it is not there."""
    try:
        return importlib.import_module(f"interpkern.{name}")
    except ImportError as error:
        return f"{name} was not built into this install ({error})"


def call(function: Callable[..., Any], **arguments: Any) -> Any:
    """Call a compiled function; tensors, alone or in lists, go there as DLPack capsules made here.

    A tensor itself would be asked for its capsule, in Python code of torch's, while its type is tried; an exception
    from there counts as a wrong type, and a Ctrl-C would be lost.
    """
    return function(**{name: _lent(value) for name, value in arguments.items()})


def _lent(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return to_dlpack(value)
    return [_lent(part) for part in value] if isinstance(value, list) else value


def isa() -> str:
    """The instruction set the CPU kernels run on: the widest this machine has, unless INTERPKERN_ISA names another."""
    module = load("_cpu")
    supported = [] if isinstance(module, str) else module.isas()
    forced = os.environ.get(ISA_VARIABLE)
    return choice(ISA_VARIABLE, forced, supported) if forced else supported[-1]
