"""The CUDA kernels on the CPU: the device's own passes, queues and launches, thread by thread."""

from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from interpkern import native
from interpkern.backends import Backend
from interpkern.ops import matching_pursuit_cuda, memorise_native
from interpkern.ops.sparse_code import SparseCode
from interpkern.progress import Progress
from interpkern.reference import matching_pursuit as pursuit
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


@dataclass(frozen=True)
class PursuitMachine:
    """The same for `matching_pursuit`."""

    slots: int = 40
    """Samples in work, at most."""
    shared_bytes: int = SHARED_BYTES["sm_90"]
    picks: int = 64
    """Of a sample in one launch."""
    thread_order: int = FORWARD

    noise: float = 0.0
    """What products, with samples and between atoms, are made worse by, as a share of what they may be off by."""
    products: bool = True
    """False leaves out a Gram even where there is one."""

    def backend(self) -> Backend:
        """What stands in for the CUDA backend."""
        return Backend("cuda", lambda problem: None, self.run)

    def run(self, problem: pursuit.Problem, progress: Progress | None) -> pursuit.Picks:
        """Pursue as on this machine."""
        return self.work(problem, progress)[0]

    def work(self, problem: pursuit.Problem, progress: Progress | None = None) -> tuple[pursuit.Picks, int, int]:
        """The same with how many rounds it took, and how many dots of an atom with a residual."""
        work: list[int] = []

        def emulate(**arguments: Any) -> None:
            how = {name: value for name, value in vars(self).items() if name != "products"}
            if not self.products:
                arguments["products"] = None
            if arguments["products"] is not None and self.noise > 0:
                arguments["products"] = self._disturbed(arguments["products"], arguments["count"])
            function = native.load("_cpu")._matching_pursuit_as_on_a_gpu
            work.extend(native.call(function, **arguments, progress=progress, **how))

        picks = matching_pursuit_cuda.call(emulate, problem)
        return picks, work[0], work[1]

    def _disturbed(self, products: torch.Tensor, count: int) -> torch.Tensor:
        """As far off as a given Gram may be."""
        signs = torch.randn(count, count, generator=torch.Generator().manual_seed(0)).sign()
        disturbed = products.clone()
        disturbed[:count, :count] += self.noise * 1e-5 * signs
        return disturbed

    def replay(self, problem: pursuit.Problem, code: SparseCode, known: int) -> torch.Tensor:
        """Which codes change, as on this machine."""
        how = {name: value for name, value in vars(self).items() if name not in ("products", "noise")}
        function = partial(native.call, native.load("_cpu")._path_changes_as_on_a_gpu, **how)
        return matching_pursuit_cuda.changes(function, problem, code, known)
