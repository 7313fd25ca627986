"""Claims of the origin and the literature beside what the studies of a directory measured."""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from interpkern.memorisation.circuits import circuits
from interpkern.memorisation.lab_text import circuit_table, constructed_table, rounded_table
from interpkern.memorisation.scaling import has_law, scaling_law
from interpkern.text_tables import Column, html_table

if TYPE_CHECKING:
    from interpkern.memorisation.lab_studies import LabStudy
    from interpkern.memorisation.sweeps import Sweep

WIDTHS = (16, 64)
"""m for which the width of the transition is given."""
SOLVERS = {"adam": "trained", "exact": "solved for"}
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
    return "not found" if math.isnan(row.half) else _between(row.half, row.low, row.high)


def _between(value: float, low: float, high: float, digits: int = 2) -> str:
    return f"{value:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"


def _growth(found: "Sweep") -> Iterator[Claim]:
    rows = list(found.thresholds().sort_values("rows").itertuples())
    chosen = [row for row in rows if row.rows in WIDTHS]
    if chosen:
        what = "factor in facts per P1 from 90 % of models solved to 10 %"
        widths = [f"{_between(row.width, row.width_low, row.width_high)} at m = {row.rows}" for row in chosen]
        yield Claim(what, "prototype: a sharp transition", ", ".join(widths), _steps(found))
    for row in rows:
        if row.rows in EXPECTED:
            said = f"prototype: {EXPECTED[row.rows]} at 50,000 updates"
            yield Claim(f"half solved at m = {row.rows}, facts per P1", said, _interval(row), _steps(found))
    if has_law(found.models):
        law = scaling_law(found.models)
        m = law.points.rows.to_numpy()
        last = f"{_between(law.last_exponent, law.last_low, law.last_high, 3)} from m = {m[-2]} to {m[-1]}"
        measured = f"P2^{_between(law.exponent, law.low, law.high, 3)} over {law.decades:.1f} decades; {last}"
        said = "Newgas: 2 bits a parameter; Allen-Zhu and Li: 2, so exponent 1"
        yield Claim("law of stored bits", said, measured, _steps(found))


def _map(found: "Sweep") -> Iterator[Claim]:
    best = found.shapes().sort_values("bits_per_P2", ascending=False).head(2)
    first, second = (
        f"({row.d_model}, {row.d_hidden}) {_between(row.bits_per_P2, row.bits_per_P2_low, row.bits_per_P2_high)}"
        for row in best.itertuples()
    )
    said = "Newgas: d_model ~ d_hidden"
    yield Claim(f"most bits/P2 at m = {best.rows.iloc[0]}", said, f"{first}, then {second}", _steps(found))


def _budget(found: "Sweep") -> Iterator[Claim]:
    rows = found.thresholds()
    at = rows[rows.lr == found.about["lr"]].dropna(subset="half").sort_values("steps")
    if len(at) > 1:
        what = f"half solved at m = {at.rows.iloc[0]} against updates"
        ends = [f"{_interval(row)} at {row.steps:,}" for row in (at.iloc[0], at.iloc[-1])]
        said = "Annesi et al.: gradient descent stops short of capacity"
        yield Claim(what, said, " to ".join(ends), f"lr {found.about['lr']:g}")


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
        what = f"facts per weight of a readout, {SOLVERS[row.solver]}, m = {row.rows}"
        yield Claim(what, "Cover: 2", _interval(row), how)


def _points(found: "Sweep") -> Iterator[Claim]:
    for row in found.thresholds().itertuples():
        what = f"half solved for {row.facts:,} points in {row.d_model} dimensions, points per P1"
        said = "Cover: 2 a weight; Liu: 2.4 bits with ten classes, here two"
        yield Claim(what, said, _interval(row), _steps(found))


def _circuits(found: "LabStudy") -> Iterator[Claim]:
    if found.run is None:
        return
    expected = {"stable rank of a unit's matrix": "1.06", "share of (fact, unit) that is active": ".44"}
    for row in circuit_table(circuits(found.run)).itertuples():
        if row.label in expected:
            said = f"prototype: {expected[row.label]}"
            yield Claim(row.label, said, _between(row.mean, row.low, row.high, 3), _steps(found))


def _quantisation(found: "LabStudy") -> Iterator[Claim]:
    table = rounded_table(found.to_pandas())
    plain = table[(table.per == "tensor") & (table.retraining == 0)]
    for (d, h), group in plain.groupby(["d_model", "d_hidden"], sort=False):
        at = group.set_index("weight_bits")[["bits", "low", "high"]]
        whole, eight, four = (_between(*at.loc[bits]) for bits in (32, 8, 4))
        measured = f"{whole} to {eight} bits/P2; at 4 bits {four}"
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
    "points": _points,
    "circuits": _circuits,
    "quantisation": _quantisation,
    "constructions": _constructions,
}
"""By study, in the order of the page."""
