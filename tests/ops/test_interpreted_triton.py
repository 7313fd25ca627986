"""The Triton kernels in Triton's interpreter, which is a process of its own, and the eye on their barriers."""

import os
import subprocess
import sys
from pathlib import Path

import numpy
import pytest

from tests.interpreted_triton import THREADS, Races, elsewhere

FILES = ("test_memorise_triton.py", "test_matching_pursuit_triton.py")

FEW, ALL = numpy.arange(8), numpy.arange(THREADS)
VALUES = numpy.arange(THREADS)


@elsewhere
def test_the_interpreter_agrees() -> None:
    triton = pytest.importorskip("triton")
    if triton.__version__ < "3.7" and numpy.__version__ >= "2.4":
        pytest.skip("the interpreter of Triton 3.6 breaks on NumPy 2.4")
    environment = {**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    options = ("-q", "-o", "addopts=", "-p", "no:cacheprovider", "-k", "interpreted")
    command = [sys.executable, "-m", "pytest", *options, *FILES]
    done = subprocess.run(command, env=environment, cwd=Path(__file__).parent, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    summary = done.stdout.splitlines()[-1]
    assert "41 passed" in summary
    assert "skipped" not in summary


def loaded(races: Races, places: numpy.ndarray) -> None:
    races.load(places, VALUES[: len(places)] - 1)


def stored(races: Races, places: numpy.ndarray) -> None:
    races.store(places, VALUES[: len(places)])


@pytest.mark.parametrize(
    ("first", "second", "what"),
    [
        (stored, loaded, "reads what may not be written yet"),
        (loaded, stored, "writes what may not be read yet"),
        (
            stored,
            lambda races, places: races.store(places, VALUES[: len(places)] + 1),
            "writes what may not be written",
        ),
    ],
)
def test_threads_that_meet_without_a_barrier_are_found(first, second, what) -> None:
    for places, then in ((FEW, FEW), (ALL, FEW), (ALL, ALL[::-1]), (ALL, ALL)):
        if first is loaded and then is ALL:
            continue
        races = Races()
        first(races, places)
        second(races, then)
        assert any(what in found for found in races.found)
        races = Races()
        first(races, places)
        races.barrier()
        second(races, then)
        assert not races.found


def test_a_tile_is_written_to_where_it_was_read() -> None:
    races = Races()
    loaded(races, ALL)
    stored(races, ALL)
    assert not races.found


def test_programs_that_meet_are_found() -> None:
    for first, second, wrong in ((loaded, loaded, 0), (loaded, stored, 1), (stored, loaded, 1), (stored, stored, 1)):
        races = Races()
        first(races, ALL)
        races.enter(1)
        second(races, ALL)
        assert len(races.found) == wrong
        races = Races()
        first(races, ALL)
        races.launch()
        second(races, ALL)
        assert not races.found


def test_what_changes_nothing_is_no_race() -> None:
    races = Races()
    for _ in range(2):
        stored(races, FEW)
    loaded(races, FEW + len(FEW))
    races.barrier()
    races.load(FEW, VALUES[: len(FEW)])
    stored(races, FEW)
    assert not races.found
