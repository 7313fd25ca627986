"""`matching_pursuit` on every backend against float64 and closed forms."""

from functools import cache

import pytest
import torch
from torch.nn.functional import normalize

from tests.ops.pursuits import (
    METHODS,
    SHAPES,
    SIGNS,
    activations,
    assert_picks_are_best,
    assert_well_formed,
    clear,
    fitted,
    fvu,
    gaussian,
    low_coherence,
    norms,
    picks,
    problem,
    pursue,
    pursue_in_float64,
    replay,
    residual,
    same_bits,
    support,
    within,
)


@pytest.mark.parametrize("nonnegative", SIGNS)
@pytest.mark.parametrize("method", ["mp", "omp"])
@pytest.mark.parametrize(("make", "shape"), [*((problem, shape) for shape in SHAPES), (gaussian, (17, 33, 131, 20))])
def test_picks_are_those_of_float64(backend, make, shape, method, nonnegative) -> None:
    N, D, M, k = shape
    x, atoms = make(N, D, M)
    code = pursue(x, atoms, k, method=method, nonnegative=nonnegative, backend=backend)
    assert_well_formed(code, N, k, M, method)
    assert_picks_are_best(x, atoms, code, method, nonnegative)


@cache
def activations_in_float64(method: str, nonnegative: bool) -> tuple:
    """Samples, atoms, their exact code, and up to which steps it is the only good one, but for a refit."""
    x, atoms = problem(300, 64, 257)
    exact = pursue_in_float64(x, atoms, 12, method=method, nonnegative=nonnegative)
    return x, atoms, exact, None if method == "mp_refit" else clear(replay(x, atoms, exact, method, nonnegative))


@pytest.mark.parametrize("nonnegative", SIGNS)
@pytest.mark.parametrize("method", METHODS)
def test_supports_coefficients_and_fvu_of_activations_follow_float64(backend, method, nonnegative) -> None:
    x, atoms, exact, judged = activations_in_float64(method, nonnegative)
    code = pursue(x, atoms, 12, method=method, nonnegative=nonnegative, backend=backend)
    same = (code.indices == exact.indices).all(1)
    if judged is not None:
        assert judged.float().mean() > (0.7 if nonnegative else 0.97)  # nothing positive may be left
        assert ((code.indices == exact.indices) | ~judged).all(1).float().mean() >= 0.995
        assert same[judged.all(1)].float().mean() >= 0.995
    assert same.float().mean() > (0.4 if nonnegative else 0.97)
    off = (code.coefficients - exact.coefficients).abs().amax(1) / norms(x)
    assert off[same].max() <= within("coefficients")
    off = (code.residual_norm - exact.residual_norm).abs() / norms(x)
    assert off[same].max() <= within("residual norm")
    assert fvu(x, atoms, code) == pytest.approx(fvu(x, atoms, exact), rel=within("FVU"))


@pytest.mark.parametrize("nonnegative", SIGNS)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("shape", SHAPES)
def test_residual_norm_is_that_of_the_decoded_sample(backend, shape, method, nonnegative) -> None:
    N, D, M, k = shape
    x, atoms = problem(N, D, M)
    code = pursue(x, atoms, k, method=method, nonnegative=nonnegative, backend=backend)
    assert_well_formed(code, N, k, M, method)
    off = (norms(residual(x, atoms, code)) - code.residual_norm).abs() / norms(x)
    assert off.max() <= within("residual norm")


@pytest.mark.parametrize("nonnegative", SIGNS)
@pytest.mark.parametrize("shape", SHAPES)
def test_energy_of_mp_is_kept(backend, shape, nonnegative) -> None:
    """||x||^2 = sum of squared coefficients + ||r||^2, every step in its own slot."""
    N, D, M, k = shape
    x, atoms = problem(N, D, M)
    code = pursue(x, atoms, k, nonnegative=nonnegative, backend=backend)
    energy = (code.coefficients.double() ** 2).sum(1) + code.residual_norm.double() ** 2
    assert ((energy / norms(x) ** 2 - 1).abs() <= within("energy")).all()


