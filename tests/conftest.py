"""What all tests share."""

import pytest
import torch

from interpkern import native

torch.set_num_threads(1)  # the problems are tiny: more threads only wait for each other


@pytest.fixture(params=native.load("_cpu").isas())
def isa(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each instruction set of this machine in turn, forced on the CPU kernels."""
    monkeypatch.setenv(native.ISA_VARIABLE, request.param)
    return request.param
