"""The CPU kernel's products of 16-bit integers, on every instruction set, and the choice between those sets."""

import pytest
import torch
from torch.nn.functional import normalize

import interpkern
from interpkern import native
from interpkern.ops.gram_stores import panels_for
from interpkern.reference.matching_pursuit import PRECISIONS
from tests.ops.pursuits import METHODS, SIGNS, gaussian, problem, pursue, same_bits

SIZES = [(1, 1, 1), (5, 16, 33), (5, 17, 33), (7, 31, 33), (17, 63, 31), (65, 64, 257), (64, 65, 32), (130, 257, 97)]
"""(N, D, M)"""
needs_tiles = pytest.mark.skipif("amx" not in native.load("_cpu").isas(), reason="no matrix units here")


def tile_products(x: torch.Tensor, atoms: torch.Tensor, isa: str) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Sums (N, M), their units and error bounds (N,)."""
    store, size = panels_for(isa), (len(x), len(atoms))
    kept = store.allocate(len(atoms), 0, atoms.shape[1], atoms.device)
    kept.rows[: len(atoms), : atoms.shape[1]] = atoms
    store.add(kept, 0, len(atoms), 1)
    sums, (units, errors) = torch.full(size, -(2**31), dtype=torch.int32), torch.full((2, len(x)), torch.nan)
    native.call(
        native.load("_cpu")._tile_products,
        x=x,
        **kept._asdict(),
        count=len(atoms),
        sums=sums,
        units=units,
        errors=errors,
        isa=isa,
    )
    return sums, units, errors


def between_one_and_two(x: torch.Tensor) -> torch.Tensor:
    """Rows whose largest element is in [1, 2): no power of two is taken out of these."""
    return x / x.abs().amax(1, keepdim=True) * 1.5


def extremes(D: int) -> torch.Tensor:
    """Rows of the largest and smallest integers that there are, alone, in pairs, beside small ones, and all alike."""
    rows = torch.cat([torch.eye(D), -torch.eye(D), torch.eye(D) - torch.eye(D).roll(1, 0), torch.ones(1, D)])
    rows = torch.cat([rows, rows + torch.linspace(-1e-4, 1e-4, D)])
    return rows[rows.abs().amax(1) > 0.5]


@pytest.mark.parametrize("make", [problem, gaussian, None], ids=["activations", "gaussian", "extremes"])
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_tiles_sum_integers_exactly(isa, make, size) -> None:
    N, D, M = size
    x, atoms = make(N, D, M) if make else (extremes(D), normalize(extremes(D)[: M + 200].flip(0), dim=1))
    x = between_one_and_two(x)
    step = native.load("_cpu").ATOM_STEP
    sums, units, errors = tile_products(x, atoms, isa)
    whole_atoms, whole = (atoms / torch.tensor(step)).round(), (x * (1 / units)[:, None]).round()
    assert whole_atoms.abs().max() <= 32700
    assert whole.abs().max() <= 32700
    exact = whole.long() @ whole_atoms.long().mT
    assert torch.equal(sums.long(), exact)
    values = sums.double() * units.double()[:, None] * step
    assert ((values - x.double() @ atoms.double().mT).abs() <= errors[:, None]).all()


@needs_tiles
@pytest.mark.parametrize("products", [True, False], ids=["Gram", "residual"])
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("nonnegative", SIGNS)
@pytest.mark.parametrize("method", METHODS)
def test_matrix_units_leave_the_same_bits(monkeypatch, method, nonnegative, precision, products) -> None:
    x, atoms = problem(150, 97, 301)
    codes = []
    for isa in ("avx512", "amx"):
        monkeypatch.setenv(native.ISA_VARIABLE, isa)
        settings = {"method": method, "nonnegative": nonnegative, "precision": precision, "threads": 2}
        gram = interpkern.Gram(atoms, products=products)
        codes.append(pursue(x, gram.atoms, 9, gram=gram, backend="cpu", **settings))
    assert same_bits(*codes)


@needs_tiles
def test_a_gram_stays_with_the_layout_it_was_made_in(monkeypatch: pytest.MonkeyPatch) -> None:
    x, atoms = problem(7, 31, 600)
    monkeypatch.setenv(native.ISA_VARIABLE, "amx")
    gram = interpkern.Gram(atoms[:5])
    expected = pursue(x, atoms, 3, backend="cpu")
    monkeypatch.setenv(native.ISA_VARIABLE, "avx512")
    gram.append(atoms[5:])  # into larger buffers
    with pytest.raises(ValueError, match="gram: made when INTERPKERN_ISA was another"):
        pursue(x, gram.atoms, 3, gram=gram, backend="cpu")
    monkeypatch.setenv(native.ISA_VARIABLE, "amx")
    assert same_bits(pursue(x, gram.atoms, 3, gram=gram, backend="cpu"), expected)
