"""The demo: a part for each lab, told on the terminal and put on one page."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from interpkern.itda import demo as itda
from interpkern.memorisation import demo as memorisation
from interpkern.probing import demo as probing
from interpkern.report import Section, save_page
from interpkern.validation import choice

PAGE = "demo.html"
TITLE = "interpkern demo"


class Part(Protocol):
    """What the demo of a lab is: a module with these two functions."""

    def plan(self, *, quick: bool) -> Any:
        """What it is going to do."""

    def run(self, plan: Any, *, seed: int, backend: str, threads: int | None, say: Callable[[str], object]) -> Any:
        """Do it, and give what has a `section()`."""


PARTS: dict[str, Part] = {"memorisation": memorisation, "itda": itda, "probing": probing}
"""By name, in the order of the page."""


@dataclass(frozen=True)
class Demo:
    """What all parts found."""

    sections: tuple[Section, ...]

    def save(self, directory: Path) -> list[Path]:
        """Write the page, and the pictures and numbers of every part; returns the files, the page first."""
        return save_page(TITLE, self.sections, directory, PAGE)


def run(
    parts: Sequence[str],
    *,
    quick: bool,
    seed: int,
    backend: str,
    threads: int | None,
    say: Callable[[str], object],
) -> Demo:
    """Run the parts that are named, or all.

    Args:
        parts: names in PARTS; none for all.
        quick: seconds, for a first look.
        seed, backend, threads: of every part.
        say: prints a line.
    """
    wanted = [choice("part", name, tuple(PARTS)) for name in parts] or list(PARTS)
    sections: list[Section] = []
    for name, part in PARTS.items():
        if name in wanted:
            if sections:
                say("")
            plan = part.plan(quick=quick)
            found = part.run(plan, seed=seed, backend=backend, threads=threads, say=say)
            sections.append(found.section())
    return Demo(tuple(sections))