@pytest.mark.parametrize("nonnegative", SIGNS)
@pytest.mark.parametrize("method", METHODS)
def test_fewer_picks_are_a_prefix_and_residuals_never_rise(backend, method, nonnegative) -> None:
    x, atoms = problem(33, 31, 67)
    settings = {"method": method, "nonnegative": nonnegative, "backend": backend}
    longest = pursue(x, atoms, 12, **settings)
    before = norms(x)
    for k in range(1, 13):
        code = pursue(x, atoms, k, **settings)
        distinct = int(code.distinct().max())
        assert torch.equal(code.indices[code.indices >= 0], longest.indices[:, :k][code.indices >= 0])
        assert distinct <= k
        assert (code.residual_norm <= before + within("rounding of a correlation") * norms(x)).all()
        before = code.residual_norm
        if method == "mp":
            assert torch.equal(code.coefficients, longest.coefficients[:, :k])


@pytest.mark.parametrize("method", ["mp_refit", "omp"])
@pytest.mark.parametrize("shape", SHAPES)
def test_least_squares_leave_a_residual_orthogonal_to_the_support(backend, shape, method) -> None:
    N, D, M, k = shape
    x, atoms = problem(N, D, M)
    code = pursue(x, atoms, k, method=method, backend=backend)
    left = residual(x, atoms, code)
    for row in range(N):
        chosen = atoms.double()[support(code, row)]
        assert ((chosen @ left[row]).abs() <= within("orthogonality") * norms(x)[row]).all()


@pytest.mark.parametrize("method", ["mp_refit", "omp"])
@pytest.mark.parametrize("shape", SHAPES)
def test_nonnegative_least_squares_satisfy_kkt(backend, shape, method) -> None:
    """On the support: coefficients >= 0, no descent by raising one, none by lowering one that is above 0."""
    N, D, M, k = shape
    x, atoms = problem(N, D, M)
    code = pursue(x, atoms, k, method=method, nonnegative=True, backend=backend)
    left = residual(x, atoms, code)
    assert (code.coefficients >= 0).all()
    for row in range(N):
        chosen = support(code, row)
        slope = (atoms.double()[chosen] @ left[row]) / norms(x)[row]
        assert (slope <= within("orthogonality")).all()
        assert (slope[code.coefficients[row, : len(chosen)] > 0].abs() <= within("orthogonality")).all()


def test_nonnegative_least_squares_give_an_atom_zero(backend) -> None:
    """Three atoms in a plane: the first pick, between the two axes, is not needed once both are there."""
    atoms = normalize(torch.tensor([[1.0, 1.0, 0.0], [1.0, 0.0, 0.05], [0.0, 1.0, 0.05]]), dim=1)
    code = pursue(torch.tensor([[1.0, 1.0, 0.2]]), atoms, 3, method="omp", nonnegative=True, backend=backend)
    assert code.indices.tolist() == [[0, 1, 2]]
    expected = fitted(torch.tensor([1.0, 1.0, 0.2]).double().numpy(), atoms.double().numpy(), True)
    assert code.coefficients[0].tolist() == pytest.approx(expected.tolist(), abs=1e-5)
    assert code.coefficients[0, 0] == 0
    assert picks(code).tolist() == [3]


@pytest.mark.parametrize("nonnegative", SIGNS)
def test_refit_is_least_squares_on_the_distinct_picks_of_mp(backend, nonnegative) -> None:
    x, atoms = problem(33, 31, 67)
    settings = {"nonnegative": nonnegative, "backend": backend, "tol": 0.2}
    mp = pursue(x, atoms, 15, **settings)
    refit = pursue(x, atoms, 15, method="mp_refit", **settings)
    assert (mp.distinct() < picks(mp)).any()
    for row in range(33):
        chosen = list(dict.fromkeys(support(mp, row)))
        assert support(refit, row) == chosen
        expected = fitted(x[row].double().numpy(), atoms[chosen].double().numpy(), nonnegative)
        off = (refit.coefficients[row, : len(chosen)] - torch.from_numpy(expected)).abs() / norms(x)[row]
        assert (off <= within("coefficients")).all()


@pytest.mark.parametrize("method", METHODS)
def test_an_orthonormal_dictionary_gives_the_top_k(backend, method) -> None:
    D, k = 33, 9
    rotation = torch.linalg.qr(torch.randn(D, D, generator=torch.Generator().manual_seed(3), dtype=torch.float64)).Q
    atoms = rotation.float()[:31]
    x = gaussian(17, D, 1)[0]
    c = x.double() @ atoms.double().T
    for nonnegative in (False, True):
        top = (c if nonnegative else c.abs()).topk(k, dim=1)
        code = pursue(x, atoms, k, method=method, nonnegative=nonnegative, backend=backend)
        assert torch.equal(code.indices, top.indices.int())
        off = (code.coefficients - c.gather(1, top.indices)).abs().amax(1) / norms(x)
        assert off.max() <= within("coefficients") / 10


