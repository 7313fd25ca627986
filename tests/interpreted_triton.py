"""Triton's interpreter, and what it hides: threads of a program that meet in memory with no barrier between them."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy
import pytest

from interpkern import gpu

interpreted = pytest.mark.skipif(not gpu.interpreting(), reason="runs in a process with TRITON_INTERPRET=1")
elsewhere = pytest.mark.skipif(gpu.interpreting(), reason="this process is the interpreter's")

THREADS = 256
"""Of the largest programs. Of fewer numbers than threads, many threads read what one of them writes."""
MANY = -1


class Races:
    """Follows loads, stores and barriers of interpreted kernels; `found` says which of them race, and where.

    Two accesses of one address are in order if there is a barrier between them, if nothing changes by them, or if a
    tile is read and what is made of it written to where it was. A tile that is read again may be spread over threads
    otherwise than when it was written. Reductions are no barriers: whether they hold one is up to the compiler.
    Programs of a launch share nothing that one of them writes.
    """

    def __init__(self) -> None:
        self.found: set[str] = set()
        self._accesses = 0
        self.launch()

    def launch(self) -> None:
        """A new grid."""
        self.modules: set[str] = set()
        self._readers: dict[int, int] = {}
        self._writers: dict[int, int] = {}
        self.enter(0)

    def enter(self, program: int) -> None:
        """The next program of the grid."""
        self._program = program
        self.barrier()

    def barrier(self) -> None:
        """All that was done before is done."""
        self._loads: dict[int, tuple[bytes | int, Any]] = {}
        self._stores: dict[int, Any] = {}

    def load(self, places: numpy.ndarray, values: numpy.ndarray) -> None:
        """These values are read from these addresses."""
        owner = self._owner(places)
        for place, value in zip(places.tolist(), values.tolist(), strict=True):
            if place in self._stores:
                self._report("reads what may not be written yet")
            if self._writers.get(place, self._program) != self._program:
                self._report("reads what another program writes")
            first, _ = self._loads.get(place, (owner, value))
            self._loads[place] = owner if first == owner else MANY, value
            self._readers[place] = self._program if self._readers.get(place, self._program) == self._program else MANY

    def store(self, places: numpy.ndarray, values: numpy.ndarray) -> None:
        """These values are written to these addresses."""
        owner = self._owner(places)
        for place, value in zip(places.tolist(), values.tolist(), strict=True):
            reader, read = self._loads.get(place, (owner, value))
            if reader != owner and _differ(read, value):
                self._report("writes what may not be read yet")
            if _differ(self._stores.get(place, value), value):
                self._report("writes what may not be written yet")
            if {self._readers.get(place, self._program), self._writers.get(place, self._program)} != {self._program}:
                self._report("writes what another program uses")
            self._stores[place] = value
            self._writers[place] = self._program

    def _owner(self, places: numpy.ndarray) -> bytes | int:
        """Equal for accesses to the same tile; else unlike any other."""
        self._accesses += 1
        return places.tobytes() if len(places) >= THREADS else self._accesses

    def _report(self, what: str) -> None:
        frame: Any = sys._getframe(2)
        while frame.f_globals["__name__"].partition(".")[0] == "triton" or frame.f_globals["__name__"] == __name__:
            frame = frame.f_back
        self.found.add(f"{frame.f_code.co_name}, line {frame.f_lineno}, {what}")


def _differ(a: Any, b: Any) -> bool:
    return a != b and (a == a or b == b)


@contextmanager
def watched() -> Iterator[Races]:
    """Follow all kernels that are interpreted meanwhile."""
    from triton.runtime.interpreter import InterpretedFunction
    from triton.runtime.interpreter import InterpreterBuilder as Builder

    races = Races()
    with _replaced(Builder, _hooks(races, vars(Builder).copy())), _replaced(InterpretedFunction, _quick(races)):
        yield races


def _hooks(races: Races, before: dict[str, Any]) -> dict[str, Callable[..., Any]]:
    def load(self: Any, ptrs: Any, mask: Any, *rest: Any) -> Any:
        loaded = before["create_masked_load"](self, ptrs, mask, *rest)
        races.load(ptrs.data[mask.data], loaded.data[mask.data])
        return loaded

    def store(self: Any, ptrs: Any, value: Any, mask: Any, *rest: Any) -> Any:
        races.store(ptrs.data[mask.data], value.data[mask.data])
        return before["create_masked_store"](self, ptrs, value, mask, *rest)

    def barrier(self: Any) -> None:
        races.barrier()

    def enter(self: Any, x: int, y: int, z: int) -> None:
        races.enter((x * self.grid_dim[1] + y) * self.grid_dim[2] + z)
        before["set_grid_idx"](self, x, y, z)

    def launch(self: Any, *sides: int) -> None:
        races.launch()
        before["set_grid_dim"](self, *sides)

    names = ("create_masked_load", "create_masked_store", "create_barrier", "set_grid_idx", "set_grid_dim")
    return dict(zip(names, (load, store, barrier, enter, launch), strict=True))


def _quick(races: Races) -> dict[str, Callable[..., Any]]:
    """Calls of helpers that look through the language once a launch, not every time, which takes half of all time."""
    from triton.runtime.interpreter import InterpretedFunction

    slow = InterpretedFunction.__call__

    def call(self: Any, *arguments: Any, **keywords: Any) -> Any:
        module = self.fn.__globals__["__name__"]
        if module in races.modules:
            return self.rewrite()(*arguments, **keywords)
        races.modules.add(module)
        return slow(self, *arguments, **keywords)

    return {"__call__": call}


@contextmanager
def _replaced(owner: type, new: dict[str, Callable[..., Any]]) -> Iterator[None]:
    before = {name: getattr(owner, name) for name in new}
    try:
        for name, function in new.items():
            setattr(owner, name, function)
        yield
    finally:
        for name, function in before.items():
            setattr(owner, name, function)
