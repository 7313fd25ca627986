"""What each part of the recipe is worth on given activations: dictionaries of one size, judged on prompts held out."""

import json
import math
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy
import pandas
import torch

from interpkern.files import as_path, provenance, write_atomically
from interpkern.itda.dictionary import ITDA
from interpkern.itda.quality import Metrics, metrics
from interpkern.itda.quality_sums import Figures
from interpkern.itda.rows import MASSIVE, Rows, joined
from interpkern.itda.selection import refine
from interpkern.itda.sized import Recipe
from interpkern.itda.streams import open_stream
from interpkern.itda.variants import random_atoms, recoded, updated_atoms
from interpkern.progress import Progress, reporting
from interpkern.validation import integer, number

if TYPE_CHECKING:
    from matplotlib.figure import Figure

KIND = "interpkern.itda.evaluation"
SCHEMA = 1
DEFAULT = "centred, OMP (the default)"
PAPER = "paper: not centred, MP, absolute threshold"
FIRST = 0.15
COLUMNS = ("fvu", "median_error", "distinct_l0", "dead_atoms", "dead_share", "negative_share")


@dataclass(frozen=True)
class Variant:
    """One line of the table."""

    name: str
    atoms: int
    """Size of the dictionary; less than asked for where no threshold gives that many."""
    activations: bool
    """Whether the atoms are activations, as their labels say."""
    threshold: float | None
    """The loss above which a row became an atom, None for atoms drawn at random."""
    change: float
    """FVU of ordinary held-out tokens, relative to that of the paper's recipe: -0.2 is a fifth less."""
    ordinary: Figures
    """On held-out tokens without massive ones."""
    massive: Figures
    """On held-out tokens of massive norm alone."""


