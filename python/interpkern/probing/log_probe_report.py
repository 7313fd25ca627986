"""What a log probe found, on a page: the verdict table first, then what it rests on."""

import math
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import matplotlib
import pandas

from interpkern import report
from interpkern.probing.features import FEATURES
from interpkern.probing.log_verdicts import COLUMNS
from interpkern.text_tables import Column, html_table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from interpkern.probing.log_probe import LogProbe
    from interpkern.probing.number_sets import NumberActivations

KIND = "interpkern.log_probe"
SCHEMA = 1
TEMPLATE = "probing.html"
FINDINGS = "probing_findings.html"
"""The part of it that is about one model."""
SHOWN = 6
"""Components in the table of directions."""
LABELS = {
    "components": "numbers along the first two components, coloured by ln n, and the magnitude component against n",
    "layers": "R squared of reading numbers by layer, and the exponent of the best component by layer",
    "scan": "power of a circle in ln n over periods, with the band of the null and the spectral window",
    "circles": "p of the strongest circle by layer, and the smallest circle that would have been found",
    "ablations": "change of the answer's logit by layer when the direction of ln n is projected out",
    "patches": "effect of patches of operand a by layer",
}
"""What each figure shows, for who cannot see it."""


def log_probe_section(found: "LogProbe", *, prefix: str = "log-probe") -> report.Section:
    """The log probe on a page; every file begins with `prefix`."""
    with matplotlib.rc_context(report.FIGURE_STYLE):
        figures = _figures(found)
        files = {f"{prefix}-{name}.png": report.png(figure) for name, figure in figures.items()}
        drawn = {name: report.inline_svg(figure, label=LABELS[name]) for name, figure in figures.items()}
    files |= {f"{prefix}-{name}.parquet": report.parquet(table) for name, table in tables(found).items()}
    files |= {
        f"{prefix}-activations.safetensors": _activations(found.activations),
        f"{prefix}.json": report.json_bytes(record(found)),
    }
    return report.Section(
        f"Does {found.activations.name} hold numbers on a log scale?",
        TEMPLATE,
        content(found, drawn),
        files,
        found.provenance,
    )


def content(found: "LogProbe", figures: Mapping[str, Any]) -> dict[str, Any]:
    """What the template needs."""
    size, circles = found.magnitude, found.circles
    return {
        "heading": "h3",
        "data": data_sentence(found.activations),
        "verdicts": html_table(COLUMNS, found.verdicts),
        "confounds": [_confound(text, layers, found.layers) for text, layers in found.confounds.items()],
        "figures": figures,
        "layer": size.layer,
        "component": size.component,
        "directions": html_table(DIRECTIONS, _direction_rows(found)),
        "decoded": html_table(DECODED, _decoded_rows(found)),
        "circle_layer": circles.layer,
        "circle_sentence": _circle_sentence(found),
        "doubts": circles.doubts(circles.layer),
        "planted": len(circles.detectable_to_pandas()) > 0,
        "permutation": _permutation_sentence(found),
        "many_layers": len(found.layers) > 1,
        "layers": html_table(LAYERS, found.layers_to_pandas().itertuples()),
        "multiplication": found.multiplication,
        "ablations": html_table(ABLATIONS, _ablation_rows(found)),
        "why_not_used": found.why_not_used,
        "settings": found.settings,
    }


def data_sentence(found: "NumberActivations") -> str:
    """What was looked at."""
    origin = found.origin
    prompt = (
        f' as the text "{origin["prefix"]}n"' if origin.get("prefix") else ", each alone" if "prefix" in origin else ""
    )
    where = f" ({origin['hook']})" if origin.get("hook") else ""
    count = f" of {origin['layers_of_model']}" if origin.get("layers_of_model") else ""
    layers = f"layer{'s' if len(found.layers) > 1 else ''} {', '.join(map(str, found.layers))}{count}"
    split = {
        True: " The tokenizer splits some of them; the activation is that of the last piece.",
        False: " Each is one token.",
        None: "",
    }[found.digit_split]
    what = f"the activation of {found.name} at the number's last token, {layers}{where}"
    return f"{len(found)} numbers from {found.span}{prompt}; {what}.{split}"


