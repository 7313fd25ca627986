"""The report of a directory of sweeps: one page with a section for each study, pictures beside it."""

import os
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from interpkern import report
from interpkern.files import provenance
from interpkern.memorisation import lab_text
from interpkern.memorisation.circuit_plots import plot_ablations, plot_decomposition
from interpkern.memorisation.circuits import circuits
from interpkern.memorisation.claims import Claim, claim_table, claims_for, claims_of
from interpkern.memorisation.lab_studies import COPIES, MOST_LARGE_TABLES, LabStudy, load_lab_study
from interpkern.memorisation.lab_words import CAPTIONS, EMBEDDED, NOTE, ORIGIN, QUESTIONS, TITLES
from interpkern.memorisation.matching import shared_structure
from interpkern.memorisation.scaling import has_law, scaling_law, threshold_growth
from interpkern.memorisation.studies import STUDIES
from interpkern.memorisation.sweep_text import growth_sentences, shape_columns, threshold_columns, threshold_rows
from interpkern.memorisation.sweeps import Sweep, load_sweep
from interpkern.runs import Store
from interpkern.text_tables import html_table

PAGE = "report.html"
TITLE = "How many facts fit into a tiny MLP, and how?"
TEMPLATE = "memorisation_study.html"
NOTHING: dict[str, Any] = dict.fromkeys(
    ("finding", "origin", "question", "wrapped", "long_table", "long_table_title", "command", "machine"), ""
) | {"figures": []}
"""What a section may leave out."""


@dataclass(frozen=True)
class LabReport:
    """The studies of a directory, ready for a page."""

    sections: tuple[report.Section, ...]
    claims: tuple[Claim, ...]

    def save(self, directory: str | os.PathLike[str]) -> list[Path]:
        """Write report.html, which needs nothing else, and its pictures as PNG; returns the files, the page first."""
        return report.save_page(TITLE, self.sections, Path(directory), PAGE)


def lab_report(directory: str | os.PathLike[str], *, say: Callable[[str], object] = lambda line: None) -> LabReport:
    """Put every finished study of a directory on one page: what was claimed, what was found, at which budget.

    Args:
        directory: of `capacity_sweep` and `lab_study`.
        say: prints a line for each study, and for one that is left out because cells are missing or damaged.

    Returns:
        LabReport.

    Raises:
        ValueError: no finished study.
    """
    sweeps, studies = finished_studies(directory, say)
    with matplotlib.rc_context(report.FIGURE_STYLE):
        claims = claims_of(sweeps, studies)
        sections = [_capacity(found) for found in sweeps.values()] + [_look(found) for found in studies.values()]
    return LabReport((_summary(claims), *sections), tuple(claims))


def finished_studies(
    directory: str | os.PathLike[str], say: Callable[[str], object]
) -> tuple[dict[str, Sweep], dict[str, LabStudy]]:
    """The studies of a directory by name, in the order of the page; those that are left out are said."""
    store = Store(directory)
    sweeps: dict[str, Sweep] = {}
    studies: dict[str, LabStudy] = {}
    for name in TITLES:
        if name not in store.plans():
            continue
        try:
            if name in STUDIES:
                sweeps[name] = load_sweep(directory, name)
            else:
                studies[name] = load_lab_study(directory, name)
        except ValueError as error:
            say(f"left out: {error}")
    if not sweeps and not studies:
        raise ValueError(f"directory: {store.directory} holds no finished study; begin with interpkern capacity")
    return sweeps, studies


def _summary(claims: list[Claim]) -> report.Section:
    content = NOTHING | {
        "shows": ["Every claim of the origin and the literature beside what these runs measured."],
        "tables": [claim_table(claims)],
        "wrapped": True,
        "budget": "in the last column",
        "note": f"{NOTE} P1 counts one logit, P2 two; frozen embeddings are not counted.",
    }
    return report.Section("Claims", TEMPLATE, content, {}, provenance(), "claims")


