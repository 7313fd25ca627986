"""The demo's folder: one page, two pictures, every number and where it came from."""

import io
import json
import math
import shlex
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib
import pandas

from interpkern import report
from interpkern.files import write_atomically
from interpkern.memorisation import demo_text as text
from interpkern.memorisation.demo_figures import structure_figure, transition_figure
from interpkern.memorisation.unicode_table import unicode_table

if TYPE_CHECKING:
    from interpkern.memorisation.demo import Demo

KIND = "interpkern.memorisation.demo"
SCHEMA = 1
PROVENANCE = ("interpkern", "torch", "numpy", "python", "platform", "cpu", "backend", "isa", "threads", "seed", "time")


def save(demo: "Demo", directory: Path) -> list[Path]:
    """Write demo.html, transition.png, structure.png, models.parquet, shapes.parquet, real_table.parquet, demo.json."""
    directory.mkdir(parents=True, exist_ok=True)
    with matplotlib.rc_context(report.FIGURE_STYLE):
        figures = {
            "transition": transition_figure(demo.transition, demo.capacity),
            "structure": structure_figure(demo.structure, demo.capacities),
        }
        contents = {
            "demo.html": report.page("demo.html", _page_content(demo, figures)).encode(),
            **{f"{name}.png": report.png(figure) for name, figure in figures.items()},
            "models.parquet": _parquet(demo.models),
            "shapes.parquet": _parquet(pandas.concat([demo.transition, demo.structure], ignore_index=True)),
            "real_table.parquet": _parquet(unicode_table().to_pandas().reset_index()),
            "demo.json": json.dumps(_record(demo), indent=2, allow_nan=False).encode(),
        }
    for name, content in contents.items():
        write_atomically(directory / name, content)
    return [directory / name for name in contents]


def _page_content(demo: "Demo", figures: dict[str, Any]) -> dict[str, Any]:
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
        "transition_table": text.html_table(text.TRANSITION, list(demo.transition.itertuples())),
        "budget": text.budget(coin),
        "real_rows": real.rows,
        "real_cols": real.cols,
        "real_facts": f"{facts:,}",
        "structure": text.structure_sentences(facts, demo.capacities),
        "structure_figure": report.inline_svg(
            figures["structure"], label="share of solved models against parameters, real and random tables"
        ),
        "structure_table": text.html_table(text.STRUCTURE, text.by_shape(demo.structure)),
        "structure_budget": text.budget(real),
        "speed": demo.comparison.sentence() if demo.comparison else None,
        "files": "models.parquet",
        "command": shlex.join(demo.provenance["command"]),
        "provenance": {name: demo.provenance[name] for name in PROVENANCE},
    }


def _parquet(frame: pandas.DataFrame) -> bytes:
    buffer = io.BytesIO()
    frame.to_parquet(buffer, index=False)
    return buffer.getvalue()


def _record(demo: "Demo") -> dict[str, Any]:
    record = {
        "kind": KIND,
        "schema": SCHEMA,
        "plan": asdict(demo.plan),
        "capacity": asdict(demo.capacity),
        "capacities": {kind: asdict(each) for kind, each in demo.capacities.items()},
        "comparison": asdict(demo.comparison) if demo.comparison else None,
        "provenance": demo.provenance,
    }
    return _finite(record)


def _finite(value: Any) -> Any:
    """The value as JSON has it: null for what is not a finite number."""
    if isinstance(value, dict):
        return {name: _finite(part) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
