"""The GPU kernels of `memorise` as tests run them: on a GPU, or on the CPU by an emulation of it."""

from dataclasses import dataclass
from typing import Any

import pytest
import torch

from interpkern import gpu
from interpkern.ops import memorise as memorise_op
from interpkern.ops import memorise_library
from interpkern.ops.memorise_backends import BACKENDS
from interpkern.reference.memorise import Fields, Outcome, State
from tests.ops import problems
from tests.ops.emulated import BACKWARD, SHUFFLED, Machine

MACHINES = {
    "emulated": Machine(),
    "emulated, threads backward": Machine(thread_order=BACKWARD, blocks=1),
    "emulated, threads shuffled, short launches": Machine(thread_order=SHUFFLED, budget=7),
    "emulated, some arrays in global memory": Machine(shared_bytes=9_000, blocks=2),
    "emulated, little shared memory": Machine(shared_bytes=3_000, thread_order=SHUFFLED),
}


@dataclass(frozen=True)
class Kernel:
    """A backend with the device of its tensors."""

    backend: str
    device: torch.device

    def train(self, weights: Fields, tables: torch.Tensor, **changes: Any) -> Outcome:
        """`problems.train` on this kernel; what goes in and comes out lies on the CPU."""
        state = changes.pop("state", None)
        there = None if state is None else moved(state, self.device)
        settings = {"backend": self.backend, "state": there, **changes}
        outcome = problems.train(fields_on(self.device, weights), tables, **settings)
        assert outcome.weights.W.device.type == self.device.type
        return on_cpu(outcome)


def fields_on(device: torch.device, fields: Fields) -> Fields:
    """The same on a device."""
    return Fields(*(part.to(device) for part in fields))


def moved(state: State, device: torch.device) -> State:
    """The same on a device."""
    return State(fields_on(device, state.first), fields_on(device, state.second), state.step.to(device))


def on_cpu(outcome: Outcome) -> Outcome:
    """The same with its tensors on the CPU."""
    cpu = torch.device("cpu")
    weights, state = fields_on(cpu, outcome.weights), moved(outcome.state, cpu)
    loss, correct = outcome.loss.cpu(), outcome.correct.cpu()
    return Outcome(weights, state, loss, correct, outcome.logged_steps, outcome.backend)


def use_machine(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> Kernel:
    """An imagined GPU in the place of the CUDA backend."""
    backends = (machine.backend(), *(known for known in BACKENDS if known.name != "cuda"))
    for module in (memorise_op, memorise_library):
        monkeypatch.setattr(module, "BACKENDS", backends)
    return Kernel("cuda", torch.device("cpu"))


def real(backend: str) -> Kernel:
    """A backend as it is here; the test is skipped where it has nothing to run on."""
    reason = next(known.why_not for known in BACKENDS if known.name == backend)(None)
    if reason is not None or gpu.interpreting():
        pytest.skip(reason or "the interpreter is too slow for this; see test_memorise_triton.py")
    return Kernel(backend, gpu.device_for(backend))


EVERY = [*MACHINES, "cuda", "triton"]


def kernel_called(name: str, monkeypatch: pytest.MonkeyPatch) -> Kernel:
    """One of EVERY."""
    return use_machine(MACHINES[name], monkeypatch) if name in MACHINES else real(name)