@pytest.mark.parametrize("method", METHODS)
def test_a_multiple_of_an_atom_takes_one_step(backend, method) -> None:
    atoms = problem(1, 33, 67)[1]
    scales = torch.linspace(0.5, 40, 67)[:, None]
    code = pursue(atoms * scales, atoms, 5, method=method, backend=backend)
    assert code.indices[:, 0].tolist() == list(range(67))
    assert (code.indices[:, 1:] == -1).all()
    assert (code.residual_norm / scales[:, 0]).max() <= 1e-6
    assert (code.coefficients[:, 0] / scales[:, 0] - 1).abs().max() <= 1e-6
    opposite = pursue(-atoms, atoms, 5, method=method, backend=backend)
    assert torch.equal(opposite.indices[:, 0], code.indices[:, 0])
    assert (opposite.coefficients[:, 0] + 1).abs().max() <= 1e-6


@pytest.mark.parametrize("nonnegative", SIGNS)
def test_omp_recovers_sparse_samples_of_low_coherence(backend, nonnegative) -> None:
    """Coherence 1/8 with 4 atoms is below 1 / (2 * 4 - 1), where OMP is known to find them all."""
    atoms, k = low_coherence(64), 4
    generator = torch.Generator().manual_seed(5)
    chosen = torch.stack([torch.randperm(128, generator=generator)[:k] for _ in range(65)])
    weights = torch.rand(65, k, generator=generator) + 0.5
    signs = torch.randint(0, 2, (65, k), generator=generator) * 2 - 1
    weights = weights if nonnegative else weights * signs
    x = (weights[:, None] @ atoms[chosen])[:, 0]
    code = pursue(x, atoms, 9, method="omp", nonnegative=nonnegative, backend=backend)
    assert picks(code).tolist() == [k] * 65
    expected = torch.zeros(65, 128).scatter(1, chosen, weights)
    assert (code.to_dense(128) - expected).abs().max() <= 1e-5


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("nonnegative", SIGNS)
def test_zero_rows_have_no_picks_and_touch_no_other(backend, method, nonnegative) -> None:
    x, atoms = problem(9, 31, 33)
    settings = {"method": method, "nonnegative": nonnegative, "backend": backend}
    x[[0, 4, 8]] = 0
    code = pursue(x, atoms, 5, **settings)
    assert (code.indices[[0, 4, 8]] == -1).all()
    assert (code.coefficients[[0, 4, 8]] == 0).all()
    assert code.residual_norm[[0, 4, 8]].tolist() == [0, 0, 0]
    assert picks(code)[[1, 2, 3, 5, 6, 7]].min() > 0
    nothing = pursue(torch.zeros(3, 31), atoms, 5, **settings)
    assert picks(nothing).tolist() == [0, 0, 0]


@pytest.mark.parametrize("method", METHODS)
def test_no_samples_give_an_empty_code(backend, method) -> None:
    code = pursue(torch.empty(0, 31), problem(1, 31, 33)[1], 5, method=method, backend=backend)
    assert_well_formed(code, 0, 5, 33, method)
    assert code.decode(torch.eye(31)).shape == (0, 31)
    assert code.to_dense(33).shape == (0, 33)
    assert code.distinct().shape == (0,)
    assert code.to_pandas().shape == (0, 4)


@pytest.mark.parametrize("nonnegative", SIGNS)
@pytest.mark.parametrize("method", METHODS)
def test_nothing_positive_is_no_pick(backend, method, nonnegative) -> None:
    atoms = normalize(torch.rand(33, 31, generator=torch.Generator().manual_seed(0)), dim=1)
    code = pursue(-atoms[:7], atoms, 3, method=method, nonnegative=nonnegative, backend=backend)
    assert (picks(code) == 0).all() == nonnegative
    if nonnegative:
        assert (code.residual_norm - 1).abs().max() <= 1e-6


