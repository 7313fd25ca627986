"""`interpkern memorise`: every field of the API as an option, and a summary or a folder of results."""

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from interpkern.cli_options import option, options, with_options
from interpkern.cli_output import folder, say, signs_of_life
from interpkern.files import write_atomically
from interpkern.memorisation import MemoriseRun, TableMLPs, load_table, mean_interval, memorise, random_tables
from interpkern.memorisation.plots import budget, sizes, solved_sentence
from interpkern.memorisation.storage import claim
from interpkern.report import png

SIDES = ("rows", "cols")
INDENT = 12


def parameters() -> list[inspect.Parameter]:
    """All options of the command."""
    return [
        *options(TableMLPs.init, optional=SIDES),
        *options(random_tables, optional=SIDES),
        option(
            "table",
            Path | None,
            None,
            help="file with the facts, instead of random ones: .npy, .npz, .csv or .parquet of 0 and 1.",
        ),
        *options(memorise, leave_out=("models", "tables", "state")),
        option(
            "out", Path | None, None, help="folder for the trained models, a table of them, the loss and a summary."
        ),
    ]


def run(values: dict[str, Any]) -> None:
    """Train tiny MLPs by the thousand, each to memorise a table of facts.

    Example: interpkern memorise --models 64 --rows 32 --cols 32 --d-model 20 --d-hidden 20 --steps 20000 --schedule
    cosine --out results
    """
    table = load_table(values["table"]) if values["table"] else None
    values = values | _sides(values, table) | {"train": tuple(values["train"]) if values["train"] else None}
    if values["out"]:
        claim(folder(values["out"]), "out")
    if table is None:
        tables = random_tables(**_taken_by(random_tables, values))
    else:
        tables = table.expand(values["models"], -1, -1)
    models = TableMLPs.init(**_taken_by(TableMLPs.init, values))
    if values["progress"] is None:
        values["progress"] = signs_of_life("memorise")
    trained = memorise(**_taken_by(memorise, values | {"models": models, "tables": tables}))
    lines = summary(trained)
    if values["out"]:
        save(trained, lines, values["out"])
        lines.append(f"{'saved':<{INDENT}}{values['out']}")
    for line in lines:
        say(line, indent=INDENT)


def _taken_by(function: Callable[..., Any], values: dict[str, Any]) -> dict[str, Any]:
    return {name: values[name] for name in inspect.signature(function).parameters if name in values}


def _sides(values: dict[str, Any], table: torch.Tensor | None) -> dict[str, int]:
    """Rows and columns: those of the file, or those that were given."""
    if table is None:
        missing = [name for name in SIDES if values[name] is None]
        if missing:
            raise ValueError(f"{missing[0]}: expected --{missing[0]}, or --table with a file of facts")
        return {name: values[name] for name in SIDES}
    for name, size in zip(SIDES, table.shape, strict=True):
        if values[name] not in (None, size):
            raise ValueError(f"{name}: {values['table']} has {size}, got --{name} {values[name]}; leave it out")
    if values["p"] != 0.5 or values["balanced"]:
        raise ValueError("p, balanced: they are for random tables; leave them out with --table")
    return dict(zip(SIDES, table.shape, strict=True))


def summary(run: MemoriseRun) -> list[str]:
    """What was trained, with which budget, and what came out."""
    two = run.parameters("two_logit")
    bits, low, high = mean_interval(run.bits("ce") / two)
    diverged = int((~run.bits("ce").isfinite()).sum())
    machine = run.provenance
    rate = f"{int(run.steps_taken.sum()) / machine['seconds']:,.0f} model-steps/s"
    threads = f"{machine['threads']} threads"
    where = " ".join(part for part in (machine["backend"], machine["isa"]) if part)
    lines = {
        "models": sizes(run),
        "budget": budget(run),
        "facts/P1": f"{run.facts / run.parameters('one_logit'):.2f}",
        "solved": solved_sentence(run.solved, diverged=diverged).removeprefix("solved "),
        "bits_CE/P2": f"{bits:.3f} (95 % interval of the mean {low:.3f} to {high:.3f})",
        "loss": f"median {float(run.loss[:, -1].nanmedian()):.4g} nats per fact",
        "time": f"{machine['seconds']:.1f} s, {rate}, {where}, {machine['gpu'] or threads}",
    }
    return [f"{name:<{INDENT}}{line}" for name, line in lines.items()]


def save(run: MemoriseRun, lines: list[str], directory: Path) -> None:
    """Write the run, a picture of its loss, and the summary."""
    run.save(directory)
    write_atomically(directory / "loss.png", png(run.plot()))
    write_atomically(directory / "summary.txt", "".join(f"{line}\n" for line in lines).encode())


command = with_options(run, parameters())
