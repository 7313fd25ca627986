"""The GPU kernels of `matching_pursuit` as tests run them: on a GPU, or on the CPU by an emulation of it."""

import pytest
import torch

from interpkern import gpu
from interpkern.ops import matching_pursuit as matching_pursuit_op
from interpkern.ops import matching_pursuit_library, matching_pursuit_repeated
from interpkern.ops.matching_pursuit_backends import BACKENDS, REPLAYS
from tests.ops import pursuits
from tests.ops.emulated import BACKWARD, SHUFFLED, PursuitMachine

MACHINES = {"emulated": PursuitMachine()}
OTHER_MACHINES = (
    PursuitMachine(shared_bytes=4_000, slots=7, thread_order=SHUFFLED),
    PursuitMachine(slots=3, picks=1, thread_order=BACKWARD),
    PursuitMachine(shared_bytes=7_500, slots=1, thread_order=SHUFFLED),
    PursuitMachine(shared_bytes=4_000, picks=2, thread_order=BACKWARD),
    PursuitMachine(products=False, slots=150, thread_order=SHUFFLED),
    PursuitMachine(products=False, shared_bytes=4_000, slots=5, thread_order=BACKWARD),
)
"""What must not show in the bits."""
EVERY = [*MACHINES, "cuda", "triton"]


def use_machine(machine: PursuitMachine, monkeypatch: pytest.MonkeyPatch) -> str:
    """An imagined GPU in the place of the CUDA backend."""
    backends = (machine.backend(), *(known for known in BACKENDS if known.name != "cuda"))
    for module in (matching_pursuit_op, matching_pursuit_library, matching_pursuit_repeated):
        monkeypatch.setattr(module, "BACKENDS", backends)
    monkeypatch.setitem(REPLAYS, "cuda", machine.replay)
    return "cuda"


def real(backend: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """A backend as it is here; the test is skipped where it has nothing to run on."""
    reason = next(known.why_not for known in BACKENDS if known.name == backend)(None)
    if reason is not None or gpu.interpreting():
        pytest.skip(reason or "the interpreter is too slow for this; see test_matching_pursuit_triton.py")
    monkeypatch.setitem(pursuits.DEVICES, backend, torch.device("cuda"))
    return backend


def kernel_called(name: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """One of EVERY."""
    return use_machine(MACHINES[name], monkeypatch) if name in MACHINES else real(name, monkeypatch)
