"""What `evaluate`, `metrics` and `ce_score` found: tables and sentences, for the terminal and for a page alike."""

import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import matplotlib

from interpkern import report
from interpkern.itda.cross_entropy import CEScore
from interpkern.itda.dictionary import ITDA
from interpkern.itda.evaluation import DEFAULT, KIND, PAPER, SCHEMA, Evaluation
from interpkern.itda.quality import Metrics
from interpkern.itda.quality_sums import Figures
from interpkern.text_tables import Column, headings, html_table, line

MOST_MASSIVE = 5


def _share(value: float, digits: int = 0) -> str:
    return "" if math.isnan(value) else f"{value:.{digits}%}"


def _number(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.4f}"


FIGURES = (
    ("FVU", 8, lambda figures: _number(figures.fvu)),
    ("median", 8, lambda figures: _number(figures.median_error)),
    ("L0", 7, lambda figures: "" if math.isnan(figures.distinct_l0) else f"{figures.distinct_l0:.1f}"),
    ("dead", 7, lambda figures: f"{figures.dead_atoms:,}"),
    ("negative", 10, lambda figures: _share(figures.negative_share)),
)
"""Of one group of tokens."""


def _of(group: str) -> list[Column]:
    return [
        Column(heading, width, lambda row, cell=cell: cell(getattr(row, group)))  # type: ignore[misc]
        for heading, width, cell in FIGURES
    ]


RECIPES = (
    Column("recipe", 43, lambda variant: variant.name, left=True),
    Column("change", 9, lambda variant: f"{variant.change:+.1%}"),
    *_of("ordinary"),
)
"""One row a Variant."""
ATOMS = Column("atoms", 9, lambda variant: f"{variant.atoms:,}")
"""Only where a size could not be met."""
MASSIVE = Column("massive", 9, lambda variant: _number(variant.massive.median_error))
"""Only where there are massive tokens."""
GROUPS = (
    Column("tokens", 10, lambda row: row[0], left=True),
    Column("number", 9, lambda row: f"{row[1].tokens:,}"),
    *(Column(heading, width, lambda row, cell=cell: cell(row[1])) for heading, width, cell in FIGURES),  # type: ignore[misc]
)
"""One row a group of tokens: its name and its Figures."""


def recipe_columns(found: Evaluation) -> tuple[Column, ...]:
    """The columns that say something of these data."""
    sizes = {variant.atoms for variant in found.variants}
    massive = any(variant.massive.tokens for variant in found.variants)
    return (*RECIPES, *([MASSIVE] if massive else []), *([ATOMS] if len(sizes) > 1 else []))


def recipe_lines(found: Evaluation) -> list[str]:
    """The table of recipes."""
    columns = recipe_columns(found)
    return [headings(columns), *(line(columns, variant) for variant in found.variants)]


def groups(found: Metrics) -> list[tuple[str, Figures]]:
    """The groups of tokens that there are."""
    named = {"ordinary": found.ordinary, "massive": found.massive, "all": found.all}
    return list(named.items()) if found.massive.tokens else [("all", found.all)]


def group_lines(found: Metrics) -> list[str]:
    """The table of groups."""
    return [headings(GROUPS), *(line(GROUPS, row) for row in groups(found))]


def data_sentence(found: Evaluation) -> str:
    """What the dictionaries were built from and judged on."""
    massive = (
        f" {found.massive_tokens:,} tokens of norm above {found.massive_above:g} times the median are left out of the"
        " building and of all figures but that of the column massive."
        if found.massive_tokens
        else ""
    )
    return (
        f"k = {found.k}. Built from {found.train_tokens:,} tokens of {found.train_prompts:,} prompts, judged on"
        f" {found.test_tokens:,} tokens of {found.test_prompts:,} prompts held out.{massive}"
    )


