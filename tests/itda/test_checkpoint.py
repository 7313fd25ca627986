"""Checkpoints: a fit that is killed at any time and called again gives the same bytes."""

import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from interpkern.itda import ITDA
from tests.itda.problems import SETTINGS, activations, built, in_batches, labels_for, same

ROWS = 5000
FIT = """
import sys, time
from pathlib import Path
import torch
from interpkern.itda import ITDA
from tests.itda.problems import SETTINGS, activations, in_batches, labels_for

folder, delay = Path(sys.argv[1]), float(sys.argv[2])
torch.set_num_threads(1)
x, labels = activations(5000, 31), labels_for(5000)
itda = ITDA(**SETTINGS)
itda.fit(in_batches(x, labels, 100), checkpoint=folder / "checkpoint", checkpoint_every=1000,
         progress=lambda done, total: time.sleep(delay))
itda.save_pretrained(folder / "itda")
"""


class Killed(Exception):
    """What ends a fit early in these tests."""


def killed_at(rows: int) -> Any:
    def progress(done: int, total: int) -> None:
        if done >= rows:
            raise Killed

    return progress


@pytest.mark.parametrize("mode", ["exact", "fast"])
def test_an_interrupted_fit_goes_on(mode: str, tmp_path: Path) -> None:
    x, labels = activations(6000, 31), labels_for(6000)
    x[1500] = torch.inf
    settings = {"mode": mode, "skip_nonfinite": True}
    batches = in_batches(x, labels, 500)
    whole = built(batches, **settings)
    for rows in (1, 2500, 2500, 4000):
        with pytest.raises(Killed):
            ITDA(**SETTINGS | settings).fit(
                batches, checkpoint=tmp_path / "c", checkpoint_every=1, progress=killed_at(rows)
            )
    seen: list[int] = []
    resumed = ITDA(**SETTINGS | settings).fit(
        batches, checkpoint=tmp_path / "c", progress=lambda done, total: seen.append(done)
    )
    assert min(seen) > 4000
    assert same(whole, resumed)
    assert resumed.report == whole.report
    assert resumed.data == whole.data
    finished = ITDA(**SETTINGS | settings).fit(batches, checkpoint=tmp_path / "c", progress=killed_at(0))
    assert same(whole, finished)


def test_a_killed_process_goes_on_to_the_same_bytes(tmp_path: Path) -> None:
    x, labels = activations(ROWS, 31), labels_for(ROWS)
    whole = built(x, labels).save_pretrained(tmp_path / "whole")
    process = start(tmp_path, 0.2)
    deadline = time.monotonic() + 60
    while not (tmp_path / "checkpoint" / "checkpoint.safetensors").exists():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not (tmp_path / "itda").exists()
    assert start(tmp_path, 0.0).wait() == 0
    for path in whole.iterdir():
        assert path.read_bytes() == (tmp_path / "itda" / path.name).read_bytes()
    assert not list(tmp_path.rglob("*.tmp"))


def start(folder: Path, delay: float) -> subprocess.Popen[bytes]:
    root = Path(__file__).parents[2]
    return subprocess.Popen([sys.executable, "-c", FIT, str(folder), str(delay)], cwd=root)


def test_a_full_dictionary_is_not_gone_on_with(tmp_path: Path) -> None:
    x = activations(3000, 31)
    full = built(x, max_atoms=40)
    again = [ITDA(**SETTINGS, max_atoms=40).fit(x, checkpoint=tmp_path) for _ in range(2)]
    assert same(full, again[0])
    assert same(full, again[1])
    assert again[1].report == full.report


def test_a_checkpoint_of_another_fit_is_refused(tmp_path: Path) -> None:
    x, labels = activations(3000, 31), labels_for(3000)
    ITDA(**SETTINGS, centre=False).fit(x, labels, checkpoint=tmp_path)
    other = x.clone()
    other[17, 3] += 1e-3
    for settings, data, message in [
        ({"k": 5}, (x, labels), "k=4 instead of 5"),
        ({"threshold": 0.3}, (x, labels), "threshold=0.25 instead of 0.3"),
        ({"centre": True}, (x, labels), "centre=False instead of True"),
        ({"centre": torch.ones(31)}, (x, labels), "centre"),
        ({}, (other, labels), "rows or labels differ"),
        ({}, (x, labels + 1), "rows or labels differ"),
        ({}, (x[:2000], labels[:2000]), "rows or labels differ"),
    ]:
        with pytest.raises(ValueError, match=rf"checkpoint: .*{message}"):
            ITDA(**SETTINGS | {"centre": False} | settings).fit(*data, checkpoint=tmp_path)
    ITDA(**SETTINGS, centre=torch.full((31,), 0.5)).fit(x, labels, checkpoint=tmp_path / "given")
    with pytest.raises(ValueError, match=r"checkpoint: .*their mean differs"):
        ITDA(**SETTINGS, centre=torch.full((31,), 0.6)).fit(x, labels, checkpoint=tmp_path / "given")


def test_more_rows_behind_those_of_a_finished_fit_are_gone_on_with(tmp_path: Path) -> None:
    x = activations(3000, 31)
    ITDA(**SETTINGS, centre=False).fit(x[:1100], checkpoint=tmp_path)
    assert same(ITDA(**SETTINGS, centre=False).fit(x, checkpoint=tmp_path), built(x, centre=False))


@pytest.mark.parametrize("damage", ["truncated", "flipped", "text", "empty"])
def test_a_damaged_checkpoint_is_named(damage: str, tmp_path: Path) -> None:
    x = activations(1500, 31)
    ITDA(**SETTINGS).fit(x, checkpoint=tmp_path)
    path = tmp_path / "checkpoint.safetensors"
    content = bytearray(path.read_bytes())
    content[-100] ^= 1
    path.write_bytes({"truncated": content[:-9], "flipped": content, "text": b"{}", "empty": b""}[damage])
    with pytest.raises(ValueError, match=r"checkpoint: .*checkpoint\.safetensors .*remove it"):
        ITDA(**SETTINGS).fit(x, checkpoint=tmp_path)


def test_wrong_arguments_are_named(tmp_path: Path) -> None:
    x = activations(50, 7)
    (tmp_path / "file").write_text("")
    for wrong, error, message in [
        ({"checkpoint": tmp_path / "file"}, ValueError, "checkpoint: .*is a file"),
        ({"checkpoint": 3}, TypeError, "checkpoint: expected a path"),
        ({"checkpoint": tmp_path, "checkpoint_every": 0}, ValueError, "checkpoint_every"),
    ]:
        with pytest.raises(error, match=message):
            ITDA().fit(x, **wrong)
    with pytest.raises(ValueError, match="checkpoint: cannot be used while a threshold is searched for"):
        ITDA(threshold=None, max_atoms=9).fit(x, checkpoint=tmp_path)
