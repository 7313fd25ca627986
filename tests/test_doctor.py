"""The doctor: every backend listed, errors that are real, JSON that is only JSON."""

import json
import math

import pytest
from typer.testing import CliRunner

from interpkern import cli, doctor, doctor_checks, native
from interpkern.backends import Backend
from interpkern.doctor_checks import Check
from interpkern.ops import BACKENDS


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor_checks, "SECONDS", 0.001)


@pytest.mark.usefixtures("quick")
def test_report_examines_every_backend_of_every_operation():
    found = doctor.report()
    assert found["ok"]
    assert set(doctor_checks.CHECKS) == set(BACKENDS)
    for op, backends in BACKENDS.items():
        assert list(found["operations"][op]) == [backend.name for backend in backends]
        for backend in backends:
            entry = found["operations"][op][backend.name]
            assert entry["why_not"] == backend.why_not(None)
            if entry["available"]:
                assert entry["passed"]
                assert 0 < entry["error"] <= entry["tolerance"]
                assert entry["speed"] > 0


@pytest.mark.usefixtures("quick")
def test_report_says_what_gpu_kernels_were_tested_on():
    found = doctor.report()
    for op, name in (("memorise", "cuda"), ("memorise", "triton"), ("matching_pursuit", "cuda")):
        evidence = found["operations"][op][name]["evidence"]
        assert "has not run on a GPU" in evidence
        assert evidence in doctor.text(found)
        assert found["operations"][op]["cpu"]["evidence"] == ""


@pytest.mark.usefixtures("quick")
def test_report_names_versions_and_instruction_sets():
    found = doctor.report()
    assert found["versions"]["torch"]
    module = native.load("_cpu")
    assert found["cpu"]["isas"] == module.isas()
    assert found["cpu"]["isa"] == native.isa()
    assert found["cpu"]["threads"] >= 1
    assert found["cpu"]["cores"] >= 1


@pytest.mark.usefixtures("quick")
def test_forced_instruction_set_is_shown(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(native.ISA_VARIABLE, "baseline")
    found = doctor.report()
    assert found["cpu"]["isa"] == "baseline"
    assert "baseline" in doctor.text(found)
    assert native.ISA_VARIABLE in doctor.text(found)


@pytest.mark.usefixtures("quick")
def test_json_is_only_json():
    result = CliRunner().invoke(cli.app, ["doctor", "--json"])
    assert result.exit_code == 0
    assert json.loads(result.output)["operations"]["memorise"]["reference"]["available"]


def _broken(backend: str) -> Check:
    raise RuntimeError(f"{backend} broke")


@pytest.mark.parametrize(
    ("check", "words"),
    [
        (lambda backend: Check(1e-3, 5e-6, 1.0, "model-steps/s"), "WRONG, error 1.0e-03"),
        (lambda backend: Check(math.nan, 5e-6, 1.0, "model-steps/s"), "WRONG, error not a number"),
        (_broken, "FAILED: RuntimeError: reference broke"),
    ],
)
def test_a_wrong_backend_is_told_and_ends_with_1(check, words, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(doctor_checks.CHECKS, "memorise", check)
    result = CliRunner().invoke(cli.app, ["doctor"])
    assert result.exit_code == 1
    assert words in result.output
    assert "do not trust" in result.output
    as_json = CliRunner().invoke(cli.app, ["doctor", "--json"])
    assert as_json.exit_code == 1
    assert not json.loads(as_json.output)["ok"]


def test_a_missing_module_is_a_reason_and_no_failure(monkeypatch: pytest.MonkeyPatch):
    missing = Backend("cpu", lambda problem: "_cpu was not built", lambda problem, progress: None)
    monkeypatch.setattr(doctor, "BACKENDS", {"memorise": (missing,)})
    monkeypatch.setattr(native, "load", lambda name: f"{name} was not built")
    found = doctor.report()
    assert found["ok"]
    assert found["cpu"]["isa"] is None
    assert found["cuda"]["why_not"] == "_cuda was not built"
    assert "_cpu was not built" in doctor.text(found)
    json.dumps(found, allow_nan=False)


def test_the_check_catches_a_wrong_kernel(monkeypatch: pytest.MonkeyPatch):
    def wrong(weights, tables, steps, backend):
        outcome = right(weights, tables, steps, "reference")
        if backend == "cpu":
            outcome.weights.c[:, 0] += 1e-5
        return outcome

    right = doctor_checks._train
    monkeypatch.setattr(doctor_checks, "_train", wrong)
    monkeypatch.setattr(doctor_checks, "SECONDS", 0.0)
    assert doctor_checks.memorise("reference").passed
    assert not doctor_checks.memorise("cpu").passed
