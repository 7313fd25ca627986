"""Paired timing: two callables in alternation, so that a machine's drift and neighbours fall on both alike."""

import ctypes
import importlib.metadata
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from interpkern.machine import cores, cpu_features, cpu_model

Work = Callable[[], object]
Clock = Callable[[], float]
SETTLE = 0.01
"""Seconds before a sample in which the threads of the one before go to sleep: PyTorch's spin for a few milliseconds."""


@dataclass(frozen=True)
class PairedRatio:
    """How many times the time of `a` does `b` take."""

    median: float
    """Median over the pairs of time(b) / time(a)."""
    of_minima: float
    """Shortest sample of b / shortest sample of a."""
    lower_quartile: float
    upper_quartile: float
    pairs: int
    seconds_a: float
    """Shortest sample of a."""
    seconds_b: float

    def __str__(self) -> str:
        quartiles = f"quartiles {self.lower_quartile:.3f} to {self.upper_quartile:.3f}"
        return f"{self.median:.3f} ({quartiles}, of minima {self.of_minima:.3f}, {self.pairs} pairs)"


@dataclass(frozen=True)
class Comparison:
    """A ratio and the same measurement of `a` against itself, which shows what the machine's noise alone would give."""

    ratio: PairedRatio
    control: PairedRatio

    def __str__(self) -> str:
        return f"b/a {self.ratio}; control a/a {self.control}"


def paired_ratio(a: Work, b: Work, pairs: int = 200, clock: Clock = time.process_time) -> PairedRatio:
    """Time `a` and `b` alternately, in swapped order every other pair, after one untimed call of each.

    Returns: ratios time(b) / time(a); seconds of `clock`, by default CPU time of all threads of this process.
    Raises: ValueError for fewer than one pair, or for a sample too short for the clock.
    """
    if pairs < 1:
        raise ValueError(f"pairs: expected at least 1, got {pairs}")
    a()
    b()
    samples = [_pair(a, b, clock, swapped=bool(index % 2)) for index in range(pairs)]
    if min(map(min, samples)) <= 0:
        raise ValueError("a, b: a sample took no time by this clock; do more work in each call")
    ratios = [seconds_b / seconds_a for seconds_a, seconds_b in samples]
    lower, median, upper = statistics.quantiles(ratios, n=4, method="inclusive") if pairs > 1 else ratios * 3
    seconds_a, seconds_b = map(min, zip(*samples, strict=True))
    return PairedRatio(median, seconds_b / seconds_a, lower, upper, pairs, seconds_a, seconds_b)


def with_control(a: Work, b: Work, pairs: int = 200, clock: Clock = time.process_time) -> Comparison:
    """`paired_ratio(a, b)` with `paired_ratio(a, a)` over half as many pairs beside it."""
    return Comparison(paired_ratio(a, b, pairs, clock), paired_ratio(a, a, max(pairs // 2, 1), clock))


@contextmanager
def on_cores(threads: int) -> Iterator[None]:
    """Hold this process (on Linux) to so many cores, PyTorch to as many threads, and JAX where it first runs here."""
    before, can_pin = torch.get_num_threads(), hasattr(os, "sched_setaffinity")
    allowed = os.sched_getaffinity(0) if can_pin else set()
    torch.set_num_threads(threads)
    try:
        if can_pin:
            os.sched_setaffinity(0, sorted(allowed)[-threads:])
        yield
    finally:
        if can_pin:
            os.sched_setaffinity(0, allowed)
        torch.set_num_threads(before)


def keep_freed_memory() -> None:
    """Tell glibc to keep freed memory for the process's life, or temporaries fault their pages in at every step.

    Left out, the eager baselines run 2.4 times slower and the compiled one up to 15 %. Another C library is left alone.
    """
    trim_threshold, top_pad, mmap_threshold = -1, -2, -3
    if platform.libc_ver()[0] == "glibc":
        for option, size in ((mmap_threshold, 1 << 30), (trim_threshold, 1 << 30), (top_pad, 1 << 26)):
            ctypes.CDLL(None).mallopt(option, size)


def machine() -> dict[str, object]:
    """What a result was measured on: processor, core count, instruction sets, platform, versions and commit."""
    features = cpu_features()
    return {
        "cpu": cpu_model(),
        "cores": cores(),
        "flags": [flag for flag in ("avx2", "fma", "avx512f", "amx_int8") if flag in features],
        "platform": platform.platform(),
        "python": platform.python_version(),
        **{package: _version(package) for package in ("torch", "numpy", "jax")},
        "commit": _commit(),
    }


def command() -> list[str]:
    """The command that runs, with paths outside the repository by their last name alone."""
    script = f"benchmarks/{Path(sys.argv[0]).name}"
    return ["python", script, *(Path(word).name if Path(word).is_absolute() else word for word in sys.argv[1:])]


def _pair(a: Work, b: Work, clock: Clock, *, swapped: bool) -> tuple[float, float]:
    if swapped:
        seconds_b = _seconds(b, clock)
        return _seconds(a, clock), seconds_b
    return _seconds(a, clock), _seconds(b, clock)


def _seconds(work: Work, clock: Clock) -> float:
    time.sleep(SETTLE)
    begin = clock()
    work()
    return clock() - begin


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _commit() -> str | None:
    """The checked-out commit, with "-dirty" after it where tracked files differ from it."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    folder = Path(__file__).resolve().parent
    try:
        return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
