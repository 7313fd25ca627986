"""The demo's part of a page, a picture, every number and where it came from."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import matplotlib
import pandas
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from interpkern import report
from interpkern.itda.evaluation_report import data_sentence, recipe_columns, recipe_sentence
from interpkern.text_tables import html_table

if TYPE_CHECKING:
    from interpkern.itda.demo import Demo, Found

TITLE = "What is an activation made of?"
KIND = "interpkern.itda.demo"
SCHEMA = 1
STYLES = {0: ("#0072B2", "o"), 1: ("#D55E00", "^"), 2: ("#888888", "s")}


def section(demo: "Demo") -> report.Section:
    """With itda-picks.png, itda-atoms.parquet, itda-recipes.parquet, itda-picks.parquet and itda.json."""
    with matplotlib.rc_context(report.FIGURE_STYLE):
        figure = picks_figure(demo)
        files = {
            "itda-picks.png": report.png(figure),
            "itda-picks.parquet": report.parquet(_joined(demo, lambda one: one.curves.reset_index())),
            "itda-atoms.parquet": report.parquet(_joined(demo, lambda one: one.itda.to_pandas())),
            "itda-recipes.parquet": report.parquet(_joined(demo, lambda one: one.recipes.to_pandas().reset_index())),
            "itda.json": report.json_bytes(_record(demo)),
        }
        label = "fraction of variance unexplained against the number of atoms in a code"
        content = {"note": demo.plan.note, "k": demo.plan.k, "sets": [_set(one) for one in demo.found]} | {
            "threshold": f"{demo.plan.threshold:.0%}",
            "figure": report.inline_svg(figure, label=label),
            "massive": any(one.recipes.massive_tokens for one in demo.found),
        }
    return report.Section(TITLE, "itda.html", content, files, demo.provenance)


def picks_figure(demo: "Demo") -> Figure:
    """What is left of held-out tokens after so many picks, a panel for each set."""
    figure = Figure(figsize=(6.4, 3.4), layout="constrained")
    panels = figure.subplots(1, len(demo.found), sharey=True, squeeze=False)[0]
    for axes, one in zip(panels, demo.found, strict=True):
        for place, (name, values) in enumerate(one.curves.items()):
            colour, marker = STYLES[place]
            axes.plot(values.index, values, color=colour, marker=marker, ms=4, lw=1.4, label=str(name))
        axes.set_xscale("log", base=2)
        axes.set_xticks(list(one.curves.index), [str(picks) for picks in one.curves.index])
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_title(f"{one.model}, {len(one.itda):,} atoms", fontsize=10)
        axes.set_xlabel("picks of a token at most")
        axes.set_ylim(0, 1)
        axes.grid(axis="y", lw=0.4, alpha=0.5)
    panels[0].set_ylabel("fraction of variance unexplained")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, frameon=False, ncols=len(labels), loc="outside upper center", fontsize=9)
    return figure


def _joined(demo: "Demo", table_of: Any) -> pandas.DataFrame:
    """The tables of all sets, with the name of the set in front."""
    tables = [table_of(one) for one in demo.found]
    for one, table in zip(demo.found, tables, strict=True):
        table.insert(0, "set", one.name)
    return pandas.concat(tables, ignore_index=True)


def _set(one: "Found") -> dict[str, Any]:
    return {
        "model": one.model,
        "hook": one.hook,
        "tokens": f"{one.tokens:,}",
        "atoms": f"{len(one.itda):,}",
        "readings": one.readings,
        "finding": recipe_sentence(one.recipes),
        "table": html_table(recipe_columns(one.recipes), one.recipes.variants),
        "data": data_sentence(one.recipes),
    }


def _record(demo: "Demo") -> dict[str, Any]:
    sets = {
        one.name: {
            "model": one.model,
            "hook": one.hook,
            "tokens": one.tokens,
            "atoms": len(one.itda),
            "readings": [asdict(reading) for reading in one.readings],
            "picks": one.curves.to_dict(),
            "recipes": asdict(one.recipes),
        }
        for one in demo.found
    }
    return {"kind": KIND, "schema": SCHEMA, "plan": asdict(demo.plan), "sets": sets, "provenance": demo.provenance}
