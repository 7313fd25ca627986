"""What the commands print: lines that fit the terminal, at once even into a pipe, and signs of life in a log."""

import shutil
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

from tqdm import tqdm

WIDEST = 110
SECONDS_BETWEEN_SIGNS = 10.0


def folder(path: Path) -> Path:
    """The folder for results, made now: a refusal must come before a minute of work, not after it."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"out: cannot make the folder {path}: {error.strerror}; choose another") from error
    return path


def say(line: str, *, indent: int = 0) -> None:
    """Print a line above a progress bar if there is one; on a terminal, wrap it at words and indent what follows."""
    width = min(shutil.get_terminal_size().columns, WIDEST)
    if sys.stdout.isatty() and len(line) > width:
        line = textwrap.fill(line, width, subsequent_indent=" " * indent)
    tqdm.write(line, file=sys.stdout)
    sys.stdout.flush()


def signs_of_life(name: str) -> Callable[[int, int], None] | None:
    """A progress function that writes a line now and then where no bar can be shown; None on a terminal."""
    if sys.stderr.isatty():
        return None
    start = shown = time.monotonic()

    def report(done: int, total: int) -> None:
        nonlocal shown
        now = time.monotonic()
        if now - shown >= SECONDS_BETWEEN_SIGNS:
            shown = now
            left = f", about {(now - start) * (total / done - 1):.0f} s left" if 0 < done < total else ""
            print(f"{name}: {done / max(total, 1):.0%} after {now - start:.0f} s{left}", file=sys.stderr, flush=True)

    return report
