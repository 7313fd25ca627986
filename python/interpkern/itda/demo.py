"""The demo of the lab: what real activations are made of, in seconds and without a network."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy
import pandas
import torch

from interpkern import data
from interpkern.activations import Activations
from interpkern.activations.context import Description
from interpkern.files import provenance
from interpkern.itda import demo_files
from interpkern.itda.dictionary import ITDA
from interpkern.itda.evaluation import Evaluation, evaluate, held_out_rows
from interpkern.itda.evaluation_report import recipe_columns, recipe_sentence
from interpkern.itda.rows import MASSIVE, joined
from interpkern.itda.streams import open_stream
from interpkern.itda.variants import random_atoms
from interpkern.machine import cpu_model, one_thread
from interpkern.ops.matching_pursuit import matching_pursuit
from interpkern.progress import Progress, reporting
from interpkern.random import check_seed
from interpkern.report import Section, save_page
from interpkern.text_tables import headings, line

Say = Callable[[str], object]

PICKS = (1, 2, 4, 8, 16, 32)
CURVES = {"OMP": "omp", "MP, as in the paper": "mp", "OMP over random tokens": "omp"}
SHORTEST_WORD = 4
PARTS = 3


@dataclass(frozen=True)
class Plan:
    """What the demo builds."""

    sets: tuple[str, ...]
    """Of `interpkern.data`."""
    threshold: float
    k: int
    readings: int
    """Tokens that are taken apart, of each set."""
    rounds: int
    """Of `refine`, in the table."""
    note: str
    """What a reader must know of this plan."""


@dataclass(frozen=True)
class Part:
    """One atom of a token."""

    share: float
    """Its coefficient, over the norm of the centred activation."""
    atom: int
    source: Description
    """The token that the atom was taken from."""


@dataclass(frozen=True)
class Reading:
    """One held-out token, with the atoms that it is made of."""

    token: Description
    error: float
    """Share of its squared norm that the code leaves."""
    parts: tuple[Part, ...]
    """The largest ones."""


@dataclass(frozen=True)
class Found:
    """What one set of activations gave."""

    name: str
    model: str
    hook: str
    tokens: int
    """That the dictionary was built from."""
    itda: ITDA
    readings: tuple[Reading, ...]
    curves: pandas.DataFrame
    """Held-out FVU by picks (rows) and way of coding."""
    recipes: Evaluation


@dataclass(frozen=True)
class Demo:
    """What the demo found."""

    plan: Plan
    found: tuple[Found, ...]
    provenance: dict[str, Any]

    def section(self) -> Section:
        """What it puts on a page, with the picture and all numbers as files."""
        return demo_files.section(self)

    def save(self, directory: Path) -> list[Path]:
        """Write the page, the picture and all numbers; returns the files."""
        return save_page("interpkern demo", [self.section()], directory, "demo.html")


NOTE = (
    "Some 2,500 tokens and a few hundred atoms, to fit into seconds: a dictionary for work has thousands, of a hundred"
    " times as many tokens."
)


def plan(*, quick: bool) -> Plan:
    """Both shipped sets, or one of them."""
    sets = data.NAMES[:1] if quick else data.NAMES
    return Plan(sets=sets, threshold=0.5, k=8, readings=4, rounds=4, note=NOTE)


def run(
    plan: Plan, *, seed: int, backend: str, threads: int | None, say: Say, progress: Progress | bool | None = None
) -> Demo:
    """Build a dictionary of each set, take some held-out tokens apart, and compare recipes, telling each as it comes.

    Args:
        plan: what to build.
        seed: decides which prompts are held out, which of their tokens are read, and the random atoms.
        backend: as in `interpkern.matching_pursuit`.
        threads: CPU threads; by default one, since problems this small are slower on two.
        say: prints a line.
        progress: a function of (steps done, steps in all), True or False for a bar or none; by default a bar on a
            terminal.

    Returns:
        Demo.
    """
    check_seed(seed)
    ITDA(backend=backend, threads=threads)
    found: list[Found] = []
    with one_thread(), reporting(progress, "demo", " dictionaries") as report:
        for name in plan.sets:
            done = len(found)
            say("" if done else "What is an activation made of? Of other activations: each atom is that of one token.")
            found.append(_one(name, plan, seed, backend, threads or 1, say))
            if report:
                report(done + 1, len(plan.sets))
    say("")
    say(plan.note)
    about = {"cpu": cpu_model(), "seed": seed, "backend": backend, "threads": threads or 1}
    return Demo(plan, tuple(found), provenance() | about)


def _one(name: str, plan: Plan, seed: int, backend: str, threads: int, say: Say) -> Found:
    activations = data.load(name)
    assert activations.labels is not None
    norm = torch.cat([torch.linalg.vector_norm(rows.float(), dim=1) for rows, _ in activations.batches()])
    ordinary = norm <= MASSIVE * norm.median()
    held_out = held_out_rows(activations.labels, 0.2, seed)
    train, test = activations[ordinary & ~held_out], activations[ordinary & held_out]
    itda = ITDA(k=plan.k, threshold=plan.threshold, backend=backend, threads=threads).fit(train, progress=False)
    model, hook = activations.origin["model"], activations.origin["hook"]
    say(f"{model} at {hook}: {len(itda):,} of {len(train):,} tokens became atoms, at most {plan.k} make up a token")
    readings = _read(itda, activations, test, plan.readings, seed)
    for reading in readings:
        for text in reading_lines(reading):
            say(text)
    recipes = evaluate(
        activations,
        threshold=plan.threshold,
        k=plan.k,
        rounds=plan.rounds,
        seed=seed,
        backend=backend,
        threads=threads,
        progress=False,
    )
    _tell(recipes, say)
    curves = _curves(itda, train, test, seed, backend, threads)
    return Found(name, model, hook, len(train), itda, readings, curves, recipes)


def reading_lines(reading: Reading) -> list[str]:
    """A token and its atoms, for the terminal."""
    parts = [f"{part.share:+8.2f}  {part.source}" for part in reading.parts]
    return [f"  {reading.token}", *parts]


def _tell(found: Evaluation, say: Say) -> None:
    columns = recipe_columns(found)[:3]
    say(headings(columns))
    for variant in found.variants:
        say(line(columns, variant))
    say(recipe_sentence(found))


def _read(itda: ITDA, activations: Activations, test: Activations, count: int, seed: int) -> tuple[Reading, ...]:
    """Words among the held-out tokens, drawn at random."""
    assert test.tokens is not None
    assert test.labels is not None
    texts = [test.words[token].strip() for token in test.tokens.tolist()]
    words = [row for row, text in enumerate(texts) if text.isalpha() and len(text) >= SHORTEST_WORD]
    chosen = numpy.sort(numpy.random.default_rng(seed).permutation(words)[:count])
    rows = torch.from_numpy(chosen)
    x = test.tensor()[rows].float()
    code = itda.encode(x, progress=False)
    norm = torch.linalg.vector_norm(x - itda.mean, dim=1)
    readings = []
    for place, label in enumerate(test.labels[rows].tolist()):
        order = code.coefficients[place].abs().argsort(descending=True)[:PARTS]
        parts = [
            Part(
                share=float(code.coefficients[place, slot] / norm[place]),
                atom=(atom := int(code.indices[place, slot])),
                source=activations.describe(*itda.labels[atom].tolist(), window=7),
            )
            for slot in order.tolist()
            if code.indices[place, slot] >= 0
        ]
        error = float((code.residual_norm[place] / norm[place]).square())
        readings.append(Reading(activations.describe(*label, window=7), error, tuple(parts)))
    return tuple(readings)


def _curves(
    itda: ITDA, train: Activations, test: Activations, seed: int, backend: str, threads: int
) -> pandas.DataFrame:
    x = test.tensor().float()
    variance = (x - x.mean(0)).double().square().sum()
    settings: dict[str, Any] = {"backend": backend, "threads": threads, "progress": False}

    def fvu(atoms: torch.Tensor, k: int, method: str) -> float:
        code = matching_pursuit(x - itda.mean, atoms, k, method=method, **settings)
        return float(code.residual_norm.double().square().sum() / variance)

    drawn = random_atoms(itda, joined([rows.as_float32() for rows in open_stream(train).batches()]), seed, "omp")
    atoms = dict(zip(CURVES, (itda.atoms, itda.atoms, drawn.atoms), strict=True))
    curves = {name: [fvu(atoms[name], k, method) for k in PICKS] for name, method in CURVES.items()}
    return pandas.DataFrame(curves, index=pandas.Index(PICKS, name="picks"))
