"""Each confound is said where it is, and nothing is said where it is not."""

import math

import numpy
import pytest
import torch

from interpkern.errors import DTypeError, ShapeError
from interpkern.probing.confounds import find_confounds, period_confounds

HUNDREDS = torch.arange(100, 461)
DECADES = numpy.unique(numpy.geomspace(1, 1e9, 61).round())


def acts(rows: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(rows, 7, generator=torch.Generator().manual_seed(seed))


def said(sentences: tuple[str, ...] | list[str], name: str) -> list[str]:
    return [text for text in sentences if text.startswith(name)]


def test_position_0_is_said_where_its_norms_are_far_above() -> None:
    rows, positions = acts(60), torch.ones(60, dtype=torch.int64)
    positions[[3, 5]] = 0
    numbers = torch.arange(101, 161)
    assert said(find_confounds(rows, numbers, positions=positions), "position 0") == []
    rows[[3, 5]] *= 186.8
    (sentence,) = said(find_confounds(rows, numbers, positions=positions), "position 0")
    ratio = rows[[3, 5]].norm(dim=1).median() / rows[positions == 1].norm(dim=1).median()
    assert "2 of 60 numbers (104, 106)" in sentence
    assert f"{float(ratio):.0f} times" in sentence
    assert said(find_confounds(rows, numbers, positions=positions + 1), "position 0") == []
    assert said(find_confounds(rows, numbers), "position 0") == []
    # rows in another order are the same rows
    back = torch.arange(59, -1, -1)
    again = find_confounds(rows[back], numbers[back], positions=positions[back])
    assert said(again, "position 0") == [sentence]


def test_position_0_is_said_where_every_number_is_there() -> None:
    found = find_confounds(acts(60), range(101, 161), positions=[0] * 60)
    assert len(said(found, "position 0: every number")) == 1


def test_a_tokenizer_that_splits_digits_is_said() -> None:
    numbers = torch.arange(1, 361)
    digits = torch.tensor([len(str(n)) for n in numbers.tolist()])
    assert len(said(find_confounds(acts(360), numbers, token_counts=digits), "digit-split")) == 1
    assert len(said(find_confounds(acts(360), numbers, digit_split=True), "digit-split")) == 1
    for given in ({"token_counts": torch.ones_like(digits)}, {"digit_split": False}, {}):
        found = find_confounds(acts(360), numbers, **given)  # type: ignore[arg-type]
        assert said(found, "digit-split") == said(found, "several tokens") == []


def test_numbers_of_several_tokens_are_named() -> None:
    counts = torch.ones(360, dtype=torch.int64)
    counts[[200, 300]] = 2
    (sentence,) = said(find_confounds(acts(360), range(1, 361), token_counts=counts), "several tokens")
    assert "2 of 360 numbers (201, 301)" in sentence


def test_massive_rows_are_named() -> None:
    rows = acts(361)
    assert said(find_confounds(rows, HUNDREDS), "massive") == []
    rows[7] *= 50 * rows.norm(dim=1).median() / rows[7].norm()
    (sentence,) = said(find_confounds(rows, HUNDREDS), "massive")
    assert "1 of 361 rows (107)" in sentence
    assert "50 times" in sentence


def test_rows_that_are_the_same_are_named() -> None:
    rows = acts(361)
    assert said(find_confounds(rows, HUNDREDS), "duplicated") == []
    rows[[4, 9, 11]] = rows[20].clone()
    rows[30] = rows[31]
    (sentence,) = said(find_confounds(rows, HUNDREDS), "duplicated")
    assert "6 of 361 rows" in sentence
    assert "357 are distinct" in sentence
    assert "104, 109, 111, 120" in sentence or "130, 131" in sentence


def test_rows_that_are_nearly_the_same_are_named_first() -> None:
    numbers = torch.arange(1, 361)
    digits = acts(10)[numbers % 10]
    near = digits + 1e-4 * acts(360, 1)
    near[4] *= 1000  # a massive row changes nothing for the others
    found = find_confounds(near, numbers)
    assert found[0].startswith("duplicated rows: 359 of 360 rows")
    assert "11 are distinct" in found[0]
    apart = digits + 0.1 * acts(360, 1)
    assert said(find_confounds(apart, numbers), "duplicated") == []


def test_collinear_regressors_are_said_with_figures() -> None:
    found = find_confounds(acts(360), range(1, 361))
    (sentence,) = said(found, "collinear")
    n = numpy.arange(1, 361)
    for column, name in ((n, "n"), (numpy.sqrt(n), "sqrt n")):
        assert f"r({name}, ln n) = {numpy.corrcoef(column, numpy.log(n))[0, 1]:.3f}" in sentence
    assert len(said(found, "digit count")) == 1
    # nine decades, evenly in ln n: only the digit count goes with it; one digit count: only n and sqrt n do
    wide = find_confounds(acts(len(DECADES)), DECADES)
    assert said(wide, "collinear") == []
    assert len(said(wide, "digit count")) == 1
    narrow = find_confounds(acts(361), HUNDREDS)
    assert len(said(narrow, "collinear")) == 1
    assert said(narrow, "digit count") == []
    # of 1 to 12, three have two digits
    assert abs(numpy.corrcoef(numpy.arange(1, 13) >= 10, numpy.log(numpy.arange(1, 13)))[0, 1]) < 0.8
    assert said(find_confounds(acts(12), range(1, 13)), "digit count") == []


@pytest.mark.parametrize(
    ("periods", "column"),
    [((2,), "sine of period 2"), ((5, 1.25), "cosine of period 1.25"), ((1,), "cosine of period 1")],
)
def test_a_basis_without_full_rank_is_said(periods: tuple[float, ...], column: str) -> None:
    (sentence,) = said(period_confounds(HUNDREDS, periods, "linear"), "rank-deficient")
    assert column in sentence
    angles = [2 * math.pi * HUNDREDS.double() / period for period in periods]
    design = torch.stack([torch.ones(361), *(f(angle) for angle in angles for f in (torch.cos, torch.sin))], 1)
    assert torch.linalg.matrix_rank(design.double(), atol=1e-6) < design.shape[1]


def test_a_basis_of_full_rank_is_not() -> None:
    assert said(period_confounds(HUNDREDS, (2.5, 5, 10, 100), "linear"), "rank-deficient") == []
    assert said(period_confounds(HUNDREDS, (2,), "log"), "rank-deficient") == []
    assert said(period_confounds(1.1 * HUNDREDS, (2,), "linear"), "rank-deficient") == []
    assert period_confounds(HUNDREDS, (), "linear") == []


def test_fewer_than_three_cycles_are_said() -> None:
    reach = math.log(360)
    (sentence,) = said(period_confounds(range(1, 361), (0.5, reach / 2.99)), "fewer than 3 cycles")
    assert "3.0 of period" in sentence
    assert "period 0.5" not in sentence
    assert said(period_confounds(range(1, 361), (0.5, reach / 3.01)), "fewer than 3 cycles") == []
    assert len(said(period_confounds(range(1, 361), (200,), "linear"), "fewer than 3 cycles")) == 1


@pytest.mark.parametrize("harmonic", [1, 2, 3, 9])
def test_periods_of_the_leading_digit_are_said(harmonic: int) -> None:
    period = math.log(10) / harmonic
    (sentence,) = said(period_confounds(range(1, 361), (period * 1.005,)), "leading digit")
    assert f"ln 10 / {harmonic} = {period:.3f}" in sentence
    # half a resolution element of 5.89 nats away, a circle can be told from it
    away = 1 / (harmonic / math.log(10) + 0.55 / math.log(360))
    assert said(period_confounds(range(1, 361), (away,)), "leading digit") == []
    assert said(period_confounds(range(1, 361), (period,), "linear"), "leading digit") == []


def test_nothing_is_said_of_clean_rows() -> None:
    assert find_confounds(acts(len(DECADES)), DECADES, positions=[3] * len(DECADES), periods=(0.5,))[1:] == ()


def test_inputs_are_named() -> None:
    with pytest.raises(ShapeError, match="positions: expected"):
        find_confounds(acts(361), HUNDREDS, positions=torch.zeros(360, dtype=torch.int64))
    with pytest.raises(DTypeError, match="positions: expected int64"):
        find_confounds(acts(361), HUNDREDS, positions=torch.zeros(361))
    with pytest.raises(ValueError, match="token_counts: expected integers >= 1, got 0"):
        find_confounds(acts(361), HUNDREDS, token_counts=torch.zeros(361, dtype=torch.int64))
    with pytest.raises(DTypeError, match="digit_split: expected True or False"):
        find_confounds(acts(361), HUNDREDS, digit_split=1)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="periods"):
        find_confounds(acts(361), HUNDREDS, periods=(0.0,))
    with pytest.raises(ValueError, match="coordinate: expected one of log, linear"):
        find_confounds(acts(361), HUNDREDS, periods=(1.0,), coordinate="ln")
    with pytest.raises(ValueError, match="numbers: expected positive"):
        find_confounds(acts(361), HUNDREDS - 100)
