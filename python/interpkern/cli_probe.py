"""`interpkern probe log | helix`: how a model holds numbers, and whether it uses that."""

import json
from pathlib import Path
from typing import Any

import typer

from interpkern import data, models
from interpkern.cli_model import MODEL_HELP, bridge_of
from interpkern.cli_options import option, options, with_options
from interpkern.cli_output import folder, say, signs_of_life
from interpkern.cli_probe_helix import HELIX
from interpkern.cli_probe_input import layers_of, numbers_of
from interpkern.probing.log_probe import LogProbe, log_probe
from interpkern.probing.log_probe_report import record, verdict_lines
from interpkern.report import finite

SETS = " or ".join(data.NAMES)
NOT_FROM_API = ("source", "bridge", "operands", "numbers", "layers", "multiplication_layers", "model_name")
FROM_API = options(log_probe, leave_out=NOT_FROM_API)


def log(values: dict[str, Any]) -> None:
    """Ask whether a model holds numbers on a log scale: a magnitude direction, its scale, a circle in ln n, and whether
    the model uses it when it multiplies.

    Example: interpkern probe log --model smollm2 --layers 1,10,20 --out probe
    """
    model, file = values["model"], values["activations"]
    if model is None and file is None:
        raise ValueError(f"model: expected --model, or --activations with a file, {SETS}")
    if values["out"]:
        folder(values["out"])
    found = _probed(values)
    files = found.save(values["out"]) if values["out"] else []
    if values["json"]:
        typer.echo(json.dumps(finite(record(found)), indent=2))
        return
    for line in _lines(found):
        say(line, indent=len(line) - len(line.lstrip()))
    if files:
        say(f"wrote {files[0]}, and {len(files) - 1} pictures, tables and arrays beside it")


def _probed(values: dict[str, Any]) -> LogProbe:
    model, file = values["model"], values["activations"]
    settings = {parameter.name: values[parameter.name] for parameter in FROM_API}
    settings |= {
        "numbers": None if values["numbers"] is None else numbers_of("numbers", values["numbers"]),
        "operands": numbers_of("operands", values["operands"]),
        "layers": layers_of("layers", values["layers"]),
        "multiplication_layers": layers_of("multiplication_layers", values["multiplication_layers"]),
        "model_name": None if model is None or model not in models.MODELS else model,
        "progress": signs_of_life("probe log") if values["progress"] is None else values["progress"],
    }
    bridge = None if model is None else bridge_of(model)
    if file is None:
        return log_probe(bridge, **settings)
    return log_probe(_activations(file), bridge=bridge, **settings)


def _activations(file: str) -> Any:
    if Path(file).exists():
        return Path(file)
    if file not in data.NAMES:
        raise ValueError(f"activations: {file} is not there; expected a file .safetensors, .npz or .npy, {SETS}")
    return data.numbers(file)


def _lines(found: LogProbe) -> list[str]:
    about = f"{found.activations}; {found.provenance['seconds']:g} s"
    warnings = [f"note: {warning}" for warning in found.warnings]
    return [about, "", *verdict_lines(found), "", *warnings]


LOG = with_options(
    log,
    [
        option("model", str | None, None, help=f"the model: {MODEL_HELP}."),
        option(
            "activations",
            str | None,
            None,
            help=f"activations that are there already: a .safetensors, .npz or .npy file, or {SETS}, which ship with"
            " interpkern. With --model only the causal part runs it.",
        ),
        option("numbers", str | None, None, help="the numbers, such as 1-360 or 1,2,5-9; by default 1-360."),
        option("layers", str | None, None, help="the layers, such as 0-5 or 1,10,20; by default all."),
        option("operands", str, "1-9", help="of the products, each one token."),
        option(
            "multiplication_layers",
            str | None,
            None,
            help="where the causal part changes the model; by default at four layers.",
        ),
        *FROM_API,
        option("out", Path | None, None, help="folder for log_probe.html, a page, with pictures, tables and arrays."),
        option("json", bool, False, help="print only JSON."),
    ],
)

group = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)


@group.callback()
def about() -> None:
    """Test how a model holds numbers: log scales, circles, helices, and whether it uses them."""


group.command("log", short_help="Ask whether numbers are on a log scale.")(LOG)
group.command("helix", short_help="Run the addition paper's analysis.")(HELIX)
