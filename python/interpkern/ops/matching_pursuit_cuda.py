"""The CUDA backend of `matching_pursuit`: what it takes, and how it is called."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from interpkern import gpu, native
from interpkern.ops.gram import gram_pays, prepared_on_gpu
from interpkern.ops.sparse_code import SparseCode
from interpkern.progress import Progress
from interpkern.reference.matching_pursuit import Picks, Prepared, Problem

PURSUIT = ("x", "rows", "products", "count", "method", "nonnegative", "tol", "exact", *Picks._fields)
"""Arguments that all compiled functions take."""


def why_not(problem: Problem | None) -> str | None:
    """Why the CUDA kernels cannot take a problem."""
    if problem is None:
        return gpu.why_not_cuda()
    if problem.atoms.dtype != torch.float32:
        return f"computes in float32, got {problem.x.dtype} samples; the reference takes float64"
    return gpu.why_not_cuda(problem.x)


def run(problem: Problem, progress: Progress | None) -> Picks:
    """Pursue on torch's current stream of the samples' device; the host waits every 40 ms or so."""
    return call(partial(_on_stream, native.load("_cuda").matching_pursuit, progress=progress), problem)


def replay(problem: Problem, code: SparseCode, known: int) -> torch.Tensor:
    """Tell which codes over the first `known` atoms the others would change, (N,) bool."""
    return changes(partial(_on_stream, native.load("_cuda").path_changes), problem, code, known)


def _on_stream(function: Callable[..., Any], **arguments: Any) -> None:
    """Call a function of the module with a workspace, on torch's current stream."""
    device = arguments["x"].device
    sizes = {name: arguments[name] for name in PURSUIT}
    needed = native.call(native.load("_cuda").matching_pursuit_plan, **sizes)["workspace_bytes"]
    workspace = torch.empty(needed, dtype=torch.uint8, device=device)
    native.call(function, **arguments, workspace=workspace, stream=gpu.stream(device))


def call(function: Callable[..., Any], problem: Problem) -> Picks:
    """Have a compiled function fill the outputs, on the device of the samples."""
    picks = _outputs(problem)
    function(**_arguments(problem, prepared_on_gpu(problem, products=gram_pays(problem)), picks))
    return picks


def changes(function: Callable[..., Any], problem: Problem, code: SparseCode, known: int) -> torch.Tensor:
    """Have a compiled function say which paths the atoms from `known` on enter."""
    changed = torch.empty(len(problem.x), dtype=torch.bool, device=problem.x.device)
    bare = prepared_on_gpu(problem, products=False)._replace(products=None)
    paths = code.indices.to(problem.x.device).contiguous()
    function(**_arguments(problem, bare, _outputs(problem)), paths=paths, known=known, changed=changed)
    return changed


def _outputs(problem: Problem) -> Picks:
    size, device = (len(problem.x), problem.k), problem.x.device
    return Picks(
        torch.empty(size, dtype=torch.int32, device=device),
        torch.empty(size, device=device),
        torch.empty(size[:1], device=device),
    )


def _arguments(problem: Problem, prepared: Prepared, picks: Picks) -> dict[str, Any]:
    """What PURSUIT names."""
    given = (problem.x, prepared.rows, prepared.products, len(problem.atoms), problem.method, problem.nonnegative)
    return dict(zip(PURSUIT, (*given, problem.tol, problem.precision == "exact", *picks), strict=True))
