"""The spec's expected table at m = 16 and 32, with 64 seeds a cell, within sampling error."""

import pytest

from benchmarks.memorisation_table import SPEC, Expected, measured, tolerance_of_bits, tolerance_of_solved


@pytest.mark.slow
@pytest.mark.parametrize("row", [row for row in SPEC if row.m <= 32], ids=str)
def test_solved_fraction_and_bits(row: Expected) -> None:
    result = measured(row)
    assert result["measured_solved"] == pytest.approx(row.solved, abs=tolerance_of_solved(row.solved))
    assert result["measured_bits_per_P2"] == pytest.approx(row.bits_per_P2, abs=tolerance_of_bits(result))
