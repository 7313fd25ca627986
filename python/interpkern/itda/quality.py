"""How well a dictionary explains activations, with and without the few tokens of massive norm that hide the others."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy
import pandas
import torch
from numpy.typing import NDArray

from interpkern.errors import DTypeError
from interpkern.itda.dictionary import ITDA
from interpkern.itda.quality_sums import Figures, Sums
from interpkern.itda.rows import MASSIVE, Rows, rechunked
from interpkern.itda.settings import check_width
from interpkern.itda.streams import Stream, open_stream
from interpkern.ops.sparse_code import SparseCode
from interpkern.progress import Progress, reporting
from interpkern.validation import number

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CHUNK = 4096


@dataclass(frozen=True, eq=False, repr=False)
class Metrics:
    """The figures of a dictionary on given activations.

    A token is massive when the norm of its activation, not centred, is above `massive_above` times the median norm.

    Example:
        >>> found = metrics(ITDA(k=4).fit(torch.randn(500, 8)), torch.randn(200, 8))
        >>> found.to_pandas().index.tolist(), found.all.tokens, found.massive.tokens
        (['all', 'ordinary', 'massive'], 200, 0)
    """

    all: Figures
    ordinary: Figures
    """Without massive tokens."""
    massive: Figures
    """Of massive tokens alone."""
    massive_above: float
    """Times the median norm."""
    median_norm: float
    """In the units of the activations."""
    norms: torch.Tensor
    """(N,) float64 norms of the activations."""
    errors: torch.Tensor
    """(N,) float64 ||x - x_hat||^2 / ||x - mean of the dictionary||^2."""
    labels: torch.Tensor
    """(N, 2) int64, prompt id and position."""

    def __repr__(self) -> str:
        a, o = self.all, self.ordinary
        return (
            f"Metrics({a.tokens:,} tokens, FVU {a.fvu:.4g}, median error {a.median_error:.4g}, distinct L0"
            f" {a.distinct_l0:.1f}, dead atoms {a.dead_share:.1%}, negative {a.negative_share:.1%}; without"
            f" {self.massive.tokens} massive tokens FVU {o.fvu:.4g})"
        )

    def to_pandas(self) -> pandas.DataFrame:
        """Rows all, ordinary (without massive tokens) and massive; a column each for the fields of Figures."""
        groups = {"all": self.all, "ordinary": self.ordinary, "massive": self.massive}
        return pandas.DataFrame.from_dict({name: asdict(one) for name, one in groups.items()}, orient="index").astype(
            {"tokens": "int64", "dead_atoms": "int64"}
        )

    def massive_tokens(self) -> pandas.DataFrame:
        """One row a massive token, in order: prompt_id, position, norm (as a multiple of the median), error."""
        chosen = self.norms > self.massive_above * self.median_norm
        prompts, positions = self.labels[chosen].T.numpy()
        norms = (self.norms[chosen] / self.median_norm).numpy()
        return pandas.DataFrame(
            {"prompt_id": prompts, "position": positions, "norm": norms, "error": self.errors[chosen].numpy()}
        )

    def plot(self) -> "Figure":
        """Draw the error of all tokens against their norm, and how the errors are distributed."""
        from interpkern.itda.quality_plots import plot_metrics

        return plot_metrics(self)


def metrics(itda: ITDA, x: Any, *, massive_above: float = MASSIVE, progress: Progress | bool | None = None) -> Metrics:
    """Measure a dictionary on activations, best on others than it was fitted on.

    Args:
        itda: a fitted dictionary.
        x: what `fit` takes and what can be read twice; best not what the dictionary was fitted on.
        massive_above: norm above which a token is massive, as a multiple of the median norm. LLMs have some tokens at
            100 times the median and more, which make up most of the variance; the figures are given with and without.
        progress: a function of (rows, rows in all), True or False for a bar or none; by default a bar on a terminal.

    Returns:
        Metrics; rows that are not finite are left out where the dictionary has skip_nonfinite=True.

    Raises:
        ShapeError, DTypeError or ValueError that names the argument.

    Source:
        spec of ITDA, "Acceptance"; massive tokens: Sun, Chen, Kolter and Liu 2024, "Massive Activations in Large
        Language Models".

    Example:
        >>> itda = ITDA(k=4).fit(torch.randn(500, 8))
        >>> metrics(itda, torch.randn(200, 8)).all.negative_share > 0
        True
    """
    if not isinstance(itda, ITDA):
        raise DTypeError(f"itda: expected a fitted ITDA, got {type(itda).__name__}")
    limit = number("massive_above", massive_above, 1.0)
    itda = itda.to("cpu")
    stream = open_stream(x, name="x")
    if not stream.repeatable:
        raise ValueError("x: expected something that can be read twice, got an iterator; put its batches in a list")
    norms, labels = _norms(stream, itda)
    median = float(numpy.median(norms))
    massive = norms > limit * median
    groups = {name: Sums(len(itda), itda.atoms.shape[1]) for name in ("ordinary", "massive")}
    errors = numpy.concatenate(list(_errors(stream, itda, massive, groups, progress)))
    ordinary, large = groups["ordinary"], groups["massive"]
    return Metrics(
        all=(ordinary + large).figures(errors),
        ordinary=ordinary.figures(errors[~massive]),
        massive=large.figures(errors[massive]),
        massive_above=limit,
        median_norm=median,
        norms=torch.from_numpy(norms),
        errors=torch.from_numpy(errors),
        labels=labels,
    )


def _rows(stream: Stream, itda: ITDA) -> Iterator[Rows]:
    for rows in rechunked(stream.batches(), CHUNK):
        yield rows.on_host().finite(skip=itda.settings.skip_nonfinite, name="x")


def _norms(stream: Stream, itda: ITDA) -> tuple[NDArray[numpy.float64], torch.Tensor]:
    norms, labels = [], []
    for rows in _rows(stream, itda):
        check_width("x", rows.values.shape[1], itda.atoms.shape[1], "the atoms")
        norms.append(numpy.sqrt(_squares(rows.values)))
        labels.append(rows.labels)
    if not sum(map(len, norms)):
        raise ValueError("x: expected at least one row, got none")
    return numpy.concatenate(norms), torch.cat(labels)


def _errors(
    stream: Stream,
    itda: ITDA,
    massive: NDArray[numpy.bool_],
    groups: dict[str, Sums],
    progress: Progress | bool | None,
) -> Iterator[NDArray[numpy.float64]]:
    """The error of every row, while the sums of its group are taken."""
    done = 0
    with reporting(progress, "itda metrics", " rows") as report:
        for rows in _rows(stream, itda):
            code = itda.encode(rows.values, progress=False)
            squared = _squares(rows.values - itda.decode(code))
            distance = _squares(rows.values - itda.mean)
            large = massive[done : done + len(rows)]
            for name, chosen in (("ordinary", ~large), ("massive", large)):
                at = torch.from_numpy(chosen)
                groups[name].add((rows.values[at] - itda.mean).double(), squared[chosen], _part(code, at))
            done += len(rows)
            yield numpy.divide(squared, distance, out=numpy.zeros_like(squared), where=distance > 0)
            if report is not None:
                report(done, len(massive))


def _part(code: SparseCode, at: torch.Tensor) -> SparseCode:
    """The codes of some rows, without picks whose coefficient is 0, as non-negative least squares leaves them."""
    indices, coefficients = code.indices[at], code.coefficients[at]
    return SparseCode(indices.where(coefficients != 0, -1), coefficients, code.residual_norm[at])


def _squares(values: torch.Tensor) -> NDArray[numpy.float64]:
    """(N,) squared norms of float32 rows."""
    squares: NDArray[numpy.float64] = numpy.square(values.numpy(), dtype=numpy.float64).sum(axis=1)
    return squares
