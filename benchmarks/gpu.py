"""Everything that needs a GPU, in one call of under eight minutes: build, doctor, tests, sanitiser, roofs, timings.

python benchmarks/gpu.py --out benchmarks/results/gpu.json      and a table beside it
python benchmarks/gpu.py --plan                                 what it would do, without a GPU
"""

import argparse
import json
import os
import shutil
import site
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

ROOT = Path(__file__).resolve().parent.parent
BUDGET = 460.0
"""Seconds that the whole call may take; what does not fit is left out and named."""
TAIL = 4000


@dataclass(frozen=True)
class Part:
    """What one operation or lab adds; another one is one more line in PARTS."""

    name: str
    tests: tuple[str, ...]
    """Files of tests that run on a GPU."""
    sanitised: str
    """pytest's -k expression for the few of them that run under the sanitiser."""
    module: str
    """Has `timings`, which makes rows of the roofs and a function that tells how many seconds are left, and `COLUMNS`
    of the table; imported after the build."""


PARTS = (
    Part(
        "memorise",
        ("tests/ops/test_memorise_gpu.py", "tests/ops/test_memorise_on_gpu.py"),
        "test_every_knob_follows_float64 and cuda",
        "benchmarks.gpu_memorise",
    ),
    Part(
        "matching_pursuit",
        ("tests/ops/test_matching_pursuit_gpu.py", "tests/ops/test_matching_pursuit_on_gpu.py"),
        "test_equal_atoms_go_to_the_lowest_index and cuda",
        "benchmarks.gpu_matching_pursuit",
    ),
    Part("itda", ("tests/itda/test_itda_on_gpu.py",), "few_rows", "benchmarks.gpu_itda"),
)


@dataclass(frozen=True)
class Stage:
    """One command of the call."""

    name: str
    command: tuple[str, ...]
    seconds: float
    """At most so long."""


def stages(parts: tuple[Part, ...]) -> list[Stage]:
    """The commands that run before the timings, in their order."""
    python, pytest = sys.executable, ("-m", "pytest", "-q", "-p", "no:cacheprovider")
    install = ("-m", "pip", "install", "-q", "--no-build-isolation", "--no-deps", "-e", ".")
    made = [
        Stage("build", (python, *install), 180),
        Stage("doctor", (python, "-c", "from interpkern.cli import main; main()", "doctor"), 60),
    ]
    for part in parts:
        made.append(Stage(f"tests of {part.name}", (python, *pytest, "-k", "cuda or triton or gpu", *part.tests), 150))
        for tool in ("memcheck", "racecheck"):
            sanitiser = ("compute-sanitizer", "--tool", tool, "--error-exitcode", "86")
            chosen = (python, *pytest, "-k", part.sanitised, part.tests[0])
            made.append(Stage(f"{tool} of {part.name}", (*sanitiser, *chosen), 60))
    return made


def run(stage: Stage, left: float) -> dict[str, Any]:
    """The stage's outcome; a tool that is missing and a time that is over are outcomes too."""
    path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/local/cuda/bin"])
    if shutil.which(stage.command[0], path=path) is None:
        return {"outcome": "absent", "reason": f"{stage.command[0]} is not on PATH"}
    limit = min(stage.seconds, left)
    if limit < 1:
        return {"outcome": "left out", "reason": "no time left"}
    begin = time.monotonic()
    environment = {**os.environ, "INTERPKERN_CUDA": "ON", "PATH": path}
    try:
        done = subprocess.run(
            stage.command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=limit, check=False
        )
    except subprocess.TimeoutExpired:
        return {"outcome": "timed out", "seconds": round(limit, 1)}
    seconds = round(time.monotonic() - begin, 1)
    outcome = "passed" if done.returncode == 0 else "failed"
    return {"outcome": outcome, "seconds": seconds, "output": (done.stdout + done.stderr)[-TAIL:]}


