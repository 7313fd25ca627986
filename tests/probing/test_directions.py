"""The table of directions against NumPy and plain least squares, intervals against what they promise."""

import json
import math
from pathlib import Path

import numpy
import pandas
import pytest
import torch

from interpkern.errors import DTypeError, ShapeError
from interpkern.probing.correlations import correlations, interval, resampled, two_sided, whole
from interpkern.probing.cross_validation import PENALTIES, folds, held_out, least_squares, leave_one_out, ridge
from interpkern.probing.directions import Directions, directions
from interpkern.probing.directions_comparison import compare_directions
from interpkern.probing.features import FEATURE_SETS, FEATURES, collinearity, digit_steps

NUMBERS = torch.arange(1, 361)


def planted(kind: str, noise: float = 0.1, width: int = 7, seed: int = 0) -> torch.Tensor:
    """(360, width) activations with one direction that follows a function of n, of standard deviation 1."""
    generator = torch.Generator().manual_seed(seed)
    n = NUMBERS.double()
    line = {"n": n, "sqrt n": n.sqrt(), "ln n": n.log(), "digits": n.log10().floor()}[kind]
    line = (line - line.mean()) / line.std()
    direction = torch.nn.functional.normalize(torch.randn(width, generator=generator, dtype=torch.float64), dim=0)
    return line[:, None] * direction + noise * torch.randn(360, width, generator=generator, dtype=torch.float64)


@pytest.fixture(scope="module")
def found() -> Directions:
    return directions(planted("ln n"), NUMBERS, bootstrap=199)


def features() -> dict[str, numpy.ndarray]:
    n = numpy.arange(1, 361, dtype=float)
    return {
        "n": n,
        "sqrt n": numpy.sqrt(n),
        "ln n": numpy.log(n),
        "digits": numpy.array([len(str(i)) for i in range(1, 361)]),
    }


def test_r_is_that_of_numpy_on_scores_of_an_svd(found: Directions) -> None:
    acts = planted("ln n").numpy()
    left, sizes, _ = numpy.linalg.svd(acts - acts.mean(0), full_matrices=False)
    table = found.to_pandas().set_index(["component", "feature"])
    assert table.columns.tolist() == ["r", "low", "high", "eigenvalue_share"]
    assert len(table) == 7 * 4
    for component in range(7):
        for name, column in features().items():
            r = numpy.corrcoef(left[:, component] * sizes[component], column)[0, 1]
            assert abs(table.loc[(component + 1, name), "r"]) == pytest.approx(abs(r), abs=1e-12)
        share = sizes[component] ** 2 / (sizes**2).sum()
        assert table.loc[(component + 1, "ln n"), "eigenvalue_share"] == pytest.approx(share, abs=1e-12)


@pytest.mark.parametrize("kind", FEATURES)
def test_the_planted_feature_has_the_largest_r(kind: str) -> None:
    table = directions(planted(kind, seed=1), NUMBERS, components=3, bootstrap=0).to_pandas()
    first = table[table["component"] == 1].set_index("feature")["r"].abs()
    assert first.idxmax() == kind
    assert first[kind] > 0.99


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    generator = numpy.random.default_rng(1)
    rho, hits = 0.6, 0
    for trial in range(200):
        x = generator.normal(size=(61, 1))
        y = rho * x + math.sqrt(1 - rho**2) * generator.normal(size=(61, 1))
        draws = correlations(torch.from_numpy(x), torch.from_numpy(y), resampled(61, 199, trial))
        low, high = interval(draws, 0.9)
        hits += float(low) <= rho <= float(high)
    assert 0.82 <= hits / 200 <= 0.96


def test_resamples_equal_repeated_rows() -> None:
    generator = torch.Generator().manual_seed(0)
    x, y, given = (torch.randn(31, size, generator=generator, dtype=torch.float64) for size in (2, 3, 2))
    weights = resampled(31, 5, 7)
    assert weights.sum(1).tolist() == [31.0] * 5
    plain, partial = correlations(x, y, weights), correlations(x, y, weights, given)
    for draw, counts in enumerate(weights):
        rows = numpy.repeat(numpy.arange(31), counts.long().numpy())
        design = numpy.column_stack([numpy.ones(31), given.numpy()])[rows]
        for i in range(2):
            for j in range(3):
                a, b = x[rows, i].numpy(), y[rows, j].numpy()
                assert float(plain[draw, i, j]) == pytest.approx(numpy.corrcoef(a, b)[0, 1], abs=1e-11)
                a, b = (c - design @ numpy.linalg.lstsq(design, c, rcond=None)[0] for c in (a, b))
                assert float(partial[draw, i, j]) == pytest.approx(a @ b / math.sqrt(a @ a * (b @ b)), abs=1e-10)