@pytest.mark.parametrize("nonnegative", SIGNS)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("shape", [(1, 31, 31), (1, 64, 257), (2, 31, 7), (33, 37, 31)])
def test_equal_atoms_go_to_the_lowest_index(backend, method, nonnegative, shape) -> None:
    """Shapes for which a matrix product is known to round equal columns differently are among them."""
    x, atoms = problem(*shape)
    plain = pursue(x, atoms, 9, method=method, nonnegative=nonnegative, backend=backend)
    copies = torch.cat([atoms, atoms, atoms.flip(0)] + ([] if nonnegative else [-atoms]))
    code = pursue(x, copies, 9, method=method, nonnegative=nonnegative, backend=backend)
    assert torch.equal(code.indices, plain.indices)
    off = (code.coefficients - plain.coefficients).abs().amax(1) / norms(x)
    assert off.max() <= within("coefficients") / 10


@pytest.mark.parametrize("method", METHODS)
def test_ties_of_different_atoms_go_to_the_lowest_index(backend, method) -> None:
    atoms = torch.eye(67)[torch.randperm(67, generator=torch.Generator().manual_seed(0))]
    x = torch.ones(3, 67)
    x[1:, ::2] = -1
    code = pursue(x, atoms, 67, method=method, backend=backend)
    assert torch.equal(code.indices, torch.arange(67, dtype=torch.int32).expand(3, 67))
    positive = pursue(x, atoms, 67, method=method, nonnegative=True, backend=backend)
    ups = (atoms @ x[1] > 0).nonzero()[:, 0].tolist()
    assert support(positive, 1) == ups


@pytest.mark.parametrize("apart", [1e-2, 1e-3, 1e-4])
@pytest.mark.parametrize("nonnegative", SIGNS)
@pytest.mark.parametrize("method", METHODS)
def test_near_collinear_atoms(backend, method, nonnegative, apart) -> None:
    """Pairs of atoms `apart` from each other, and samples along their differences: the fit stays least squares."""
    generator = torch.Generator().manual_seed(0)
    base = normalize(torch.randn(16, 33, generator=generator), dim=1)
    atoms = normalize(torch.cat([base, base + apart * torch.randn(16, 33, generator=generator) / 33**0.5]), dim=1)
    x = base[:9] + 0.5 * normalize(atoms[16:25] - atoms[:9], dim=1) + 0.1 * torch.randn(9, 33, generator=generator)
    code = pursue(x, atoms, 10, method=method, nonnegative=nonnegative, backend=backend)
    assert_well_formed(code, 9, 10, 32, method)
    off = (norms(residual(x, atoms, code)) - code.residual_norm).abs() / norms(x)
    assert off.max() <= within("coefficients")
    if method == "mp":
        return
    for row in range(9):
        chosen = atoms.double()[support(code, row)].numpy()
        target = x[row].double().numpy()
        left = torch.from_numpy(target - fitted(target, chosen, nonnegative) @ chosen).norm()
        assert code.residual_norm[row] <= left + within("orthogonality") * norms(x)[row]


@pytest.mark.parametrize("apart", [1e-5, 1e-6, 1e-7])
@pytest.mark.parametrize("nonnegative", SIGNS)
@pytest.mark.parametrize("method", METHODS)
def test_residual_norm_where_atoms_almost_coincide(backend, method, nonnegative, apart) -> None:
    """Coefficients may be huge there, and the fit is no better than their own rounding."""
    for seed, (width, atoms) in enumerate([(2, 1), (31, 7), (64, 33), (7, 1)]):
        generator = torch.Generator().manual_seed(seed)
        x, base = problem(9, width, atoms, seed)
        near = normalize(base + apart * torch.randn(base.shape, generator=generator), dim=1)
        code = pursue(x, torch.cat([base, near]), 12, method=method, nonnegative=nonnegative, backend=backend)
        assert_well_formed(code, 9, 12, 2 * atoms, method)
        off = (norms(residual(x, torch.cat([base, near]), code)) - code.residual_norm).abs()
        assert (off <= within("residual norm") * (norms(x) + code.coefficients.abs().sum(1))).all()


@pytest.mark.parametrize("method", METHODS)
def test_picks_past_the_rank_are_rounding_at_most(backend, method) -> None:
    """Atoms in a space of 5 dimensions, samples in and out of it."""
    generator = torch.Generator().manual_seed(0)
    plane = torch.linalg.qr(torch.randn(31, 5, generator=generator)).Q.T
    atoms = normalize(torch.randn(67, 5, generator=generator) @ plane, dim=1)
    inside = torch.randn(7, 5, generator=generator) @ plane
    x = torch.cat([inside, inside + torch.randn(7, 31, generator=generator)])
    code = pursue(x, atoms, 40, method=method, backend=backend)
    assert_well_formed(code, 14, 40, 67, method)
    left = norms(x.double() - x.double() @ plane.double().T @ plane.double())
    assert ((code.residual_norm - left) / norms(x)).abs().max() <= within("orthogonality")
    assert (code.coefficients.abs().amax(1) <= 100 * norms(x)).all()


