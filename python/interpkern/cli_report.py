"""`interpkern report`: one page of everything that a directory of sweeps holds."""

from pathlib import Path
from typing import Any

from interpkern.cli_options import argument, option, with_options
from interpkern.cli_output import folder, say
from interpkern.memorisation.lab_report import lab_report


def run(values: dict[str, Any]) -> None:
    """Write one page, and pictures, of every finished study of a directory of interpkern capacity.

    Example: interpkern report capacity
    """
    if not values["directory"].is_dir():
        raise ValueError(f"directory: {values['directory']} is no folder; expected the --out of interpkern capacity")
    found = lab_report(values["directory"], say=say)
    files = found.save(folder(values["out"] or values["directory"]))
    say(f"wrote {files[0]} and {len(files) - 1} pictures beside it")


command = with_options(
    run,
    [
        argument("directory", Path, help="folder of interpkern capacity."),
        option("out", Path | None, None, help="folder for the page; by default that of the sweep."),
    ],
)
