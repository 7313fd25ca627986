"""Decoding on a GPU, with gradients to atoms and coefficients whose bits do not depend on the order of threads."""

from typing import Any

import torch

from interpkern import gpu

PIECE = 256
"""Picks of an atom that are added up by one program; the sums of longer lists are added up again."""
WIDTH = 256
"""Numbers of a row that a program works on."""
COMPILER = {"num_warps": 4, "enable_fp_fusion": True}


def why_not(coefficients: torch.Tensor, atoms: torch.Tensor) -> str | None:
    """Why the kernels cannot take these tensors."""
    return gpu.why_not_triton(coefficients, atoms)


def decode(indices: torch.Tensor, coefficients: torch.Tensor, atoms: torch.Tensor) -> torch.Tensor:
    """(N, D) sums of atoms (M, D), times coefficients (N, k), in the wider dtype of both."""
    decoded: torch.Tensor = _Decode.apply(indices, coefficients, atoms)
    return decoded


class _Decode(torch.autograd.Function):
    """The decoder is linear in either; there is no second derivative."""

    @staticmethod
    def forward(context: Any, indices: torch.Tensor, coefficients: torch.Tensor, atoms: torch.Tensor) -> torch.Tensor:
        parts = (indices.contiguous(), coefficients.contiguous(), atoms.contiguous())
        context.save_for_backward(*parts)
        with gpu.on(atoms.device):
            return _decoded(*parts)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(
        context: Any, gradient: torch.Tensor
    ) -> tuple[torch.Tensor | None, torch.Tensor | None, torch.Tensor | None]:
        indices, coefficients, atoms = context.saved_tensors
        whole, (_, wants_coefficients, wants_atoms) = gradient.contiguous(), context.needs_input_grad
        of_coefficients = of_atoms = None
        with gpu.on(atoms.device):
            if wants_coefficients:
                of_coefficients = _dots(indices, atoms, whole).to(coefficients.dtype)
            if wants_atoms:
                of_atoms = _atom_gradient(indices, coefficients, len(atoms), whole).to(atoms.dtype)
        return None, of_coefficients, of_atoms


def _decoded(indices: torch.Tensor, coefficients: torch.Tensor, atoms: torch.Tensor) -> torch.Tensor:
    from interpkern.kernels import sparse_code as kernels

    (samples, k), width = indices.shape, atoms.shape[1]
    dtype = torch.promote_types(coefficients.dtype, atoms.dtype)
    out = atoms.new_empty(samples, width, dtype=dtype)
    kernels.decode[samples, _parts(width)](
        indices, coefficients, atoms, out, width, k, WIDTH=WIDTH, SUM=_sum_type(dtype), **COMPILER
    )
    return out


def _dots(indices: torch.Tensor, atoms: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
    from interpkern.kernels import sparse_code as kernels

    out = gradient.new_empty(indices.shape)
    kernels.dots[(indices.numel(),)](
        indices, atoms, gradient, out, atoms.shape[1], indices.shape[1],
        WIDTH=WIDTH, SUM=_sum_type(gradient.dtype), **COMPILER,
    )  # fmt: skip
    return out


def _atom_gradient(
    indices: torch.Tensor, coefficients: torch.Tensor, atoms: int, gradient: torch.Tensor
) -> torch.Tensor:
    """(M, D) the gradients of the samples that have an atom, added up in their order."""
    used = (indices.reshape(-1) >= 0).nonzero()[:, 0]
    order = used[torch.argsort(indices.reshape(-1)[used], stable=True)]
    lengths = torch.bincount(indices.reshape(-1)[used].long(), minlength=atoms)
    sources, weights = order // indices.shape[1], coefficients.reshape(-1)[order].to(gradient.dtype)
    return _added_up(gradient, sources, weights, lengths)


def _added_up(rows: torch.Tensor, sources: torch.Tensor, weights: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    """One row for each run of `lengths` weighted rows; long runs in pieces, whose sums are added up likewise."""
    pieces = (lengths + PIECE - 1) // PIECE
    if int(pieces.max()) <= 1:
        return _segment_sums(rows, sources, weights, _ends(lengths))
    number = torch.arange(int(pieces.sum()), device=rows.device)
    run = torch.repeat_interleave(torch.arange(len(pieces), device=rows.device), pieces)
    within = number - _ends(pieces)[run]
    sizes = (lengths[run] - within * PIECE).clamp(max=PIECE)
    parts = _segment_sums(rows, sources, weights, _ends(sizes))
    return _added_up(parts, number, torch.ones_like(parts[:, 0]), pieces)


def _segment_sums(
    rows: torch.Tensor, sources: torch.Tensor, weights: torch.Tensor, starts: torch.Tensor
) -> torch.Tensor:
    from interpkern.kernels import sparse_code as kernels

    width, dtype = rows.shape[1], rows.dtype
    out = rows.new_empty(len(starts) - 1, width)
    kernels.segment_sums[len(out), _parts(width)](
        rows, sources, weights, starts, out, width, WIDTH=WIDTH, SUM=_sum_type(dtype), **COMPILER
    )
    return out


def _ends(lengths: torch.Tensor) -> torch.Tensor:
    """(n + 1,) where each run begins, and where the last one ends."""
    return torch.nn.functional.pad(lengths.cumsum(0), (1, 0))


def _parts(width: int) -> int:
    return -(-width // WIDTH)


def _sum_type(dtype: torch.dtype) -> Any:
    import triton.language as tl

    return tl.float64 if dtype == torch.float64 else tl.float32