def _capacity(found: Sweep) -> report.Section:
    figures = {found.study: found.plot()}
    shows = [f"{claim.what}: {claim.measured}" for claim in claims_for(found)]
    rows = threshold_rows(found)
    tables = [html_table(threshold_columns(found), rows)] if rows else []
    if found.study == "growth" and has_law(found.models):
        law = scaling_law(found.models)
        shows = [*growth_sentences(found.thresholds(), threshold_growth(found.thresholds())), law.sentence()]
        figures["law"] = law.plot()
    shapes = found.shapes()
    few, many = shapes.models.min(), shapes.models.max()
    amount = f"{few} models a shape" if few == many else f"{few} to {many} models a shape"
    content = {
        "shows": shows,
        "tables": tables,
        "long_table": html_table(shape_columns(shapes), shapes.itertuples()),
        "long_table_title": f"All {len(shapes)} shapes and budgets",
        "budget": f"{_adam(found.study, found.about)}; {amount}, each on its own table; {EMBEDDED}",
    }
    about = f"{len(found.models):,} models, {amount}; {found.about['steps']:,} updates{_varied(found.study)}"
    return _section(found.study, figures, about, content, found.provenance)


def _look(found: LabStudy) -> report.Section:
    columns, rows = lab_text.study_table(found)
    seeds, steps = found.about["seeds"], found.about["steps"]
    amount = f"{seeds} models a shape, each on its own table"
    figures = {found.study: found.plot()}
    if found.run is not None:
        taken = circuits(found.run)
        shows = lab_text.circuit_sentences(taken)
        m, shape = found.run.models.rows, (found.run.models.d_model, found.run.models.d_hidden)
        amount = f"{seeds} models of {shape} on {m} x {m} facts, {COPIES} for each table"
        figures = {
            "decomposition": plot_decomposition(found.run, int(found.run.solved.byte().argmax())),
            **figures,
            "ablation": plot_ablations(lab_text.ablations(taken)),
            "matching": shared_structure(found.run).plot(),
        }
    elif found.study == "quantisation":
        shows = lab_text.rounded_sentences(lab_text.rounded_table(found.to_pandas()))
    else:
        shows = lab_text.constructed_sentences(lab_text.constructed_table(found.to_pandas()))
        amount = f"{seeds} random tables a size, {MOST_LARGE_TABLES} from m = 128 on"
    trained = found.study != "constructions"
    about = f"{amount}; {steps:,} updates" if trained else f"{amount}; no training"
    budget = f"{_adam(found.study, found.about)}; {amount}; {EMBEDDED}" if trained else about
    content = {"shows": shows, "tables": [html_table(columns, rows)], "budget": budget}
    seconds = sum(result.record["seconds"] for result in found.results)
    return _section(found.study, figures, about, content, {**found.results[-1].record, "seconds": seconds})


def _section(
    study: str, figures: dict[str, Figure], about: str, content: dict[str, Any], record: dict[str, Any]
) -> report.Section:
    """A study's part of the page; `about`, what was trained, goes below every figure."""
    captions = {name: f"{CAPTIONS[name]} ({about}.)" for name in figures}
    drawings = [
        {"drawing": report.inline_svg(figure, label=captions[name]), "caption": captions[name]}
        for name, figure in figures.items()
    ]
    content = NOTHING | {
        **content,
        "question": QUESTIONS[study],
        "origin": ORIGIN[study],
        "shows": [_sentence(part) for part in content["shows"]],
        "figures": drawings,
        "note": NOTE,
        "command": shlex.join(record["command"]),
        "machine": _machine(record),
    }
    files = {f"{name}.png": report.png(figure) for name, figure in figures.items()}
    return report.Section(TITLES[study], TEMPLATE, content, files, {}, study)


def _adam(study: str, about: dict[str, Any]) -> str:
    """Optimiser, learning rate, schedule and updates of a study."""
    return f"Adam, lr {about['lr']:g}, cosine to 0, {about['steps']:,} updates{_varied(study)}"


def _varied(study: str) -> str:
    return " unless the table says otherwise" if study in ("budget", "frozen") else ""


def _machine(record: dict[str, Any]) -> str:
    """What made a study, as far as its cells say."""
    backend = " ".join(str(record[name]) for name in ("backend", "isa") if record[name] not in (None, "None", "none"))
    parts = [record["cpu"], f"backend {backend}" if backend else "", f"threads: {record['threads']}"]
    return ", ".join([*filter(None, parts), f"{record['seconds']:,.0f} s in all of its cells"])


def _sentence(text: str) -> str:
    """With a capital and a full stop."""
    return f"{text[0].upper()}{text[1:].removesuffix('.')}."