def _confound(text: str, layers: tuple[int, ...], all_layers: tuple[int, ...]) -> str:
    return (
        text if layers == all_layers else f"layer{'s' if len(layers) > 1 else ''} {', '.join(map(str, layers))}: {text}"
    )


def _circle_sentence(found: "LogProbe") -> str:
    """What stands out most, and whether anything speaks against its being a circle in ln n."""
    circles, test = found.circles, found.circles.strongest
    beside = (
        f"; {circles.over_layers(circles.layer):.3g} over all {len(circles.tests)} layers"
        if len(circles.tests) > 1
        else ""
    )
    against = (
        "What speaks against a circle in ln n:"
        if circles.doubts(circles.layer)
        else "Nothing that was looked at speaks against it."
    )
    return (
        f"What stands out most has a period of {test.period:.3g} nats, a turn for each factor of {test.ratio:.3g}, and"
        f" {test.power:.1%} of the variance (p = {test.p_value:.3g}{beside}). {against}"
    )


def _permutation_sentence(found: "LogProbe") -> str:
    """What the null that misleads would have said."""
    p = [value for value in found.circles.permutation.values() if not math.isnan(value)]
    if not p:
        return ""
    rejected = sum(one <= 0.05 for one in p)
    return (
        f"With the labels permuted, p would have been at most .05 in {rejected} of {len(p)} layers:"
        " that null has no structure at all, so anything smooth in n is against it, circle or not."
    )


def _figures(found: "LogProbe") -> dict[str, "Figure"]:
    from interpkern.probing.log_probe_plots import plot_circles, plot_components, plot_layers

    drawn = {"components": plot_components(found)}
    if len(found.layers) > 1:
        drawn["layers"] = plot_layers(found)
    drawn |= {"scan": _untitled(found.circles.strongest.plot()), "circles": plot_circles(found.circles)}
    if found.multiplication is not None:
        drawn |= {"ablations": found.multiplication.plot(), "patches": found.multiplication.patches.plot()}
    return drawn


def _untitled(figure: "Figure") -> "Figure":
    """Without the verdict of one layer's test, since the page has that of all layers."""
    figure.suptitle("")
    return figure


def tables(found: "LogProbe") -> dict[str, pandas.DataFrame]:
    """All tables by name."""
    parts = {
        "verdicts": found.to_pandas(),
        "layers": found.layers_to_pandas(),
        "directions": found.directions_to_pandas(),
        "decoded": found.decoded_to_pandas(),
        "scans": found.scans_to_pandas(),
        "detectable": found.circles.detectable_to_pandas(),
    }
    if found.multiplication is not None:
        parts |= {"ablations": found.multiplication.to_pandas(), "patches": found.multiplication.patches.to_pandas()}
    return parts


def record(found: "LogProbe") -> dict[str, Any]:
    """The summary as JSON."""
    size = {name: value for name, value in vars(found.magnitude).items() if name != "layers"}
    return {
        "kind": KIND,
        "schema": SCHEMA,
        "origin": dict(found.activations.origin),
        "layers": list(found.layers),
        "verdicts": [asdict(verdict) for verdict in found.verdicts],
        "magnitude": size | {"r_squared": dict(size["r_squared"])},
        "circle_p_value": found.circles.p_value,
        "circle_layer": found.circles.layer,
        "permutation_p_values": {str(layer): p for layer, p in found.circles.permutation.items()},
        "warnings": list(found.warnings),
        "settings": dict(found.settings),
        "provenance": dict(found.provenance),
    }


def _activations(found: "NumberActivations") -> bytes:
    with TemporaryDirectory() as folder:
        return found.save(Path(folder) / "numbers.safetensors").read_bytes()


def _interval(r: float, low: float, high: float) -> str:
    return "does not vary" if math.isnan(r) else f"{r:+.3f} ±{max(high - r, r - low):.2f}"


