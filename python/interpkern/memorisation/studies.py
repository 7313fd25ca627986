"""The studies of capacity: which shapes, tables, embeddings and budgets are trained to answer one question."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy
from numpy.typing import NDArray

from interpkern.memorisation.bits import entropy
from interpkern.memorisation.initialisation import EMBEDDINGS, POINTS
from interpkern.memorisation.training_cells import Training, blocks, trained_embeddings

LADDER = numpy.geomspace(1.3, 4.2, 10)
"""Bits of the table per parameter at which thresholds are looked for."""
FINE_LADDER = numpy.sort(numpy.append(LADDER, (2.32, 2.62, 2.72)))
"""With more around the thresholds of large tables, which are sharp."""
MOST_FACTS, NEAR = 10_000, (2.0, 2.8)
"""Beyond so many facts, where the thresholds of all tables are close together, only steps between these."""
POOR_LADDER = numpy.geomspace(0.5, 3.2, 10)
"""For embeddings that hold fewer facts for each parameter."""
COVER_LADDER = numpy.geomspace(1.0, 3.2, 10)
MAP_SIDES = (0.25, 0.375, 0.5, 0.625, 0.75, 1.0, 1.5)
"""d_model and d_hidden of the map, in units of m."""
STEPS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
"""Updates of the budget curve, in units of the sweep's."""
RATES = (1 / 30, 0.1, 1 / 3, 1.0, 10 / 3)
"""Learning rates of the budget curve, in units of the sweep's."""
BIASES = (0.1, 0.25, 0.5)
ASPECTS = (1, 4, 16)
"""Columns for each row of rectangular tables; m^2 facts."""
POINT_WIDTHS = (10, 20)
"""d_model of dense inputs; Liu's is 10."""

Build = Callable[[Training], Iterable[Training]]


@dataclass(frozen=True)
class Study:
    """One question and what is trained for it."""

    name: str
    by: tuple[str, ...]
    """Columns that tell apart what has a threshold of its own."""
    build: Build
    """The trainings, from one with m x m tables that has the seeds and the budget."""
    sizes: tuple[int, ...]
    """m, where none is asked for."""
    question: str

    def trainings(self, base: Training, sizes: Sequence[int]) -> list[Training]:
        """All cells, those of small tables first."""
        shapes = (shape for m in sizes for shape in self.build(replace(base, rows=m, cols=m)))
        return [block for shape in dict.fromkeys(shapes) for block in blocks(shape)]


def square(base: Training, bits_per_parameter: float) -> Training:
    """The shape with d_model ~ d_hidden that has about so many bits of the table for each of P1."""
    target = base.facts * float(entropy(base.p)) / bits_per_parameter
    extra = base.rows + base.cols if "E1" in base.train else 0
    side = -(2 + extra) / 2 + math.sqrt(((2 + extra) / 2) ** 2 + target - 1)  # d^2 + (2 + extra) d + 1 = target
    width = max(1, round(side))
    hidden = max(1, round((target - 1 - extra * width) / (width + 2)))
    return replace(base, d_model=width, d_hidden=hidden)


def ladder(base: Training, steps: NDArray[numpy.float64] = LADDER) -> list[Training]:
    """Square shapes from those that learn everything to those that cannot."""
    return list(dict.fromkeys(square(base, each) for each in steps))


def fine_ladder(base: Training) -> list[Training]:
    """The ladder with more steps around the thresholds of large tables, and for very large ones with no others."""
    near = (NEAR[0] < FINE_LADDER) & (NEAR[1] > FINE_LADDER)
    return ladder(base, FINE_LADDER[near] if base.facts > MOST_FACTS else FINE_LADDER)


def map_shapes(base: Training) -> list[Training]:
    """Every d_model with every d_hidden."""
    sides = list(dict.fromkeys(max(1, round(share * base.rows)) for share in MAP_SIDES))
    return [replace(base, d_model=d, d_hidden=h) for d in sides for h in sides]


def budgets(base: Training) -> list[Training]:
    """The ladder by several numbers of updates, and by several learning rates."""
    steps = [replace(base, steps=max(1, round(share * base.steps))) for share in STEPS]
    rates = [replace(base, lr=float(f"{share * base.lr:.3g}")) for share in RATES]
    return [shape for each in (*steps, *rates) for shape in ladder(each)]


def embeddings(base: Training) -> list[Training]:
    """The ladder of each embedding; a basis leaves only d_hidden to choose."""
    tokens = base.rows + base.cols
    shapes = []
    for name in EMBEDDINGS:
        if name == "basis":
            hidden = [max(1, round((base.facts / x - 1) / (tokens + 2))) for x in POOR_LADDER]
            shapes += [replace(base, embedding=name, d_model=tokens, d_hidden=h) for h in hidden]
        elif name == "trained":
            shapes += ladder(trained_embeddings(base), POOR_LADDER)
        else:
            shapes += ladder(replace(base, embedding=name))
    return shapes


def tables(base: Training) -> list[Training]:
    """The ladder for rectangular tables of as many facts, and for biased ones."""
    m = base.rows
    rectangular = []
    for aspect in ASPECTS:
        rows = max(1, round(m / math.sqrt(aspect)))
        rectangular += ladder(replace(base, rows=rows, cols=max(1, round(m * m / rows))))
    return [*rectangular, *(shape for p in BIASES for shape in ladder(replace(base, p=p)))]


def frozen(base: Training) -> list[Training]:
    """Only the readout, on a first layer that stays random: trained, and solved for."""
    each = replace(base, train=("r", "c_out"), d_model=max(1, base.rows))
    shapes = [replace(each, d_hidden=max(1, round(base.facts / x) - 1)) for x in COVER_LADDER]
    return [*shapes, *(replace(shape, solver="exact", steps=0) for shape in shapes)]


def points(base: Training) -> list[Training]:
    """Gaussian points, as many as a table has facts, in few dimensions; d_hidden gives the ladder."""
    each = replace(base, rows=base.facts, cols=1, embedding=POINTS)
    hidden = [(d, max(1, round((base.facts / x - 1) / (d + 2)))) for d in POINT_WIDTHS for x in FINE_LADDER]
    return [replace(each, d_model=d, d_hidden=h) for d, h in hidden]


STUDIES = {
    study.name: study
    for study in (
        Study(
            "growth",
            ("rows",),
            fine_ladder,
            (4, 6, 8, 12, 16, 24, 32, 48, 64, 96),
            "How does the threshold grow with the table, and stored bits with parameters?",
        ),
        Study("map", ("rows", "d_model"), map_shapes, (32,), "Which shapes learn everything?"),
        Study("budget", ("rows", "steps", "lr"), budgets, (32,), "What do more updates buy?"),
        Study("embeddings", ("rows", "embedding"), embeddings, (32,), "Does the embedding matter?"),
        Study("tables", ("facts", "rows", "p"), tables, (32,), "Do the table's form and bias matter?"),
        Study("frozen", ("rows", "solver"), frozen, (16,), "What does a frozen first layer leave?"),
        Study("points", ("facts", "d_model"), points, (16,), "How many points with random labels does an MLP learn?"),
    )
}
"""By name, as the command line has them."""
