"""The null passes against plain computations, and the coloured null against what it was fitted to."""

from dataclasses import replace

import pytest
import torch

from interpkern.probing.coloured import channel_whiteners, fit_coloured
from interpkern.probing.contrast import contrast, whitened_pairs
from interpkern.probing.covariance_kernels import kernels
from interpkern.probing.nonnegative import nonnegative_fits, refined
from interpkern.probing.nulls import against_permutations, coloured_null
from interpkern.probing.numbers import checked
from interpkern.probing.pair_power import blocks_of, largest_power, pair_power
from interpkern.probing.residuals import Residuals, orthonormal_pairs, residuals
from interpkern.probing.simulated import background, plant_circle
from interpkern.probing.spectrum import frequency_grid, powers

CPU = torch.device("cpu")
NUMBERS = torch.arange(1, 98)


def setting(acts: torch.Tensor, components: int = 5) -> tuple[Residuals, torch.Tensor]:
    left = residuals(checked(acts, NUMBERS), "log", components, "default")
    return left, frequency_grid(None, left.positions, "log")


def rows(seed: int = 0) -> torch.Tensor:
    return background("smooth in ln n", NUMBERS, 7, noise=0.5, seed=seed)


@pytest.mark.parametrize("frequencies", [None, "dense", "scattered"])
def test_the_null_pass_is_the_plain_product(frequencies: str | None) -> None:
    left, grid = setting(rows())
    if frequencies == "dense":
        grid = torch.linspace(0.8, 5.0, 1031, dtype=torch.float64)
    if frequencies == "scattered":
        grid = torch.tensor([0.9, 3.7, 11.0, 19.0, 31.0], dtype=torch.float64)
    pairs = orthonormal_pairs(left.pairs(grid), left.root_weights.norm())[0]
    sets = torch.randn(97, 13, 5, generator=torch.Generator().manual_seed(1))
    expected = torch.einsum("mjf,mpc->pfjc", pairs, sets.double()).square().sum((2, 3))
    blocks = blocks_of(pairs, grid * left.range, torch.float32, CPU)
    torch.testing.assert_close(pair_power(blocks, sets).double(), expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(largest_power(blocks, sets).double(), expected.amax(1), rtol=1e-4, atol=1e-4)
    exact = blocks_of(pairs, grid * left.range, torch.float64, CPU)
    torch.testing.assert_close(pair_power(exact, sets.double()), expected, rtol=1e-9, atol=1e-9)


def test_permutations_are_scanned_as_the_data_are() -> None:
    left, grid = setting(rows())
    power = powers(left, grid)[0].sum(1)
    found = against_permutations(left, power, grid, 7, 3, device=CPU)
    generator = torch.Generator().manual_seed(3)
    for place in range(7):
        shuffled = left.components[torch.randperm(97, generator=generator)]
        moved = Residuals(left.positions, left.root_weights, left.nuisance, left.project(shuffled), 0.0)
        assert float(found.null[place]) == pytest.approx(float(powers(moved, grid)[0].sum(1).max()), rel=1e-4)
    assert found.p_value == (1 + int((found.null >= power.max()).sum())) / 8


def test_kernels_have_mean_variance_1_and_no_nuisance() -> None:
    left, _ = setting(rows())
    space = kernels(NUMBERS.double(), left.nuisance)
    torch.testing.assert_close(space.basis.mT @ space.basis, torch.eye(93).double(), atol=1e-12, rtol=0)
    assert float((left.nuisance.mT @ space.basis).abs().max()) < 1e-12
    n = NUMBERS.double()
    for root in space.roots:
        assert float(root.square().sum()) / 93 == pytest.approx(1, abs=1e-4)
    root = space.roots[space.names.index("smooth in ln n over 0.5")]
    full = space.basis.mT @ torch.exp(-2 * (n.log()[:, None] - n.log()).square()) @ space.basis
    torch.testing.assert_close(root @ root.mT, full * 93 / full.trace(), atol=1e-4, rtol=0)


def test_surrogates_have_the_covariances_that_were_fitted() -> None:
    left, _ = setting(rows())
    space = kernels(NUMBERS.double(), left.nuisance)
    components = space.basis.mT @ left.components
    model = fit_coloured(space, components)
    sets = torch.cat(list(model.draws(4000, torch.Generator().manual_seed(0))), 1).double()
    by_number = torch.einsum("mpc,npc->mn", sets, sets) / sets.shape[1]
    expected = torch.zeros_like(by_number)
    for root, channels in zip(space.roots, model.channel_roots, strict=True):
        if channels is not None:
            expected += root @ root.mT * float(channels.square().sum())
    assert float((by_number - expected).norm() / expected.norm()) < 0.03
    # at the maximum of the restricted likelihood they have the variance of the data, up to the nugget
    assert float(expected.trace() / components.square().sum()) == pytest.approx(1, abs=0.3)


def test_the_background_is_that_of_a_plain_fit_without_the_pair() -> None:
    left, grid = setting(rows())
    space = kernels(NUMBERS.double(), left.nuisance)
    components = space.basis.mT @ left.components
    model = fit_coloured(space, components)
    compared = contrast(model, left, grid, torch.float64, CPU)
    pairs = whitened_pairs(model, left, grid)
    seen = model.whitener @ components
    values, vectors = torch.linalg.eigh(seen.mT @ seen / len(seen))
    white = seen @ (vectors * values.rsqrt()) @ vectors.mT
    for place in (0, 20, len(grid) - 1):
        pair = pairs[:, :, place]
        out = torch.eye(len(pair)).double() - pair @ pair.mT if place < 45 else torch.eye(len(pair)).double()
        full = torch.stack([model.whitener @ root @ root.mT @ model.whitener.mT for root in space.roots])
        whitened = out @ full @ out
        flat = whitened.flatten(1)
        target = flat @ (white @ white.mT).flatten() / white.shape[1]
        sizes = nonnegative_fits(flat @ flat.mT, target[None])[0]
        background_power = float(
            sum(size * (pair.mT @ one @ pair).trace() for size, one in zip(sizes, full, strict=True))
        )
        power = float((pair.mT @ white).square().sum()) / white.shape[1]
        floor = 0.1 * 2 * float(white.square().mean())
        expected = torch.tensor((power + floor) / (background_power + floor)).log()
        assert float(compared.log_ratios(components[:, None])[0, place]) == pytest.approx(float(expected), abs=0.05)


def test_equal_channels_are_independent_and_a_channel_without_variance_stays_small() -> None:
    sets = torch.randn(61, 3, 4, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    sets = sets @ torch.tensor([[1.0, 0.9, 0, 0], [0, 0.1, 0, 0], [0, 0, 1e-2, 0], [0, 0, 0, 0]]).double()
    equal = torch.einsum("mpc,pcd->pmd", sets, channel_whiteners(sets))
    expected = torch.diag(torch.tensor([1.0, 1.0, 1.0, 0.0])).double().expand(3, 4, 4)
    torch.testing.assert_close(equal.mT @ equal / 61, expected, atol=0.02, rtol=0)


def test_a_statistic_is_measured_by_how_far_off_the_null_is_at_other_periods() -> None:
    left, grid = setting(rows())
    null = coloured_null(left, NUMBERS.double(), grid, 19, 0, device=CPU, band=False)
    standard = null.standard()
    sets = torch.cat(list(null.model.draws(3, torch.Generator().manual_seed(9))), 1)
    ratios = null.contrast.log_ratios(sets)
    found = standard.largest(null.contrast, sets, ratios)
    scores = (ratios.double() - standard.mean) / standard.deviation
    pairs = orthonormal_pairs(left.pairs(grid), left.root_weights.norm())[0]
    for one, place in enumerate(scores.argmax(1).tolist()):
        assert int(found.places[one]) == place
        pair = null.model.kernels.basis.mT @ pairs[:, :, place]
        rest = sets[:, one].double() - pair @ (pair.mT @ sets[:, one].double())
        others = (null.contrast.log_ratios(rest[:, None])[0].double() - standard.mean) / standard.deviation
        apart = (grid - grid[place]).abs() * left.range > 1.99
        spread = max(1.0, float(others[apart].square().mean().sqrt()))
        assert float(found.values[one]) == pytest.approx(float(scores[one, place]) / spread, rel=1e-3)


def test_non_negative_fits_meet_their_conditions() -> None:
    generator = torch.Generator().manual_seed(2)
    design = torch.randn(3, 31, 6, generator=generator, dtype=torch.float64)
    target = torch.randn(3, 4, 31, generator=generator, dtype=torch.float64)
    grams = design.mT @ design
    right = torch.einsum("fnk,fpn->pfk", design, target)
    fits = torch.stack([nonnegative_fits(grams[f], right[:, f]) for f in range(3)], 1)
    slope = right - torch.einsum("fkj,pfj->pfk", grams, fits)
    assert bool((fits >= 0).all())
    assert float(slope.max()) < 1e-6
    assert float((slope * fits).abs().max()) < 1e-6
    torch.testing.assert_close(refined(grams, right, torch.zeros_like(fits)), fits, atol=1e-3, rtol=1e-3)


def test_a_planted_circle_has_its_share() -> None:
    acts = background("independent", NUMBERS, 7)
    circle = plant_circle(acts, NUMBERS, 0.5, 0.05, seed=4) - acts
    assert float(circle.square().sum() / (acts - acts.mean(0)).square().sum()) == pytest.approx(0.05)
    assert torch.linalg.matrix_rank(circle).item() == 2


def test_surrogates_do_not_depend_on_the_signs_of_eigenvectors():
    numbers = torch.arange(1, 81, dtype=torch.float64)
    found = kernels(numbers, torch.full((80, 1), 80**-0.5, dtype=torch.float64))
    generator = torch.Generator().manual_seed(0)
    fit = fit_coloured(found, torch.randn(79, 4, generator=generator, dtype=torch.float64))
    other = replace(fit, kernels=replace(found, roots=tuple(-root.flip(1) for root in found.roots)))
    draws = [next(one.draws(7, torch.Generator().manual_seed(1))) for one in (fit, other)]
    torch.testing.assert_close(draws[0], draws[1], rtol=0, atol=1e-5)
