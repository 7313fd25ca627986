"""How an operation chooses its backend, and says why the others cannot serve."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from interpkern.errors import BackendUnavailable
from interpkern.validation import choice


@dataclass(frozen=True)
class Backend:
    """One way to run an operation."""

    name: str
    why_not: Callable[[Any], str | None]
    """The reason why this backend cannot take a problem, or None; asked with None, whether it is there at all."""
    run: Callable[..., Any]
    """Takes the problem and a progress function or None."""
    evidence: str = ""
    """On what this backend has been tested, where that is not the machine that runs the tests."""


def choose(op: str, backends: Sequence[Backend], name: str, problem: Any) -> Backend:
    """The backend called `name`, or for "auto" the first in the list that can take the problem."""
    choice("backend", name, ["auto", *(backend.name for backend in backends)])
    reasons = {}
    for backend in backends:
        reason = backend.why_not(problem)
        if reason is None and name in ("auto", backend.name):
            return backend
        reasons[backend.name] = reason or "available"
    listing = "; ".join(f"{known}: {reason}" for known, reason in reasons.items())
    raise BackendUnavailable(f"backend: {name!r} cannot run this call of {op}. {listing}")
