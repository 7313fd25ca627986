"""The scan against two least-squares fits, Lomb-Scargle and the DFT."""

import math

import numpy
import pytest
import torch
from scipy import signal

from interpkern.errors import DTypeError, ShapeError
from interpkern.probing.components import principal_components
from interpkern.probing.numbers import digit_count, leading_digit
from interpkern.probing.spectrum import near_leading_digit, scan


def rows(count: int, width: int, seed: int = 0) -> torch.Tensor:
    acts = torch.randn(count, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return acts + torch.arange(count)[:, None].double().sqrt() * 0.3


def left_over(design: numpy.ndarray, target: numpy.ndarray) -> float:
    fitted = design @ numpy.linalg.lstsq(design, target, rcond=None)[0]
    return float(((target - fitted) ** 2).sum())


@pytest.mark.parametrize("kind", ["log", "linear", "sqrt", -0.5])
@pytest.mark.parametrize("weights", ["uniform", "1/n"])
def test_power_is_the_difference_of_two_fits(kind: str | float, weights: str) -> None:
    numbers = torch.arange(1, 258)
    acts = rows(257, 9)
    found = scan(acts, numbers, coordinate=kind, components=7, weights=weights)
    n = numbers.double().numpy()
    u = {"log": numpy.log(n), "linear": n, "sqrt": numpy.sqrt(n)}.get(kind)  # type: ignore[call-overload]
    u = (n**kind - 1) / kind if u is None else u  # type: ignore[operator]
    root = numpy.ones(257) if weights == "uniform" else n**-0.5
    target = principal_components(acts, 7).scores.numpy() * root[:, None]
    nuisance = numpy.stack([numpy.ones(257), u, n, digit_count(numbers).numpy()], 1)
    scaled = nuisance / numpy.linalg.norm(nuisance, axis=0) * root[:, None]
    before = left_over(scaled, target)
    for place in range(0, len(found.frequencies), 37):
        angle = 2 * numpy.pi * float(found.frequencies[place]) * u
        pair = numpy.stack([numpy.cos(angle), numpy.sin(angle)], 1) * root[:, None]
        after = left_over(numpy.concatenate([scaled, pair], 1), target)
        assert float(found.power[place]) == pytest.approx((before - after) / before, abs=1e-10)
    assert torch.allclose(found.component_power.sum(1), found.power, atol=1e-15)


def test_one_component_and_intercept_is_lomb_scargle() -> None:
    numbers = torch.arange(1, 201)
    acts = rows(200, 3)
    frequencies = torch.linspace(0.6, 5.0, 41, dtype=torch.float64)
    found = scan(acts, numbers, components=1, nuisance="intercept", frequencies=frequencies)
    component = principal_components(acts, 1).scores[:, 0].numpy()
    times = numbers.double().log().numpy()
    # the generalised form of Zechmeister and Kürster, equations 4 to 14, with unit weights
    for frequency, power in zip(frequencies.tolist(), found.power.tolist(), strict=True):
        angle = 2 * math.pi * frequency * times
        c, s, y = (x - x.mean() for x in (numpy.cos(angle), numpy.sin(angle), component))
        yc, ys, cc, ss, cs, yy = y @ c, y @ s, c @ c, s @ s, c @ s, y @ y
        expected = (ss * yc**2 + cc * ys**2 - 2 * cs * yc * ys) / (yy * (cc * ss - cs**2))
        assert power == pytest.approx(expected, abs=1e-8)
    theirs = signal.lombscargle(times, component, 2 * math.pi * frequencies.numpy(), normalize=True, floating_mean=True)
    numpy.testing.assert_allclose(found.power.numpy(), theirs, atol=1e-8)


def test_on_integers_power_is_that_of_the_dft() -> None:
    numbers = torch.arange(1, 361)
    acts = rows(360, 5)
    found = scan(
        acts, numbers, coordinate="linear", components=5, nuisance="intercept", frequencies=[1 / 2, 1 / 5, 1 / 10]
    )
    centred = (acts - acts.mean(0)).numpy()
    transform = numpy.abs(numpy.fft.rfft(centred, axis=0)) ** 2
    for power, rank, period in zip(found.power, found.rank, (2, 5, 10), strict=True):
        both_sides = 1 if period == 2 else 2
        expected = both_sides * transform[360 // period].sum() / 360 / (centred**2).sum()
        assert float(power) == pytest.approx(expected, abs=1e-10)
        assert int(rank) == both_sides
    assert any("rank below 2" in text for text in found.warnings)


def test_grid_and_window() -> None:
    numbers = torch.arange(1, 361)
    found = scan(rows(360, 4), numbers, components=4)
    span = math.log(360)
    assert float(found.frequencies[0]) == pytest.approx(3 / span)
    assert float(found.frequencies.diff().max()) <= 1 / (5 * span) * (1 + 1e-9)
    assert torch.equal(found.periods, 1 / found.frequencies)
    expected = torch.exp(2j * torch.pi * found.frequencies[7] * numbers.double().log()).mean().abs() ** 2
    assert float(found.window[7]) == pytest.approx(float(expected), abs=1e-12)
    assert found.warnings == ()
    slow = scan(rows(360, 4), numbers, components=4, frequencies=[0.1, 1.0])
    assert "1 of 2 frequencies make fewer than 3 cycles" in slow.warnings[0]
    assert float(scan(rows(360, 4), numbers, coordinate="linear").frequencies[-1]) == pytest.approx(180 / 359)


def test_nuisance_is_taken_out() -> None:
    numbers = torch.arange(1, 361)
    digit = leading_digit(numbers)
    acts = torch.stack([(digit == d).double() for d in range(1, 10)], 1) + 0.01 * rows(360, 9)
    frequency = [1 / math.log(10)]
    plain = scan(acts, numbers, components=9, frequencies=frequency)
    told = scan(acts, numbers, components=9, frequencies=frequency, nuisance="leading digit")
    assert told.nuisance_share > 0.99
    assert told.nuisance_share > plain.nuisance_share
    both = scan(acts, numbers, components=9, frequencies=frequency, nuisance=("last digit", "leading digit"))
    assert both.nuisance_share > told.nuisance_share
    own = torch.stack([torch.ones(360), numbers.log(), numbers, digit_count(numbers)], 1)
    given = scan(acts, numbers, components=9, nuisance=own.float())
    assert torch.allclose(given.power, scan(acts, numbers, components=9).power, atol=1e-6)
    assert [near_leading_digit(math.log(10) / k) for k in (1, 2, 9)] == [1, 2, 9]
    assert near_leading_digit(0.5) is None


def test_order_and_dtype_of_the_rows_do_not_matter() -> None:
    numbers, acts = torch.arange(1, 74), rows(73, 5)
    order = torch.randperm(73, generator=torch.Generator().manual_seed(3))
    assert torch.allclose(scan(acts[order].numpy(), numbers[order]).power, scan(acts, numbers).power, atol=1e-12)
    assert torch.allclose(scan(acts.float(), numbers).power, scan(acts, numbers).power, atol=1e-5)


@pytest.mark.parametrize(
    ("setting", "error", "words"),
    [
        ({"components": 0}, ValueError, "components"),
        ({"components": 6}, ValueError, "components: expected an integer from 1 to 5"),
        ({"coordinate": "ln"}, ValueError, "coordinate"),
        ({"nuisance": "digits"}, ValueError, "nuisance"),
        ({"nuisance": torch.ones(9, 2)}, ShapeError, "nuisance"),
        ({"nuisance": torch.eye(31)}, ValueError, "nuisance: expected to leave something"),
        ({"frequencies": [0.0, 1.0]}, ValueError, "frequencies"),
        ({"frequencies": "all"}, DTypeError, "frequencies"),
        ({"weights": "n"}, ValueError, "weights"),
    ],
)
def test_refusals_name_the_argument(setting: dict, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        scan(rows(31, 5), range(1, 32), **setting)


def test_pictures_and_tables() -> None:
    found = scan(rows(41, 5), range(1, 42), components=5)
    assert len(found.to_pandas()) == len(found.frequencies)
    assert found.plot().axes
