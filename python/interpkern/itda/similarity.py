"""How alike two dictionaries are by the labels of their atoms, and how alike by chance and by order alone."""

import math
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy
import pandas
import torch
from numpy.typing import NDArray
from scipy import stats

from interpkern.errors import DTypeError
from interpkern.itda.labels import check_labels
from interpkern.validation import integer, number, plain_tensor

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SETTINGS = ("order", "mode", "method", "k", "centre", "relative", "nonnegative")
REMEDY = "their Jaccard says more about that than about the data: build both alike"


@dataclass(frozen=True)
class Baseline:
    """The Jaccard of two random sets of labels, of the same sizes, out of the same rows."""

    expected: float
    low: float
    """Lower end of the interval that holds the Jaccard of random sets with probability `confidence`."""
    high: float
    p_value: float
    """Probability that random sets share at least as many labels as these two do."""
    population: int
    """Rows that the labels were drawn from."""
    confidence: float


@dataclass(frozen=True, eq=False, repr=False)
class Jaccard(float):
    """The Jaccard similarity of two dictionaries: a number that knows what chance and the order of the stream give.

    Example:
        >>> x = torch.randn(500, 8)
        >>> found = jaccard(ITDA(k=4).fit(x), ITDA(k=4).fit(x + 0.1))
        >>> found.value, found.shuffled.expected < 1
        (1.0, True)
    """

    value: float
    """Labels that both have, as a share of those that either has."""
    shared: int
    """Labels that both have."""
    sizes: tuple[int, int]
    """Distinct labels of a and of b."""
    shuffled: Baseline | None
    """What shuffled labels give; None where it is not known how many rows there were."""
    other_orders: tuple[float, ...]
    """The Jaccard of a with dictionaries of its own data in another order: what order alone costs."""
    warnings: tuple[str, ...]
    """Differences in how a and b were built, which lower their Jaccard whatever the data."""

    def __new__(cls, value: float, *rest: object, **about: object) -> "Jaccard":
        return super().__new__(cls, value)

    def __repr__(self) -> str:
        parts = [f"Jaccard {self.value:.4g} ({self.shared:,} labels of {sum(self.sizes) - self.shared:,})"]
        if self.shuffled is not None:
            null = self.shuffled
            parts.append(f"shuffled labels {null.expected:.4g} ({null.low:.4g} to {null.high:.4g})")
        if self.other_orders:
            parts.append(f"same data in another order {', '.join(f'{value:.4g}' for value in self.other_orders)}")
        return "; ".join([*parts, *self.warnings])

    def to_pandas(self) -> pandas.DataFrame:
        """One row; NaN where a baseline is not known."""
        null, orders = self.shuffled, self.other_orders
        columns = {
            "jaccard": self.value,
            "shared": self.shared,
            "labels_a": self.sizes[0],
            "labels_b": self.sizes[1],
            "shuffled": math.nan if null is None else null.expected,
            "shuffled_low": math.nan if null is None else null.low,
            "shuffled_high": math.nan if null is None else null.high,
            "p_value": math.nan if null is None else null.p_value,
            "other_order": float(numpy.mean(orders)) if orders else math.nan,
            "warnings": "; ".join(self.warnings),
        }
        return pandas.DataFrame([columns])

    def plot(self) -> "Figure":
        """Draw the number between its baselines."""
        from interpkern.itda.similarity_plots import plot_jaccard

        return plot_jaccard(self)


def jaccard(
    a: Any,
    b: Any,
    *,
    other_orders: Any = (),
    population: int | None = None,
    confidence: float = 0.95,
) -> Jaccard:
    """Compare two dictionaries by the labels of their atoms: |labels of both| / |labels of either|.

    Two baselines stand beside it. Random sets of labels of the same sizes share a number of labels that is
    hypergeometric, so their Jaccard has a known distribution. And the same data in another order give another
    dictionary: what order alone takes away, no other model can be expected to keep.

    Args:
        a, b: fitted dictionaries, or (M, 2) integer labels; the labels must mean the same tokens in both.
        other_orders: dictionaries of a's data in another order, functions without arguments that build one, or one of
            either.
        population: rows that labels were drawn from; None takes the larger number of rows that a and b have seen.
        confidence: of the interval for shuffled labels, in [0, 1).

    Returns:
        Jaccard, a number with its baselines.

    Raises:
        ShapeError, DTypeError or ValueError that names the argument.

    Warns:
        UserWarning where a and b were built by another order, mode, method, k, centring, threshold or from other rows,
        or met the tokens that both have in another order.

    Source:
        Leask, Nanda and Al Moubayed 2025, "Inference-Time Decomposition of Activations (ITDA)", section 5; the
        baselines are ours.

    Example:
        >>> labels = torch.tensor([[0, 0], [0, 1], [1, 0]])
        >>> found = jaccard(labels, labels[:2], population=100)
        >>> found.value, round(found.shuffled.expected, 3)
        (0.666..., 0.015)
    """
    ours, theirs = label_set("a", a), label_set("b", b)
    confidence = number("confidence", confidence, 0.0, below=1.0)
    shared = shared_labels(ours, theirs)
    rows = _population(a, b, population, least=len(ours) + len(theirs) - shared)
    found = differences(a, b)
    orders, more = _other_orders(a, ours, other_orders)
    tell([*found, *more])
    return Jaccard(
        value=_ratio(shared, len(ours), len(theirs)),
        shared=shared,
        sizes=(len(ours), len(theirs)),
        shuffled=None if rows is None else _shuffled(rows, len(ours), len(theirs), shared, confidence),
        other_orders=orders,
        warnings=(*found, *more),
    )