def test_what_does_not_vary_has_no_r() -> None:
    x = torch.randn(31, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    constant = torch.full((31, 1), 3.0, dtype=torch.float64)
    assert bool(correlations(x, constant, whole(31)).isnan().all())
    assert bool(correlations(x, x[:, :1], whole(31), x).isnan().all())
    low, high = interval(correlations(x, constant, resampled(31, 9, 0)), 0.9)
    assert bool((low.isnan() & high.isnan()).all())


def test_intervals_are_quantiles_however_many_draws_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    draws = torch.randn(57, 7, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for size in (1, 200, 1 << 23):
        monkeypatch.setattr("interpkern.probing.correlations.AT_ONCE", size)
        low, high = interval(draws, 0.9)
        numpy.testing.assert_allclose(low, numpy.quantile(draws.numpy(), 0.05, axis=0), rtol=0, atol=1e-14)
        numpy.testing.assert_allclose(high, numpy.quantile(draws.numpy(), 0.95, axis=0), rtol=0, atol=1e-14)
    draws[:40, 0, 0] = torch.nan
    assert math.isnan(interval(draws, 0.9)[0][0, 0])


def test_two_sided_p_values_count_the_smaller_side() -> None:
    draws = torch.tensor([[-1.0, 1.0], [1.0, 1.0], [1.0, 1.0], [1.0, 1.0]])
    assert two_sided(draws).tolist() == pytest.approx([2 * 2 / 5, 2 * 1 / 5])
    assert two_sided(torch.tensor([[-1.0], [1.0]])).tolist() == [1.0]


def test_partial_correlation_is_that_of_residuals(found: Directions) -> None:
    n = features()
    three = (n["digits"][:, None] >= numpy.array([2, 3])).astype(float)
    design = numpy.column_stack([numpy.ones(360), n["n"], n["sqrt n"], three])
    a, b = (c - design @ numpy.linalg.lstsq(design, c, rcond=None)[0] for c in (found.scores[:, 0].numpy(), n["ln n"]))
    assert found.partial["r"][0] == pytest.approx(a @ b / math.sqrt(a @ a * (b @ b)), abs=1e-9)
    assert found.partial.columns.tolist() == ["component", "r", "low", "high"]


def test_partial_correlation_tells_ln_from_what_goes_with_it() -> None:
    for kind in ("n", "sqrt n", "digits"):
        other = directions(planted(kind), NUMBERS, bootstrap=199)
        assert other.table.query("component == 1 and feature == 'ln n'")["r"].abs().item() > 0.8
        row = other.partial.iloc[0]
        assert row["low"] < 0.05
        assert row["high"] > -0.05
    row = directions(planted("ln n"), NUMBERS, bootstrap=199).partial.iloc[0]
    assert max(row["low"], -row["high"]) > 0.2


def test_within_a_digit_count_only_its_numbers_count(found: Directions) -> None:
    table = found.within_digit_count
    assert sorted(table["digits"].unique()) == [1, 2, 3]
    three = table[table["digits"] == 3].set_index(["component", "feature"])
    r = numpy.corrcoef(found.scores[99:, 0].numpy(), numpy.log(numpy.arange(100, 361)))[0, 1]
    assert three.loc[(1, "ln n"), "r"] == pytest.approx(r, abs=1e-12)
    assert "digits" not in table["feature"].tolist()
    # the digit count alone: r = .88 with ln n over all numbers, none within
    steps = directions(planted("digits"), NUMBERS, bootstrap=0).within_digit_count
    assert steps.query("component == 1 and feature == 'ln n' and digits == 3")["r"].abs().item() < 0.2


def test_explained_r2_is_that_of_plain_least_squares(found: Directions) -> None:
    scores, n = found.scores.numpy(), numpy.arange(1, 361, dtype=float)
    designs = {
        "linear": numpy.column_stack([numpy.ones(360), n]),
        "log": numpy.column_stack([numpy.ones(360), numpy.log(n)]),
        "poly2": numpy.column_stack([numpy.ones(360), n, n**2]),
        "digits+log": numpy.column_stack([numpy.ones(360), n >= 10, n >= 100, numpy.log(n)]),
    }
    order = numpy.random.default_rng(0).permutation(360)
    table = found.explained.set_index(["features", "folds"])["r2"]
    for name, design in designs.items():
        wrong = spread = 0.0
        for out in numpy.array_split(order, 5):
            kept = numpy.setdiff1d(order, out)
            slopes = numpy.linalg.lstsq(design[kept], scores[kept], rcond=None)[0]
            wrong += ((scores[out] - design[out] @ slopes) ** 2).sum()
            spread += ((scores[out] - scores[kept].mean(0)) ** 2).sum()
        assert table[name, "shuffled"] == pytest.approx(1 - wrong / spread, abs=1e-9)


def test_the_right_features_explain_most() -> None:
    for kind, name in (("n", "linear"), ("sqrt n", "sqrt"), ("ln n", "log"), ("digits", "digits")):
        r2 = directions(planted(kind), NUMBERS, bootstrap=0).explained.query("folds == 'shuffled'")
        best = r2.set_index("features")["r2"]
        single = best[["digits", "linear", "sqrt", "log"]]
        assert single.idxmax() == name
    n = NUMBERS.double()
    helix = torch.stack([f(2 * torch.pi * n / period) for period in (5, 10, 100) for f in (torch.cos, torch.sin)], 1)
    r2 = directions(helix, NUMBERS, bootstrap=0).explained.set_index(["features", "folds"])["r2"]
    assert r2["helix", "shuffled"] > 0.999
    assert r2["helix", "extrapolation"] > 0.999
    assert r2["log", "shuffled"] < 0.3


def test_ln_is_decoded_beyond_the_range_where_it_is_linear(found: Directions) -> None:
    r2 = found.decoded.set_index(["feature", "folds"])["r2"]
    assert r2["ln n", "shuffled"] > r2["n", "shuffled"]
    assert r2["ln n", "extrapolation"] > 0.9
    assert r2["n", "extrapolation"] < 0.5
    intervals = found.decoded
    assert bool(((intervals["low"] <= intervals["r2"]) & (intervals["r2"] <= intervals["high"])).all())


def test_noise_explains_nothing() -> None:
    noise = torch.randn(360, 31, generator=torch.Generator().manual_seed(0))
    found = directions(noise, NUMBERS, bootstrap=0)
    assert found.decoded["r2"].max() < 0.1
    assert found.explained.query("folds == 'shuffled'")["r2"].max() < 0.02
    assert found.table["r"].abs().max() < 0.25


def test_folds_cover_every_number_and_blocks_are_blocks() -> None:
    parts = list(folds(31, 5, 3))
    for kinds in (("shuffled",), ("interpolation", "extrapolation")):
        rows = torch.cat([rows for kind, rows in parts if kind in kinds])
        assert rows.sort().values.tolist() == list(range(31))
    blocks = [rows.tolist() for kind, rows in parts if kind != "shuffled"]
    assert all(rows == list(range(rows[0], rows[-1] + 1)) for rows in blocks)
    ends = [rows.tolist() for kind, rows in parts if kind == "extrapolation"]
    assert ends[0][0] == 0
    assert ends[1][-1] == 30
    again = [rows.tolist() for _, rows in folds(31, 5, 3)]
    assert again == [rows.tolist() for _, rows in parts]
    assert again != [rows.tolist() for _, rows in folds(31, 5, 4)]


def test_held_out_numbers_are_never_seen() -> None:
    inputs = torch.arange(33, dtype=torch.float64)[:, None]

    def lookup(seen: torch.Tensor, targets: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        assert not set(seen[:, 0].tolist()) & set(other[:, 0].tolist())
        assert len(seen) + len(other) == 33
        return targets.mean(0).expand(len(other), -1)

    for part in held_out(inputs, inputs**2, lookup, count=5, seed=0).values():
        assert part.r2(whole(33)).tolist() == [[0.0]]


def test_ridge_takes_the_penalty_of_least_leave_one_out_error() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(21, 9, generator=generator, dtype=torch.float64) * torch.logspace(0, -3, 9)
    y = x @ torch.randn(9, 2, generator=generator, dtype=torch.float64) * 9 + torch.randn(21, 2, generator=generator)
    new = torch.randn(4, 9, generator=generator, dtype=torch.float64)

    def solve(a: torch.Tensor, b: torch.Tensor, penalty: torch.Tensor, at: torch.Tensor) -> torch.Tensor:
        centred, mean = a - a.mean(0), b.mean(0)
        gram = centred.mT @ centred + penalty * torch.eye(9, dtype=torch.float64)
        return mean + (at - a.mean(0)) @ torch.linalg.solve(gram, centred.mT @ (b - mean))

    def without(tensor: torch.Tensor, row: int) -> torch.Tensor:
        return torch.cat([tensor[:row], tensor[row + 1 :]])

    penalties = PENALTIES * torch.linalg.svdvals(x - x.mean(0))[0] ** 2
    for one in y.split(1, dim=1):
        losses = []
        for penalty in penalties:
            missed = [solve(without(x, i), without(one, i), penalty, x[i : i + 1]) - one[i] for i in range(len(x))]
            losses.append(float(torch.cat(missed).square().sum()))
        left, sizes, _ = torch.linalg.svd(x - x.mean(0), full_matrices=False)
        shrinks = sizes**2 / (sizes**2 + penalties[:, None])
        found = leave_one_out(left, shrinks, one - one.mean(0), left.mT @ (one - one.mean(0)))
        torch.testing.assert_close(found[:, 0], torch.tensor(losses, dtype=torch.float64), rtol=1e-9, atol=0)
        best = penalties[int(numpy.argmin(losses))]
        assert penalties[0] < best < penalties[-1]
        torch.testing.assert_close(ridge(x, one, new), solve(x, one, best, new), rtol=0, atol=1e-9)
    both = torch.cat([ridge(x, one, new) for one in y.split(1, dim=1)], 1)
    torch.testing.assert_close(ridge(x, y, new), both, rtol=0, atol=1e-12)


def test_least_squares_bears_columns_that_repeat_or_stand_still() -> None:
    x = torch.arange(9, dtype=torch.float64)[:, None]
    doubled = torch.cat([x, 2 * x, torch.ones_like(x)], 1)
    torch.testing.assert_close(least_squares(doubled, 3 * x + 1, doubled), 3 * x + 1, rtol=0, atol=1e-12)
    none = least_squares(x[:, :0], x, x[:2, :0])
    assert none.tolist() == [[4.0], [4.0]]


def test_warnings_give_the_figures_of_the_range(found: Directions) -> None:
    assert collinearity(NUMBERS)["n"] == pytest.approx(0.880, abs=5e-4)
    assert collinearity(NUMBERS)["sqrt n"] == pytest.approx(0.953, abs=5e-4)
    assert "r(n, ln n) = 0.880, r(sqrt n, ln n) = 0.953" in found.warnings[0]
    assert found.warnings[0].startswith("collinear")
    one_count = directions(torch.randn(40, 3), torch.arange(100, 140), bootstrap=9)
    assert any("every number has 3 digits" in text for text in one_count.warnings)
    assert one_count.table.query("feature == 'digits'")["r"].isna().all()
    assert digit_steps(torch.arange(100, 140)).shape == (40, 0)


def test_a_contrast_is_the_difference_of_sizes_of_r(found: Directions) -> None:
    contrast = found.contrast("ln n", "n")
    r = found.table.set_index(["component", "feature"])["r"].abs()
    assert contrast["difference"][0] == pytest.approx(r[1, "ln n"] - r[1, "n"], abs=1e-12)
    assert 0 < contrast["low"][0] < contrast["difference"][0] < contrast["high"][0]
    with pytest.raises(ValueError, match="second: expected one of n, sqrt n"):
        found.contrast("ln n", "log")


def test_a_model_is_compared_with_itself_and_with_a_noisier_one() -> None:
    clear, noisy = planted("ln n", 0.05), planted("ln n", 0.8, width=31, seed=2)
    same = compare_directions(clear, clear, NUMBERS, bootstrap=99)
    for table in (same.table, same.decoded):
        assert (table[["difference", "low", "high"]] == 0).all().all()
        assert (table["p_value"] == 1).all()
    found = compare_directions(clear, noisy, NUMBERS, bootstrap=199)
    row = found.to_pandas().query("feature == 'ln n' and folds == 'shuffled'").iloc[0]
    assert row["difference"] == pytest.approx(row["r2_a"] - row["r2_b"], abs=1e-15)
    assert 0 < row["low"] < row["difference"] < row["high"]
    assert row["p_value"] == pytest.approx(2 / 200)
    assert len(found.table) == 7 * 4
    ours = found.a.decoded.query("feature == 'ln n' and folds == 'shuffled'")["r2"].item()
    assert row["r2_a"] == pytest.approx(ours, abs=1e-12)


def test_a_comparison_is_drawn_and_saved(tmp_path: Path) -> None:
    one, other = planted("ln n", 0.5), planted("n", 0.5, width=2, seed=2)
    found = compare_directions(one, other, NUMBERS, bootstrap=19)
    left, right = found.plot().axes
    drawn = [list(line.get_ydata()) for line in left.get_lines()]
    shuffled = found.decoded.query("folds == 'shuffled'")["difference"].tolist()
    assert shuffled in drawn
    assert [label.get_text() for label in left.get_xticklabels()] == list(FEATURES)
    assert right.get_xlabel() == "component"
    folder = found.save(tmp_path / "out")
    pandas.testing.assert_frame_equal(pandas.read_parquet(folder / "decoded.parquet"), found.decoded)
    pandas.testing.assert_frame_equal(pandas.read_parquet(folder / "components.parquet"), found.table)


def test_rows_may_come_in_any_order_and_dtype() -> None:
    acts, shuffle = planted("ln n"), torch.randperm(360, generator=torch.Generator().manual_seed(1))
    plain = directions(acts, NUMBERS, bootstrap=19)
    other = directions(acts[shuffle].numpy(), NUMBERS[shuffle].double().numpy(), bootstrap=19)
    for name in ("table", "within_digit_count", "partial", "explained", "decoded"):
        pandas.testing.assert_frame_equal(getattr(plain, name), getattr(other, name), rtol=0, atol=1e-9)
    half = directions(acts.half(), NUMBERS, bootstrap=0).table["r"]
    assert (half[:4] - plain.table["r"][:4]).abs().max() < 1e-3
    wide = directions(torch.randn(9, 31), torch.arange(1, 10), bootstrap=9, folds=3)
    assert wide.scores.shape == (9, 8)
    assert wide.components.shape == (8, 31)


def test_a_table_is_drawn_and_saved(found: Directions, tmp_path: Path) -> None:
    figure = found.plot()
    assert any(axes.tables for axes in figure.axes)
    folder = found.save(tmp_path / "out")
    pandas.testing.assert_frame_equal(pandas.read_parquet(folder / "directions_table.parquet"), found.table)
    record = json.loads((folder / "directions.json").read_text())
    assert record["warnings"] == list(found.warnings)
    assert record["settings"]["bootstrap"] == 199
    assert len(directions(planted("n", width=1), NUMBERS, bootstrap=0).plot().axes) == 3


def test_inputs_are_named() -> None:
    acts = torch.randn(31, 5)
    numbers = torch.arange(1, 32)
    with pytest.raises(ShapeError, match="numbers: expected \\(31,\\)"):
        directions(acts, numbers[:-1])
    with pytest.raises(ValueError, match="numbers: expected each number once"):
        directions(acts, numbers.clamp(max=30))
    with pytest.raises(DTypeError, match="components: expected an integer"):
        directions(acts, numbers, components=2.0)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="confidence"):
        directions(acts, numbers, confidence=1.0)
    with pytest.raises(ValueError, match="folds: expected an integer from 3 to 15"):
        directions(acts, numbers, folds=16)
    with pytest.raises(ValueError, match="bootstrap"):
        directions(acts, numbers, bootstrap=-1)
    with pytest.raises(ShapeError, match="b: expected"):
        compare_directions(acts, acts[:-1], numbers)
    with pytest.raises(ValueError, match="bootstrap: expected at least 1"):
        compare_directions(acts, acts, numbers, bootstrap=0)
    assert set(FEATURE_SETS) == {"digits", "linear", "sqrt", "log", "poly2", "digits+log", "helix"}
