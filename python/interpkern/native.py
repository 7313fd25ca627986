"""The compiled modules, and which of the instruction sets they were built for is used."""

import importlib
import os
from functools import cache
from typing import Any

from interpkern.validation import choice

ISA_VARIABLE = "INTERPKERN_ISA"


@cache
def load(name: str) -> Any:
    """The compiled module `name` ("_cpu", "_cuda"), or the reason why it is not there."""
    try:
        return importlib.import_module(f"interpkern.{name}")
    except ImportError as error:
        return f"{name} was not built into this install ({error})"


def isa() -> str:
    """The instruction set the CPU kernels run on: the widest this machine has, unless INTERPKERN_ISA names another."""
    module = load("_cpu")
    supported = [] if isinstance(module, str) else module.isas()
    forced = os.environ.get(ISA_VARIABLE)
    return choice(ISA_VARIABLE, forced, supported) if forced else supported[-1]