def label_set(name: str, value: Any) -> NDArray[numpy.int64]:
    """(n, 2) distinct labels, sorted, of a dictionary or of labels alone."""
    labels = getattr(value, "labels", value)
    if not isinstance(labels, (torch.Tensor, numpy.ndarray)):
        raise DTypeError(f"{name}: expected a fitted ITDA or its labels (M, 2), got {type(value).__name__}")
    rows = len(labels) if labels.ndim else 0
    distinct = numpy.unique(check_labels(plain_tensor(name, labels), rows, name).numpy(), axis=0)
    if len(distinct) == 0:
        raise ValueError(f"{name}: expected at least one label, got none")
    return distinct


def shared_labels(a: NDArray[numpy.int64], b: NDArray[numpy.int64]) -> int:
    """How many labels two sets have in common."""
    return len(a) + len(b) - len(numpy.unique(numpy.concatenate([a, b]), axis=0))


def differences(a: Any, b: Any, names: tuple[str, str] = ("a", "b")) -> list[str]:
    """Sentences on how two dictionaries were built that alone would make their labels differ."""
    ours, theirs = _facts(a), _facts(b)
    found = [
        f"{name} differs: {names[0]} has {ours[name]!r}, {names[1]} has {theirs[name]!r}"
        for name in ours
        if name in theirs and ours[name] != theirs[name] and None not in (ours[name], theirs[name])
    ]
    if ours.get("order") == theirs.get("order") and _met_in_another_order(a, b):
        found.append(f"order of the rows differs: {names[1]} met the tokens that both have in another than {names[0]}")
    return found


def tell(found: Iterable[str], level: int = 3) -> None:
    """One warning that holds all sentences."""
    sentences = "; ".join(found)
    if sentences:
        warnings.warn(f"{sentences}; {REMEDY}", UserWarning, stacklevel=level)


def _facts(dictionary: Any) -> dict[str, Any]:
    """What decides the labels of a dictionary besides its activations; nothing is known of labels alone."""
    if not hasattr(dictionary, "settings"):
        return {}
    report = getattr(dictionary, "report", None)
    return {name: getattr(dictionary.settings, name, None) for name in SETTINGS} | {
        "threshold": _threshold(dictionary),
        "rows of a batch": getattr(report, "batch_rows", None),
        "rows seen": getattr(report, "rows_seen", None),
        "tokenizer": getattr(dictionary, "data", {}).get("tokenizer_sha256"),
    }


def _threshold(dictionary: Any) -> float | str | None:
    """As it was asked for: dictionaries of one size are built alike, whatever threshold that took."""
    settings = dictionary.settings
    if getattr(settings, "threshold", 0.0) is None and getattr(settings, "max_atoms", None) is not None:
        return f"one for {settings.max_atoms} atoms"
    return getattr(dictionary, "threshold", None)


def _met_in_another_order(a: Any, b: Any) -> bool:
    """Whether the labels of both came in another order, which the settings can't tell where the stream had its own."""
    if not (hasattr(a, "to_pandas") and hasattr(b, "to_pandas")):
        return False
    label = ["prompt_id", "position"]
    ours, theirs = (
        table[table["birth_step"] >= 0].drop_duplicates(label)[[*label, "birth_step"]]
        for table in (a.to_pandas(), b.to_pandas())
    )
    both = ours.merge(theirs, on=label).sort_values("birth_step_x")
    return not both["birth_step_y"].is_monotonic_increasing


def _population(a: Any, b: Any, given: int | None, *, least: int) -> int | None:
    if given is None:
        seen = [getattr(getattr(dictionary, "report", None), "rows_seen", None) for dictionary in (a, b)]
        known = max((rows for rows in seen if rows is not None), default=0)
        return known if known >= least else None
    return integer("population", given, least)


def _ratio(shared: int, a: int, b: int) -> float:
    return shared / (a + b - shared)


def _shuffled(population: int, a: int, b: int, shared: int, confidence: float) -> Baseline:
    """Random sets of a and b labels share a hypergeometric number of them."""
    null = stats.hypergeom(population, a, b)
    counts = numpy.arange(max(0, a + b - population), min(a, b) + 1)
    tail = (1 - confidence) / 2
    return Baseline(
        expected=float((null.pmf(counts) * (counts / (a + b - counts))).sum()),
        low=_ratio(int(null.ppf(tail)), a, b),
        high=_ratio(int(null.ppf(1 - tail)), a, b),
        p_value=float(null.sf(shared - 1)),
        population=population,
        confidence=confidence,
    )


def _other_orders(a: Any, ours: NDArray[numpy.int64], given: Any) -> tuple[tuple[float, ...], list[str]]:
    """The Jaccard of a with each, and what else differs than the order."""
    several: Sequence[Any] = given if isinstance(given, (list, tuple)) else [given]
    values, found = [], []
    for place, one in enumerate(several):
        name = f"other_orders[{place}]"
        built = one() if isinstance(one, Callable) and not hasattr(one, "labels") else one  # type: ignore[arg-type]
        theirs = label_set(name, built)
        values.append(_ratio(shared_labels(ours, theirs), len(ours), len(theirs)))
        found += [text for text in differences(a, built, ("a", name)) if not text.startswith("order ")]
    return tuple(values), found
