"""The CUDA backend of `memorise`: what it takes, and how it is called."""

from functools import partial

import torch

from interpkern import gpu, native
from interpkern.ops import memorise_native
from interpkern.progress import Progress
from interpkern.reference.memorise import Fields, Outcome, Problem

PAD = 8
"""More than the kernels pad a row or a column by."""


def why_not(problem: Problem | None) -> str | None:
    """Why the CUDA kernel cannot take a problem."""
    if problem is None:
        return gpu.why_not_cuda()
    if problem.weights.W.dtype != torch.float32:
        return f"takes float32 weights, got {problem.weights.W.dtype}; the reference takes float64"
    if largest_array(problem.weights) >= 1 << 31:
        return "indexes its arrays with 32 bits, and R * C, (R + C) * H, (R + C) * D or H * D is 2^31 or more"
    return gpu.why_not_cuda(problem.weights.W)


def largest_array(weights: Fields) -> int:
    """No fewer numbers than the longest of the kernel's padded arrays has."""
    rows, columns, (hidden, width) = weights.E1.shape[1], weights.E2.shape[1], weights.W.shape[1:]
    tokens, wide = rows + columns + PAD, max(hidden, width) + PAD
    return max((rows + PAD) * (columns + PAD), tokens * wide, (hidden + PAD) * (width + PAD))


def run(problem: Problem, progress: Progress | None) -> Outcome:
    """Train on torch's current stream of the weights' device; the host waits for each launch."""
    module, device = native.load("_cuda"), problem.weights.W.device
    plan = module.memorise_plan(
        **memorise_native.sizes(problem), train=memorise_native.trained(problem), device=device.index
    )
    workspace = torch.empty(plan["workspace_bytes"], dtype=torch.uint8, device=device)
    order = memorise_native.queue_order(problem).to(device)
    return memorise_native.call(
        partial(native.call, module.memorise),
        problem,
        "cuda",
        order=order,
        workspace=workspace,
        stream=gpu.stream(device),
        progress=progress,
    )
