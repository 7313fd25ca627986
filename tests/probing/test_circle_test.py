"""Size, power, verdicts and refusals of the test for a circle."""

import dataclasses
import json
import math
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from scipy import stats

import interpkern
from interpkern.errors import DTypeError
from interpkern.probing.circle_test import CircleTest, circle_test
from interpkern.probing.simulated import BACKGROUNDS, background, plant_circle
from interpkern.probing.verdicts import verdict

NUMBERS = torch.arange(1, 361)
FEW = torch.arange(1, 98)
SMOOTH = ("smooth in n", "smooth in ln n", "helix")


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Products this small wait longer for a second thread than they take."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def outcome(
    acts: torch.Tensor, null: str = "coloured", surrogates: int = 99, seed: int = 0, numbers: torch.Tensor = NUMBERS
) -> CircleTest:
    return circle_test(acts, numbers, null=null, surrogates=surrogates, seed=seed, sensitivity=False)


def rejections(kind: str, null: str, sets: int, surrogates: int, numbers: torch.Tensor = NUMBERS) -> float:
    runs = [outcome(background(kind, numbers, 10, seed=seed), null, surrogates, seed, numbers) for seed in range(sets)]
    if null == "permutation":
        assert all("cannot support" in " ".join(run.warnings) for run in runs)
    return sum(run.p_value <= 0.05 for run in runs) / sets


def planted(kind: str, period: float, share: float, seed: int) -> CircleTest:
    acts = background(kind, NUMBERS, 10, seed=seed)
    return outcome(plant_circle(acts, NUMBERS, period, share, seed=seed), seed=seed)


def found(run: CircleTest, period: float, slack: float = 0.03) -> bool:
    return run.p_value <= 0.05 and abs(run.period / period - 1) < slack


@pytest.mark.parametrize("kind", [*SMOOTH, "independent"])
def test_coloured_null_keeps_its_size_on_a_few(kind: str) -> None:
    assert rejections(kind, "coloured", 20, 39, FEW) <= 0.2


@pytest.mark.parametrize("kind", SMOOTH)
def test_permutation_rejects_smooth_activations_and_warns(kind: str) -> None:
    assert rejections(kind, "permutation", 8, 39) == 1


def test_small_circles_are_found() -> None:
    runs = [planted(kind, 0.5, 0.05, 7) for kind in ("independent", "smooth in ln n")]
    assert all(found(run, 0.5) for run in runs)
    assert all(run.best_lambda == 0.0 and run.verdict.startswith("evidence of a circle in ln n") for run in runs)
    assert runs[0].extrapolation.gain > 0.03
    assert runs[0].power == pytest.approx(0.05, abs=0.02)


def test_long_circles_are_found() -> None:
    assert found(planted("smooth in ln n", 1.0, 0.1, 3), 1.0, 0.1)


def test_permutation_is_uniform_on_independent_activations() -> None:
    p = [
        circle_test(torch.randn(97, 5, generator=torch.Generator().manual_seed(seed)), FEW, null="permutation",
                    surrogates=39, seed=seed, sensitivity=False).p_value
        for seed in range(60)
    ]  # fmt: skip
    assert stats.kstest(p, "uniform").pvalue > 0.01
    assert min(p) >= 1 / 40


def test_a_seed_gives_the_same_test_and_rows_may_come_in_any_order() -> None:
    acts = background("smooth in n", FEW, 6)
    order = torch.randperm(97, generator=torch.Generator().manual_seed(0))
    first = circle_test(acts, FEW, surrogates=19, seed=5, sensitivity=False)
    again = circle_test(acts[order].numpy(), FEW[order], surrogates=19, seed=5, sensitivity=False)
    other = circle_test(acts, FEW, surrogates=19, seed=6, sensitivity=False)
    assert (first.p_value, first.period) == (again.p_value, again.period)
    assert torch.allclose(first.statistics, again.statistics, atol=1e-3)
    assert not torch.allclose(first.statistics, other.statistics, atol=1e-3)


