"""The words and tables of the demo, for the terminal and for the page alike."""

import math
from collections.abc import Callable

import pandas

from interpkern.memorisation.capacity import Capacity, ratio
from interpkern.memorisation.demo_training import KINDS, Cell
from interpkern.text_tables import Column, Row


def _share(row: Row) -> str:
    return f"{row.solved}/{row.models} [{row.solved_low:.2f}, {row.solved_high:.2f}]"


def _of_kind(kind: str) -> Callable[[Row], str]:
    return lambda rows: _share(rows[kind])


TRANSITION = (
    Column("shape", 9, lambda row: f"({row.d_model}, {row.d_hidden})"),
    Column("P1", 6, lambda row: f"{row.P1:,}"),
    Column("P2", 6, lambda row: f"{row.P2:,}"),
    Column("facts/P1", 10, lambda row: f"{row.facts_per_P1:.2f}"),
    Column("solved", 21, _share),
    Column(
        "bits_CE/P2",
        20,
        lambda row: f"{row.bits_per_P2:.2f} [{row.bits_per_P2_low:.2f}, {row.bits_per_P2_high:.2f}]",
    ),
)
"""One row a shape; the shape is (d_model, d_hidden)."""
STRUCTURE = (
    Column("shape", 9, lambda rows: f"({rows[KINDS[0]].d_model}, {rows[KINDS[0]].d_hidden})"),
    Column("P1", 6, lambda rows: f"{rows[KINDS[0]].P1:,}"),
    *(Column(kind, 20, _of_kind(kind)) for kind in KINDS),
)
"""One row a shape, with the solved models of each kind of table."""


def by_shape(shapes: pandas.DataFrame) -> list[dict[str, Row]]:
    """The rows of every shape by kind, in the order in which they came."""
    groups = shapes.groupby(["d_model", "d_hidden"], sort=False)
    return [{row.kind: row for row in group.itertuples()} for _, group in groups]


def budget(cell: Cell) -> str:
    """Optimiser, learning rate, schedule, updates."""
    stop = ", stopped as soon as solved" if cell.stop_when_solved else ""
    return f"Adam, lr {cell.lr:g}, cosine schedule to 0, {cell.steps:,} updates{stop}; frozen random embeddings"


def capacity_sentence(capacity: Capacity) -> str:
    """Where half of the models on coin-toss facts are solved."""
    words = capacity.sentence()
    return f"{words[0].upper()}{words[1:]}."


def structure_sentences(facts: int, capacities: dict[str, Capacity]) -> list[str]:
    """How many fewer parameters structure needs, and how much of that the columns' shares explain."""
    real, shuffled, chance = (capacities[kind] for kind in KINDS)
    if any(math.isnan(each.half) for each in capacities.values()):
        unfinished = (f"{kind}: {each.sentence()}" for kind, each in capacities.items() if math.isnan(each.half))
        return [f"The sizes tried don't show how many parameters half of the models need. {'; '.join(unfinished)}."]
    parameters = {kind: _parameters(facts, each) for kind, each in capacities.items()}
    return [
        f"Half of the models know the real table with {parameters['real']} parameters, and random tables of the same"
        f" size and density with {parameters['random']}: structure needs {_times(real, chance)} fewer parameters"
        " (95 % intervals in brackets).",
        f"With each column shuffled it takes {parameters['columns shuffled']}: of that, {_times(shuffled, chance)} is"
        f" only how common each property is, and {_times(real, shuffled)} is how they go together.",
    ]


def _parameters(facts: int, capacity: Capacity) -> str:
    return f"{facts / capacity.half:,.0f} [{facts / capacity.high:,.0f}, {facts / capacity.low:,.0f}]"


def _times(better: Capacity, worse: Capacity) -> str:
    value, low, high = ratio(better, worse)
    return f"{value:.2f} [{low:.2f}, {high:.2f}] times"
