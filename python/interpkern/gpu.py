"""What every operation asks of a GPU: whether one is there, which stream is current, and what Triton can do here."""

import os
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from importlib.util import find_spec
from typing import Any

import torch

from interpkern import native, validation

BACKENDS = ("cuda", "triton")
"""Names of the backends that take tensors on a GPU."""
LAUNCH_SECONDS = 0.04
"""What one of many launches should take, so that progress shows and Ctrl-C is heard."""


def why_not_cuda(*tensors: torch.Tensor) -> str | None:
    """Why the CUDA module cannot take these tensors, or None; without tensors, whether it is there at all."""
    module = native.load("_cuda")
    return module if isinstance(module, str) else _no_device() or _elsewhere(*tensors)


def why_not_triton(*tensors: torch.Tensor) -> str | None:
    """Why Triton cannot take these tensors, or None; without tensors, whether it is there at all."""
    if not _has_triton():
        return "triton is not installed; it is in the extra `triton`"
    if interpreting():
        return None
    return _no_device() or _elsewhere(*tensors)


@cache
def _has_triton() -> bool:
    return find_spec("triton") is not None


def interpreting() -> bool:
    """Whether Triton's kernels run in its interpreter, which takes tensors on the CPU and is for tests."""
    return os.environ.get("TRITON_INTERPRET") == "1"


@cache
def _no_device() -> str | None:
    if torch.cuda.is_available():
        return None
    return "there is no GPU" if torch.version.cuda else "this PyTorch was built without CUDA"


def _elsewhere(*tensors: torch.Tensor) -> str | None:
    other = next((tensor.device for tensor in tensors if tensor.device.type != "cuda"), None)
    return None if other is None else f"takes tensors on a GPU, got {other}"


def device_for(backend: str) -> torch.device:
    """Where a backend's tensors are made when nobody says where."""
    on_gpu = backend in BACKENDS and not (backend == "triton" and interpreting())
    return torch.device("cuda" if on_gpu else "cpu")


def devices(name: str, value: str | torch.device) -> list[torch.device]:
    """The devices that an argument names: "cpu", "cuda" for every GPU of the machine, or some, "cuda:0,cuda:1"."""
    parts = [part.strip() for part in str(value).split(",")]
    if parts == ["cuda"]:
        parts = [f"cuda:{index}" for index in range(torch.cuda.device_count())] or parts
    found = [validation.device(name, part) for part in parts]
    if len(set(found)) < len(found):
        raise ValueError(f"{name}: expected each device once, got {value}")
    return found


def stream(device: torch.device) -> int:
    """The handle of torch's current stream on a GPU."""
    return torch.cuda.current_stream(device).cuda_stream


def multiprocessors(device: torch.device) -> int:
    """How many multiprocessors a GPU has; 1 stands for the interpreter's machine."""
    return torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 1


def on(device: torch.device) -> AbstractContextManager[Any]:
    """Make a GPU the current one, which is where Triton launches its kernels; nothing for the CPU."""
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()


def wait(device: torch.device) -> None:
    """Wait for torch's current stream."""
    if device.type == "cuda":
        torch.cuda.current_stream(device).synchronize()


def in_launches(
    total: int, launch: Callable[[int], object], done: Callable[[int], bool], *, first: int, device: torch.device
) -> None:
    """Do work that can stop anywhere up to `total` in launches of about LAUNCH_SECONDS.

    `launch(until)` enqueues the work up to `until`; a first launch(0) compiles. After each, done(until) says whether
    nothing is left, and there Ctrl-C is heard and progress shown. The first launch that counts goes up to `first`.
    """
    launch(0)
    wait(device)
    until, share = 0, first
    while not done(until):
        until = min(total, until + share)
        start = time.perf_counter()
        launch(until)
        wait(device)
        seconds = time.perf_counter() - start
        share = max(1, int(share * min(4.0, max(0.25, LAUNCH_SECONDS / max(seconds, 1e-9)))))
