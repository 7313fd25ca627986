"""The words and tables of the studies that look into models, for the terminal and for the page alike."""

from typing import TYPE_CHECKING

import pandas
import torch

from interpkern.memorisation.ablation import ORDERS, ablation_curves
from interpkern.memorisation.bits import mean_interval
from interpkern.memorisation.circuits import Circuits, circuits
from interpkern.memorisation.low_rank import low_rank_fit
from interpkern.memorisation.matching import shared_structure
from interpkern.text_tables import Column, Row, headings, line

if TYPE_CHECKING:
    from interpkern.memorisation.lab_studies import LabStudy

FIGURES = {
    "active_fraction": "share of (fact, unit) that is active",
    "stable_rank": "stable rank of a unit's matrix",
    "rectangle": "energy in the best rectangle",
    "participation": "spread over units (participation / H)",
    "correlation": "mean |correlation| of two units",
    "ablated_accuracy": "accuracy without one unit",
    "worst_ablated_accuracy": "accuracy without the unit that matters most",
    "accuracy": "accuracy",
    "svd_accuracy": "accuracy of the SVD of the table at equal parameters",
}
CIRCUITS = (
    Column("figure", 54, lambda row: row.label, left=True),
    Column("mean", 8, lambda row: f"{row.mean:.3f}"),
    Column("95 % interval", 20, lambda row: f"[{row.low:.3f}, {row.high:.3f}]"),
)
ROUNDED = (
    Column("shape", 10, lambda row: f"({row.d_model}, {row.d_hidden})"),
    Column("scale per", 11, lambda row: row.per),
    Column("retrained", 11, lambda row: f"3 x {row.retraining}" if row.retraining else "no"),
    Column("weight", 9, lambda row: "float32" if row.weight_bits == 32 else f"{row.weight_bits} bits"),
    Column("solved", 10, lambda row: f"{row.solved}/{row.models}"),
    Column("bits_CE/P2", 24, lambda row: f"{row.bits:.2f} [{row.low:.2f}, {row.high:.2f}]"),
    Column("per bit of weight", 19, lambda row: f"{row.bits / row.weight_bits:.3f}"),
)
CONSTRUCTED = (
    Column("construction", 18, lambda row: row.construction, left=True),
    Column("table", 11, lambda row: f"{row.rows} x {row.cols}"),
    Column("d_hidden", 10, lambda row: f"{row.d_hidden:.1f}"),
    Column("exact", 8, lambda row: f"{row.exact}/{row.tables}"),
    Column("bits/P1", 9, lambda row: f"{row.bits_per_P1:.3f}"),
    Column("bits/P2", 9, lambda row: f"{row.bits_per_P2:.3f}"),
)


def circuit_table(found: Circuits) -> pandas.DataFrame:
    """One row a figure: its mean over models, with Student's interval."""
    frame = found.to_pandas()
    rows = []
    for name, label in FIGURES.items():
        mean, low, high = mean_interval(torch.from_numpy(frame[name].to_numpy(dtype=float).copy()))
        rows.append({"label": label, "mean": mean, "low": low, "high": high})
    return pandas.DataFrame(rows)


def rounded_table(models: pandas.DataFrame) -> pandas.DataFrame:
    """One row a shape, way and number of bits: solved models, bits per parameter with Student's interval."""
    rows = []
    for key, group in models.groupby(["d_model", "d_hidden", "per", "retraining", "weight_bits"], sort=False):
        bits, low, high = mean_interval(torch.from_numpy((group.bits_ce / group.P2).to_numpy(dtype=float).copy()))
        names = ("d_model", "d_hidden", "per", "retraining", "weight_bits")
        counts = {"solved": int(group.solved.sum()), "models": len(group), "bits": bits, "low": low, "high": high}
        rows.append(dict(zip(names, key, strict=True)) | counts)
    return pandas.DataFrame(rows)


def constructed_table(tables: pandas.DataFrame) -> pandas.DataFrame:
    """One row a construction and size, means over tables; a table that is not exact counts 0."""
    groups = tables.groupby(["construction", "rows", "cols"], sort=False)
    means = groups[["d_hidden", "bits_per_P1", "bits_per_P2"]].mean()
    return means.assign(exact=groups.exact.sum(), tables=groups.size()).reset_index()


def circuit_sentences(found: Circuits) -> list[str]:
    """The baselines, and how much of the structure is the table's."""
    run = found.run
    some = run.tables[:: max(1, len(run) // 16)]
    fitted = low_rank_fit(some, found.svd_rank, progress=False) if found.svd_rank else None
    sentences = []
    if fitted is not None:
        accuracy = float(((fitted > 0) == some.bool()).double().mean())
        sentences.append(
            f"with as many numbers, a product of two thin matrices (rank {found.svd_rank}) gets"
            f" {float(found.svd_accuracy.mean()):.1%} of the facts right by SVD and {accuracy:.1%} trained; the models"
            f" {float(run.accuracy.mean()):.1%}"
        )
    shared = shared_structure(run)
    return [*sentences, shared.sentence()]


def ablations(found: Circuits) -> dict[str, torch.Tensor]:
    """The curves of every order."""
    return {order: ablation_curves(found.run, order=order) for order in ORDERS}


def study_table(found: "LabStudy") -> tuple[tuple[Column, ...], list[Row]]:
    """Columns and rows of what a study found."""
    if found.run is not None:
        return CIRCUITS, list(circuit_table(circuits(found.run)).itertuples())
    if found.study == "quantisation":
        return ROUNDED, list(rounded_table(found.to_pandas()).itertuples())
    return CONSTRUCTED, list(constructed_table(found.to_pandas()).itertuples())


def study_lines(found: "LabStudy") -> list[str]:
    """The same for the terminal."""
    columns, rows = study_table(found)
    lines = ["", headings(columns), *(line(columns, row) for row in rows), ""]
    return lines if found.run is None else [*lines, *circuit_sentences(circuits(found.run)), ""]


def rounded_sentences(table: pandas.DataFrame) -> list[str]:
    """What rounding costs, and where a bit of weight stores most."""
    sentences = []
    for (d, h), shape in table.groupby(["d_model", "d_hidden"], sort=False):
        plain = shape[(shape.per == "tensor") & (shape.retraining == 0)].set_index("weight_bits")
        kept = ", ".join(f"{plain.bits[bits]:.2f} at {bits}" for bits in (8, 6, 4))
        rounded = shape[shape.weight_bits < 32]
        best = rounded.loc[(rounded.bits / rounded.weight_bits).idxmax()]
        sentences.append(
            f"Models of ({d}, {h}) store {plain.bits[32]:.2f} bits per parameter as they were trained, and {kept} bits"
            " of weight, one scale a tensor and no retraining. A bit of weight stores most,"
            f" {best.bits / best.weight_bits:.3f} bits, at {best.weight_bits} bits (scale per {best.per},"
            f" {'retrained' if best.retraining else 'as it was'})."
        )
    return sentences


def constructed_sentences(table: pandas.DataFrame) -> list[str]:
    """The best construction."""
    best = table.loc[table.bits_per_P1.idxmax()]
    return [
        f"The best is {best.construction}, {best.bits_per_P1:.3f} bits per parameter (P1) at m = {best.rows}, exact on"
        f" {best.exact} of {best.tables} tables. A zigzag needs a unit for each sign change of a column, about half its"
        " rows, so it goes to 2 as tables grow."
    ]
