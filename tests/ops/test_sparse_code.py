"""Sparse codes: decoding with gradients, dense form, tables and files."""

import pytest
import torch

from interpkern.ops.sparse_code import SparseCode
from tests.ops.pursuits import norms, picks, problem, pursue, same_bits


def test_decode_passes_gradients_to_atoms_and_coefficients() -> None:
    indices = torch.tensor([[2, 0, 2], [1, -1, -1], [-1, -1, -1], [0, 1, 2]], dtype=torch.int32)
    generator = torch.Generator().manual_seed(0)
    coefficients = torch.randn(4, 3, generator=generator, dtype=torch.float64).requires_grad_()
    atoms = torch.randn(5, 7, generator=generator, dtype=torch.float64).requires_grad_()

    def decode(coefficients: torch.Tensor, atoms: torch.Tensor) -> torch.Tensor:
        return SparseCode(indices, coefficients, torch.zeros(4)).decode(atoms)

    assert torch.autograd.gradcheck(decode, (coefficients, atoms))
    gradient = torch.autograd.grad(decode(coefficients, atoms).sum(), coefficients)[0]
    assert torch.equal(gradient != 0, indices >= 0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
def test_decode_is_the_dense_product(dtype: torch.dtype) -> None:
    x, atoms = problem(33, 31, 67)
    code = pursue(x, atoms, 9, tol=0.3, backend="reference")
    assert (code.distinct() < picks(code)).any()
    decoded = code.decode(atoms.to(dtype))
    wide = torch.promote_types(dtype, torch.float32)
    expected = code.to_dense(67).to(wide) @ atoms.to(dtype).to(wide)
    assert decoded.dtype == wide
    assert ((decoded - expected).norm(dim=1) / norms(x)).max() <= 1e-6


def test_to_dense_adds_up_what_mp_picks_twice() -> None:
    indices = torch.tensor([[2, 0, 2], [1, -1, -1], [-1, -1, -1]], dtype=torch.int32)
    code = SparseCode(indices, torch.tensor([[1.0, 2.0, 4.0], [8.0, 0, 0], [0, 0, 0]]), torch.zeros(3))
    assert code.to_dense(4).tolist() == [[2, 0, 5, 0], [0, 8, 0, 0], [0, 0, 0, 0]]
    assert code.distinct().tolist() == [2, 1, 0]
    table = code.to_pandas()
    assert table.values.tolist() == [[0, 0, 2, 1.0], [0, 1, 0, 2.0], [0, 2, 2, 4.0], [1, 0, 1, 8.0]]
    assert len(code) == 3
    for refused in (lambda: code.to_dense(2), lambda: code.decode(torch.eye(2))):
        with pytest.raises(ValueError, match="more than 2 atoms"):
            refused()


def test_save_and_load(tmp_path) -> None:
    code = pursue(*problem(7, 31, 33), 5, tol=0.3)
    assert same_bits(code, SparseCode.load(code.save(tmp_path / "code.safetensors")))
    (tmp_path / "other").write_bytes(b"nothing of ours")
    with pytest.raises(ValueError, match=r"path: .*other cannot be read"):
        SparseCode.load(tmp_path / "other")
    with pytest.raises(ValueError, match="path"):
        SparseCode.load(tmp_path / "missing")