def test_digits_and_coordinates_are_named_as_explanations() -> None:
    generator = torch.Generator().manual_seed(0)
    leading = torch.tensor([int(str(int(n))[0]) for n in NUMBERS])
    digits = torch.randn(10, 8, generator=generator)[leading] + 0.1 * torch.randn(360, 8, generator=generator)
    assert "digit" in " ".join(outcome(digits, "permutation").warnings)
    linear = background("helix", NUMBERS, 10)
    assert "coordinate" in " ".join(outcome(linear, "permutation").warnings)
    assert any("coordinate" in text or "digit" in text for text in outcome(linear, "permutation").warnings)


def test_rows_that_stand_for_several_numbers_make_no_circle() -> None:
    rows = torch.randn(10, 8, generator=torch.Generator().manual_seed(0))[NUMBERS % 10]
    run = outcome(rows, surrogates=39)
    assert run.warnings[0].startswith("duplicated rows: 360 of 360")
    assert run.p_value > 0.05 or "another explanation" in run.verdict or run.verdict.startswith("no evidence")


def test_what_explains_next_to_nothing_is_no_circle() -> None:
    """A smooth curve without noise: a circle of a millionth of the variance stands out, and is said to be nothing."""
    run = outcome(background("smooth in n", FEW, 6), surrogates=19, numbers=FEW)
    found = dataclasses.replace(run, p_value=0.01, power=2e-6)
    assert verdict(found).startswith("no evidence of a circle in ln n")
    assert "2e-06 of the variance" in verdict(found)
    assert verdict(dataclasses.replace(found, power=0.02)).startswith("evidence")


def test_a_null_that_misses_the_shape_of_the_data_finds_no_circle_in_it() -> None:
    """Runs of numbers at random places share a row: steps that no kernel has, at no period."""
    edges = torch.randperm(359, generator=torch.Generator().manual_seed(1))[:40] + 1
    steps = (NUMBERS[:, None] > edges).sum(1)
    rows = torch.randn(41, 10, generator=torch.Generator().manual_seed(2))[steps]
    rows = rows + 0.1 * torch.randn(360, 10, generator=torch.Generator().manual_seed(3))
    assert outcome(rows).p_value > 0.05
    assert found(outcome(plant_circle(rows, NUMBERS, 0.5, 0.1)), 0.5)


@pytest.mark.parametrize("model", ["minilm", "smollm2"])
def test_shipped_activations_show_no_circle_and_one_in_them_is_found(model: str) -> None:
    """The origin of the question found none; permutation, which asks another question, rejects."""
    given = interpkern.data.numbers(model)
    rows, numbers = given[given.layers[-2]], given.numbers
    assert outcome(rows, numbers=numbers).verdict.startswith("no evidence")
    assert outcome(rows, "permutation", 39, numbers=numbers).p_value <= 0.05
    assert found(outcome(plant_circle(rows, numbers, 0.5, 0.1), numbers=numbers), 0.5)


@pytest.mark.parametrize("size", [1e200, 1e-200])
def test_activations_whose_squares_overflow_are_refused(size: float) -> None:
    acts = background("independent", FEW, 4) * size
    with pytest.raises(ValueError, match="acts: expected differences"):
        circle_test(acts, FEW)


def test_numbers_may_be_very_large() -> None:
    acts = plant_circle(background("independent", FEW, 6), FEW, 0.5, 0.3)
    run = outcome(acts, surrogates=19, numbers=FEW * 1e30)
    assert found(run, 0.5)
    assert 0.0 in run.lambdas


def test_a_negative_says_what_would_have_been_seen() -> None:
    acts = background("independent", FEW, 6, seed=1)
    calls: list[tuple[int, int]] = []
    run = circle_test(acts, FEW, surrogates=39, seed=1, progress=lambda done, total: calls.append((done, total)))
    assert run.p_value > 0.05
    assert run.verdict.startswith("no evidence")
    assert set(run.minimum_detectable) == {0.3, 0.5, 0.77, 1.0, 1.5}
    smallest = min(run.minimum_detectable.values())
    assert smallest <= 0.3
    assert f"{smallest:.0%}" in run.verdict
    assert calls[-1][0] <= calls[-1][1]
    bigger = plant_circle(acts, FEW, 0.5, 2 * run.minimum_detectable[0.5], seed=3)
    assert circle_test(bigger, FEW, surrogates=39, sensitivity=False).p_value <= 0.05


