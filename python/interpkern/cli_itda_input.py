"""What the ITDA commands read: files, shipped sets, or a model that is run on texts first."""

import inspect
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy
import pandas

from interpkern import data, models
from interpkern.activations import Activations, collect
from interpkern.cli_model import MODEL_HELP, bridge_of
from interpkern.cli_options import argument, option, options
from interpkern.cli_output import signs_of_life

FROM_MODEL = ("model", "hook", "texts")
SETS = " or ".join(data.NAMES)


def input_parameters() -> list[inspect.Parameter]:
    """The options by which activations are given."""
    return [
        argument(
            "activations",
            str | None,
            None,
            help=f"a .npy, .safetensors or .parquet file, a folder of them or of shards, or {SETS}, which ship with"
            " interpkern. With --model: the folder to collect to.",
        ),
        *options(Activations, leave_out=("verify",)),
        option("labels", Path | None, None, help="a .npy file of (N, 2) prompt ids and positions."),
        option("model", str | None, None, help=f"a model to collect from first: {MODEL_HELP}."),
        option("hook", str | None, None, help="with --model: the hook point, such as blocks.15.hook_resid_pre."),
        option(
            "texts",
            Path | None,
            None,
            help="with --model: a .txt file with a text a line, or .jsonl or .parquet with a field or column 'text'.",
        ),
        *options(collect, leave_out=("hook", "out_dir", "model_name", "notes", "texts_per_shard", "progress")),
    ]


def given(values: dict[str, Any], default_folder: Path | None = None) -> Activations:
    """The activations that were asked for; those of a model are collected to `default_folder` unless one is given."""
    named = values["activations"]
    if any(values[name] is not None for name in FROM_MODEL):
        return _collected(values, default_folder)
    if named is None:
        raise ValueError(f"activations: expected a file, a folder, {SETS}, or --model with --hook and --texts")
    if named in data.NAMES and not Path(named).exists():
        return data.load(named)
    if not Path(named).exists():
        raise ValueError(f"activations: {named} is not there; expected a file, a folder, {SETS}")
    labels = None if values["labels"] is None else _labels(values["labels"])
    return Activations(Path(named), key=values["key"], labels=labels)


def name_of(values: dict[str, Any]) -> str:
    """What to call the activations."""
    return str(values["activations"] or f"{values['model']} on {values['texts']}")


def about(activations: Activations, name: str) -> str:
    """What a summary says of them."""
    origin = activations.origin
    where = f" ({origin['model']} at {origin['hook']})" if "hook" in origin else ""
    return f"{len(activations):,} x {activations.width} of {name}{where}"


def _labels(path: Path) -> numpy.ndarray:
    try:
        found: numpy.ndarray = numpy.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise ValueError(f"labels: {path} cannot be read as numpy.save writes it ({error})") from None
    return found


def _collected(values: dict[str, Any], default_folder: Path | None) -> Activations:
    missing = [name for name in FROM_MODEL if values[name] is None]
    if missing:
        raise ValueError(f"{missing[0]}: expected --{missing[0]}; a model needs --model, --hook and --texts")
    folder = default_folder if values["activations"] is None else Path(values["activations"])
    if folder is None:
        raise ValueError("activations: expected a folder to collect to, beside --model")
    texts = list(texts_of(values["texts"]))
    return collect(
        bridge_of(values["model"]),
        texts,
        values["hook"],
        folder,
        max_tokens=values["max_tokens"],
        batch_size=values["batch_size"],
        dtype=values["dtype"],
        model_name=values["model"] if values["model"] in models.MODELS else None,
        notes=f"texts: {values['texts'].name}",
        progress=signs_of_life("collect") if values["progress"] is None else values["progress"],
    )


def texts_of(path: Path) -> Iterator[str]:
    """The texts of a file."""
    reader = READERS.get(path.suffix)
    if reader is None or not path.is_file():
        found = (path.suffix or "no suffix") if path.exists() else "no such file"
        raise ValueError(f"texts: {path}: expected a file {', '.join(READERS)}, got {found}")
    try:
        yield from reader(path)
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(f"texts: {path} cannot be read ({error})") from None


def _lines(path: Path) -> Iterator[str]:
    with path.open(encoding="utf-8") as file:
        yield from (line.strip() for line in file if line.strip())


def _json_lines(path: Path) -> Iterator[str]:
    for line in _lines(path):
        found = json.loads(line)
        yield found["text"] if isinstance(found, dict) else found


def _column(path: Path) -> Iterator[str]:
    yield from pandas.read_parquet(path, columns=["text"])["text"]


READERS = {".txt": _lines, ".jsonl": _json_lines, ".parquet": _column}
