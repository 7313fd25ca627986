"""`interpkern itda fit | eval | diff`: dictionaries of activations, how good they are, and how alike."""

import inspect
import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import typer

from interpkern import cli_itda_diff, cli_itda_eval
from interpkern.cli_itda_input import about as about_activations
from interpkern.cli_itda_input import given, input_parameters, name_of
from interpkern.cli_options import option, options, with_options
from interpkern.cli_output import folder, say, signs_of_life
from interpkern.itda import ITDA
from interpkern.itda.storage import claim

INDENT = 13
SHOWN = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Places in the dictionary whose atoms are shown."""


def fit(values: dict[str, Any]) -> None:
    """Build a dictionary of activations: every activation that the dictionary so far leaves too much of becomes an
    atom, with the label of its token.

    Example: interpkern itda fit minilm --k 16 --threshold 0.3 --out dictionary
    """
    out: Path = values["out"]
    itda = ITDA(**{name: values[name] for name in _names(ITDA)})
    claim(folder(out), "out")
    activations = given(values, default_folder=out.with_name(f"{out.name}-activations"))
    start = time.perf_counter()
    itda.fit(
        activations if values["device"] is None else activations.to(values["device"]),
        data_id=values["data_id"] or name_of(values),
        checkpoint=values["checkpoint"],
        checkpoint_every=values["checkpoint_every"],
        progress=signs_of_life("itda fit") if values["progress"] is None else values["progress"],
    )
    seconds = time.perf_counter() - start
    itda.save_pretrained(out)
    if values["json"]:
        typer.echo(json.dumps(_record(itda, seconds, out), indent=2))
        return
    # a fit that went on from a checkpoint did not test all rows now
    rate = "" if values["checkpoint"] else f", {itda.report.rows_seen / seconds:,.0f} rows/s"
    lines = [
        ("activations", about_activations(activations, name_of(values))),
        *_summary(itda),
        ("time", f"{seconds:.1f} s{rate}"),
        ("saved", f"{out}; measure it with: interpkern itda eval ACTIVATIONS --dictionary {out}"),
    ]
    for name, text in lines:
        say(f"{name:<{INDENT}}{text}", indent=INDENT)


def _names(source: Any) -> list[str]:
    return [parameter.name for parameter in options(source)]


def _summary(itda: ITDA) -> list[tuple[str, str]]:
    settings, report = itda.settings, itda.report
    centred = "not centred" if settings.centre is False else "centred"
    how = f"{settings.method}, k {settings.k}, {centred}, {settings.mode}"
    shown = sorted({round(share * (len(itda) - 1)) for share in SHOWN}) if len(itda) else []
    return [
        ("dictionary", f"{report}; {how}"),
        *(("" if place else "atoms", str(itda.describe(atom))) for place, atom in enumerate(shown)),
    ]


def _record(itda: ITDA, seconds: float, out: Path) -> dict[str, Any]:
    about = {"settings": asdict(itda.settings), "report": asdict(itda.report), "data": dict(itda.data)}
    return {"atoms": len(itda), "width": len(itda.mean)} | about | {"seconds": seconds, "out": str(out)}


FIT = with_options(
    fit,
    [
        *input_parameters(),
        *options(ITDA),
        *options(ITDA.fit),
        option("device", str | None, None, help="where to build: cpu, cuda or cuda:1; the rows are uploaded to a GPU."),
        option("out", Path, inspect.Parameter.empty, help="folder for the dictionary, which SAELens can load as well."),
        option("json", bool, False, help="print only JSON."),
    ],
)

group = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)


@group.callback()
def about() -> None:
    """Build, measure and compare dictionaries of activations (ITDA)."""


group.command("fit", short_help="Build a dictionary of activations.")(FIT)
group.command("eval", short_help="Measure recipes, or a dictionary, on activations.")(cli_itda_eval.EVAL)
group.command("diff", short_help="Compare dictionaries, or two models layer by layer.")(cli_itda_diff.DIFF)