def _r(feature: str) -> Column:
    return Column(feature, 16, lambda row: row["cells"][feature])


DIRECTIONS = (
    Column("", 4, lambda row: f"{row['component']}"),
    Column("variance", 10, lambda row: f"{row['share']:.1%}"),
    *(_r(feature) for feature in FEATURES),
    Column("ln n, others out", 18, lambda row: row["partial"]),
)


def _direction_rows(found: "LogProbe") -> list[dict[str, Any]]:
    """The first components of the magnitude's layer."""
    own = found.directions[found.magnitude.layer]
    partial = own.partial.set_index("component")
    rows = []
    for component, part in own.table[own.table["component"] <= SHOWN].groupby("component"):
        cells = {row.feature: _interval(row.r, row.low, row.high) for row in part.itertuples()}
        beyond = partial.loc[component]
        rows.append(
            {
                "component": component,
                "share": part["eigenvalue_share"].iloc[0],
                "cells": cells,
                "partial": _interval(beyond["r"], beyond["low"], beyond["high"]),
            }
        )
    return rows


DECODED = (
    Column("read by ridge", 16, lambda row: row["feature"], left=True),
    *(
        Column(f"{kind} folds", 18, lambda row, kind=kind: row.get(kind, ""))  # type: ignore[misc]
        for kind in ("shuffled", "interpolation", "extrapolation")
    ),
)


def _decoded_rows(found: "LogProbe") -> list[dict[str, str]]:
    own = found.directions[found.magnitude.layer].decoded
    rows = []
    for feature, part in own.groupby("feature", sort=False):
        cells = {row.folds: f"{row.r2:.3f} [{row.low:.2f}, {row.high:.2f}]" for row in part.itertuples()}
        rows.append({"feature": str(feature)} | cells)
    return rows


LAYERS = (
    Column("layer", 7, lambda row: f"{row.layer}"),
    Column("part", 6, lambda row: f"{row.component}"),
    Column("|r|", 7, lambda row: f"{row.r:.3f}"),
    Column("within", 8, lambda row: f"{row.r_within:.3f}"),
    Column("exponent", 22, lambda row: f"{row.exponent:.2f} [{row.low:.2f}, {row.high:.2f}]"),
    Column("circle p", 10, lambda row: f"{row.p_value:.3g}"),
    Column("permuted", 10, lambda row: "" if math.isnan(row.p_permutation) else f"{row.p_permutation:.3g}"),
    Column("period", 8, lambda row: f"{row.period:.3g}"),
    Column("power", 8, lambda row: f"{row.power:.1%}"),
    Column("octaves", 9, lambda row: f"{row.predicted:+.1%}"),
    Column("λ", 8, lambda row: f"{row.best_lambda:g}"),
)
"""One row a layer."""

ABLATIONS = (
    Column("layer", 7, lambda row: f"{row.layer}"),
    Column("direction", 18, lambda row: row.direction, left=True),
    Column("answer's logit", 15, lambda row: f"{row.delta_logit:+.3f}"),
    Column("KL (nats)", 11, lambda row: f"{row.kl:.3f}"),
    Column("p", 8, lambda row: "" if math.isnan(row.p_value) else f"{row.p_value:.2g}"),
    Column(
        "removed variance", 17, lambda row: "" if math.isnan(row.removed_variance) else f"{row.removed_variance:.1%}"
    ),
)


def _ablation_rows(found: "LogProbe") -> list[Any]:
    return [] if found.multiplication is None else list(found.multiplication.to_pandas().itertuples())


def verdict_lines(found: "LogProbe") -> list[str]:
    """The verdicts for the terminal: a question and its answer, and indented what it rests on."""
    lines = []
    for verdict in found.verdicts:
        seen = f"would have been seen: {verdict.detectable}" if verdict.detectable else ""
        lines.append(f"{verdict.question} {verdict.answer}")
        lines += [f"    {line}" for line in (verdict.effect, verdict.chance, seen) if line]
    return lines
