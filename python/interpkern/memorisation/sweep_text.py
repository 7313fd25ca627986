"""The words and tables of the studies, for the terminal and for the page alike."""

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy
import pandas

from interpkern.memorisation.studies import STUDIES
from interpkern.memorisation.sweep_tables import CRITERIA
from interpkern.text_tables import Column, Row, headings, line

if TYPE_CHECKING:
    from interpkern.memorisation.sweeps import Sweep

SHAPES = (
    Column("table", 10, lambda row: f"{row.rows} x {row.cols}"),
    Column("shape", 11, lambda row: f"({row.d_model}, {row.d_hidden})"),
    Column("P1", 7, lambda row: f"{row.P1:,}"),
    Column("P2", 7, lambda row: f"{row.P2:,}"),
    Column("bits/P1", 9, lambda row: f"{row.table_bits_per_P1:.2f}"),
    Column("solved", 21, lambda row: f"{row.solved}/{row.models} [{row.solved_low:.2f}, {row.solved_high:.2f}]"),
    Column(
        "bits_CE/P2",
        20,
        lambda row: f"{row.bits_per_P2:.2f} [{row.bits_per_P2_low:.2f}, {row.bits_per_P2_high:.2f}]",
    ),
)
"""One row a shape; bits/P1 are those of the table."""
VARIED = (
    Column("embedding", 11, lambda row: row.embedding),
    Column("p", 6, lambda row: f"{row.p:g}"),
    Column("solver", 8, lambda row: row.solver),
    Column("steps", 8, lambda row: f"{row.steps:,}"),
    Column("lr", 7, lambda row: f"{row.lr:g}"),
)
"""What tells shapes of some studies apart."""
WORDS = {"solved": "every fact right", "learnt": "95 % of the bits by loss"}


def shape_columns(shapes: pandas.DataFrame) -> tuple[Column, ...]:
    """Those of SHAPES, after what differs between the shapes of the study."""
    differ = tuple(column for column in VARIED if shapes[column.heading].nunique() > 1)
    return (*SHAPES[:1], *differ, *SHAPES[1:])


def threshold_columns(found: "Sweep") -> tuple[Column, ...]:
    """One row a threshold of the study."""
    by = STUDIES[found.study].by
    named = tuple(Column("m" if name == "rows" else name, 10, _of(name)) for name in by)
    return (
        *named,
        Column("criterion", 28, lambda row: WORDS[row.criterion]),
        Column("half at", 9, lambda row: "none" if math.isnan(row.half) else f"{row.half:.2f}"),
        Column("interval", 16, lambda row: f"[{row.low:.2f}, {row.high:.2f}]"),
        Column("with scatter", 16, lambda row: f"[{row.profile_low:.2f}, {row.profile_high:.2f}]"),
        Column("models", 8, lambda row: f"{row.models:,}"),
    )


def _of(name: str) -> Callable[[Row], str]:
    """What a cell of the column `name` says."""

    def text(row: Row) -> str:
        value = getattr(row, name)
        return f"{value:g}" if isinstance(value, float) else f"{value}"

    return text


def threshold_rows(found: "Sweep") -> list[Row]:
    """The thresholds by both criteria; one shape alone has none, nor has the loss of a readout that was solved for."""
    if found.study == "map":
        return []
    rows = [row for criterion in CRITERIA for row in found.thresholds(criterion).itertuples() if row.shapes > 1]
    return [row for row in rows if row.criterion == "solved" or getattr(row, "solver", "adam") == "adam"]


def threshold_lines(found: "Sweep") -> list[str]:
    """Where half of the models are solved, for the terminal."""
    rows = threshold_rows(found)
    if not rows:
        return []
    columns = threshold_columns(found)
    return ["bits of the table per P1 at which half of the models meet the criterion:", headings(columns)] + [
        line(columns, row) for row in rows
    ]


def growth_sentences(thresholds: pandas.DataFrame, growth: pandas.DataFrame) -> list[str]:
    """How the threshold moves with the size of the table, and whether it still does at the end."""
    if growth.empty:
        return []
    known = thresholds[numpy.isfinite(thresholds[["half", "low", "high"]]).all(axis=1)].sort_values("rows")
    first, last, step = known.iloc[0], known.iloc[-1], growth.iloc[-1]
    ending = "it still grows there" if step.low > 0 else "these runs cannot tell whether it still grows there"
    return [
        f"Half of the models are solved at {first.half:.2f} [{first.low:.2f}, {first.high:.2f}] facts per parameter"
        f" (P1) for m = {first.rows} and at"
        f" {last.half:.2f} [{last.low:.2f}, {last.high:.2f}] for m = {last.rows}. From m = {step.rows:.0f} to"
        f" {step.to:.0f} the threshold moves by {step.per_doubling:+.2f} [{step.low:+.2f}, {step.high:+.2f}] for each"
        f" doubling: {ending}."
    ]
