"""The CUDA backend of `matching_pursuit`: what it takes, and how it is called."""

from collections.abc import Callable
from typing import Any

import torch

from interpkern import gpu, native
from interpkern.ops.gram import gram_pays, prepared_on_gpu
from interpkern.progress import Progress
from interpkern.reference.matching_pursuit import Picks, Problem


def why_not(problem: Problem | None) -> str | None:
    """Why the CUDA kernels cannot take a problem."""
    if problem is None:
        return gpu.why_not_cuda()
    if problem.atoms.dtype != torch.float32:
        return f"computes in float32, got {problem.x.dtype} samples; the reference takes float64"
    return gpu.why_not_cuda(problem.x)


def run(problem: Problem, progress: Progress | None) -> Picks:
    """Pursue on torch's current stream of the samples' device; the host waits every 40 ms or so."""
    module, device = native.load("_cuda"), problem.x.device

    def pursue(**arguments: Any) -> None:
        bytes_needed = native.call(module.matching_pursuit_plan, **arguments)["workspace_bytes"]
        workspace = torch.empty(bytes_needed, dtype=torch.uint8, device=device)
        native.call(
            module.matching_pursuit,
            **arguments,
            workspace=workspace,
            stream=gpu.stream(device),
            progress=progress,
        )

    return call(pursue, problem)


def call(function: Callable[..., Any], problem: Problem) -> Picks:
    """Have a compiled function fill the outputs, on the device of the samples."""
    size, device = (len(problem.x), problem.k), problem.x.device
    picks = Picks(
        torch.empty(size, dtype=torch.int32, device=device),
        torch.empty(size, device=device),
        torch.empty(size[:1], device=device),
    )
    prepared = prepared_on_gpu(problem, products=gram_pays(problem))
    function(
        x=problem.x,
        rows=prepared.rows,
        products=prepared.products,
        count=len(problem.atoms),
        method=problem.method,
        nonnegative=problem.nonnegative,
        tol=problem.tol,
        exact=problem.precision == "exact",
        **picks._asdict(),
    )
    return picks
