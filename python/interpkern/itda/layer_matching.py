"""Which layer of another model each layer is most like, by the labels of their dictionaries, by CKA and by SVCCA."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy
import pandas
import torch

from interpkern.errors import DTypeError, ShapeError
from interpkern.itda.representations import Spread, check_variance, cka_of, cross_products, svcca_of
from interpkern.itda.similarity import differences, label_set, shared_labels, tell
from interpkern.progress import Progress, reporting
from interpkern.validation import choice

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MEASURES = ("jaccard", "cka", "svcca")


@dataclass(frozen=True, eq=False, repr=False)
class LayerMatch(float):
    """The share of layers that are most like the same layer of the other model: a number that has its tables.

    Example:
        >>> layers = [torch.randn(300, 8) for _ in range(3)]
        >>> a = [ITDA(k=4).fit(x) for x in layers]
        >>> layer_match(a, a).to_pandas().columns.tolist()
        ['layer_a', 'layer_b', 'jaccard']
    """

    value: float
    """The score by labels; chance is 1 / L."""
    jaccard: torch.Tensor
    """(L, L) float64, layers of a by layers of b."""
    cka: torch.Tensor | None
    """(L, L) float64 linear CKA, where activations were given."""
    svcca: torch.Tensor | None
    """(L, L) float64 SVCCA, where activations were given."""
    warnings: tuple[str, ...]
    """Differences in how the dictionaries were built."""

    def __new__(cls, value: float, *rest: object, **about: object) -> "LayerMatch":
        return super().__new__(cls, value)

    def __repr__(self) -> str:
        scores = ", ".join(f"{measure} {self.score(measure):.3f}" for measure in self.measures)
        return "; ".join([f"LayerMatch over {len(self.jaccard)} layers: {scores}", *self.warnings])

    @property
    def measures(self) -> tuple[str, ...]:
        """Those that there are."""
        return tuple(measure for measure in MEASURES if getattr(self, measure) is not None)

    def matches(self, measure: str = "jaccard") -> torch.Tensor:
        """(L,) bool: which layers of a are more like the same layer of b than like any other; a tie is no match."""
        return _matched(getattr(self, choice("measure", measure, self.measures)))

    def score(self, measure: str = "jaccard") -> float:
        """The share of layers that match, by one of `measures`."""
        return float(self.matches(measure).double().mean())

    def to_pandas(self) -> pandas.DataFrame:
        """One row a pair of layers, numbered from 0."""
        layers = len(self.jaccard)
        pairs = {"layer_a": numpy.repeat(range(layers), layers), "layer_b": numpy.tile(range(layers), layers)}
        tables = {measure: getattr(self, measure).flatten().numpy() for measure in self.measures}
        return pandas.DataFrame(pairs | tables)

    def plot(self) -> "Figure":
        """Draw each table of similarities, with the best match of every layer marked."""
        from interpkern.itda.similarity_plots import plot_layers

        return plot_layers(self)


def layer_match(
    list_a: Sequence[Any],
    list_b: Sequence[Any],
    *,
    activations_a: Sequence[Any] | None = None,
    activations_b: Sequence[Any] | None = None,
    variance: float = 0.99,
    progress: Progress | bool | None = None,
) -> LayerMatch:
    """Look up, for each layer of one model, the layer of another whose dictionary has most labels in common with it.

    Args:
        list_a: dictionaries of one model, or their labels (M, 2), layer by layer.
        list_b: those of another model with as many layers, of the same tokens.
        activations_a: (N, D) tensors or arrays, layer by layer, for CKA and SVCCA beside it.
        activations_b: those of the other model, row i of the same token as row i of a.
        variance: share of the variance that SVCCA keeps.
        progress: a function of (pairs of layers, pairs in all), True or False for a bar or none; by default a bar on a
            terminal. It counts pairs of activations.

    Returns:
        LayerMatch, the share of layers that match, with the similarity of every pair.

    Raises:
        ShapeError, DTypeError or ValueError that names the argument.

    Warns:
        UserWarning where dictionaries were built in different ways.

    Source:
        Leask, Nanda and Al Moubayed 2025, "Inference-Time Decomposition of Activations (ITDA)", section 5.

    Example:
        >>> a = [torch.tensor([[0, 0], [1, 0]]), torch.tensor([[2, 0], [3, 0]])]
        >>> float(layer_match(a, a))
        1.0
    """
    layers = _layers("list_a", list_a)
    others = _layers("list_b", list_b, like=("list_a", len(layers)))
    sets = [label_set(f"list_a[{place}]", one) for place, one in enumerate(layers)]
    other_sets = [label_set(f"list_b[{place}]", one) for place, one in enumerate(others)]
    found = _differences(layers, others)
    tell(found)
    table = torch.tensor([[_jaccard(ours, theirs) for theirs in other_sets] for ours in sets], dtype=torch.float64)
    cka, svcca = _representations(activations_a, activations_b, len(layers), check_variance(variance), progress)
    return LayerMatch(float(_matched(table).double().mean()), table, cka, svcca, tuple(found))


def _layers(name: str, given: Any, *, like: tuple[str, int] | None = None) -> list[Any]:
    if isinstance(given, (str, torch.Tensor, numpy.ndarray)) or not isinstance(given, Sequence):
        raise DTypeError(f"{name}: expected a list with one entry a layer, got {type(given).__name__}")
    if like is not None and len(given) != like[1]:
        raise ShapeError(
            f"{name}: expected {like[1]} layers to match {like[0]}, got {len(given)}; the same layer of the other model"
            " is asked for"
        )
    if len(given) < 2:
        raise ShapeError(f"{name}: expected at least 2 layers, got {len(given)}")
    return list(given)


def _matched(table: torch.Tensor) -> torch.Tensor:
    """(L,) bool: whose largest similarity is on the diagonal, and there alone."""
    others = table.clone().fill_diagonal_(-torch.inf)
    return table.diagonal() > others.max(1).values


def _jaccard(a: Any, b: Any) -> float:
    shared = shared_labels(a, b)
    return shared / (len(a) + len(b) - shared)


def _differences(layers: list[Any], others: list[Any]) -> list[str]:
    """What sets a dictionary apart from the first, each kind of difference once."""
    named = [(f"list_a[{place}]", one) for place, one in enumerate(layers)]
    named += [(f"list_b[{place}]", one) for place, one in enumerate(others)]
    first_name, first = named[0]
    kinds: dict[str, str] = {}
    for name, one in named[1:]:
        for text in differences(first, one, (first_name, name)):
            kinds.setdefault(text.split(" differs")[0], text)
    return list(kinds.values())


def _representations(
    a: Any, b: Any, layers: int, variance: float, progress: Progress | bool | None
) -> tuple[torch.Tensor | None, torch.Tensor | None]:
    """(L, L) CKA and SVCCA, or None of either where there are no activations."""
    if a is None and b is None:
        return None, None
    if a is None or b is None:
        raise ValueError(f"activations_{'a' if a is None else 'b'}: expected as the other, or leave out both")
    ours = _spreads("activations_a", a, layers)
    theirs = _spreads("activations_b", b, layers)
    our_directions = [spread.directions(variance) for spread in ours]
    their_directions = [spread.directions(variance) for spread in theirs]
    cka, svcca = (torch.empty(layers, layers, dtype=torch.float64) for _ in range(2))
    with reporting(progress, "layer_match", " pairs") as report:
        for i in range(layers):
            for j in range(layers):
                cross = cross_products(ours[i], theirs[j])
                cka[i, j] = cka_of(ours[i], theirs[j], cross)
                svcca[i, j] = svcca_of(our_directions[i], their_directions[j], cross)
                if report is not None:
                    report(i * layers + j + 1, layers * layers)
    return cka, svcca


def _spreads(name: str, given: Any, layers: int) -> list[Spread]:
    checked = _layers(name, given, like=("list_a", layers))
    return [Spread.of(f"{name}[{place}]", values) for place, values in enumerate(checked)]
