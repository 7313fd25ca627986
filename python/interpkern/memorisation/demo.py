"""The demo: a thousand tiny MLPs learn random facts and a real table, in about a minute on two cores."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import pandas

from interpkern.errors import BackendUnavailable
from interpkern.machine import cpu_model
from interpkern.memorisation import demo_files
from interpkern.memorisation import demo_text as text
from interpkern.memorisation.capacity import Capacity, fit_capacity
from interpkern.memorisation.demo_speed import Comparison, compare
from interpkern.memorisation.demo_training import KINDS, Cell, Trained, summary, train_cell
from interpkern.memorisation.unicode_table import unicode_table
from interpkern.ops import BACKENDS
from interpkern.progress import Progress, reporting
from interpkern.random import check_seed
from interpkern.report import Section, save_page
from interpkern.text_tables import headings, line

Say = Callable[[str], object]

SHAPES = (
    (28, 26),
    (24, 24),
    (20, 24),
    (22, 20),
    (20, 20),
    (20, 19),
    (24, 16),
    (20, 18),
    (18, 18),
    (18, 17),
    (16, 16),
    (14, 15),
)
"""(d_model, d_hidden) for 32 x 32 facts, from 1.3 to 4.2 facts per parameter."""
LADDER = (22, 23, 24, 26, 28, 29, 30)
"""d_model = d_hidden for the Unicode table."""
QUICK = "A quick look: too few models, trained too briefly, to conclude from. Run the demo without --quick."


@dataclass(frozen=True)
class Plan:
    """What the demo trains and measures."""

    transition: tuple[Cell, ...]
    structure: tuple[Cell, ...]
    torch_models: int
    """Trained side by side in the slice for PyTorch: few enough to stay in the cache."""
    note: str
    """What a reader must know of this plan; may be empty."""
    torch_seconds: float
    """How long to measure PyTorch; 0 leaves the comparison out, which takes longer to compile than a quick demo."""


@dataclass(frozen=True)
class Demo:
    """What the demo found."""

    plan: Plan
    transition: pandas.DataFrame
    """One row a shape on coin-toss tables."""
    structure: pandas.DataFrame
    """One row a shape and kind of table, of the Unicode table's size."""
    models: pandas.DataFrame
    """One row a model."""
    capacity: Capacity
    capacities: dict[str, Capacity]
    """By kind of table."""
    comparison: Comparison | None
    """None where the plan has none."""
    provenance: dict[str, Any]

    def to_pandas(self) -> pandas.DataFrame:
        """One row a model."""
        return self.models

    def section(self) -> Section:
        """What it puts on a page, with the pictures and all numbers as files."""
        return demo_files.section(self)

    def save(self, directory: Path) -> list[Path]:
        """Write the page, the pictures and all numbers; returns the files."""
        return save_page("interpkern demo", [self.section()], directory, "demo.html")


def plan(*, quick: bool) -> Plan:
    """The whole demo, or one of a few seconds that trains too few models too briefly to conclude from."""
    models, steps, brief = (32, 2_000, 2_000) if quick else (96, 20_000, 4_000)
    rows, cols = unicode_table().table.shape
    return Plan(
        transition=tuple(Cell("fair coin", 32, 32, d, h, models, steps, 0.03, False) for d, h in SHAPES),
        structure=tuple(Cell(kind, rows, cols, d, d, 32, brief, 0.03, True) for d, kind in product(LADDER, KINDS)),
        note=QUICK if quick else "",
        torch_models=64,
        torch_seconds=0.0 if quick else 2.5,
    )


