"""The backends of `memorise`, in the order in which "auto" tries them."""

from functools import partial

import torch

from interpkern import native
from interpkern.backends import Backend
from interpkern.ops import memorise_cuda, memorise_native, memorise_triton
from interpkern.progress import Progress
from interpkern.reference import memorise as reference
from interpkern.reference.memorise import Fields, Outcome, Problem


def _why_not_cpu(problem: Problem | None) -> str | None:
    module = native.load("_cpu")
    if isinstance(module, str):
        return module
    if problem is None:
        return None
    if problem.weights.W.dtype != torch.float32:
        return f"takes float32 weights, got {problem.weights.W.dtype}; the reference takes float64"
    if problem.weights.W.device.type != "cpu":
        return f"takes weights on the CPU, got {problem.weights.W.device}"
    if largest_array(problem.weights) >= 1 << 31:
        return "indexes its arrays with 32 bits, and R * C, H * R, H * C, R * D, C * D or H * D is 2^31 or more"
    return None


def largest_array(weights: Fields) -> int:
    """Vectors in the longest of the kernel's arrays, whose rows are padded by up to one."""
    rows, columns, (hidden, width) = weights.E1.shape[1], weights.E2.shape[1], weights.W.shape[1:]
    tokens = max(rows, columns)
    return max(rows * columns, hidden * (tokens + 1), max(tokens, hidden) * (width + 1))


def _run_cpu(problem: Problem, progress: Progress | None) -> Outcome:
    function = partial(native.call, native.load("_cpu").memorise)
    return memorise_native.call(function, problem, "cpu", threads=problem.threads, isa=native.isa(), progress=progress)


CUDA_EVIDENCE = "compiled for sm_80, sm_90 and sm_120 and run thread by thread on the CPU; has not run on a GPU"
TRITON_EVIDENCE = "compiled for sm_80 and sm_90 and run by Triton's interpreter; has not run on a GPU"

BACKENDS = (
    Backend("cuda", memorise_cuda.why_not, memorise_cuda.run, CUDA_EVIDENCE),
    Backend("triton", memorise_triton.why_not, memorise_triton.run, TRITON_EVIDENCE),
    Backend("cpu", _why_not_cpu, _run_cpu),
    Backend("reference", lambda problem: None, reference.memorise),
)
