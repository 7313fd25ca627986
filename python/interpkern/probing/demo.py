"""The demo of the lab: how two real models hold the numbers of 1 to 360, in seconds and without a network."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from interpkern import data
from interpkern.files import provenance
from interpkern.machine import cpu_model, one_thread
from interpkern.probing import demo_files
from interpkern.probing.log_probe import LogProbe, log_probe
from interpkern.probing.log_probe_report import verdict_lines
from interpkern.progress import Progress, reporting
from interpkern.random import check_seed
from interpkern.report import Section, save_page
from interpkern.validation import choice, integer

Say = Callable[[str], object]
QUICK_LAYERS = {"minilm": (0, 3), "smollm2": (1, 20)}
QUICK_NOTE = (
    "Two layers of each model, and without the smallest circle that would have been seen; leave out --quick for both."
)
BACKENDS = ("auto", "cpu", "reference", "cuda", "triton")


@dataclass(frozen=True)
class Plan:
    """What the demo probes."""

    layers: dict[str, tuple[int, ...]]
    """Of each shipped set."""
    surrogates: int
    sensitivity: str
    note: str
    """What a reader must know of this plan."""


@dataclass(frozen=True)
class Demo:
    """What the demo found."""

    plan: Plan
    found: tuple[LogProbe, ...]
    provenance: dict[str, Any]

    def section(self) -> Section:
        """What it puts on a page, with pictures and all numbers as files."""
        return demo_files.section(self)

    def save(self, directory: Path) -> list[Path]:
        """Write the page, the pictures and all numbers; returns the files."""
        return save_page("interpkern demo", [self.section()], directory, "demo.html")


def plan(*, quick: bool) -> Plan:
    """Both shipped sets at all their layers, or at two each, without the smallest circle that would have been seen."""
    layers = {name: QUICK_LAYERS[name] if quick else data.numbers(name).layers for name in data.NAMES}
    note = QUICK_NOTE if quick else ""
    return Plan(layers, surrogates=99 if quick else 199, sensitivity="none" if quick else "strongest", note=note)


def run(
    plan: Plan, *, seed: int, backend: str, threads: int | None, say: Say, progress: Progress | bool | None = None
) -> Demo:
    """Probe each set, telling what is found as it comes.

    Args:
        plan: what to probe.
        seed: of all that is drawn.
        backend: not used here, since this lab runs in plain PyTorch; checked all the same.
        threads: CPU threads; by default one.
        say: prints a line.
        progress: a function of (models done, models in all), True or False for a bar or none; by default a bar on a
            terminal.

    Returns:
        Demo.
    """
    check_seed(seed)
    choice("backend", backend, BACKENDS)
    if threads is not None:
        integer("threads", threads, 1)
    found: list[LogProbe] = []
    with one_thread(), reporting(progress, "demo", " models") as report:
        for name, layers in plan.layers.items():
            say("" if found else "Do language models hold numbers on a log scale?")
            one = log_probe(
                data.numbers(name),
                layers=layers,
                surrogates=plan.surrogates,
                sensitivity=plan.sensitivity,
                seed=seed,
                progress=False,
            )
            found.append(one)
            say(f"{one.activations}, {one.provenance['seconds']:g} s")
            for line in verdict_lines(one):
                say(line)
            if report:
                report(len(found), len(plan.layers))
    about = {"cpu": cpu_model(), "seed": seed, "threads": threads or 1}
    return Demo(plan, tuple(found), provenance() | about)