@dataclass(frozen=True)
class Evaluation:
    """The table, and what it was made from.

    Example:
        >>> found = evaluate(torch.randn(2000, 16), atoms=100, k=4, rounds=2)
        >>> found["centred, OMP (the default)"].change < 0
        True
    """

    variants: tuple[Variant, ...]
    k: int
    holdout: float
    seed: int
    train_tokens: int
    """Ordinary tokens that the dictionaries were built from."""
    test_tokens: int
    """Held-out tokens, massive ones included."""
    train_prompts: int
    test_prompts: int
    massive_tokens: int
    """Among all tokens."""
    massive_above: float
    """Times the median norm."""
    provenance: dict[str, Any]

    def __getitem__(self, name: str) -> Variant:
        """The variant of this name."""
        found = {variant.name: variant for variant in self.variants}
        if name not in found:
            raise ValueError(f"name: expected one of {', '.join(found)}, got {name!r}")
        return found[name]

    def to_pandas(self) -> pandas.DataFrame:
        """One row a variant: atoms, activations, threshold, fvu, change and the other figures; massive_* apart."""
        return pandas.DataFrame([_line(variant) for variant in self.variants]).set_index("name")

    def __str__(self) -> str:
        table = self.to_pandas()[["atoms", "fvu", "change", "median_error", "distinct_l0", "dead_atoms"]]
        shown = table.assign(
            change=[f"{value:+.1%}" for value in table["change"]],
            negative=[f"{variant.ordinary.negative_share:.0%}" for variant in self.variants],
            massive_error=[f"{variant.massive.median_error:.2g}" for variant in self.variants],
            activations=["yes" if variant.activations else "no" for variant in self.variants],
        ).rename_axis(None)
        return (
            f"{shown.to_string(float_format=lambda value: f'{value:.4g}')}\n"
            f"k = {self.k}; built from {self.train_tokens:,} tokens of {self.train_prompts:,} prompts, judged on"
            f" {self.test_tokens:,} of {self.test_prompts:,} others; fvu and change without massive tokens"
            f" ({self.massive_tokens:,}, norm above {self.massive_above:g} times the median)"
        )

    def plot(self) -> "Figure":
        """Draw the FVU of every variant."""
        from interpkern.itda.evaluation_plots import plot_evaluation

        return plot_evaluation(self)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write one JSON file with the table and where it came from."""
        target = as_path("path", path)
        content = _without_nan({"kind": KIND, "schema": SCHEMA, **asdict(self)})
        write_atomically(target, (json.dumps(content, indent=2, allow_nan=False) + "\n").encode())
        return target


def evaluate(
    activations: Any,
    labels: torch.Tensor | numpy.ndarray | None = None,
    *,
    atoms: int = 4096,
    threshold: float | None = None,
    k: int = 32,
    holdout: float = 0.2,
    rounds: int = 6,
    massive_above: float = MASSIVE,
    seed: int = 0,
    backend: str = "auto",
    threads: int | None = None,
    progress: Progress | bool | None = None,
) -> Evaluation:
    """Compare recipes at one size of dictionary on the caller's own data: the paper's, its improvements, the default.

    Prompts are held out at random, so that no token of a judged text was seen. Tokens of massive norm are left out of
    the building and of the main figures, and reported apart. All rows are held in memory, and the search for thresholds
    that give the size fits some fifteen dictionaries.

    Shapes:
        activations (N, D) as `ITDA.fit` takes them; labels (N, 2) integers, prompt id and position.

    Args:
        activations: a tensor, an array, interpkern.Activations, or an iterable of batches.
        labels: for a tensor or array; by default every row is a prompt of its own.
        atoms: size of all dictionaries, at most half the rows that are left for building.
        threshold: instead of `atoms`, give the default dictionary this threshold and the others its size.
        k: picks of a sample at most.
        holdout: share of the prompts to judge on, in (0, 1).
        rounds: of `refine`, for the line of the table that exchanges atoms.
        massive_above: norm above which a token is massive, as a multiple of the median norm.
        seed: decides which prompts are held out, and the random atoms.
        backend, threads: as in ITDA.
        progress: a function of (variants done, variants in all), True or False for a bar or none; by default a bar on a
            terminal.

    Returns:
        Evaluation; str() is the table.

    Raises:
        ShapeError, DTypeError or ValueError that names the argument.

    Source:
        Leask et al. 2025, "Inference-Time Decomposition of Activations (ITDA)", the first line; the others are ours.

    Example:
        >>> print(evaluate(interpkern.data.load("minilm"), atoms=512, k=16))
    """
    limit = number("massive_above", massive_above, 1.0)
    seed = integer("seed", seed, 0)
    rows = _all_rows(activations, labels)
    norm = torch.linalg.vector_norm(rows.values, dim=1, dtype=torch.float64)
    massive = norm > limit * norm.median()
    held_out = held_out_rows(rows.labels, holdout, seed)
    train, test = rows[~held_out & ~massive], rows[held_out]
    recipe = Recipe(train, integer("k", k, 1), backend, threads)
    found: list[Variant] = []
    with reporting(progress, "itda evaluate", " variants") as report:
        if threshold is None:
            default = recipe.of_size(_checked_size(atoms, len(train)), FIRST)
        else:
            default = recipe.fitted(threshold, None)
        for name, itda in _dictionaries(default, recipe, rounds, seed):
            found.append(_variant(name, itda, metrics(itda, test.values, massive_above=limit, progress=False)))
            if report is not None:
                report(len(found), len(ORDER))
    return Evaluation(
        variants=_compared(found),
        k=k,
        holdout=holdout,
        seed=seed,
        train_tokens=len(train),
        test_tokens=len(test),
        train_prompts=len(train.labels[:, 0].unique()),
        test_prompts=len(test.labels[:, 0].unique()),
        massive_tokens=int(massive.sum()),
        massive_above=limit,
        provenance=provenance(),
    )


ORDER = (
    PAPER,
    "paper + least-squares refit",
    "paper + OMP encode",
    "centred, MP",
    DEFAULT,
    "random atoms, MP",
    "random atoms, OMP",
    "default + exchanged atoms (refine)",
    "default + refined decoder",
)


def _dictionaries(default: ITDA, recipe: Recipe, rounds: int, seed: int) -> Iterator[tuple[str, ITDA]]:
    """The dictionaries one after the other, so that few are in memory at once.

    The absolute threshold of the paper is looked for from the relative one times the median squared norm.
    """
    rows = recipe.rows
    yield DEFAULT, default
    yield "random atoms, MP", random_atoms(default, rows, seed, "mp")
    yield "random atoms, OMP", random_atoms(default, rows, seed, "omp")
    exchanged = refine(default, rows.values, rows.labels, rounds=rounds, seed=seed, progress=False)
    yield "default + exchanged atoms (refine)", exchanged
    yield "default + refined decoder", updated_atoms(default, rows)
    centred = recipe.of_size(len(default), default.threshold * 1.2, method="mp")
    yield "centred, MP", centred
    squares = torch.linalg.vector_norm(rows.values.float(), dim=1).square()
    paper = recipe.of_size(
        len(default), centred.threshold * float(squares.median()), method="mp", centre=False, relative=False
    )
    yield PAPER, paper
    yield "paper + least-squares refit", recoded(paper, "mp_refit")
    yield "paper + OMP encode", recoded(paper, "omp")


def _all_rows(activations: Any, labels: Any) -> Rows:
    batches = list(open_stream(activations, labels).batches())
    if not batches:
        raise ValueError("activations: expected at least two prompts, got no rows")
    rows = joined(batches)
    return rows.with_values(rows.values.to("cpu")).finite(skip=False)


def held_out_rows(labels: torch.Tensor, holdout: float, seed: int) -> torch.Tensor:
    """(N,) bool, the rows of a random share of the prompts."""
    share = number("holdout", holdout, 0.0, below=1.0)
    prompts = labels[:, 0].unique()
    if len(prompts) < 2:
        raise ValueError(f"labels: expected at least two prompts, so that one can be held out, got {len(prompts)}")
    count = min(max(round(share * len(prompts)), 1), len(prompts) - 1)
    order = torch.from_numpy(numpy.random.default_rng(seed).permutation(len(prompts)))
    return torch.isin(labels[:, 0], prompts[order[:count]])


def _checked_size(atoms: Any, rows: int) -> int:
    size = integer("atoms", atoms, 1)
    if size > rows // 2:
        raise ValueError(
            f"atoms: expected at most half of the {rows:,} ordinary rows that are left for building, got {size:,}; give"
            " more activations, or fewer atoms"
        )
    return size


def _variant(name: str, itda: ITDA, found: Metrics) -> Variant:
    drawn = name.startswith("random")
    return Variant(
        name=name,
        atoms=len(itda),
        activations="decoder" not in name,
        threshold=None if drawn else itda.threshold,
        change=math.nan,
        ordinary=found.ordinary,
        massive=found.massive,
    )


def _compared(found: list[Variant]) -> tuple[Variant, ...]:
    """In the order of the table, with the change against the paper's recipe."""
    by_name = {variant.name: variant for variant in found}
    base = by_name[PAPER].ordinary.fvu
    return tuple(Variant(**{**vars(by_name[name]), "change": by_name[name].ordinary.fvu / base - 1}) for name in ORDER)


def _line(variant: Variant) -> dict[str, Any]:
    figures = {name: getattr(variant.ordinary, name) for name in COLUMNS}
    return {
        "name": variant.name,
        "atoms": variant.atoms,
        "activations": variant.activations,
        "threshold": math.nan if variant.threshold is None else variant.threshold,
        "fvu": figures.pop("fvu"),
        "change": variant.change,
        **figures,
        "massive_tokens": variant.massive.tokens,
        "massive_fvu": variant.massive.fvu,
        "massive_median_error": variant.massive.median_error,
    }


def _without_nan(value: Any) -> Any:
    """None for NaN, which JSON has no word for."""
    if isinstance(value, dict):
        return {name: _without_nan(part) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_nan(part) for part in value]
    return None if isinstance(value, float) and math.isnan(value) else value
