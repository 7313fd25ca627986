"""`interpkern probe helix`: the analysis of "Language Models Use Trigonometry to Do Addition" on any model."""

import json
from pathlib import Path
from typing import Any

import typer

from interpkern.cli_model import MODEL_HELP, bridge_of
from interpkern.cli_options import option, options, with_options
from interpkern.cli_output import folder, say, signs_of_life
from interpkern.cli_probe_input import layers_of, numbers_of
from interpkern.probing.addition import AdditionStudy, addition_study
from interpkern.report import finite

NOT_FROM_API = ("bridge", "numbers", "layers", "sites", "periods", "neuron_layers", "encode")
FROM_API = options(addition_study, leave_out=NOT_FROM_API)


def helix(values: dict[str, Any]) -> None:
    """Run the addition paper's analysis: Fourier spectra, helix fits, patches against other bases, heads and MLPs,
    neurons. Operands have to be one token each.

    Example: interpkern probe helix --model smollm2 --numbers 0-9 --periods 2,5,10 --layers 5,10,15 --out helix
    """
    if values["out"]:
        folder(values["out"])
    settings = {parameter.name: values[parameter.name] for parameter in FROM_API}
    found = addition_study(
        bridge_of(values["model"]),
        **settings
        | {
            "numbers": numbers_of("numbers", values["numbers"]),
            "layers": layers_of("layers", values["layers"]),
            "neuron_layers": layers_of("neuron_layers", values["neuron_layers"]),
            "sites": tuple(values["sites"].split(",")),
            "periods": _periods(values["periods"]),
            "progress": signs_of_life("probe helix") if values["progress"] is None else values["progress"],
        },
    )
    if values["out"]:
        found.save(values["out"])
    if values["json"]:
        typer.echo(json.dumps(finite(_record(found)), indent=2))
        return
    for line in _lines(found):
        typer.echo(line) if "  " in line else say(line)
    if values["out"]:
        say(f"wrote tables and pictures into {values['out']}")


def _periods(typed: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in typed.split(","))
    except ValueError:
        raise ValueError(f"periods: expected numbers such as 2,5,10,100, got {typed!r}") from None


def _record(found: AdditionStudy) -> dict[str, Any]:
    tables = {name: table.to_dict("records") for name, table in found.tables().items() if name in ("patches", "fits")}
    return {"settings": found.settings, "accuracy": found.accuracy, "warnings": list(found.warnings)} | tables


def _lines(found: AdditionStudy) -> list[str]:
    fits = found.fits_to_pandas().round(3).to_string(index=False).splitlines()
    patches = found.to_pandas().round(3).to_string(index=False).splitlines()
    notes = [f"note: {warning}" for warning in found.warnings]
    share = f"the model answers {found.accuracy:.0%} of the tested prompts right"
    return [share, "", "fits", *fits, "", "patches", *patches, *([""] if notes else []), *notes]


HELIX = with_options(
    helix,
    [
        option("model", str, "smollm2", help=f"the model: {MODEL_HELP}."),
        option("numbers", str, "0-99", help="the operands, each one token, such as 0-99."),
        option("layers", str | None, None, help="the layers, such as 0-5 or 1,10,20; by default all."),
        option("sites", str, "a,last", help="where: a, b and last, with commas between."),
        option("periods", str, "2,5,10,100", help="of the helix, in the unit of the numbers."),
        option("neuron_layers", str | None, None, help="whose MLP neurons are fitted; by default one layer."),
        *FROM_API,
        option("out", Path | None, None, help="folder for tables and pictures."),
        option("json", bool, False, help="print only JSON."),
    ],
)