@pytest.mark.parametrize("nonnegative", SIGNS)
@pytest.mark.parametrize("method", ["mp", "omp"])
@pytest.mark.parametrize("tol", [0.1, 0.3, 0.6])
def test_tol_stops_at_the_first_small_residual(backend, method, nonnegative, tol) -> None:
    x, atoms = problem(40, 31, 257)
    settings = {"method": method, "nonnegative": nonnegative, "backend": backend}
    whole, code = pursue(x, atoms, 20, **settings), pursue(x, atoms, 20, tol=tol, **settings)
    size = replay(x, atoms, whole, method, nonnegative).residual
    judged = ~((size - tol).abs() <= within("residual norm")).any(1)
    expected = (size[:, :20] > tol).sum(1).minimum(picks(whole))
    assert torch.equal(picks(code)[judged], expected[judged])
    assert judged.float().mean() > 0.95
    assert picks(code).unique().numel() > 1
    taken = code.indices >= 0
    assert torch.equal(code.indices[taken], whole.indices[taken])
    early = picks(code) < picks(whole)
    assert (code.residual_norm[early] <= tol * norms(x)[early] * (1 + 1e-6)).all()
    assert same_bits(whole, pursue(x, atoms, 20, tol=0.0, **settings))


@pytest.mark.parametrize("scale", [1e-20, 1e15])
@pytest.mark.parametrize("method", ["mp", "omp"])
def test_tiny_and_huge_samples(backend, method, scale) -> None:
    x, atoms = problem(31, 33, 67)
    code = pursue(x * scale, atoms, 9, method=method, backend=backend)
    assert (picks(code) == 9).all()
    assert_picks_are_best(x * scale, atoms, code, method, False)
    off = (norms(residual(x * scale, atoms, code)) - code.residual_norm).abs() / norms(x * scale)
    assert off.max() <= within("residual norm")


@pytest.mark.parametrize("method", METHODS)
def test_samples_of_all_sizes_in_one_batch(backend, method) -> None:
    x, atoms = problem(31, 33, 67)
    powers = 2.0 ** torch.randint(-60, 50, (31, 1), generator=torch.Generator().manual_seed(0))
    code, mixed = (pursue(rows, atoms, 9, method=method, backend=backend) for rows in (x, x * powers))
    assert torch.equal(code.indices, mixed.indices)
    assert ((mixed.residual_norm / powers[:, 0] - code.residual_norm).abs() / norms(x)).max() <= 1e-6


@pytest.mark.slow
@pytest.mark.parametrize("nonnegative", SIGNS)
@pytest.mark.parametrize("method", METHODS)
def test_the_size_of_real_dictionaries(cpu, method, nonnegative) -> None:
    """M = 4,096, D = 384, k = 32, against the reference in float64."""
    x, atoms = problem(300, 384, 4096)
    settings = {"method": method, "nonnegative": nonnegative}
    code = pursue(x, atoms, 32, backend=cpu, **settings)
    exact = pursue_in_float64(x, atoms, 32, **settings)
    same = (code.indices == exact.indices).all(1)
    assert same.float().mean() >= (0.3 if nonnegative else 0.97)  # nothing positive may be left
    off = (code.coefficients - exact.coefficients).abs().amax(1) / norms(x)
    assert off[same].max() <= within("coefficients")
    assert fvu(x, atoms, code) == pytest.approx(fvu(x, atoms, exact), rel=within("FVU"))


def test_activations_look_like_activations() -> None:
    """What the generator promises: a shared mean, a few strong directions, full rank."""
    x = activations(2000, 64).double()
    unit = normalize(x, dim=1)
    assert 0.1 < float(unit.mean(0).norm()) < 0.9
    spectrum = torch.linalg.svdvals(x - x.mean(0)) ** 2
    assert float(spectrum[:8].sum() / spectrum.sum()) > 0.5
    assert float(spectrum[-1] / spectrum[0]) > 1e-5
    assert torch.equal(activations(5, 64), activations(5, 64))
