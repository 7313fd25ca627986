"""Batches on their way to a GPU: the buffers and the reader, with copies that arrive when the test says so."""

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from interpkern import ITDA, Activations
from interpkern.activations import source, uploading
from interpkern.activations.rows import Rows

GPU = torch.device("cuda", 0)


class LateCopy(uploading.Copy):
    """Arrives a while after it was sent; what lies in the buffer then is what arrives."""

    def __init__(self, buffer: torch.Tensor, event: Any = None) -> None:
        self._buffer, self.done = buffer, threading.Event()
        threading.Timer(0.01, self._arrive).start()

    def _arrive(self) -> None:
        self._there = self._buffer.clone()
        self.done.set()

    def wait(self) -> None:
        self.done.wait()

    def arrived(self) -> torch.Tensor:
        self.wait()
        return self._there


class ImaginedLane(uploading.Lane):
    """A lane whose copies are late and whose memory is not pinned."""

    def __init__(self, device: torch.device) -> None:
        self.device, self._sent = device, 0
        self._buffers = [uploading.pinned(0) for _ in range(uploading.SLOTS)]
        self._copies = [None] * uploading.SLOTS

    def _start(self, buffer: torch.Tensor) -> uploading.Copy:
        return LateCopy(buffer)


@pytest.fixture
def imagined(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploading, "Lane", ImaginedLane)
    monkeypatch.setattr(uploading, "pinned", lambda size: torch.full((size,), 255, dtype=torch.uint8))
    monkeypatch.setattr(source, "check_device", lambda name, value: torch.device(value))


def batches(sizes: list[int], dtype: torch.dtype = torch.float16) -> list[Rows]:
    made = []
    for number, size in enumerate(sizes):
        values = torch.full((size, 5), float(number)).to(dtype)
        made.append(Rows(values, torch.full((size, 2), number), None))
    return made


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_no_buffer_is_filled_before_its_copy_has_arrived(imagined, dtype: torch.dtype) -> None:
    sent = batches([3, 7, 7, 1, 9, 9, 2, 4], dtype)
    got = list(uploading.uploaded(iter(sent), GPU))
    assert len(got) == len(sent)
    for rows, original in zip(got, sent, strict=True):
        assert rows.activations.dtype == dtype
        assert torch.equal(rows.activations, original.activations)
        assert torch.equal(rows.labels, original.labels)
        assert rows.activations.data_ptr() != original.activations.data_ptr()


def test_the_next_batch_is_read_while_one_is_worked_on(imagined) -> None:
    read: list[float] = []

    def slow() -> Iterator[Rows]:
        for rows in batches([2, 2, 2]):
            read.append(time.monotonic())
            yield rows

    given = []
    for _ in uploading.uploaded(slow(), GPU):
        given.append(time.monotonic())
        time.sleep(0.05)
    assert read[1] < given[0] + 0.04
    assert read[2] < given[1] + 0.04


def test_errors_of_the_source_come_through_and_an_early_end_stops_reading(imagined) -> None:
    def failing() -> Iterator[Rows]:
        yield from batches([2, 2])
        raise ValueError("row 4 is damaged")

    reading = uploading.uploaded(failing(), GPU)
    assert len(next(reading)) == 2
    with pytest.raises(ValueError, match="row 4 is damaged"):
        list(reading)
    threads = threading.active_count()
    many = uploading.uploaded(iter(batches([2] * 50)), GPU)
    next(many)
    many.close()
    time.sleep(0.05)
    assert threading.active_count() <= threads


def test_a_tensor_that_is_there_already_is_not_copied(imagined) -> None:
    here = batches([4])
    (same,) = uploading.uploaded(iter(here), torch.device("cpu"))
    assert same.activations.data_ptr() == here[0].activations.data_ptr()
    there = torch.zeros(2)
    lane = ImaginedLane(torch.device("cpu"))
    assert lane.send(there).arrived() is there


def test_files_of_half_precision_are_fitted_from_as_they_are_uploaded(imagined, tmp_path) -> None:
    x = torch.randn(700, 8, generator=torch.Generator().manual_seed(0)).half()
    folder = Activations(x).save(tmp_path / "rows", rows_per_shard=100)
    there = folder.to("cuda")
    assert [len(values) for values, _ in there.batches(300)] == [300, 300, 100]
    assert torch.equal(there.tensor(), x)
    assert there.sha256 == folder.sha256
    assert len(there[:10].to("cuda").tensor()) == 10
    uploaded, plain = (ITDA(k=3, threshold=0.3, threads=1).fit(rows) for rows in (there, folder))
    assert torch.equal(uploaded.atoms, plain.atoms)
    assert uploaded.data["sha256"] == plain.data["sha256"]
