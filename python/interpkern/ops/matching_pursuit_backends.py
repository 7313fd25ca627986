"""The backends of `matching_pursuit`, in the order in which "auto" tries them."""

from collections.abc import Callable
from typing import Any

import torch

from interpkern import native
from interpkern.backends import Backend
from interpkern.ops import matching_pursuit_cuda, matching_pursuit_triton
from interpkern.ops.gram import Gram, gram_pays
from interpkern.ops.sparse_code import SparseCode
from interpkern.progress import Progress
from interpkern.reference import matching_pursuit as reference
from interpkern.reference.matching_pursuit import Picks, Problem


def _why_not_cpu(problem: Problem | None) -> str | None:
    module = native.load("_cpu")
    if isinstance(module, str):
        return module
    if problem is None:
        return None
    if problem.atoms.dtype != torch.float32:
        return f"computes in float32, got {problem.x.dtype} samples; the reference takes float64"
    if problem.x.device.type != "cpu":
        return f"takes tensors on the CPU, got {problem.x.device}"
    return None


def _prepared(problem: Problem, products: bool) -> dict[str, torch.Tensor | None]:
    gram = problem.gram or Gram.trusting(problem.atoms, products=products, threads=problem.threads).prepared
    assert gram is not None
    return gram._asdict()


def cpu_arguments(problem: Problem, picks: Picks) -> dict[str, Any]:
    """What the CPU's functions take but for the atoms, which may come; `picks` are read or written to."""
    return {
        "x": problem.x,
        "method": problem.method,
        "nonnegative": problem.nonnegative,
        "tol": problem.tol,
        **picks._asdict(),
        "threads": problem.threads,
        "isa": native.isa(),
    }


def _run_cpu(problem: Problem, progress: Progress | None) -> Picks:
    size = (len(problem.x), problem.k)
    picks = Picks(torch.empty(size, dtype=torch.int32), torch.empty(size), torch.empty(size[:1]))
    native.call(
        native.load("_cpu").matching_pursuit,
        **cpu_arguments(problem, picks),
        **_prepared(problem, gram_pays(problem)),
        count=len(problem.atoms),
        exact=problem.precision == "exact",
        at=None,
        progress=progress,
    )
    return picks


def _replay_on_cpu(problem: Problem, code: SparseCode, known: int) -> torch.Tensor:
    changed = torch.zeros(len(problem.x), dtype=torch.bool)
    native.call(
        native.load("_cpu").path_changes,
        **cpu_arguments(problem, Picks(code.indices, code.coefficients.float(), code.residual_norm.float())),
        **_prepared(problem, False),
        count=len(problem.atoms),
        known=known,
        first=0,
        last=len(changed),
        changed=changed,
    )
    return changed


REPLAYS: dict[str, Callable[[Problem, SparseCode, int], torch.Tensor]] = {
    "cuda": matching_pursuit_cuda.replay,
    "triton": matching_pursuit_triton.replay,
    "cpu": _replay_on_cpu,
}
"""Backends that can tell which codes over the first `known` atoms would change without encoding again."""

CUDA_EVIDENCE = "compiled for sm_80, sm_90 and sm_120 and run thread by thread on the CPU; has not run on a GPU"
TRITON_EVIDENCE = "compiled for sm_80 and sm_90 and run by Triton's interpreter; has not run on a GPU"

BACKENDS = (
    Backend("cuda", matching_pursuit_cuda.why_not, matching_pursuit_cuda.run, CUDA_EVIDENCE),
    Backend("triton", matching_pursuit_triton.why_not, matching_pursuit_triton.run, TRITON_EVIDENCE),
    Backend("cpu", _why_not_cpu, _run_cpu),
    Backend("reference", lambda problem: None, reference.matching_pursuit),
)
