"""The CUDA kernel of `memorise` on the CPU: the device's own passes, queue and launches, thread by thread."""

from dataclasses import dataclass
from functools import partial

from interpkern import native
from interpkern.backends import Backend
from interpkern.ops import memorise_native
from interpkern.progress import Progress
from interpkern.reference.memorise import Outcome, Problem

FORWARD, BACKWARD, SHUFFLED = 0, 1, 2
SHARED_BYTES = {"sm_80": 166_912, "sm_90": 232_448}
"""What a block may have, by architecture."""


@dataclass(frozen=True)
class Machine:
    """An imagined GPU."""

    blocks: int = 3
    shared_bytes: int = SHARED_BYTES["sm_90"]
    budget: int = 1 << 40
    """Updates that a block makes in one launch."""
    thread_order: int = FORWARD

    def backend(self) -> Backend:
        """What stands in for the CUDA backend."""
        return Backend("cuda", lambda problem: None, partial(_run, self))


def _run(machine: Machine, problem: Problem, progress: Progress | None) -> Outcome:
    function = partial(native.call, native.load("_cpu")._memorise_as_on_a_gpu)
    order = memorise_native.queue_order(problem)
    return memorise_native.call(function, problem, "cuda", order=order, progress=progress, **vars(machine))
