"""What `matching_pursuit` gives back: for every sample, a few atoms and their coefficients."""

import json
import os
from dataclasses import dataclass
from pathlib import Path

import pandas
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as safetensors_bytes

from interpkern.errors import DTypeError, ShapeError
from interpkern.files import as_path, provenance, write_atomically
from interpkern.ops import sparse_code_triton
from interpkern.validation import integer

KIND = "interpkern.sparse_code"
SCHEMA = 1
MAX_ATOMS = (1 << 31) - 1


@dataclass(frozen=True, eq=False, repr=False)
class SparseCode:
    """N samples, each as a sum of at most k atoms.

    Example:
        >>> code = matching_pursuit(torch.eye(3), torch.eye(3), 2)
        >>> code, code.indices.tolist()
        (SparseCode(samples=3, k=2, mean picks=1.0), [[0, -1], [1, -1], [2, -1]])
    """

    indices: torch.Tensor
    """(N, k) int32, atoms in the order of their picks, where mp may repeat one; then -1 where a sample stopped."""
    coefficients: torch.Tensor
    """(N, k) float32 (float64 where the call was in float64), 0 where the index is -1."""
    residual_norm: torch.Tensor
    """(N,) of the same dtype, ||x - x_hat||, in the units of x."""

    def __post_init__(self) -> None:
        if not all(isinstance(part, torch.Tensor) for part in (self.indices, self.coefficients, self.residual_norm)):
            raise DTypeError("SparseCode: expected indices, coefficients and residual_norm as torch tensors")
        if self.indices.dtype != torch.int32:
            raise DTypeError(f"indices: expected int32, got {self.indices.dtype}; convert them with .to(torch.int32)")
        shape = tuple(self.indices.shape)
        if len(shape) != 2 or self.coefficients.shape != shape or self.residual_norm.shape != shape[:1]:
            raise ShapeError(
                f"SparseCode: expected indices (N, k), coefficients (N, k) and residual_norm (N,), got {shape},"
                f" {tuple(self.coefficients.shape)} and {tuple(self.residual_norm.shape)}"
            )

    def __len__(self) -> int:
        """N, the number of samples."""
        return len(self.indices)

    def __repr__(self) -> str:
        picks = float((self.indices >= 0).sum(1).float().mean()) if len(self) else 0.0
        return f"SparseCode(samples={len(self)}, k={self.indices.shape[1]}, mean picks={picks:.1f})"

    def decode(self, atoms: torch.Tensor) -> torch.Tensor:
        """Sum of coefficients times atoms; gradients pass to `atoms` and to `coefficients`.

        On a GPU it stays there, and gradients have the same bits every time.

        Args:
            atoms: (M, D) floating point, those of the encoding, or others in their place.

        Returns:
            (N, D) in the wider dtype of coefficients and atoms.

        Raises:
            ShapeError, DTypeError or ValueError that names atoms.

        Example:
            >>> code.decode(atoms).shape
            torch.Size([3, 3])
        """
        if not isinstance(atoms, torch.Tensor) or not atoms.is_floating_point():
            raise DTypeError("atoms: expected a floating point tensor (M, D)")
        if atoms.ndim != 2:
            raise ShapeError(f"atoms: expected (M, D), got {tuple(atoms.shape)}")
        if atoms.device != self.coefficients.device:
            there = self.coefficients.device
            raise ValueError(
                f"atoms: expected device {there} to match the code, got {atoms.device}; move one with .to()"
            )
        self._check_atoms("atoms", len(atoms))
        if len(self) and self.indices.shape[1] and sparse_code_triton.why_not(self.coefficients, atoms) is None:
            return sparse_code_triton.decode(self.indices, self.coefficients, atoms)
        dtype = torch.promote_types(atoms.dtype, self.coefficients.dtype)
        picked = self.indices >= 0
        weights = torch.where(picked, self.coefficients.to(dtype), 0)
        bags = torch.where(picked, self.indices, 0)
        if bags.numel() == 0:
            return atoms.new_zeros(len(self), atoms.shape[1], dtype=dtype)
        return torch.nn.functional.embedding_bag(bags, atoms.to(dtype), mode="sum", per_sample_weights=weights)

    def to_dense(self, M: int) -> torch.Tensor:
        """(N, M) coefficients of all M atoms, those of a repeated atom summed; large, so meant for a few samples."""
        self._check_atoms("M", integer("M", M, 1, MAX_ATOMS))
        picked = self.indices >= 0
        dense = self.coefficients.new_zeros(len(self), M)
        return dense.scatter_add(1, self.indices.clamp(min=0).long(), torch.where(picked, self.coefficients, 0))

    def distinct(self) -> torch.Tensor:
        """(N,) int64, how many different atoms each sample has."""
        ascending = self.indices.sort(1).values
        changes = (ascending[:, 1:] != ascending[:, :-1]) & (ascending[:, 1:] >= 0)
        return changes.sum(1) + (ascending[:, :1] >= 0).sum(1)

    def to_pandas(self) -> pandas.DataFrame:
        """One row a pick: sample, pick (from 0), atom, coefficient (units of x); samples without picks have none."""
        sample, pick = (self.indices >= 0).nonzero(as_tuple=True)
        columns = {
            "sample": sample,
            "pick": pick,
            "atom": self.indices[sample, pick],
            "coefficient": self.coefficients.detach()[sample, pick],
        }
        return pandas.DataFrame({name: column.cpu().numpy() for name, column in columns.items()})

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write one safetensors file with the three tensors and where they came from; `load` takes it back."""
        target = as_path("path", path)
        names = ("indices", "coefficients", "residual_norm")
        tensors = {name: getattr(self, name).detach().to("cpu", copy=True).contiguous() for name in names}
        metadata = {"kind": KIND, "schema": str(SCHEMA), "provenance": json.dumps(provenance())}
        write_atomically(target, safetensors_bytes(tensors, metadata))
        return target

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "SparseCode":
        """Read what `save` wrote, bit for bit."""
        source = as_path("path", path)
        try:
            with safe_open(source, framework="pt") as file:
                metadata = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (OSError, SafetensorError) as error:
            raise ValueError(f"path: {source} cannot be read ({error}); save the code again") from error
        if metadata.get("kind") != KIND or metadata.get("schema") != str(SCHEMA):
            raise ValueError(f"path: {source} is no sparse code of schema {SCHEMA}; save the code again")
        return cls(**tensors)

    def _check_atoms(self, name: str, atoms: int) -> None:
        largest = int(self.indices.max()) if self.indices.numel() else -1
        if largest >= atoms:
            raise ValueError(f"{name}: expected more than {largest} atoms, the largest index of this code, got {atoms}")
