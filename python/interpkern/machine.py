"""What this machine is: the processor's name and features, and how many cores are ours."""

import os
import platform
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

NAMED_FEATURES = (
    "sse4_2",
    "avx",
    "fma",
    "avx2",
    "avx512f",
    "avx512dq",
    "avx512bw",
    "avx512vl",
    "avx512_vnni",
    "amx_tile",
    "amx_int8",
    "asimd",
    "sve",
    "sve2",
)
"""Those that decide which kernels run; others are not reported."""


def cpu_model() -> str:
    """The processor's name as its maker gives it."""
    name = _cpuinfo().get("model name", "")
    if not name and platform.system() == "Darwin":
        command = ["sysctl", "-n", "machdep.cpu.brand_string"]
        name = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    return name or platform.processor() or platform.machine()


def cpu_features() -> list[str]:
    """Vector instructions that the operating system reports; empty where it reports none."""
    known = _cpuinfo()
    flags = set(known.get("flags", known.get("Features", "")).split())
    return [name for name in NAMED_FEATURES if name in flags]


def cores() -> int:
    """Logical cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def one_thread() -> Iterator[None]:
    """PyTorch on one thread: on small tensors, two that must wait for each other can be thirty times slower."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _cpuinfo() -> dict[str, str]:
    """Linux's description of the first processor."""
    path = Path("/proc/cpuinfo")
    if not path.exists():
        return {}
    first = path.read_text(encoding="utf-8", errors="replace").partition("\n\n")[0]
    pairs = (line.partition(":") for line in first.splitlines())
    return {name.strip(): value.strip() for name, _, value in pairs}
