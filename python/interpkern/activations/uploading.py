"""Batches from the host to a GPU through two pinned buffers, read ahead by a thread while the GPU works."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import torch

from interpkern.activations.rows import Rows

SLOTS = 2


def uploaded(batches: Iterator[Rows], device: torch.device) -> Iterator[Rows]:
    """The same rows with their activations on a device; those that are there already stay as they are.

    On a GPU one batch is read and copied while the one before it is worked on; a buffer is filled again once its copy
    has arrived.
    """
    if device.type == "cpu":
        for rows in batches:
            yield replace(rows, activations=rows.activations.to(device))
        return
    lane = Lane(device)
    with ThreadPoolExecutor(1, thread_name_prefix="upload") as reader:
        ahead = reader.submit(_next, batches, lane)
        while (found := ahead.result()) is not None:
            rows, copy = found
            ahead = reader.submit(_next, batches, lane)
            yield replace(rows, activations=copy.arrived())


def _next(batches: Iterator[Rows], lane: "Lane") -> "tuple[Rows, Copy] | None":
    rows = next(batches, None)
    return None if rows is None else (rows, lane.send(rows.activations))


class Lane:
    """A stream of its own for copies, and the pinned buffers that they start from."""

    def __init__(self, device: torch.device) -> None:
        self.device, self._sent = device, 0
        self._buffers = [pinned(0) for _ in range(SLOTS)]
        self._copies: list[Copy | None] = [None] * SLOTS
        self._stream = torch.cuda.Stream(device)

    def send(self, values: torch.Tensor) -> "Copy":
        """Begin to copy a tensor; returns before it has arrived."""
        if values.device == self.device:
            return Copy(values, None)
        slot, self._sent = self._sent % SLOTS, self._sent + 1
        last, size = self._copies[slot], values.numel() * values.element_size()
        if last is not None:
            last.wait()
        if size > len(self._buffers[slot]):
            self._buffers[slot] = pinned(size)
        buffer = self._buffers[slot][:size].view(values.dtype).view(values.shape)
        buffer.copy_(values)
        copy = self._copies[slot] = self._start(buffer)
        return copy

    def _start(self, buffer: torch.Tensor) -> "Copy":
        with torch.cuda.stream(self._stream):
            there = buffer.to(self.device, non_blocking=True)
            event = torch.cuda.Event()
            event.record(self._stream)
        return Copy(there, event)


class Copy:
    """A tensor on its way to a GPU."""

    def __init__(self, there: torch.Tensor, event: "torch.cuda.Event | None") -> None:
        self._there, self._event = there, event

    def wait(self) -> None:
        """Let the host wait until it has arrived."""
        if self._event is not None:
            self._event.synchronize()

    def arrived(self) -> torch.Tensor:
        """The tensor, for work on torch's current stream, which waits for it."""
        if self._event is not None:
            stream = torch.cuda.current_stream(self._there.device)
            stream.wait_event(self._event)
            self._there.record_stream(stream)
        return self._there


def pinned(size: int) -> torch.Tensor:
    """(size,) bytes that a GPU can read while the CPU does other things."""
    return torch.empty(size, dtype=torch.uint8, pin_memory=True)