def recipe_sentence(found: Evaluation) -> str:
    """What the default is worth against the paper's recipe."""
    default, paper = found[DEFAULT], found[PAPER]
    return (
        f"At {default.atoms:,} atoms the default recipe leaves {default.ordinary.fvu:.1%} of the variance of held-out"
        f" tokens unexplained, the paper's {paper.ordinary.fvu:.1%}: {abs(default.change):.0%}"
        f" {'less' if default.change < 0 else 'more'}."
    )


def metrics_sentence(itda: ITDA, found: Metrics) -> str:
    """How much a dictionary leaves, and of which tokens."""
    of = " of ordinary norm" if found.massive.tokens else ""
    return (
        f"{len(itda):,} atoms, at most {itda.settings.k} a token, leave {found.ordinary.fvu:.1%} of the variance of"
        f" {found.ordinary.tokens:,} tokens{of} unexplained."
    )


def ce_sentence(found: CEScore) -> str:
    """What is left of the model's prediction."""
    apart = (
        f"; {found.ordinary:.4f} where the {found.massive_tokens:,} massive of {found.tokens:,} tokens stay as they are"
        if found.massive_tokens
        else ""
    )
    return (
        f"Cross-entropy score {found.value:.4f} at {found.hook}{apart} (nats per token: {found.ce_original:.4f} as it"
        f" is, {found.ce_reconstructed:.4f} rebuilt, {found.ce_zero:.4f} with zeros)."
    )


def evaluation_section(found: Evaluation, name: str) -> report.Section:
    """The recipes on a page, with recipes.png, recipes.parquet and recipes.json."""
    with matplotlib.rc_context(report.FIGURE_STYLE):
        figure = found.plot()
        files = {
            "recipes.png": report.png(figure),
            "recipes.parquet": report.parquet(found.to_pandas().reset_index()),
            "recipes.json": report.json_bytes({"kind": KIND, "schema": SCHEMA} | asdict(found)),
        }
        content = {
            "name": name,
            "finding": recipe_sentence(found),
            "data": data_sentence(found),
            "table_of_recipes": html_table(recipe_columns(found), found.variants),
            "massive": bool(found.massive_tokens),
            "figure": report.inline_svg(figure, label="held-out FVU of each recipe"),
        }
    return report.Section("Which recipe makes the best dictionary?", "recipes.html", content, files, found.provenance)


def dictionary_section(
    itda: ITDA, found: Metrics, name: str, provenance: dict[str, Any], ce: CEScore | None = None
) -> report.Section:
    """A dictionary on a page, with dictionary.png, groups.parquet and massive.parquet."""
    massive = found.massive_tokens().sort_values("norm", ascending=False)
    sentences = [metrics_sentence(itda, found), *([] if ce is None else [ce_sentence(ce)])]
    with matplotlib.rc_context(report.FIGURE_STYLE):
        figure = found.plot()
        files = {
            "dictionary.png": report.png(figure),
            "groups.parquet": report.parquet(found.to_pandas().rename_axis("tokens_of").reset_index()),
            "massive.parquet": report.parquet(massive),
        }
        content = {
            "name": name,
            "findings": sentences,
            "built": str(itda.report),
            "table_of_groups": html_table(GROUPS, groups(found)),
            "figure": report.inline_svg(figure, label="error of every token against its norm, and the distribution"),
            "massive_above": f"{found.massive_above:g}",
            "massive": _massive_table(massive.head(MOST_MASSIVE).itertuples()) if len(massive) else None,
            "massive_tokens": f"{len(massive):,}",
        }
    return report.Section("How good is this dictionary?", "dictionary.html", content, files, provenance)


def _massive_table(rows: Any) -> tuple[list[str], list[list[str]]]:
    columns: Sequence[Column] = (
        Column("prompt", 8, lambda row: f"{row.prompt_id}"),
        Column("position", 9, lambda row: f"{row.position}"),
        Column("norm / median", 14, lambda row: f"{row.norm:.1f}"),
        Column("error", 9, lambda row: f"{row.error:.4f}"),
    )
    return html_table(columns, rows)
