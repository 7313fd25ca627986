"""`interpkern itda eval`: what recipes are worth on given activations, or how good a dictionary is."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import typer

from interpkern.activations import Activations
from interpkern.cli_itda_input import about, given, input_parameters, name_of, texts_of
from interpkern.cli_model import bridge_of
from interpkern.cli_options import option, options, with_options
from interpkern.cli_output import folder, say, signs_of_life
from interpkern.files import provenance
from interpkern.itda import ITDA, CEScore, Evaluation, Metrics, ce_score, evaluate, metrics
from interpkern.itda.evaluation_report import (
    ce_sentence,
    data_sentence,
    dictionary_section,
    evaluation_section,
    group_lines,
    metrics_sentence,
    recipe_lines,
    recipe_sentence,
)
from interpkern.report import Section, finite, save_page

PAGE = "eval.html"


def run(values: dict[str, Any]) -> None:
    """Build dictionaries of one size by several recipes, the paper's and ours, and judge them on prompts held out; or
    measure one --dictionary.

    Example: interpkern itda eval minilm --atoms 256 --k 8
    """
    if values["out"]:
        folder(values["out"])
    activations, name = given(values), name_of(values)
    if values["dictionary"]:
        lines, record, section = _measured(values, activations, name)
    else:
        lines, record, section = _compared(values, activations, name)
    if values["out"]:
        page = save_page("interpkern itda eval", [section], values["out"], PAGE)[0]
        lines.append(f"wrote {page}")
    if values["json"]:
        typer.echo(json.dumps(finite(record), indent=2))
        return
    for line in [about(activations, name), *lines]:
        typer.echo(line) if "  " in line else say(line)


def _progress(values: dict[str, Any]) -> Any:
    return signs_of_life("itda eval") if values["progress"] is None else values["progress"]


def _compared(values: dict[str, Any], activations: Activations, name: str) -> tuple[list[str], dict[str, Any], Section]:
    settings = {parameter.name: values[parameter.name] for parameter in options(evaluate)}
    found: Evaluation = evaluate(activations, **settings | {"progress": _progress(values)})
    lines = ["", *recipe_lines(found), "", recipe_sentence(found), data_sentence(found)]
    return lines, asdict(found), evaluation_section(found, name)


def _measured(values: dict[str, Any], activations: Activations, name: str) -> tuple[list[str], dict[str, Any], Section]:
    itda = ITDA.from_pretrained(values["dictionary"], backend=values["backend"], threads=values["threads"])
    found: Metrics = metrics(itda, activations, massive_above=values["massive_above"], progress=_progress(values))
    ce = _ce(values, itda) if values["model"] else None
    lines = ["", *group_lines(found), "", metrics_sentence(itda, found), *([] if ce is None else [ce_sentence(ce)])]
    figures = {group: asdict(getattr(found, group)) for group in ("all", "ordinary", "massive")}
    record = figures | {"massive_above": found.massive_above, "ce": None if ce is None else asdict(ce)}
    return lines, record, dictionary_section(itda, found, name, provenance(), ce)


def _ce(values: dict[str, Any], itda: ITDA) -> CEScore:
    return ce_score(
        itda,
        bridge_of(values["model"]),
        list(texts_of(values["texts"])),
        values["hook"],
        max_tokens=values["max_tokens"],
        batch_size=values["batch_size"],
        massive_above=values["massive_above"],
        progress=_progress(values),
    )


EVAL = with_options(
    run,
    [
        *input_parameters(),
        option(
            "dictionary",
            Path | None,
            None,
            help="a dictionary to measure, instead of comparing recipes; best on activations that it was not built"
            " from. With --model, --hook and --texts also by what it leaves of the model's prediction.",
        ),
        *options(evaluate),
        option("out", Path | None, None, help=f"folder for {PAGE}, a page, with its picture and numbers."),
        option("json", bool, False, help="print only JSON."),
    ],
)
