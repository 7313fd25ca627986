"""The Triton kernels of `matching_pursuit` and of decoding: interpreted on the CPU, and compiled for GPUs elsewhere."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.functional import embedding_bag, normalize

import interpkern
from benchmarks.kernel_resources import ARCHITECTURES, blocks_per_multiprocessor, cuobjdump
from interpkern import gpu
from interpkern.ops import gram as grams
from interpkern.ops import gram_stores, matching_pursuit_triton, sparse_code_triton
from interpkern.ops.sparse_code import SparseCode
from interpkern.reference.matching_pursuit import Picks, Prepared, Problem
from tests import interpreted_triton
from tests.interpreted_triton import elsewhere, interpreted
from tests.offline_triton import Compiled, Enough, Recorder, compiled
from tests.ops.emulated import SHARED_BYTES
from tests.ops.pursuits import (
    METHODS,
    SIGNS,
    assert_fast_is_nearly_as_good,
    assert_picks_are_best,
    assert_well_formed,
    both_forms,
    changed,
    gaussian,
    norms,
    picks,
    problem,
    pursue,
    pursue_in_float64,
    residual,
    rows_of,
    same_bits,
    support,
    within,
)


@pytest.fixture(autouse=True)
def small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the least side of a Gram, for the interpreter's sake."""
    if gpu.interpreting():
        monkeypatch.setattr(matching_pursuit_triton, "TILE", 256)


def run(x: torch.Tensor, atoms: torch.Tensor, k: int, **settings: Any) -> SparseCode:
    return pursue(x, atoms, k, backend="triton", **settings)


@interpreted
@pytest.mark.parametrize(
    ("make", "shape", "method", "nonnegative"),
    [
        *((problem, (3, 7, 9, 4), method, sign) for method in METHODS for sign in (False, True)),
        *((gaussian, (1, 9, 131, 5), method, False) for method in METHODS),
    ],
)
def test_interpreted_codes_follow_float64(
    make: Callable, shape: tuple[int, ...], method: str, nonnegative: bool
) -> None:
    N, D, M, k = shape
    x, atoms = make(N, D, M)
    settings = {"method": method, "nonnegative": nonnegative}
    code, exact = both_forms(x, atoms, k, backend="triton", **settings), pursue_in_float64(x, atoms, k, **settings)
    assert_well_formed(code, N, k, M, method)
    if method != "mp_refit":
        assert_picks_are_best(x, atoms, code, method, nonnegative)
    same = (code.indices == exact.indices).all(1)
    assert same.any()
    assert ((code.coefficients - exact.coefficients).abs().amax(1) / norms(x))[same].max() <= within("coefficients")
    off = (norms(residual(x, atoms, code)) - code.residual_norm).abs() / norms(x)
    assert off.max() <= within("residual norm")


