"""`interpkern itda diff`: how alike two dictionaries are, or the dictionaries of two models layer by layer."""

import json
import re
import warnings
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import typer

from interpkern.activations import Activations
from interpkern.cli_options import argument, option, options, with_options
from interpkern.cli_output import say, signs_of_life
from interpkern.files import write_atomically
from interpkern.itda import ITDA
from interpkern.itda.layer_matching import LayerMatch, layer_match
from interpkern.itda.similarity import REMEDY, Jaccard, jaccard
from interpkern.itda.storage import CONFIG
from interpkern.report import finite, png


def diff(values: dict[str, Any]) -> None:
    """Compare dictionaries by the labels of their atoms: two dictionaries, or two folders with as many of them, layer
    by layer. Beside the number stands what chance gives, and a warning where they were built in different ways.

    Example: interpkern itda diff dictionary other-dictionary
    """
    names = {side: values[side] for side in ("a", "b")}
    several = {side: not (path / CONFIG).exists() for side, path in names.items()}
    if several["a"] != several["b"]:
        one, many = sorted(names, key=lambda side: several[side])
        raise ValueError(
            f"{many}: {names[many]} holds no {CONFIG}, while {names[one]} is one dictionary; give two dictionaries or"
            " two folders of them"
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # they are in what comes back
        found, layers = _layers(values) if several["a"] else (_pair(values), [])
    if values["plot"]:
        write_atomically(values["plot"], png(found.plot()))
    if values["json"]:
        typer.echo(json.dumps(finite(_record(found)), indent=2))
        return
    lines = _match_lines(found, *layers) if isinstance(found, LayerMatch) else _jaccard_lines(found)
    indent = max(len(name) for name, _ in lines) + 3
    for name, text in lines:
        say(f"{name:<{indent}}{text}", indent=indent)


def _pair(values: dict[str, Any]) -> Jaccard:
    if values["activations_a"] or values["activations_b"]:
        raise ValueError("activations_a, activations_b: they are for folders of dictionaries; leave them out")
    return jaccard(
        ITDA.from_pretrained(values["a"]),
        ITDA.from_pretrained(values["b"]),
        other_orders=[ITDA.from_pretrained(path) for path in values["other_orders"]],
        population=values["population"],
        confidence=values["confidence"],
    )


def _layers(values: dict[str, Any]) -> tuple[LayerMatch, list[list[str]]]:
    """The match, and the names of the layers of both."""
    if values["other_orders"]:
        raise ValueError("other_orders: they are for two dictionaries; leave them out with folders of them")
    paths = [_dictionaries(side, values[side]) for side in ("a", "b")]
    sides = [[ITDA.from_pretrained(path) for path in side] for side in paths]
    rows = [_activations(name, values[name]) for name in ("activations_a", "activations_b")]
    found = layer_match(
        *sides,
        activations_a=rows[0],
        activations_b=rows[1],
        variance=values["variance"],
        progress=signs_of_life("itda diff") if values["progress"] is None else values["progress"],
    )
    return found, [[path.name for path in side] for side in paths]


def _dictionaries(name: str, folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise ValueError(f"{name}: {folder} is no folder; expected a dictionary, or a folder of dictionaries")
    found = _in_order(path.parent for path in folder.glob(f"*/{CONFIG}"))
    if not found:
        raise ValueError(f"{name}: {folder} holds no dictionary and no folders of dictionaries (no {CONFIG})")
    return found


def _activations(name: str, folder: Path | None) -> list[Any] | None:
    """Every entry of the folder, in order, as the activations of a layer."""
    if folder is None:
        return None
    if not folder.is_dir():
        raise ValueError(f"{name}: {folder} is no folder; expected one with a file or folder of activations a layer")
    return [Activations(path).tensor() for path in _in_order(folder.iterdir())]


def _in_order(paths: Any) -> list[Path]:
    """By name, numbers by their value: layer_2 before layer_10."""

    def key(path: Path) -> list[tuple[int, int, str]]:
        parts = re.findall(r"\d+|\D+", path.name)
        return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in parts]

    return sorted(paths, key=key)


def _jaccard_lines(found: Jaccard) -> list[tuple[str, str]]:
    either = sum(found.sizes) - found.shared
    a, b = found.sizes
    lines = [("jaccard", f"{found.value:.4g}: {found.shared:,} labels of both, of {either:,} ({a:,} of a, {b:,} of b)")]
    null = found.shuffled
    if null is None:
        lines.append(("chance", "not known, since it is not known how many rows there were; give --population"))
    else:
        p = f"{null.p_value:.2g}" if null.p_value > 0 else "below 1e-300"
        interval = f"{null.confidence:.0%} within {null.low:.4g} to {null.high:.4g}"
        lines.append(
            ("chance", f"{null.expected:.4g} for shuffled labels of {null.population:,} rows ({interval}); p {p}")
        )
    if found.other_orders:
        values = ", ".join(f"{value:.4g}" for value in found.other_orders)
        lines.append(("order", f"{values} for a's own data in another order: what order alone costs"))
    else:
        lines.append(
            ("order", "not known; fit a's data once more with --order canonical and give it by --other-orders")
        )
    return [*lines, *_warnings(found.warnings)]


def _match_lines(found: LayerMatch, ours: list[str], theirs: list[str]) -> list[tuple[str, str]]:
    width = max(map(len, theirs)) + len(" at 0.000") + 3
    lines = [("layer of a", "".join(f"{measure:>{width}}" for measure in found.measures))]
    for layer, name in enumerate(ours):
        rows = [getattr(found, measure)[layer] for measure in found.measures]
        best = [f"{theirs[int(row.argmax())]} at {float(row.max()):.3f}" for row in rows]
        lines.append((name, "".join(f"{text:>{width}}" for text in best)))
    shares = ", ".join(f"{measure} {found.score(measure):.3f}" for measure in found.measures)
    lines.append(("match", f"{shares} of the layers are most like the same layer; chance is {1 / len(ours):.3f}"))
    return [*lines, *_warnings(found.warnings)]


def _warnings(sentences: Sequence[str]) -> list[tuple[str, str]]:
    short = [re.sub(r"([0-9a-f]{12})[0-9a-f]{52}", r"\1...", sentence) for sentence in sentences]
    return [("warning", sentence) for sentence in short] + [("", REMEDY)] * bool(sentences)


def _record(found: Jaccard | LayerMatch) -> dict[str, Any]:
    if isinstance(found, LayerMatch):
        tables = {measure: getattr(found, measure).tolist() for measure in found.measures}
        scores = {measure: found.score(measure) for measure in found.measures}
        return {"scores": scores, "chance": 1 / len(found.jaccard), **tables, "warnings": found.warnings}
    record = {name: value for name, value in vars(found).items() if name != "shuffled"}
    return record | {"shuffled": None if found.shuffled is None else asdict(found.shuffled)}


DIFF = with_options(
    diff,
    [
        argument(
            "a", Path, help="a dictionary, or a folder of dictionaries, one a layer, in the order of their names."
        ),
        argument("b", Path, help="another one."),
        *options(jaccard),
        option(
            "other_orders",
            list[Path],
            [],
            help="a dictionary of a's own data in another order. Give the option again for another.",
        ),
        *options(layer_match),
        option("activations_a", Path | None, None, help="folder of activations, one file or folder a layer of a."),
        option("activations_b", Path | None, None, help="the same of b, row i of the same token: for CKA and SVCCA."),
        option("plot", Path | None, None, help="a .png file for a picture."),
        option("json", bool, False, help="print only JSON."),
    ],
)
