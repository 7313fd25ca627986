"""Helix fits, comparisons and spectra against planted truth, plain NumPy, and what the published code does."""

from itertools import combinations
from pathlib import Path

import numpy
import pytest
import torch
from safetensors.torch import load_file

from interpkern.errors import DTypeError, ShapeError
from interpkern.probing.bases import helix_basis
from interpkern.probing.basis_comparison import compare_bases
from interpkern.probing.fits import fit_basis, shuffled_predictions, shuffles, split_numbers
from interpkern.probing.fourier import fourier
from interpkern.probing.helix import fit_helix

NUMBERS = torch.arange(100, dtype=torch.float64)


def planted(periods: tuple[float, ...], *, linear: bool, noise: float, width: int = 33, seed: int = 0) -> torch.Tensor:
    """Activations of 100 numbers: each function of variance 1 in a random direction, and noise."""
    generator = torch.Generator().manual_seed(seed)
    columns = helix_basis(NUMBERS, periods, linear=linear).matrix[:, 1:]
    scaled = columns / columns.std(0)
    directions = torch.randn(scaled.shape[1], width, generator=generator, dtype=torch.float64)
    return 3 + scaled @ directions + noise * torch.randn(100, width, generator=generator, dtype=torch.float64)


def test_a_fit_is_least_squares_in_principal_components():
    acts = planted((2, 5, 10, 100), linear=True, noise=1.0)
    for components in (7, 100):
        fit = fit_helix(acts, NUMBERS, components=components)
        centred = acts.numpy() - acts.numpy().mean(0)
        main = numpy.linalg.svd(centred, full_matrices=False)[2][:components]
        design = helix_basis(NUMBERS).matrix.numpy()
        found = design @ numpy.linalg.lstsq(design, centred @ main.T, rcond=None)[0] @ main
        assert numpy.allclose(fit.predict(NUMBERS), acts.numpy().mean(0) + found, atol=1e-10)
        assert fit.r_squared == pytest.approx(1 - ((centred - found) ** 2).sum() / (centred**2).sum())
        assert fit.directions.shape == (min(components, 33), 33)


def test_an_exact_helix_is_predicted_where_it_was_not_fitted():
    acts = planted((2, 5, 10, 100), linear=True, noise=0.0)
    fit = fit_helix(acts, NUMBERS)
    assert fit.r_squared == pytest.approx(1)
    assert fit.held_out_r_squared == pytest.approx(1)
    part = NUMBERS[~torch.isin(NUMBERS, fit.held_out)]
    again = fit_helix(acts[part.long()], part)
    assert torch.allclose(again.predict(fit.held_out), acts[fit.held_out.long()], atol=1e-9)


