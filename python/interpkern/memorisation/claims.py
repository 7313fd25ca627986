"""Claims of the origin and the literature beside what the studies of a directory measured."""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from interpkern.memorisation.circuits import circuits
from interpkern.memorisation.lab_text import circuit_table, constructed_table, rounded_table
from interpkern.memorisation.scaling import scaling_law
from interpkern.text_tables import Column, html_table

if TYPE_CHECKING:
    from interpkern.memorisation.lab_studies import LabStudy
    from interpkern.memorisation.sweeps import Sweep

EXPECTED = {16: "1.8 +- .25", 32: "2.45 +- .15", 64: "2.7 +- .15"}
"""Thresholds in facts per P1 that a prototype had with 50,000 updates, by m."""


@dataclass(frozen=True)
class Claim:
    """One claim."""

    what: str
    said: str
    """By whom, and what."""
    measured: str
    """With its interval."""
    budget: str


COLUMNS = (
    Column("claim", 40, lambda claim: claim.what, left=True),
    Column("origin or literature", 34, lambda claim: claim.said, left=True),
    Column("measured [95 %]", 36, lambda claim: claim.measured, left=True),
    Column("budget", 20, lambda claim: claim.budget, left=True),
)


def claim_table(claims: list[Claim]) -> tuple[list[str], list[list[str]]]:
    """Headings and cells."""
    return html_table(COLUMNS, claims)


def claims_of(sweeps: Mapping[str, "Sweep"], studies: Mapping[str, "LabStudy"]) -> list[Claim]:
    """What can be said from the studies that are there."""
    found: dict[str, Any] = {**sweeps, **studies}
    return [claim for name in MAKERS if name in found for claim in claims_for(found[name])]


def claims_for(found: Any) -> list[Claim]:
    """What can be said from one study."""
    return list(MAKERS[found.study](found))


def _steps(found: Any) -> str:
    return f"{found.about['steps']:,} updates, lr {found.about['lr']:g}"


def _interval(row: Any) -> str:
    return "not found" if math.isnan(row.half) else f"{row.half:.2f} [{row.low:.2f}, {row.high:.2f}]"


def _growth(found: "Sweep") -> Iterator[Claim]:
    for row in found.thresholds().sort_values("rows").itertuples():
        if row.rows in EXPECTED:
            said = f"prototype: {EXPECTED[row.rows]} at 50,000 updates"
            yield Claim(f"half solved at m = {row.rows}, facts per P1", said, _interval(row), _steps(found))
    if found.models.facts.nunique() >= 3:
        law = scaling_law(found.models)
        measured = f"P2^{law.exponent:.3f} [{law.low:.3f}, {law.high:.3f}] over {law.decades:.1f} decades"
        said = "Newgas: 2 bits a parameter; Allen-Zhu and Li: 2, so exponent 1"
        yield Claim("law of stored bits", said, measured, _steps(found))


def _map(found: "Sweep") -> Iterator[Claim]:
    shapes = found.shapes()
    best = shapes.loc[shapes.bits_per_P2.idxmax()]
    measured = f"({best.d_model}, {best.d_hidden}) stores most, {best.bits_per_P2:.2f} bits/P2 at m = {best.rows}"
    yield Claim("sweet spot", "Newgas: d_model ~ d_hidden", measured, _steps(found))


def _budget(found: "Sweep") -> Iterator[Claim]:
    rows = found.thresholds()
    at = rows[rows.lr == found.about["lr"]].dropna(subset="half").sort_values("steps")
    if len(at) > 1:
        ends = [f"{row.half:.2f} at {row.steps:,}" for row in (at.iloc[0], at.iloc[-1])]
        said = "Annesi et al.: gradient descent stops short of capacity"
        yield Claim("threshold against updates", said, " to ".join(ends), f"lr {found.about['lr']:g}")


def _embeddings(found: "Sweep") -> Iterator[Claim]:
    by = {(row.embedding, name): row for name in ("solved", "learnt") for row in found.thresholds(name).itertuples()}
    measured = f"{_interval(by['optimised', 'solved'])} against {_interval(by['random', 'solved'])}"
    yield Claim("optimised ~ random embeddings, facts per P1", "Newgas: about alike", measured, _steps(found))
    measured = f"every fact {_interval(by['basis', 'solved'])}, by loss {_interval(by['basis', 'learnt'])}"
    yield Claim("basis embeddings", "Newgas: similar, by loss", measured, _steps(found))


def _tables(found: "Sweep") -> Iterator[Claim]:
    for facts, group in found.thresholds().groupby("facts"):
        forms = group[group.p == 0.5].sort_values("rows")
        measured = ", ".join(f"{row.rows} rows {_interval(row)}" for row in forms.itertuples())
        yield Claim(f"{facts:,} facts in other forms, bits per P1", "nothing said", measured, _steps(found))
        square = group[group.rows**2 == facts].sort_values("p")
        measured = ", ".join(f"p = {row.p:g} {_interval(row)}" for row in square.itertuples())
        yield Claim("biased tables, bits of the table per P1", "nothing said", measured, _steps(found))


def _frozen(found: "Sweep") -> Iterator[Claim]:
    for row in found.thresholds().itertuples():
        how = "no training" if row.solver == "exact" else _steps(found)
        what = f"facts per weight of a readout, {row.solver}, m = {row.rows}"
        yield Claim(what, "Cover: 2", _interval(row), how)


def _circuits(found: "LabStudy") -> Iterator[Claim]:
    if found.run is None:
        return
    expected = {"stable rank of a unit's matrix": "1.06", "share of (fact, unit) that is active": ".44"}
    for row in circuit_table(circuits(found.run)).itertuples():
        if row.label in expected:
            measured = f"{row.mean:.3f} [{row.low:.3f}, {row.high:.3f}]"
            yield Claim(row.label, f"prototype: {expected[row.label]}", measured, _steps(found))


def _quantisation(found: "LabStudy") -> Iterator[Claim]:
    table = rounded_table(found.to_pandas())
    plain = table[(table.per == "tensor") & (table.retraining == 0)]
    for (d, h), group in plain.groupby(["d_model", "d_hidden"], sort=False):
        bits = group.set_index("weight_bits").bits
        measured = f"{bits[32]:.2f} to {bits[8]:.2f} bits/P2; at 4 bits {bits[4]:.2f}"
        what = f"8 bits of weight are enough below capacity, ({d}, {h})"
        yield Claim(what, "prototype: lossless at 1.85 bits/P2, 2.17 to 1.84 at capacity", measured, _steps(found))


def _constructions(found: "LabStudy") -> Iterator[Claim]:
    table = constructed_table(found.to_pandas())
    best = table.loc[table.bits_per_P1.idxmax()]
    measured = (
        f"{best.construction}: {best.bits_per_P1:.3f} bits/P1 at m = {best.rows}, {best.exact} of {best.tables} exact"
    )
    yield Claim("best construction", "Newgas: 1.58", measured, "no training")


MAKERS: dict[str, Callable[[Any], Iterator[Claim]]] = {
    "growth": _growth,
    "map": _map,
    "budget": _budget,
    "embeddings": _embeddings,
    "tables": _tables,
    "frozen": _frozen,
    "circuits": _circuits,
    "quantisation": _quantisation,
    "constructions": _constructions,
}
"""By study, in the order of the page."""