def run(
    plan: Plan, *, seed: int, backend: str, threads: int | None, say: Say, progress: Progress | bool | None = None
) -> Demo:
    """Train the plan's cells, telling each shape's result as it comes; then fit, and compare with PyTorch.

    Args:
        plan: what to train.
        seed: every cell draws from its own seed, made from this one.
        backend: as in `interpkern.memorise`, but auto takes no reference.
        threads: CPU threads; by default torch.get_num_threads().
        say: prints a line.
        progress: as in `interpkern.memorise`, of all cells together.

    Returns:
        Demo.

    Raises:
        BackendUnavailable: when only the reference is there, and it was not asked for.
    """
    _refuse(plan, seed=seed, backend=backend, threads=threads)
    total = sum(cell.model_steps for cell in plan.transition + plan.structure)
    done = 0
    with reporting(progress, "demo", " model-steps") as report:

        def train(cell: Cell) -> Trained:
            nonlocal done
            start = done
            inner = (lambda now, _: report(start + now, total)) if report else False
            trained = train_cell(cell, seed=seed, backend=backend, threads=threads, progress=inner)
            done += cell.model_steps
            if report:
                report(done, total)
            return trained

        coins = _train_transition(plan, train, say)
        real = _train_structure(plan, train, say)
    return _concluded(plan, coins, real, seed=seed, backend=backend, say=say)


def _refuse(plan: Plan, *, seed: int, backend: str, threads: int | None) -> None:
    """Refuse bad arguments before the first line: by a run of no updates, and auto where only the reference is."""
    check_seed(seed)
    first = replace(plan.transition[0], models=1, steps=0)
    train_cell(first, seed=seed, backend=backend, threads=threads, progress=False)
    reasons = {known.name: known.why_not(None) for known in BACKENDS["memorise"] if known.name != "reference"}
    if backend == "auto" and None not in reasons.values():
        listing = "; ".join(f"{name}: {reason}" for name, reason in reasons.items())
        raise BackendUnavailable(
            f"backend: no compiled backend is there, and the reference would take days. {listing}."
            " Install again with a C++ compiler, or ask for it with --backend reference"
        )


def _train_transition(plan: Plan, train: Callable[[Cell], Trained], say: Say) -> list[Trained]:
    first = plan.transition[0]
    models = sum(cell.models for cell in plan.transition)
    say(f"{models:,} tiny MLPs learn {first.rows} x {first.cols} random facts each; {text.budget(first)}")
    say(headings(text.TRANSITION))
    return [_told(train(cell), cell, say) for cell in plan.transition]


def _told(trained: Trained, cell: Cell, say: Say) -> Trained:
    (row,) = summary([cell], [trained]).itertuples()
    say(line(text.TRANSITION, row))
    return trained


def _train_structure(plan: Plan, train: Callable[[Cell], Trained], say: Say) -> list[Trained]:
    first = plan.structure[0]
    say("")
    say(f"{first.rows} characters x {first.cols} Unicode properties, and random tables; {text.budget(first)}")
    say(headings(text.STRUCTURE))
    trained = []
    for start in range(0, len(plan.structure), len(KINDS)):
        cells = plan.structure[start : start + len(KINDS)]
        trained += [train(cell) for cell in cells]
        (rows,) = text.by_shape(summary(cells, trained[start:]))
        say(line(text.STRUCTURE, rows))
    return trained


def _concluded(
    plan: Plan,
    coins: list[Trained],
    real: list[Trained],
    *,
    seed: int,
    backend: str,
    say: Say,
) -> Demo:
    transition, structure = summary(plan.transition, coins), summary(plan.structure, real)
    capacity = _capacity(transition)
    capacities = {kind: _capacity(structure[structure.kind == kind]) for kind in KINDS}
    say("")
    say(text.capacity_sentence(capacity))
    for sentence in text.structure_sentences(int(structure.facts.iloc[0]), capacities):
        say(sentence)
    comparison = None
    if plan.torch_seconds:
        say("")
        say("measuring PyTorch, which compiles for 10 to 30 s")
        seconds = float(transition.seconds.sum())
        comparison = compare(
            plan.transition,
            models=plan.torch_models,
            slice_seconds=plan.torch_seconds,
            seconds=seconds,
            seed=seed,
            backend=backend,
        )
        say(comparison.sentence())
    if plan.note:
        say("")
        say(plan.note)
    return Demo(
        plan=plan,
        transition=transition,
        structure=structure,
        models=pandas.concat([each.models for each in coins + real], ignore_index=True),
        capacity=capacity,
        capacities=capacities,
        comparison=comparison,
        provenance=coins[-1].provenance | {"cpu": cpu_model(), "seed": seed},
    )


def _capacity(shapes: pandas.DataFrame) -> Capacity:
    return fit_capacity(shapes.facts_per_P1.tolist(), shapes.solved.tolist(), shapes.models.tolist())