def measured(parts: tuple[Part, ...], skip: list[str], budget: float) -> dict[str, Any]:
    """Run all stages, then the timings of every part whose tests have passed."""
    end = time.monotonic() + budget

    def left() -> float:
        return end - time.monotonic()

    outcomes: dict[str, dict[str, Any]] = {}
    for stage in stages(parts):
        if stage.name.split()[0] in skip:
            continue
        outcomes[stage.name] = run(stage, left())
        print(stage.name, outcomes[stage.name]["outcome"], flush=True)
    site.addsitedir(sysconfig.get_path("purelib"))  # what the build has just installed
    from benchmarks import gpu_roofs, paired

    roofs = gpu_roofs.measured_roofs()
    about = {"command": paired.command(), "machine": paired.machine(), "stages": outcomes, "gpu": vars(roofs)}
    for index, part in enumerate(parts):
        for_others = left() * (1 - 1 / (len(parts) - index))
        about[part.name] = _timings(part, outcomes, roofs, lambda kept=for_others: left() - kept)
    return about


def _timings(part: Part, outcomes: dict[str, Any], roofs: Any, left: Callable[[], float]) -> list[dict[str, Any]]:
    tested = outcomes.get(f"tests of {part.name}", {}).get("outcome")
    return import_module(part.module).timings(roofs, left) if tested == "passed" else []


def markdown(result: dict[str, Any], parts: tuple[Part, ...]) -> str:
    """The result as tables."""
    about, roofs = result["machine"], result["gpu"]
    lines = [
        f"# {roofs['name']}",
        "",
        f"`{' '.join(result['command'])}`, commit {about['commit']}, torch {about['torch']}, Python {about['python']}.",
        f"Measured roofs: {roofs['fma_tflops']:.1f} TFLOP/s of fp32 multiply-adds, {roofs['half_tflops']:.0f} TFLOP/s"
        f" of float16 products, {roofs['copy_gbps']:,.0f} GB/s copied (read + written).",
        "",
        *_table([{"stage": name, **outcome} for name, outcome in result["stages"].items()], ("stage", "outcome")),
    ]
    for part in parts:
        lines += ["", f"## {part.name}", ""]
        rows = result[part.name]
        columns = import_module(part.module).COLUMNS
        lines += _table(rows, columns) if rows else ["Not timed: its tests have not passed in this call."]
    return "\n".join([*lines, ""])


def _table(rows: list[dict[str, Any]], columns: tuple[str, ...]) -> list[str]:
    cells = [[_shown(row.get(column)) for column in columns] for row in rows]
    return [f"| {' | '.join(line)} |" for line in [list(columns), ["---"] * len(columns), *cells]]


def _shown(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {None: "", True: "yes", False: "no"}[value]
    return (
        f"{value:,.3g}"
        if isinstance(value, float) and value < 1000
        else f"{value:,.0f}"
        if isinstance(value, (int, float))
        else str(value)
    )


def main() -> None:
    """Do it all, print the table, write both files; exit with 1 when a stage has failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="JSON file to write; the table goes beside it")
    parser.add_argument("--parts", nargs="+", choices=[part.name for part in PARTS], help="operations, instead of all")
    parser.add_argument("--skip", nargs="+", default=[], choices=["build", "doctor", "tests", "memcheck", "racecheck"])
    parser.add_argument("--budget", type=float, default=BUDGET, help="seconds for the whole call")
    parser.add_argument("--plan", action="store_true", help="print the commands and stop")
    arguments = parser.parse_args()
    parts = tuple(part for part in PARTS if arguments.parts is None or part.name in arguments.parts)
    if arguments.plan:
        for stage in stages(parts):
            print(f"{stage.name} (at most {stage.seconds:.0f} s): {' '.join(stage.command)}")
        return
    result = measured(parts, arguments.skip, arguments.budget)
    print(markdown(result, parts))
    if arguments.out:
        arguments.out.write_text(json.dumps(result, indent=1) + "\n")
        arguments.out.with_suffix(".md").write_text(markdown(result, parts))
    if any(stage["outcome"] in ("failed", "timed out") for stage in result["stages"].values()):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
