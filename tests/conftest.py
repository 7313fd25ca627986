"""What all tests share."""

import pytest

from interpkern import native


@pytest.fixture(params=native.load("_cpu").isas())
def isa(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each instruction set of this machine in turn, forced on the CPU kernels."""
    monkeypatch.setenv(native.ISA_VARIABLE, request.param)
    return request.param