def test_noise_has_no_held_out_r_squared():
    noise = torch.randn(100, 33, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    fit = fit_helix(noise, NUMBERS)
    assert fit.r_squared > 0.05
    assert fit.held_out_r_squared < 0


def test_rows_may_come_in_any_order_repeat_a_number_and_be_half_precision():
    acts = planted((5, 10), linear=True, noise=0.3)
    order = torch.randperm(200, generator=torch.Generator().manual_seed(2)) % 100
    twice = fit_helix(acts[order].float().numpy(), NUMBERS[order].long(), (5, 10))
    once = fit_helix(acts, NUMBERS, (5, 10))
    assert twice.r_squared == pytest.approx(once.r_squared, abs=1e-6)
    assert torch.equal(twice.held_out, once.held_out)
    assert fit_helix(acts.half(), range(100), (5, 10)).r_squared == pytest.approx(once.r_squared, abs=1e-3)


def test_the_split_is_one_and_the_same():
    # fault 2: a split that is drawn at every call tests on numbers that the fit before has seen
    generator = numpy.random.default_rng(0)

    def redrawn() -> tuple[set[int], set[int]]:
        order = generator.permutation(100)
        return set(order[:80].tolist()), set(order[80:].tolist())

    fitted, _ = redrawn()
    _, tested = redrawn()
    assert fitted & tested
    first, second = split_numbers(NUMBERS, 0.2, 5), split_numbers(NUMBERS.flip(0), 0.2, 5)
    assert torch.equal(first[1], second[1].flip(0))
    assert not bool((first[0] & first[1]).any())
    assert int(first[1].sum()) == 20
    assert not torch.equal(first[1], split_numbers(NUMBERS, 0.2, 6)[1])
    assert not bool(first[1][[0, -1]].any())


def test_the_best_basis_is_the_planted_one():
    # fault 1: the search compares with a best that it never updates, so the last that beats the first start wins
    acts = planted((5, 10), linear=True, noise=0.7)
    scores = {}
    for size in range(5):
        for periods in combinations((2, 5, 10, 100), size):
            scores[periods] = fit_helix(acts, NUMBERS, periods).held_out_r_squared
    best, found = -1.0, None
    for periods, score in scores.items():
        if score > best:
            found = periods
    assert best == -1.0
    assert found == (2, 5, 10, 100)
    comparison = compare_bases(acts, NUMBERS)
    assert comparison.best.candidate.name == "helix 5, 10"
    assert comparison.best.columns == 5


@pytest.mark.parametrize(
    ("periods", "linear", "name"),
    [((2, 5, 10, 100), True, "helix 2, 5, 10, 100"), ((10,), False, "circles 10"), ((), True, "line")],
)
def test_other_planted_bases_are_found(periods: tuple, linear: bool, name: str):
    comparison = compare_bases(planted(periods, linear=linear, noise=0.3), NUMBERS)
    assert comparison.best.candidate.name.replace("polynomial 1", "line") == name
    table = comparison.to_pandas()
    assert len(table) == 16 + 15 + 2 * len({row.columns for row in comparison.rows})
    assert table["chosen"].sum() == 1
    assert comparison.best.r_squared > 0.8


def test_a_parabola_is_a_polynomial():
    acts = ((NUMBERS - 40) ** 2 / 300)[:, None] * torch.ones(1, 7, dtype=torch.float64)
    acts = acts + 0.3 * torch.randn(100, 7, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    best = compare_bases(acts, NUMBERS).best
    assert best.candidate.name == "polynomial 2"


def test_reported_numbers_are_not_those_of_the_choice():
    acts = planted((5,), linear=False, noise=1.0)
    first = compare_bases(acts, NUMBERS)
    changed = acts.clone()
    changed[first.reported_on.long()] = torch.randn(len(first.reported_on), 33, dtype=torch.float64)
    second = compare_bases(changed, NUMBERS)
    assert second.best.candidate == first.best.candidate
    same = zip(first.rows, second.rows, strict=True)
    assert all(one.selection_r_squared == other.selection_r_squared for one, other in same)
    assert second.best.r_squared < 0.1 < first.best.r_squared


def test_a_shuffled_control_leaves_its_input_alone_and_has_a_p_value():
    # fault 3: the published control shuffles the array that it predicts from, and that later fits use too
    acts = planted((5, 10), linear=True, noise=0.5)
    faulty = NUMBERS.numpy().copy()
    numpy.random.default_rng(0).shuffle(faulty)
    assert not numpy.array_equal(faulty, NUMBERS.numpy())
    assert fit_helix(acts, NUMBERS, (5, 10)).held_out_r_squared > 0.8
    assert fit_helix(acts, faulty, (5, 10)).held_out_r_squared < 0.1

    before = acts.clone(), NUMBERS.clone()
    fit = fit_basis(acts, helix_basis(NUMBERS, (5, 10)), 100)
    orders = shuffles(100, 99, seed=0)
    null = shuffled_predictions(fit, acts, orders, NUMBERS)
    assert torch.equal(before[0], acts)
    assert torch.equal(before[1], NUMBERS)
    one = fit_basis(acts[orders[3]], helix_basis(NUMBERS, (5, 10)), 100).predict(NUMBERS)
    assert torch.allclose(null[3], one, atol=1e-9)
    error = (acts - fit.predict(NUMBERS)).norm()
    assert (1 + int(((acts - null).flatten(1).norm(dim=1) <= error).sum())) / 100 == 0.01


def test_p_values_of_shuffles_are_uniform_on_numbers_that_no_fit_has_seen():
    # on the numbers of the fit the true pairing has seen the answer, and wins although there is nothing to find
    held_out, own = [], []
    for seed in range(60):
        acts = torch.randn(100, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        fitted, tested = split_numbers(NUMBERS, 0.3, seed)
        fit = fit_basis(acts[fitted], helix_basis(NUMBERS[fitted], (5, 10)), 100)
        orders = shuffles(int(fitted.sum()), 39, seed)
        for rows, ranks in ((tested, held_out), (fitted, own)):
            null = shuffled_predictions(fit, acts[fitted], orders, NUMBERS[rows])
            error = (acts[rows] - fit.predict(NUMBERS[rows])).norm()
            ranks.append((1 + int(((acts[rows] - null).flatten(1).norm(dim=1) <= error).sum())) / 40)
    assert 0.35 < numpy.mean(held_out) < 0.65
    assert numpy.mean(numpy.array(held_out) <= 0.1) < 0.25
    assert min(held_out) > 0
    assert numpy.mean(numpy.array(own) <= 0.1) > 0.95


def test_a_window_is_applied_and_the_mean_taken_off():
    # fault 5: the published spectrum keeps the mean and computes a window that it does not apply
    numbers = torch.arange(97, dtype=torch.float64)
    acts = 50 + torch.cos(2 * torch.pi * numbers / 10.2)[:, None]
    published = numpy.abs(numpy.fft.rfft(acts.numpy(), axis=0)) ** 2
    assert published[0] > 100 * published[1:].max()
    plain, windowed = fourier(acts, numbers), fourier(acts, numbers, window="hann")
    assert float(plain.power.sum() / published[1:].sum()) == pytest.approx(1)
    far = (plain.frequencies - 1 / 10.2).abs() > 0.05
    assert float(plain.share[far].sum()) > 0.02
    assert float(windowed.share[far].sum()) < 1e-3
    assert float(windowed.share.sum()) == pytest.approx(1)
    weights = numpy.hanning(98)[:-1]
    centred = acts.numpy()[:, 0] - acts.numpy().mean()
    centred = weights * (centred - (weights * centred).sum() / weights.sum())
    assert numpy.allclose(windowed.power[:, 0], numpy.abs(numpy.fft.rfft(centred)[1:]) ** 2)


@pytest.mark.parametrize(("count", "step"), [(100, 1.0), (77, 0.5), (31, 3.0)])
def test_shares_of_power_are_shares_of_variance(count: int, step: float):
    numbers = step * torch.arange(count, dtype=torch.float64)
    acts = torch.randn(count, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = fourier(acts.flip(0), numbers.flip(0))
    assert len(found.frequencies) == count // 2
    assert float(found.frequencies[0]) == pytest.approx(1 / (count * step))
    place = 3
    basis = helix_basis(numbers, (float(found.periods[place]),), linear=False).matrix
    explained = (basis @ torch.linalg.lstsq(basis, acts).solution).sub(acts.mean(0)).square().sum()
    assert float(found.share[place]) == pytest.approx(float(explained / (acts - acts.mean(0)).square().sum()))


def test_results_are_drawn_saved_and_tabulated(tmp_path: Path):
    acts = planted((2, 5, 10, 100), linear=True, noise=0.3)
    fit = fit_helix(acts, NUMBERS)
    assert len(fit.plot().axes) == 4
    assert compare_bases(acts, NUMBERS).plot().axes
    assert fourier(acts, NUMBERS).plot().axes
    assert fit.to_pandas()["function"].tolist() == list(fit.basis.names)
    assert float(fit.to_pandas()["weight"].sum()) == pytest.approx(1)
    saved = load_file(fit.save(tmp_path / "fit.safetensors"))
    assert torch.allclose(
        saved["mean"] + saved["design"] @ saved["coefficients"] @ saved["directions"], fit.predict(NUMBERS)
    )


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"acts": torch.randn(100)}, ShapeError, "acts: expected"),
        ({"acts": torch.randn(100, 3).int()}, DTypeError, "acts: expected float"),
        ({"acts": torch.full((100, 3), torch.nan)}, ValueError, "acts: expected finite"),
        ({"acts": torch.ones(100, 3)}, ValueError, "acts: expected rows that differ"),
        ({"numbers": range(99)}, ShapeError, r"numbers: expected \(100,\)"),
        ({"numbers": [1] * 100}, ValueError, "numbers: expected"),
        ({"components": 0}, ValueError, "components: expected"),
        ({"held_out": 1.0}, ValueError, "held_out: expected"),
        ({"seed": -1}, ValueError, "seed: expected"),
    ],
)
def test_wrong_input_is_named(change: dict, error: type, message: str):
    given = {"acts": torch.randn(100, 3), "numbers": range(100)} | change
    with pytest.raises(error, match=message):
        fit_helix(given.pop("acts"), given.pop("numbers"), **given)


def test_too_few_numbers_and_gaps_are_refused():
    with pytest.raises(ValueError, match="numbers: expected more than 8 different numbers to fit a helix"):
        fit_helix(torch.randn(10, 3), range(10))
    with pytest.raises(ValueError, match="numbers: expected more than 18"):
        compare_bases(torch.randn(20, 3), range(20))
    with pytest.raises(ValueError, match="numbers: expected at least 4 evenly spaced"):
        fourier(torch.randn(5, 3), [1, 2, 3, 5, 6])
    with pytest.raises(ValueError, match="window: expected one of"):
        fourier(torch.randn(5, 3), range(5), window="flat")
