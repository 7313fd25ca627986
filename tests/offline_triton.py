"""Triton kernels compiled for GPUs that are not here, with the arguments of a real call."""

import re
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from benchmarks.kernel_resources import Kernel, resource_usage

POINTERS = {
    torch.float32: "*fp32",
    torch.float64: "*fp64",
    torch.float16: "*fp16",
    torch.bfloat16: "*bf16",
    torch.int64: "*i64",
    torch.int32: "*i32",
    torch.uint8: "*u8",
}
OPTIONS = ("num_warps", "num_stages", "maxnreg", "enable_fp_fusion")


class Enough(Exception):
    """The call has been recorded."""


@dataclass
class Recorder:
    """Stands in for a Triton kernel: keeps what the first launch was given, and ends the run."""

    arguments: tuple[Any, ...] = ()
    keywords: dict[str, Any] = field(default_factory=dict)
    grid: tuple[int, ...] = ()

    def __getitem__(self, grid: tuple[int, ...]) -> Any:
        self.grid = grid
        return self._record

    def _record(self, *arguments: Any, **keywords: Any) -> None:
        self.arguments, self.keywords = arguments, keywords
        raise Enough


@dataclass(frozen=True)
class Compiled:
    """What the compiler made of a kernel."""

    shared_bytes: int
    usage: Kernel
    ttgir: str = field(repr=False)

    def sums(self, numbers: int) -> set[str]:
        """How float64 vectors of a size are spread over threads where they are added up: the order of their sums."""
        layouts = dict(re.findall(r"^(#\w+) = (.*)$", self.ttgir, re.MULTILINE))
        return {layouts[name] for name in re.findall(rf"}}\) : \(tensor<{numbers}xf64, (#\w+)>\)", self.ttgir)}


def compiled(kernel: Any, call: Recorder, arch: int) -> Compiled:
    """Compile a recorded call for an architecture, 80 or 90."""
    import triton
    from triton.backends.compiler import GPUTarget

    options = {name: value for name, value in call.keywords.items() if name in OPTIONS}
    constants = {name: value for name, value in call.keywords.items() if name not in OPTIONS} | _ones(kernel, call)
    signature = dict(zip(kernel.arg_names, map(_type, call.arguments), strict=False))
    signature |= dict.fromkeys(constants, "constexpr")
    source = triton.compiler.ASTSource(fn=kernel, signature=signature, constexprs=constants, attrs=_known(kernel, call))
    made = triton.compile(source, target=GPUTarget("cuda", arch, 32), options=options)
    with tempfile.TemporaryDirectory() as folder:
        cubin = Path(folder) / "kernel.cubin"
        cubin.write_bytes(made.asm["cubin"])
        return Compiled(made.metadata.shared, resource_usage(cubin)[0], made.asm["ttgir"])


def _ones(kernel: Any, call: Recorder) -> dict[str, int]:
    """Arguments that are 1, for which a launch compiles a kernel of its own."""
    pairs = zip(kernel.params, call.arguments, strict=False)
    return {one.name: 1 for one, value in pairs if type(value) is int and value == 1 and not one.do_not_specialize}


def _known(kernel: Any, call: Recorder) -> dict[tuple[int], list[list[Any]]]:
    """What a launch tells the compiler of its arguments: which are multiples of 16."""
    known = {}
    for number, (parameter, argument) in enumerate(zip(kernel.params, call.arguments, strict=False)):
        place = argument.data_ptr() if isinstance(argument, torch.Tensor) else argument
        if not parameter.do_not_specialize and isinstance(place, int) and place % 16 == 0:
            known[number,] = [["tt.divisibility", 16]]
    return known


def _type(argument: Any) -> str:
    if isinstance(argument, torch.Tensor):
        return POINTERS[argument.dtype]
    return "fp32" if isinstance(argument, float) else "i32" if abs(argument) < 1 << 31 else "i64"