@interpreted
@pytest.mark.parametrize("method", ["mp", "omp"])
def test_interpreted_tiles_lanes_and_copies(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With small tiles a lane sees many atoms, of which two may tie: the lowest index still wins."""
    x, atoms = problem(1, 9, 70)
    copies = torch.cat([atoms, atoms.flip(0), -atoms])
    plain, wide = run(x, atoms, 2, method=method), both_forms(x, copies, 2, method=method, backend="triton")
    monkeypatch.setattr(matching_pursuit_triton, "TILE", 64)
    monkeypatch.setattr(interpreted_triton, "THREADS", 64)
    narrow = run(x, copies, 2, method=method, gram=interpkern.Gram(copies))
    assert torch.equal(plain.indices, wide.indices)
    assert same_bits(wide, narrow)


@interpreted
@pytest.mark.parametrize("method", ["mp", "omp"])
def test_interpreted_grams_may_be_as_rough_as_given_ones(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Atoms so close to each other that rounding decides; every product off by nearly all that is let through."""
    x, base = problem(2, 9, 6, seed=2)
    generator = torch.Generator().manual_seed(2)
    near = base + 2e-5 * torch.randn(3, 6, 9, generator=generator) / 3
    atoms = normalize(torch.cat([base, *near]), dim=1)
    rough = (atoms.double() @ atoms.double().mT).float() + 0.98e-5 * torch.randn(24, 24, generator=generator).sign()
    monkeypatch.setattr(grams, "store_for", lambda device: gram_stores.ON_GPU)
    codes = [run(x, atoms, 4, method=method, gram=gram) for gram in (rough, interpkern.Gram(atoms, products=False))]
    assert same_bits(*codes)


@interpreted
@pytest.mark.parametrize("method", ["mp", "omp"])
def test_interpreted_bits_do_not_depend_on_the_batch(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    x, atoms = problem(4, 7, 15)
    x[2] = 0
    settings = {"method": method, "tol": 0.2, "gram": interpkern.Gram(atoms)}
    whole, order = run(x, atoms, 3, **settings), torch.tensor([3, 0, 2, 1])
    assert same_bits(run(x[order], atoms, 3, **settings), rows_of(whole, order))
    seen: list[tuple[int, int]] = []
    monkeypatch.setattr(matching_pursuit_triton, "MOST_ROWS", 1)
    alone = run(x, atoms, 3, progress=lambda done, total: seen.append((done, total)), **settings)
    assert same_bits(whole, alone)
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]
    exact = pursue_in_float64(x, atoms, 3, method=method, tol=0.2)
    assert torch.equal(whole.indices, exact.indices)
    assert picks(whole)[2] == whole.residual_norm[2] == 0


@interpreted
@pytest.mark.parametrize("method", ["mp", "omp"])
def test_interpreted_scaling_by_powers_of_two_scales_the_bits(method: str) -> None:
    x, atoms = problem(2, 7, 20)
    powers = 2.0 ** torch.tensor([[-66], [50]])
    code, mixed = (run(rows, atoms, 2, method=method) for rows in (x, x * powers))
    assert torch.equal(code.indices, mixed.indices)
    assert torch.equal(code.coefficients * powers, mixed.coefficients)
    assert torch.equal(code.residual_norm * powers[:, 0], mixed.residual_norm)
    halves = run(x.half(), atoms, 1, method=method)
    assert same_bits(halves, run(x.half().float(), atoms, 1, method=method))


@interpreted
@pytest.mark.parametrize("method", ["mp", "omp"])
def test_interpreted_picks_past_the_rank(method: str) -> None:
    """Correlations are made anew where their error is no longer small beside the residual."""
    x, atoms = gaussian(1, 3, 13)
    code = both_forms(x, atoms, 14, method=method, backend="triton")
    assert_well_formed(code, 1, 14, 13, method)
    assert (code.residual_norm / norms(x)).max() <= (1e-2 if method == "mp" else 1e-6)
    assert ((norms(residual(x, atoms, code)) - code.residual_norm).abs() / norms(x)).max() <= within("residual norm")


@interpreted
@pytest.mark.parametrize("nonnegative", SIGNS)
@pytest.mark.parametrize("apart", [1e-3, 1e-6])
def test_interpreted_near_collinear_atoms(apart: float, nonnegative: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    base = normalize(torch.randn(4, 9, generator=generator), dim=1)
    atoms = normalize(torch.cat([base, base + apart * torch.randn(4, 9, generator=generator) / 3]), dim=1)
    x = base[:1] + 0.5 * normalize(atoms[4:5] - atoms[:1], dim=1)
    code = both_forms(x, atoms, 5, method="omp", nonnegative=nonnegative, backend="triton")
    assert_well_formed(code, 1, 5, 8, "omp")
    off = (norms(residual(x, atoms, code)) - code.residual_norm).abs()
    assert (off <= within("residual norm") * (norms(x) + code.coefficients.abs().sum(1))).all()


@interpreted
def test_interpreted_nonnegative_least_squares_give_an_atom_zero() -> None:
    atoms = normalize(torch.tensor([[1.0, 1.0, 0.0], [1.0, 0.0, 0.05], [0.0, 1.0, 0.05]]), dim=1)
    x, settings = torch.tensor([[1.0, 1.0, 0.2]]), {"method": "omp", "nonnegative": True}
    code, exact = both_forms(x, atoms, 3, backend="triton", **settings), pursue_in_float64(x, atoms, 3, **settings)
    assert support(code, 0) == [0, 1, 2]
    assert code.coefficients[0, 0] == 0
    assert code.coefficients[0].tolist() == pytest.approx(exact.coefficients[0].tolist(), abs=1e-6)


@interpreted
def test_interpreted_fast_is_nearly_as_good() -> None:
    assert_fast_is_nearly_as_good(*problem(3, 9, 40), 4, 1e-3, backend="triton")


@interpreted
def test_interpreted_dictionary_is_that_of_the_reference() -> None:
    x = problem(8, 5, 1)[0]
    settings = {"k": 2, "threshold": 0.2, "centre": False, "threads": 1}
    ours, exact = (interpkern.ITDA(**settings, backend=backend).fit(x) for backend in ("triton", "reference"))
    assert 2 < len(exact) < 8
    assert torch.equal(ours.labels, exact.labels)
    assert torch.equal(ours.atoms, exact.atoms)


@interpreted
@pytest.mark.parametrize(
    ("method", "nonnegative"), [("mp", False), ("mp", True), ("mp_refit", False), ("omp", False), ("omp", True)]
)
def test_interpreted_path_changes_where_a_new_atom_enters(method: str, nonnegative: bool) -> None:
    x, atoms = problem(4, 7, 11)
    settings = {"method": method, "nonnegative": nonnegative, "tol": 0.3, "backend": "triton", "threads": 1}
    again, code = (pursue(x, atoms[:known], 3, **settings) for known in (11, 7))
    found, expected = changed(x, atoms, code, 7, **settings), (again.indices != code.indices).any(1)
    assert torch.equal(found, expected)
    assert expected.unique().tolist() == [False, True]
    assert not changed(x, torch.cat([atoms, atoms[5:8]]), again, 11, **settings).any()


@interpreted
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_interpreted_decoding_and_its_gradients(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    """Against PyTorch's on the CPU, with an atom whose picks are added up in pieces of pieces."""
    monkeypatch.setattr(sparse_code_triton, "PIECE", 2)
    indices = torch.tensor([[2, 0, 2], [2, -1, -1], [-1, -1, -1], [0, 2, 1], [2, 2, 0]], dtype=torch.int32)
    generator = torch.Generator().manual_seed(0)
    coefficients = torch.randn(5, 3, generator=generator, requires_grad=True)
    atoms = torch.randn(4, 300, generator=generator).to(dtype).requires_grad_()
    weight = torch.randn(5, 300, generator=generator)
    decoded = SparseCode(indices, coefficients, torch.zeros(5)).decode(atoms)
    ours = torch.autograd.grad((decoded * weight).sum(), (coefficients, atoms))
    picked = indices >= 0
    expected = embedding_bag(
        indices.clamp(min=0), atoms.float(), mode="sum", per_sample_weights=torch.where(picked, coefficients, 0)
    )
    theirs = torch.autograd.grad((expected * weight).sum(), (coefficients, atoms))
    assert decoded.dtype == torch.float32
    assert torch.allclose(decoded, expected, atol=1e-6)
    assert (ours[0][~picked] == 0).all()
    assert torch.allclose(ours[0], theirs[0], atol=1e-4)
    assert ours[1].dtype == dtype
    assert torch.allclose(ours[1].float(), theirs[1].float(), atol=1e-5 if dtype == torch.float32 else 2e-2)


def test_what_the_kernels_cannot_hold_is_refused() -> None:
    assert matching_pursuit_triton.why_not(imagined(40, 32_768, 128, "omp")) == gpu.why_not_triton(torch.ones(1))
    assert "D may be 4,096 at most, and is 4,097" in str(matching_pursuit_triton.why_not(imagined(4097, 8, 4, "mp")))
    assert "at most 128 atoms, and k is 129" in str(matching_pursuit_triton.why_not(imagined(9, 500, 129, "omp")))
    assert "at most 128 atoms" not in str(matching_pursuit_triton.why_not(imagined(9, 100, 129, "omp")))
    assert "at most 128 atoms" not in str(matching_pursuit_triton.why_not(imagined(9, 500, 129, "mp")))
    float64 = replace(imagined(9, 50, 3, "mp"), atoms=torch.ones(50, 9, dtype=torch.float64))
    assert "the reference takes float64" in str(matching_pursuit_triton.why_not(float64))
    few, many = (matching_pursuit_triton.MOST_ATOMS + more for more in (0, 1))
    assert "M may be" not in str(matching_pursuit_triton.why_not(imagined(1, few, 3, "mp")))
    assert "M may be 1,048,576 at most" in str(matching_pursuit_triton.why_not(imagined(1, many, 3, "mp")))


def test_samples_are_divided_by_their_power_of_two() -> None:
    powers = 2.0 ** torch.tensor([-149, -127, -1, 0, 100, 127], dtype=torch.float64)
    x = (powers[:, None] * torch.tensor([0.0, -1.5, 1.0])).float()
    x[0] = torch.tensor([0.0, -(2.0**-149), 0.0])
    x = torch.cat([x, torch.zeros(1, 3)])
    rows, units = matching_pursuit_triton.scaled(x, 16)
    assert torch.equal(units, torch.cat([2 * powers, torch.ones(1)]))
    assert torch.equal((rows[:, :3].double() * units[:, None]).float(), x)
    assert rows[:, 3:].eq(0).all()
    assert 0.5 <= rows[:6].abs().amax(1).min() <= rows.abs().max() < 1


def test_chunks_begin_where_kernels_may_read_16_bytes() -> None:
    call = replace(imagined(1, 12_345, 5, "mp"), x=torch.zeros(6000, 1))
    picks = Picks(torch.zeros(6000, 5, dtype=torch.int32), torch.zeros(6000, 5), torch.zeros(6000))
    parts = list(matching_pursuit_triton.chunks(call, picks, call.gram))
    assert [len(part.x) for part in parts] == [5376, 624]
    assert all(tensor.data_ptr() % 16 == 0 for part in parts for tensor in part.picks)


def imagined(D: int, M: int, k: int, method: str, *, nonnegative: bool = False, gram: bool = True) -> Problem:
    """A call of two samples and its atoms, of which only shapes are real."""
    products = torch.empty(M, M) if gram and M <= 32_768 else None
    prepared = Prepared(torch.empty(M, -(-D // 16) * 16), None, None, products)
    return Problem(torch.zeros(2, D), torch.empty(M, D), k, method, nonnegative, 0.0, prepared, "exact")


@pytest.mark.parametrize("massive", [1.0, 1e3])
@pytest.mark.parametrize("width", [16, 768, 4096])
def test_products_of_tensor_cores_are_within_their_bound(width: int, massive: float) -> None:
    """As the hardware makes them at worst: numbers cut to TF32, every sum of DEPTH products cut to 24 bits."""
    x, atoms = gaussian(40, width, 40)
    x[:, 3] *= massive
    atoms[:20] = normalize(x[:20].sign() * x[:20].abs().sqrt(), dim=1)
    exact = (x.double() * atoms.double()).sum(1)
    parts = []
    for numbers in (x, atoms):
        high = cut(numbers, 13)
        parts.append((high.double(), cut(numbers - high, 13).double()))
    (a, b), (c, d) = parts
    depth, total = matching_pursuit_triton.DEPTH, torch.zeros(40)
    for start in range(0, width, depth):
        some = torch.zeros(40)
        for left, right in ((a, d), (b, c), (a, c)):
            for at in range(start, min(start + depth, width)):
                some = cut((some.double() + left[:, at] * right[:, at]).float(), 1)
        total = total + some
    call = replace(imagined(width, 40, 4, "mp", gram=False), x=x)
    bound = matching_pursuit_triton.limits(call)[2]
    off = (total.double() - exact).abs() / norms(x)
    assert off.max() <= bound
    assert bound <= 3e-5


def cut(numbers: torch.Tensor, bits: int) -> torch.Tensor:
    """Float32 numbers without their last bits."""
    return (numbers.view(torch.int32) & -(1 << bits)).view(torch.float32)


GRAM, RESIDUALS, FINISH, REFIT, REPLAY = KERNELS = (
    "pursue_on_gram",
    "pick_from_peaks",
    "finish_codes",
    "refit",
    "path_changes",
)
COMPILED = [
    ("products", imagined(33, 67, 5, "mp")),
    ("peaks", imagined(33, 67, 5, "mp", gram=False)),
    (GRAM, imagined(33, 67, 5, "omp")),
]
LARGEST = [
    (GRAM, imagined(768, 32_768, 32, "mp")),
    (GRAM, imagined(1024, 300, 40, "mp", nonnegative=True)),
    (GRAM, imagined(4096, 300, 40, "mp")),
    (GRAM, imagined(4096, 16_384, 128, "omp")),
    (GRAM, imagined(4096, 300, 128, "omp", nonnegative=True)),
    (RESIDUALS, imagined(4096, 300, 128, "omp", nonnegative=True, gram=False)),
    (RESIDUALS, imagined(64, 1 << 20, 40, "mp", gram=False)),
    (FINISH, imagined(4096, 300, 128, "omp", gram=False)),
    (REFIT, imagined(33, 67, 5, "mp_refit")),
    (REFIT, imagined(4096, 300, 128, "mp_refit", nonnegative=True)),
    (REFIT, imagined(2304, 300, 40, "mp_refit")),
    (REPLAY, imagined(33, 67, 5, "omp")),
    (REPLAY, imagined(2304, 300, 40, "mp")),
    (REPLAY, imagined(4096, 300, 128, "omp", nonnegative=True)),
]


class Ignored:
    """Stands in for a kernel that is launched before the one that is looked at."""

    def __getitem__(self, grid: tuple[int, ...]) -> Callable[..., None]:
        return lambda *arguments, **keywords: None


def compiled_call(name: str, call: Problem, arch: int, monkeypatch: pytest.MonkeyPatch, cache: Path) -> Compiled:
    from interpkern.kernels import matching_pursuit, matching_pursuit_products

    monkeypatch.setenv("TRITON_CACHE_DIR", str(cache))
    recorder, kernel = Recorder(), None
    for module, names in (
        (matching_pursuit, KERNELS),
        (matching_pursuit_products, ("products", "peaks")),
    ):
        for other in names:
            kernel = getattr(module, other) if other == name else kernel
            monkeypatch.setattr(module, other, recorder if other == name else Ignored())
    code = SparseCode(torch.zeros(2, call.k, dtype=torch.int32), torch.zeros(2, call.k), torch.zeros(2))
    with pytest.raises(Enough):
        matching_pursuit_triton.replay(call, code, 3) if name == REPLAY else matching_pursuit_triton.run(call, None)
    return compiled(kernel, recorder, arch)


def programs_at_once(made: Compiled, arch: int) -> int:
    machine, threads = ARCHITECTURES[f"sm_{arch}"], 32 * matching_pursuit_triton.COMPILER["num_warps"]
    return blocks_per_multiprocessor(machine, made.usage.registers, threads, made.shared_bytes)


def assert_no_spills(made: Compiled, arch: int) -> None:
    assert made.usage.stack == made.usage.local == 0, made.usage
    assert made.shared_bytes <= SHARED_BYTES[f"sm_{arch}"]


@elsewhere
@pytest.mark.skipif(cuobjdump() is None, reason="there is no cuobjdump")
@pytest.mark.parametrize("arch", [80, 90])
@pytest.mark.parametrize(
    ("name", "call"),
    [*COMPILED, *(pytest.param(*each, marks=pytest.mark.slow) for each in LARGEST)],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_compiles_for_a_gpu_without_spills(
    name: str, call: Problem, arch: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pytest.importorskip("triton")
    assert_no_spills(compiled_call(name, call, arch, monkeypatch, tmp_path), arch)


@elsewhere
@pytest.mark.skipif(cuobjdump() is None, reason="there is no cuobjdump")
@pytest.mark.parametrize(
    "width", [300, *(pytest.param(width, marks=pytest.mark.slow) for width in (16, 64, 1024, 2304))]
)
def test_forms_and_replays_add_up_in_one_order(width: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("triton")
    orders = set()
    for name in (GRAM, RESIDUALS, REPLAY):
        with monkeypatch.context() as patch:
            made = compiled_call(name, imagined(width, 67, 5, "mp", gram=name == GRAM), 90, patch, tmp_path)
        assert_no_spills(made, 90)
        assert programs_at_once(made, 90) >= (matching_pursuit_triton.PROGRAMS if width <= 1024 else 1)
        orders |= made.sums(matching_pursuit_triton.power(width))
    assert len(orders) == 1


@elsewhere
@pytest.mark.skipif(cuobjdump() is None, reason="there is no cuobjdump")
@pytest.mark.parametrize("name", ["decode", "dots", "segment_sums"])
def test_decoding_compiles_without_spills(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("triton")
    from interpkern.kernels import sparse_code

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    recorder, kernel = Recorder(), getattr(sparse_code, name)
    for other in ("decode", "dots", "segment_sums"):
        monkeypatch.setattr(sparse_code, other, recorder if other == name else Ignored())
    atoms, code = torch.zeros(5, 33, requires_grad=True), torch.zeros(2, 3, requires_grad=True)
    with pytest.raises(Enough):
        sparse_code_triton.decode(torch.zeros(2, 3, dtype=torch.int32), code, atoms).sum().backward()
    for arch in (80, 90):
        assert_no_spills(compiled(kernel, recorder, arch), arch)
