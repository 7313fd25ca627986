"""benchmarks/gpu.py where there is no GPU: its plan, its outcomes, its tables, and what its parts would time."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import gpu, gpu_itda, gpu_matching_pursuit, gpu_memorise, gpu_roofs
from benchmarks.gpu import PARTS, Part, Stage, markdown, run, stages
from benchmarks.gpu_roofs import Roofs
from benchmarks.peers import matching_pursuit_torch
from benchmarks.peers.matching_pursuit import Dictionary
from interpkern.ops import BACKENDS

ROOFS = Roofs("Imagined GPU", 50.0, 3000.0, 900.0)


def fake_result(rows: list[dict[str, Any]]) -> dict[str, Any]:
    machine = {"commit": "abc", "torch": "2.9.0", "python": "3.11.7"}
    outcomes = {"build": {"outcome": "passed", "seconds": 3.0}, "memcheck of memorise": {"outcome": "absent"}}
    return {
        "command": ["python", "benchmarks/gpu.py"],
        "machine": machine,
        "stages": outcomes,
        "gpu": vars(ROOFS),
        **{part.name: [] for part in PARTS},
        "memorise": rows,
    }


def test_every_part_is_an_operation_or_a_lab_and_its_tests_are_there() -> None:
    root = Path(gpu.__file__).resolve().parent.parent
    for part in PARTS:
        assert part.name in {*BACKENDS, "itda"}
        assert all((root / file).exists() for file in part.tests)


def test_plan_names_every_command_in_order() -> None:
    names = [stage.name for stage in stages(PARTS)]
    assert names[:2] == ["build", "doctor"]
    assert names[2:5] == ["tests of memorise", "memcheck of memorise", "racecheck of memorise"]
    two = (*PARTS, Part("other", ("tests/test_other.py",), "few", "benchmarks.gpu_memorise"))
    assert "racecheck of other" in [stage.name for stage in stages(two)]
    script = Path(gpu.__file__)
    done = subprocess.run([sys.executable, script, "--plan"], capture_output=True, text=True, check=True)
    assert "compute-sanitizer --tool racecheck" in done.stdout


def test_outcomes_of_stages() -> None:
    python = sys.executable
    assert run(Stage("a", (python, "-c", "print('well')"), 60), 60)["outcome"] == "passed"
    failed = run(Stage("b", (python, "-c", "raise SystemExit('no')"), 60), 60)
    assert (failed["outcome"], "no" in failed["output"]) == ("failed", True)
    assert run(Stage("c", ("no-such-tool",), 60), 60)["outcome"] == "absent"
    assert run(Stage("d", (python, "-c", "import time; time.sleep(60)"), 1), 60)["outcome"] == "timed out"
    assert run(Stage("e", (python, "-c", ""), 60), 0)["outcome"] == "left out"


def test_untested_parts_are_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "run", lambda stage, left: {"outcome": "failed" if "tests" in stage.name else "passed"})
    monkeypatch.setattr(gpu_roofs, "measured_roofs", lambda: ROOFS)
    result = gpu.measured(PARTS, ["racecheck"], 60.0)
    assert result["memorise"] == result["matching_pursuit"] == []
    assert "racecheck of memorise" not in result["stages"]
    assert "Not timed" in markdown(result, PARTS)
    json.dumps(result)


def test_tables_show_numbers_and_notes() -> None:
    rates = gpu_memorise.rates((32, 16, 32), 4096, 1000, 0.1, ROOFS)
    row = gpu_memorise.row("cuda", (32, 16, 32), 4096) | rates
    short = gpu_memorise.row("vmap", (32, 16, 32), 65_536) | {"note": "OutOfMemoryError"}
    text = markdown(fake_result([row, short]), PARTS)
    assert "| cuda | (32, 16, 32) | 4,096 | 1,000 | 0.1 | 40,960,000 | 0.363 | 0.626 |" in text
    assert "| vmap | (32, 16, 32) | 65,536 |" in text
    assert "OutOfMemoryError |" in text
    assert "Imagined GPU" in text
    assert "50.0 TFLOP/s" in text


def test_shares_are_of_the_specs_flops() -> None:
    """The spec's target: 36 M model-steps/s at (32, 16, 32) are 40 % of 58 % of an H200's 67 TFLOP/s or so."""
    rates = gpu_memorise.rates((32, 16, 32), 36_000_000, 1, 1.0, Roofs("", 67.0, 1.0, 1.0))
    assert rates["share_of_fma"] == pytest.approx(36e6 * 443_148 / 67e12)
    assert 0.38 < rates["share_of_ceiling"] < 0.43


def test_time_that_is_over_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = gpu_memorise.timings(ROOFS, lambda: 0.0)
    assert len(rows) == len(list(gpu_memorise.cases())) + len(list(gpu_memorise.peers()))
    assert all(row["note"].startswith("left out") for row in rows)
    assert {row["models"] for row in rows if row["form"] == "cuda"} >= {528, 65_536}


def test_a_form_that_fails_says_so() -> None:
    def fail() -> dict[str, Any]:
        raise RuntimeError("no memory\nmore")

    assert gpu_memorise.timed(fail, "vmap", (1, 1, 1), 2)["note"] == "RuntimeError: no memory"


def test_itda_is_timed_on_each_backend_and_says_why_not(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = gpu_itda.timings(ROOFS, lambda: 0.0)
    assert [(row["backend"], row["method"]) for row in rows] == list(gpu_itda.cases())
    assert all(row["note"].startswith("left out") for row in rows)
    absent = gpu_itda.timings(ROOFS, lambda: 1e3)
    assert all(row["note"] for row in absent) or torch.cuda.is_available()
    assert "| cuda | omp |" in markdown(fake_result([]) | {"itda": rows}, PARTS)


def test_a_fit_is_timed_at_a_threshold_for_its_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same on the CPU, where a dictionary of 150 atoms is wanted of 6,000 rows."""
    for name, value in {"ATOMS": 150, "PILOT": 8, "PICKS": 4, "WIDTH": 24}.items():
        monkeypatch.setattr(gpu_itda, name, value)
    x = gpu_itda.activations(6000, 24, torch.device("cpu"))
    assert x.shape == (6000, 24)
    found = gpu_itda.timed("cpu", "omp", x)
    assert found["same_as_reference"] == "yes"
    assert 75 <= found["atoms"] <= 150
    assert found["rows_per_second"] == pytest.approx(found["rows"] / found["seconds"])
    monkeypatch.setattr(gpu_itda, "same_as_reference", lambda *arguments: False)
    assert "seconds" not in gpu_itda.timed("cpu", "omp", x)
    monkeypatch.setattr(gpu_itda, "same_as_reference", lambda *arguments: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        gpu_itda.timed("cpu", "omp", x)


def test_pursuits_cover_the_sizes_of_use_and_say_when_time_is_over() -> None:
    rows = gpu_matching_pursuit.timings(ROOFS, lambda: 0.0)
    assert len(rows) == len(list(gpu_matching_pursuit.cases())) + len(gpu_matching_pursuit.PEERS)
    assert all(row["note"].startswith("left out") for row in rows)
    assert {row["M"] for row in rows} == {16_384, 65_536, 200_000}
    assert {row["D"] for row in rows} == {768, 2304, 4096}
    text = markdown(fake_result([]) | {"matching_pursuit": rows}, PARTS)
    assert "| cuda | mp | exact | 16,384 | 2,304 | yes |" in text


def test_shares_of_a_pursuit_are_of_the_bytes_and_operations_that_are_predicted() -> None:
    """At D = 2,304, M = 16,384 and k = 40 a row of the Gram is 65,536 bytes, an atom 9,216."""
    case = gpu_matching_pursuit.Case("cuda", 16_384, 2304)
    rates = gpu_matching_pursuit.rates(case, 1000, 1e-3, Roofs("", 1.0, 4800.0, 989.0))
    assert rates["samples_per_second"] == pytest.approx(1e6)
    assert rates["share_of_copy"] == pytest.approx(1e6 * (42 * 65_536 + 40 * 9216) / 4.8e12)
    assert rates["share_of_half"] == pytest.approx(1e6 * 6 * 2304 * 16_384 / 989e12)
    fast = gpu_matching_pursuit.Case("cuda", 16_384, 2304, precision="fast")
    assert gpu_matching_pursuit.rates(fast, 1, 1.0, ROOFS)["share_of_half"] == pytest.approx(
        gpu_matching_pursuit.rates(case, 1, 1.0, ROOFS)["share_of_half"] / 3
    )


def test_a_baseline_that_explains_something_else_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_matching_pursuit, "DEVICE", "cpu")
    x, atoms = gpu_matching_pursuit.drawn(16, 65, 31)
    dictionary = Dictionary(atoms, atoms @ atoms.T)
    for peer in (matching_pursuit_torch.loop, matching_pursuit_torch.gram, matching_pursuit_torch.plain_gram):
        assert gpu_matching_pursuit.disagreement(peer, dictionary, x, 6) < 1e-5
    wrong = dataclasses.replace(matching_pursuit_torch.loop, dense=lambda code, M: code * 1.01)
    assert gpu_matching_pursuit.disagreement(wrong, dictionary, x, 6) > gpu_matching_pursuit.FVU
    failed = gpu_matching_pursuit.timed(lambda: torch.zeros(2).view(3), gpu_matching_pursuit.Case("other", 1, 1))
    assert failed["note"].startswith("RuntimeError")
