"""The report of a directory of sweeps: one page with a section for each study, pictures beside it."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from interpkern import report
from interpkern.memorisation import lab_text
from interpkern.memorisation.circuit_plots import plot_ablations, plot_decomposition
from interpkern.memorisation.circuits import circuits
from interpkern.memorisation.claims import Claim, claim_table, claims_for, claims_of
from interpkern.memorisation.lab_studies import LabStudy, load_lab_study
from interpkern.memorisation.matching import shared_structure
from interpkern.memorisation.scaling import scaling_law, threshold_growth
from interpkern.memorisation.studies import STUDIES
from interpkern.memorisation.sweep_text import SHAPES, growth_sentences, threshold_columns, threshold_rows
from interpkern.memorisation.sweeps import Sweep, load_sweep
from interpkern.runs import Store
from interpkern.text_tables import html_table

PAGE = "report.html"
TITLE = "How many facts fit into a tiny MLP, and how?"
TEMPLATE = "memorisation_study.html"
ORIGIN = {
    "growth": "Newgas trained models that reach zero loss at about m^2 / 2 parameters: 2 bits a parameter.",
    "map": "Newgas: d_model and d_hidden of about one size do best.",
    "budget": "Newgas gives no budget. Annesi et al. (2410.06717): gradient descent stops short of capacity.",
    "embeddings": "Newgas: optimised embeddings are about as good as random ones, a basis looks similar.",
    "tables": "Nothing was said of biased or rectangular tables.",
    "frozen": "Cover (1965): half of all labellings of 2 n points are separable with n weights.",
    "circuits": "Newgas: the model is a kind of matrix decomposition of the table, and its circuits look incidental.",
    "quantisation": "Newgas: few bits a parameter are stored, which would explain why quantisation works so well.",
    "constructions": "Newgas found no construction above 1.58 bits a parameter.",
}
TITLES = {
    "growth": "The threshold and the law",
    "map": "The map of shapes",
    "budget": "The budget",
    "embeddings": "Embeddings",
    "tables": "Rectangular and biased tables",
    "frozen": "A frozen first layer",
    "circuits": "Circuits",
    "quantisation": "Quantisation",
    "constructions": "Constructions",
}
CAPTIONS = {
    "growth": "Left: share of models with every fact right and the fitted curves. Right: where half of them are, with"
    " bootstrap 95 % intervals; dashed, 2.",
    "map": "Share of models with every fact right, and bits by cross-entropy per parameter (P2).",
    "budget": "Bits of the table per P1 at which half of the models are solved, against updates and learning rate.",
    "embeddings": "Left: every fact right. Right: at least 95 % of the bits stored, by the loss.",
    "tables": "Left: as many facts in other forms. Right: tables with other shares of ones, by their bits.",
    "frozen": "Only the readout: trained by Adam, and solved for by a linear program.",
}
NOTE = "Intervals are 95 %: Wilson's for shares, Student's for means, bootstrap for thresholds."


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
    provenance = dict(sections[0].provenance)
    return LabReport((_summary(claims, provenance), *sections), tuple(claims))


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


def _summary(claims: list[Claim], provenance: dict[str, Any]) -> report.Section:
    content = {
        "finding": "",
        "origin": "",
        "shows": ["Every claim of the origin and the literature beside what these runs measured."],
        "figures": [],
        "tables": [claim_table(claims)],
        "budget": "in the last column",
        "note": "P1 counts one logit, P2 two; frozen embeddings are not counted.",
    }
    return report.Section("Claims", TEMPLATE, content, {}, provenance, "claims")


def _capacity(found: Sweep) -> report.Section:
    figures = {found.study: (found.plot(), CAPTIONS[found.study])}
    shows = [STUDIES[found.study].question]
    if found.study != "growth":
        shows += [f"{_capital(claim.what)[:-1]}: {claim.measured}." for claim in claims_for(found)]
    tables = []
    rows = threshold_rows(found)
    if rows:
        tables.append(html_table(threshold_columns(found), rows))
    if found.study == "growth" and found.models.facts.nunique() >= 3:
        law = scaling_law(found.models)
        shows += [*growth_sentences(found.thresholds(), threshold_growth(found.thresholds())), _capital(law.sentence())]
        caption = "Stored bits against parameters: the best shape of each size of table, and a power law through them."
        figures["law"] = (law.plot(), caption)
    tables.append(html_table(SHAPES, found.shapes().itertuples()))
    return _section(found.study, figures, shows, tables, found.about, found.provenance)


def _look(found: LabStudy) -> report.Section:
    columns, rows = lab_text.study_table(found)
    shows: list[str] = []
    if found.run is not None:
        taken = circuits(found.run)
        shows = [_capital(sentence) for sentence in lab_text.circuit_sentences(taken)]
        figures = {
            "decomposition": (
                plot_decomposition(found.run, int(found.run.solved.byte().argmax())),
                "A table, the logits of a model that learnt it, and the matrices of its strongest hidden units.",
            ),
            "circuits": (taken.plot(), "How the figures of single hidden units are spread; dashed, the mean."),
            "ablation": (
                plot_ablations(lab_text.ablations(taken)),
                "Median accuracy as hidden units are taken away; the bands hold 90 % of the models.",
            ),
            "matching": (
                shared_structure(found.run).plot(),
                "How alike matched hidden units of two models are, on one table and on different ones.",
            ),
        }
    elif found.study == "quantisation":
        shows = lab_text.rounded_sentences(lab_text.rounded_table(found.to_pandas()))
        caption = "Left: bits kept per parameter. Right: stored bits for each bit of weight."
        figures = {"quantisation": (found.plot(), caption)}
    else:
        shows = lab_text.constructed_sentences(lab_text.constructed_table(found.to_pandas()))
        figures = {"constructions": (found.plot(), "Facts per parameter (P1) of exact constructions.")}
    record = dict(found.results[-1].record)
    return _section(found.study, figures, shows, [html_table(columns, rows)], found.about, record)


def _section(
    study: str,
    figures: dict[str, tuple[Figure, str]],
    shows: list[str],
    tables: list[Any],
    about: dict[str, Any],
    provenance: dict[str, Any],
) -> report.Section:
    drawings = [
        {"drawing": report.inline_svg(figure, label=caption), "caption": caption}
        for figure, caption in figures.values()
    ]
    content = {
        "finding": "",
        "origin": ORIGIN[study],
        "shows": shows,
        "figures": drawings,
        "tables": tables,
        "budget": budget(study, about),
        "note": NOTE,
    }
    files = {f"{name}.png": report.png(figure) for name, (figure, _) in figures.items()}
    return report.Section(TITLES[study], TEMPLATE, content, files, provenance, study)


def budget(study: str, about: dict[str, Any]) -> str:
    """Optimiser, learning rate, schedule, updates and seeds of a study."""
    if study == "constructions":
        return f"no training; {about['seeds']} random tables a size"
    varied = " unless the table says otherwise" if study in ("budget", "frozen") else ""
    return (
        f"Adam, lr {about['lr']:g}, cosine to 0, {about['steps']:,} updates{varied}; {about['seeds']} models a shape in"
        " the last call, each on its own table; frozen random embeddings unless said otherwise"
    )


def _capital(sentence: str) -> str:
    return f"{sentence[0].upper()}{sentence[1:]}."
