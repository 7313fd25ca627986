"""`interpkern capacity`: how much models can hold, in a directory of cells that can be gone on with."""

from pathlib import Path
from typing import Any

from interpkern.cli_options import option, options, with_options
from interpkern.cli_output import say, signs_of_life
from interpkern.memorisation import lab_studies
from interpkern.memorisation.lab_studies import lab_study
from interpkern.memorisation.lab_text import study_lines
from interpkern.memorisation.scaling import has_law, scaling_law
from interpkern.memorisation.studies import STUDIES
from interpkern.memorisation.sweep_text import shape_columns, threshold_lines
from interpkern.memorisation.sweeps import Sweep, capacity_sweep
from interpkern.runs import Store
from interpkern.text_tables import headings, line
from interpkern.validation import choice


def run(values: dict[str, Any]) -> None:
    """Find how many facts models of a size can hold, and how: a study of many models in one directory.

    Called again with the same directory it goes on where it was stopped; call it twice at once to share the work.
    circuits, quantisation and constructions are studies too, for interpkern report.

    Example: interpkern capacity --sizes 16,32,48,64 --seeds 64 --out capacity
    """
    choice("study", values["study"], (*STUDIES, *lab_studies.STUDIES))
    progress = signs_of_life(f"capacity {values['study']}") if values["progress"] is None else values["progress"]
    if values["study"] in lab_studies.STUDIES:
        _look_into(values, progress)
        return
    settings = {name: values[name] for name in FROM_API} | {"progress": progress, "sizes": _sizes(values["sizes"])}
    found = capacity_sweep(values["out"], **settings, say=say)
    with Store(values["out"]).holding():
        found.save(values["out"])
    for text in _lines(found):
        say(text)
    say(f"cells and tables are in {values['out']}; interpkern report {values['out']} makes a page of them")


def _look_into(values: dict[str, Any], progress: Any) -> None:
    """The studies that have no sizes to choose."""
    if values["sizes"] is not None:
        raise ValueError(f"sizes: {values['study']} has its own; leave it out")
    settings = {name: values[name] for name in FROM_API} | {"progress": progress}
    found = lab_study(values["out"], **settings, say=say)
    with Store(values["out"]).holding():
        found.save(values["out"])
    for text in study_lines(found):
        say(text)
    say(f"cells are in {values['out']}; interpkern report {values['out']} makes a page of them")


def _sizes(typed: str | None) -> tuple[int, ...] | None:
    """Numbers between commas."""
    if typed is None:
        return None
    try:
        return tuple(int(part) for part in typed.split(","))
    except ValueError:
        raise ValueError(f"sizes: expected numbers such as 16,32,48, got {typed!r}") from None


def _lines(found: Sweep) -> list[str]:
    shapes = found.shapes()
    columns = shape_columns(shapes)
    lines = ["", headings(columns), *(line(columns, row) for row in shapes.itertuples()), "", *threshold_lines(found)]
    if found.study == "growth" and has_law(found.models):
        lines += ["", scaling_law(found.models).sentence()]
    return [*lines, ""]


FROM_API = {each.name: each for each in options(capacity_sweep, leave_out=("directory",))}
SIZES = option("sizes", str | None, None, help="m, for tables of m x m facts: 16,32,48. By default those of the study.")
OUT = option("out", Path, Path("interpkern-capacity"), help="folder of the cells: new, or of an earlier sweep.")
command = with_options(run, [FROM_API["study"], SIZES, *FROM_API.values(), OUT])
