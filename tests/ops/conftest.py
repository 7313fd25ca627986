"""The backends that the tests of `matching_pursuit` run on, and an eye on what Triton's interpreter runs."""

from collections.abc import Iterator

import pytest

from interpkern import gpu, native
from interpkern.ops.matching_pursuit_backends import BACKENDS
from tests.interpreted_triton import watched

CPU_IS_THERE = next(known for known in BACKENDS if known.name == "cpu").why_not(None) is None
RUNS = ["reference", *(f"cpu {isa}" for isa in native.load("_cpu").isas() if CPU_IS_THERE)]


@pytest.fixture(params=RUNS)
def backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Every backend that is there, the CPU kernel on each instruction set."""
    name, _, isa = request.param.partition(" ")
    if isa:
        monkeypatch.setenv(native.ISA_VARIABLE, isa)
    return name


@pytest.fixture
def cpu(isa: str) -> str:
    """The CPU kernel on each instruction set, for what only a kernel promises."""
    if not CPU_IS_THERE:
        pytest.skip("the CPU kernel is not there")
    return "cpu"


@pytest.fixture(autouse=True)
def no_races() -> Iterator[None]:
    """In no kernel that is interpreted do threads meet in memory without a barrier."""
    if not gpu.interpreting():
        yield
        return
    with watched() as races:
        yield
    assert not races.found
