"""The roofs of the GPU that is here, and timing with CUDA events."""

import statistics
from collections.abc import Callable
from dataclasses import dataclass

import torch

from interpkern import gpu, native

WARM_UP, REPEATS = 2, 5
COPIED = 1 << 30
SIDE = 8192


@dataclass(frozen=True)
class Roofs:
    """What the GPU does at most, measured in the same run as what is compared with it."""

    name: str
    fma_tflops: float
    """fp32 multiply-adds, two operations each."""
    copy_gbps: float
    """Bytes read plus bytes written."""
    half_tflops: float
    """float16 products summed in float32, as PyTorch's GEMM does them."""


def seconds_of(work: Callable[[], object], repeats: int = REPEATS, warm_up: int = WARM_UP) -> float:
    """Median over repeats of the time between two events on the current stream around the work."""
    for _ in range(warm_up):
        work()
    times = []
    for _ in range(repeats):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        work()
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end) / 1e3)
    return statistics.median(times)


def measured_roofs() -> Roofs:
    """The roofs of the current device."""
    device = torch.device("cuda", torch.cuda.current_device())
    module = native.load("_cuda")
    out = torch.empty(module.roof_threads(device.index), device=device)
    iterations = 1 << 16
    flops = module.fma_loop(out, iterations, gpu.stream(device))
    fma = seconds_of(lambda: module.fma_loop(out, iterations, gpu.stream(device)))
    source = torch.rand(COPIED // 4, device=device)
    target = torch.empty_like(source)
    copy = seconds_of(lambda: target.copy_(source))
    square = torch.ones(SIDE, SIDE, dtype=torch.float16, device=device)
    half = seconds_of(lambda: square @ square)
    name = torch.cuda.get_device_name(device)
    return Roofs(name, flops / fma / 1e12, 2 * COPIED / copy / 1e9, 2 * SIDE**3 / half / 1e12)