def test_sensitivity_of_permutation() -> None:
    run = circle_test(background("independent", FEW, 6, seed=1), FEW, null="permutation", surrogates=39, seed=1)
    assert all(share <= 1 or math.isinf(share) for share in run.minimum_detectable.values())
    assert min(run.minimum_detectable.values()) <= 0.3


def test_tables_pictures_and_files(tmp_path: Path) -> None:
    run = circle_test(background("helix", FEW, 6), FEW, surrogates=19, sensitivity=False)
    assert run.to_pandas()["p_value"].item() == run.p_value
    assert run.null_band.shape == (2, len(run.scan.frequencies))
    assert bool((run.null_band[0] <= run.null_band[1]).all())
    assert run.plot().axes
    run.save(tmp_path / "test.json")
    saved = json.loads((tmp_path / "test.json").read_text())
    assert saved["p_value"] == run.p_value
    assert len(saved["scan"]["power"]) == len(run.scan.frequencies)


@pytest.mark.parametrize("coordinate", ["linear", "sqrt", -0.5])
def test_other_coordinates(coordinate: str | float) -> None:
    acts = plant_circle(background("independent", FEW, 6), FEW, _period(coordinate), 0.3, kind=coordinate)
    run = circle_test(acts, FEW, coordinate, surrogates=39, sensitivity=False)
    assert found(run, _period(coordinate), 0.05)


def _period(coordinate: str | float) -> float:
    return {"linear": 7.3, "sqrt": 0.9}.get(coordinate, 0.17)  # type: ignore[arg-type]


def test_constant_and_few_channels() -> None:
    acts = torch.zeros(97, 5)
    acts[:, 2] = torch.randn(97, generator=torch.Generator().manual_seed(0))
    assert 0 < circle_test(acts, FEW, surrogates=19).p_value <= 1


@pytest.mark.parametrize(
    ("setting", "error", "words"),
    [
        ({"null": "white"}, ValueError, "null"),
        ({"surrogates": 0}, ValueError, "surrogates"),
        ({"seed": -1}, ValueError, "seed"),
        ({"sensitivity": 1}, DTypeError, "sensitivity"),
        ({"device": "abacus"}, DTypeError, "device"),
        ({"progress": "yes"}, DTypeError, "progress"),
    ],
)
def test_refusals_name_the_argument(setting: dict, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        circle_test(background("independent", FEW, 4), FEW, **setting)


@pytest.mark.slow
@pytest.mark.parametrize("kind", BACKGROUNDS)
def test_coloured_null_keeps_its_size(kind: str) -> None:
    assert rejections(kind, "coloured", 200, 199) <= 0.08


@pytest.mark.slow
@pytest.mark.parametrize("kind", SMOOTH)
def test_permutation_rejects_smooth_activations(kind: str) -> None:
    assert rejections(kind, "permutation", 200, 199) >= 0.95


@pytest.mark.slow
def test_permutation_is_uniform() -> None:
    p = [
        outcome(background("independent", NUMBERS, 10, seed=seed), "permutation", 199, seed).p_value
        for seed in range(500)
    ]
    assert stats.kstest(p, "uniform").pvalue > 0.01


@pytest.mark.slow
def test_coloured_null_is_never_anti_conservative_on_independent_activations() -> None:
    p = [
        outcome(background("independent", NUMBERS, 10, seed=seed), "coloured", 199, seed).p_value for seed in range(200)
    ]
    assert stats.kstest(p, "uniform", alternative="greater").pvalue > 0.01


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["independent", "smooth in n", "smooth in ln n"])
def test_circles_of_5_percent_are_found(kind: str) -> None:
    assert sum(found(planted(kind, 0.5, 0.05, seed), 0.5) for seed in range(20)) >= 19


@pytest.mark.slow
@pytest.mark.parametrize(("period", "share"), [(0.3, 0.02), (0.77, 0.05), (1.0, 0.05), (1.5, 0.4)])
def test_power_by_period(period: float, share: float) -> None:
    assert sum(found(planted("smooth in ln n", period, share, seed), period, 0.1) for seed in range(20)) >= 16
