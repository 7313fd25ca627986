"""The demo's part of a page, two pictures, every number and where it came from."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import matplotlib
import pandas

from interpkern import report
from interpkern.memorisation import demo_text as text
from interpkern.memorisation.demo_figures import structure_figure, transition_figure
from interpkern.memorisation.unicode_table import unicode_table
from interpkern.text_tables import html_table

if TYPE_CHECKING:
    from interpkern.memorisation.demo import Demo

TITLE = "How many facts fit into a tiny MLP?"
KIND = "interpkern.memorisation.demo"
SCHEMA = 1


def section(demo: "Demo") -> report.Section:
    """With transition.png, structure.png, models.parquet, shapes.parquet, real_table.parquet and demo.json."""
    with matplotlib.rc_context(report.FIGURE_STYLE):
        figures = {
            "transition": transition_figure(demo.transition, demo.capacity),
            "structure": structure_figure(demo.structure, demo.capacities),
        }
        files = {
            **{f"{name}.png": report.png(figure) for name, figure in figures.items()},
            "models.parquet": report.parquet(demo.models),
            "shapes.parquet": report.parquet(pandas.concat([demo.transition, demo.structure], ignore_index=True)),
            "real_table.parquet": report.parquet(unicode_table().to_pandas().reset_index()),
            "demo.json": report.json_bytes(_record(demo)),
        }
        content = _content(demo, figures)
    return report.Section(TITLE, "memorisation.html", content, files, demo.provenance)


def _content(demo: "Demo", figures: dict[str, Any]) -> dict[str, Any]:
    coin, real = demo.plan.transition[0], demo.plan.structure[0]
    facts = real.rows * real.cols
    return {
        "note": demo.plan.note,
        "models": f"{int(demo.transition.models.sum()):,}",
        "models_per_shape": coin.models,
        "shape_count": len(demo.plan.transition),
        "rows": coin.rows,
        "cols": coin.cols,
        "facts": f"{coin.rows * coin.cols:,}",
        "most_bits": f"{demo.transition.bits_per_P2.max():.2f}",
        "capacity": text.capacity_sentence(demo.capacity),
        "transition_figure": report.inline_svg(
            figures["transition"], label="bits per parameter and share of solved models against facts per parameter"
        ),
        "transition_table": html_table(text.TRANSITION, demo.transition.itertuples()),
        "budget": text.budget(coin),
        "real_rows": real.rows,
        "real_cols": real.cols,
        "real_facts": f"{facts:,}",
        "structure": text.structure_sentences(facts, demo.capacities),
        "structure_figure": report.inline_svg(
            figures["structure"], label="share of solved models against parameters, real and random tables"
        ),
        "structure_table": html_table(text.STRUCTURE, text.by_shape(demo.structure)),
        "structure_budget": text.budget(real),
        "speed": demo.comparison.sentence() if demo.comparison else None,
        "files": "models.parquet",
    }


def _record(demo: "Demo") -> dict[str, Any]:
    return {
        "kind": KIND,
        "schema": SCHEMA,
        "plan": asdict(demo.plan),
        "capacity": asdict(demo.capacity),
        "capacities": {kind: asdict(each) for kind, each in demo.capacities.items()},
        "comparison": asdict(demo.comparison) if demo.comparison else None,
        "provenance": demo.provenance,
    }
