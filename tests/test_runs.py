"""Sweeps: files that are whole or not there, kills at any time, several processes on one directory."""

import json
import os
import random
import signal
import time
from collections import Counter
from pathlib import Path

import numpy
import pandas
import pytest

from interpkern.runs import Cell, Damaged, Result, Store, run_cells
from interpkern.runs.claims import claimed

CELLS = [Cell("numbers", {"seed": seed, "count": 7}) for seed in range(12)]


def numbers(cell: Cell, progress=None, *, seconds: float = 0.0) -> Result:
    """A cell that takes a while; its record says when it was made, as provenance does."""
    for part in range(4):
        time.sleep(seconds / 4)
        if progress:
            progress(part + 1, 4)
    values = numpy.random.default_rng(cell.spec["seed"]).normal(size=cell.spec["count"])
    return Result(pandas.DataFrame({"value": values, "name": "nought"}), {"pid": os.getpid(), "time": time.time()})


def tables(results: list[Result]) -> pandas.DataFrame:
    return pandas.concat([result.table for result in results], ignore_index=True)


def in_child(work) -> int:
    """Fork; the child works and leaves without a word."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    return child


def test_a_name_is_the_hash_of_everything_and_of_nothing_else():
    cell = Cell("numbers", {"a": 1, "b": [2.5, None]})
    assert cell.name == Cell("numbers", {"b": [2.5, None], "a": 1}).name
    others = [Cell("numbers", {"a": 1, "b": [2.5]}), Cell("other", cell.spec), Cell("numbers", cell.spec, version=2)]
    assert len({each.name for each in (cell, *others)}) == 4
    assert len({each.seed for each in (cell, *others)}) == 4
    with pytest.raises(ValueError, match="JSON"):
        _ = Cell("numbers", {"a": float("nan")}).name


def test_what_is_written_is_read_by_us_and_by_pandas(tmp_path: Path):
    store = Store(tmp_path / "deep" / "runs")
    assert store.read(CELLS[0]) is None
    made = numbers(CELLS[0])
    store.write(CELLS[0], made)
    again = store.read(CELLS[0])
    pandas.testing.assert_frame_equal(again.table, made.table)
    assert again.record == made.record
    pandas.testing.assert_frame_equal(pandas.read_parquet(store.path(CELLS[0])), made.table)


def test_every_cut_and_every_flipped_bit_is_seen(tmp_path: Path):
    store = Store(tmp_path)
    store.write(CELLS[0], numbers(CELLS[0]))
    store.write_plan("study", CELLS, {"steps": 7})
    files = {
        store.path(CELLS[0]): lambda: store.read(CELLS[0]),
        tmp_path / "study.json": lambda: store.read_plan("study"),
    }
    chance = random.Random(0)
    for path, read in files.items():
        whole = path.read_bytes()
        read()
        cuts = [0, 1, len(whole) - 1, *(chance.randrange(len(whole)) for _ in range(13))]
        damaged = [whole[:length] for length in cuts] + [whole + b"\n"]
        for byte in range(len(whole)):
            flipped = bytearray(whole)
            flipped[byte] ^= 1 << chance.randrange(8)
            damaged.append(bytes(flipped))
        for content in damaged:
            path.write_bytes(content)
            with pytest.raises(Damaged, match=path.name):
                read()
        path.write_bytes(whole)


def test_the_file_of_another_cell_is_not_taken(tmp_path: Path):
    store = Store(tmp_path)
    store.write(CELLS[0], numbers(CELLS[0]))
    os.replace(store.path(CELLS[0]), store.path(CELLS[1]))
    with pytest.raises(Damaged, match="another cell"):
        store.read(CELLS[1])


def test_the_second_call_makes_nothing_and_damaged_cells_are_named_and_made_anew(tmp_path: Path):
    store, made, lines = Store(tmp_path), [], []

    def compute(cell: Cell, progress) -> Result:
        made.append(cell.name)
        return numbers(cell, progress)

    whole = run_cells(store, CELLS, compute)
    assert made == [cell.name for cell in CELLS]
    store.path(CELLS[3]).write_bytes(store.path(CELLS[3]).read_bytes()[:100])
    again = run_cells(store, CELLS, compute, say=lines.append)
    assert made[len(CELLS) :] == [CELLS[3].name]
    assert [CELLS[3].name in line for line in lines] == [True]
    pandas.testing.assert_frame_equal(tables(whole), tables(again))


def test_progress_counts_what_was_not_there(tmp_path: Path):
    store, calls = Store(tmp_path), []
    run_cells(store, CELLS[:4], numbers)
    run_cells(store, CELLS, numbers, cost=lambda cell: 100, progress=lambda *call: calls.append(call))
    assert calls[0] == (0, 800)
    assert calls[-1] == (800, 800)
    assert calls == sorted(calls)
    assert (25, 800) in calls


def test_a_failing_cell_leaves_the_others_and_its_claim(tmp_path: Path):
    def compute(cell: Cell, progress) -> Result:
        if cell.spec["seed"] == 2:
            raise RuntimeError("no luck")
        return numbers(cell, progress)

    with pytest.raises(RuntimeError, match="no luck"):
        run_cells(Store(tmp_path), CELLS, compute)
    assert len(list((tmp_path / "cells").iterdir())) == 2
    assert not list((tmp_path / "claims").iterdir())
    assert len(run_cells(Store(tmp_path), CELLS, numbers)) == len(CELLS)


def test_directories_of_other_things_are_refused(tmp_path: Path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match="directory"):
        Store(tmp_path)
    with pytest.raises(ValueError, match="is a file"):
        Store(tmp_path / "notes.txt")
    with pytest.raises(ValueError, match=r"directory: cannot make .*notes\.txt"):
        Store(tmp_path / "notes.txt" / "runs").make()


def test_plans_say_what_they_were_given(tmp_path: Path):
    store = Store(tmp_path)
    store.write_plan("growth", CELLS, {"steps": 7})
    cells, about = store.read_plan("growth")
    assert [cell.name for cell in cells] == [cell.name for cell in CELLS]
    assert about == {"steps": 7}
    assert store.plans() == ["growth"]


def test_a_claim_is_one_process_s_and_ends_with_it(tmp_path: Path):
    path = tmp_path / "cell.lock"

    def hold() -> None:
        with claimed(path) as free:
            assert free
            time.sleep(60)

    with claimed(path) as free, claimed(path) as second:
        assert free
        assert not second
    child = in_child(hold)
    while not path.exists():
        time.sleep(0.01)
    time.sleep(0.05)
    with claimed(path) as free:
        assert not free
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    with claimed(path) as free:
        assert free
    assert not path.exists()


def test_several_processes_share_the_work_and_all_get_everything(tmp_path: Path):
    def work() -> None:
        results = run_cells(Store(tmp_path), CELLS, lambda cell, progress: numbers(cell, progress, seconds=0.02))
        assert len(results) == len(CELLS)

    children = [in_child(work) for _ in range(3)]
    assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children] == [0, 0, 0]
    makers = Counter(Store(tmp_path).read(cell).record["pid"] for cell in CELLS)
    assert len(makers) > 1
    assert set(makers) <= set(children)


def test_workers_in_threads_share_the_cells_and_none_is_made_twice(tmp_path: Path):
    made, calls = [], []

    def worker(name: str):
        def compute(cell: Cell, progress) -> Result:
            made.append((name, cell.name))
            return numbers(cell, progress, seconds=0.02)

        return compute

    found = run_cells(
        Store(tmp_path), CELLS, [worker(name) for name in "abc"], progress=lambda *call: calls.append(call)
    )
    assert sorted(cell for _, cell in made) == sorted(cell.name for cell in CELLS)
    assert {name for name, _ in made} == set("abc")
    assert calls[-1] == (len(CELLS), len(CELLS))
    assert calls == sorted(calls)
    pandas.testing.assert_frame_equal(tables(found), tables([numbers(cell) for cell in CELLS]))
    assert not list((tmp_path / "claims").iterdir())


@pytest.mark.parametrize("interrupt", [False, True])
def test_where_one_worker_fails_the_others_leave_their_cells(interrupt: bool, tmp_path: Path):
    def fail(cell: Cell, progress) -> Result:
        if interrupt:
            os.kill(os.getpid(), signal.SIGINT)
            return endless(cell, progress)
        raise RuntimeError("no luck")

    def endless(cell: Cell, progress) -> Result:
        for part in range(6000):
            time.sleep(0.01)
            progress(part, 6000)
        raise AssertionError("nobody stopped it")

    with pytest.raises(KeyboardInterrupt if interrupt else RuntimeError):
        run_cells(Store(tmp_path), CELLS, [endless, fail])
    assert not list((tmp_path / "cells").iterdir())
    assert not list((tmp_path / "claims").iterdir())


def kill_again_and_again(directory: Path, kills: int, *, seed: int) -> None:
    """Begin the sweep, kill it at a random time, and begin again; once all cells are there, remove them."""
    chance = random.Random(seed)

    def work() -> None:
        run_cells(Store(directory), CELLS, lambda cell, progress: numbers(cell, progress, seconds=0.01))

    for _ in range(kills):
        child = in_child(work)
        time.sleep(chance.uniform(0.0, 0.1))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        paths = [Store(directory).path(cell) for cell in CELLS]
        if all(path.exists() for path in paths):
            for path in paths:
                path.unlink()


@pytest.mark.parametrize("kills", [9, pytest.param(100, marks=pytest.mark.slow)])
def test_killed_at_random_times_the_table_is_that_of_an_undisturbed_run(tmp_path: Path, kills: int):
    undisturbed = tables(run_cells(Store(tmp_path / "undisturbed"), CELLS, numbers))
    kill_again_and_again(tmp_path / "killed", kills, seed=kills)
    found = tables(run_cells(Store(tmp_path / "killed"), CELLS, numbers))
    pandas.testing.assert_frame_equal(found, undisturbed)
    assert not [path for path in (tmp_path / "killed").rglob("*") if path.suffix in {".tmp", ".lock"}]


def test_files_hold_no_more_than_json_and_parquet(tmp_path: Path):
    store = Store(tmp_path)
    store.write_plan("study", CELLS[:1], {})
    run_cells(store, CELLS[:1], numbers)
    assert json.loads((tmp_path / "study.json").read_text())["name"] == "study"
    assert {path.suffix for path in tmp_path.rglob("*") if path.is_file()} == {".json", ".parquet"}
