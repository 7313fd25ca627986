"""A better choice of atoms: those that do little give way to rows that the dictionary explains badly."""

from dataclasses import dataclass, replace
from typing import Any

import numpy
import torch
from numpy.typing import NDArray

from interpkern.errors import DTypeError
from interpkern.itda.atoms import Atoms
from interpkern.itda.construction import Construction
from interpkern.itda.devices import norms
from interpkern.itda.dictionary import ITDA
from interpkern.itda.pursuit import Pursuit
from interpkern.itda.rows import Rows, joined
from interpkern.itda.settings import check_width
from interpkern.itda.streams import open_stream
from interpkern.ops.sparse_code import SparseCode
from interpkern.progress import Progress, reporting
from interpkern.validation import integer, number

CHUNK = 4096
ALIKE = 1 - 1e-6
"""|cosine| above which two rows would make the same atom."""
CANDIDATES = 4096
"""Rows that are drawn in a round, at most; some of them become atoms."""
OWN = 1e-10
"""Relative error below which a row is one that an atom came from: it explains itself."""
RIDGE = 1e-6
"""Added to the Gram of a support, where atoms may be dependent."""


def refine(
    itda: ITDA,
    activations: Any,
    labels: torch.Tensor | numpy.ndarray | None = None,
    *,
    rounds: int = 6,
    swap: float = 0.3,
    rows: int = 12_288,
    seed: int = 0,
    progress: Progress | bool | None = None,
) -> ITDA:
    """Exchange atoms that do little for rows that are explained badly; size and mean stay, atoms stay activations.

    Each round encodes a sample of the rows and gives every atom its use: the rise of the squared error if it were taken
    out of the codes that have it. The atoms of least use leave. Of rows drawn with their squared error as weight, those
    take the places from which the other rows would gain most. Neither the use nor the gain counts the row that the atom
    is made from, which says nothing about other data. The share that is exchanged falls from round to round.

    Shapes:
        activations (N, D) as `ITDA.fit` takes them; labels (N, 2) integers. All rows are held in memory.

    Args:
        itda: a fitted dictionary; it stays as it is.
        activations, labels: rows that atoms may be taken from, best those of the fit. Leave out tokens of massive norm,
            whose error outweighs that of the others.
        rounds: how often.
        swap: share of the atoms that are exchanged in the first round, in (0, 1); it falls linearly to a tenth of it.
        rows: sample of a round; should be a few times the number of atoms.
        seed: decides the samples and draws.
        progress: a function of (rounds done, rounds in all), True or False for a bar or none; by default a bar on a
            terminal.

    Returns:
        A new ITDA of as many atoms, on the CPU, where all of this happens. birth_step of a new atom is the number of
        its row in `activations`, admission_loss its loss in the round that took it; the report still tells of the fit.

    Raises:
        ShapeError, DTypeError or ValueError that names the argument.

    Source:
        ours, with the draw of k-means++ (Arthur and Vassilvitskii 2007) and the greedy choice of facility location
        (Nemhauser, Wolsey and Fisher 1978); docs/labs/itda_selection.md compares it with other rules.

    Example:
        >>> x = torch.randn(2000, 16)
        >>> itda = ITDA(k=4, threshold=0.3).fit(x)
        >>> len(refine(itda, x, rounds=3)) == len(itda)
        True
    """
    if not isinstance(itda, ITDA):
        raise DTypeError(f"itda: expected a fitted ITDA, got {type(itda).__name__}")
    rounds = integer("rounds", rounds, 1)
    swap = number("swap", swap, 0.0, below=1.0)
    size = integer("rows", rows, 1)
    generator = numpy.random.default_rng(integer("seed", seed, 0))
    itda = itda.to("cpu")
    candidates = _centred(itda, activations, labels)
    built = itda._built
    search = _Search(built, itda._pursuit)
    with reporting(progress, "itda refine", " rounds") as report:
        for number_of_round in range(rounds):
            chosen = numpy.sort(generator.permutation(len(candidates))[:size])
            search.exchange(candidates[torch.from_numpy(chosen)], _share(swap, number_of_round, rounds), generator)
            if report is not None:
                report(number_of_round + 1, rounds)
    return itda._with(search.construction())


def _share(swap: float, done: int, rounds: int) -> float:
    """The share of atoms that one round exchanges."""
    return swap * (1 - 0.9 * done / max(rounds - 1, 1))


def _centred(itda: ITDA, activations: Any, labels: Any) -> Rows:
    """All finite rows, centred, in memory."""
    stream = open_stream(activations, labels, order=itda.settings.order)
    batches = [batch.as_float32().on_host() for batch in stream.batches()]
    if not batches:
        raise ValueError("activations: expected at least one row, got none")
    rows = joined(batches).finite(skip=itda.settings.skip_nonfinite)
    check_width("activations", rows.values.shape[1], len(itda.mean), "the atoms")
    return rows.with_values(rows.values - itda.mean)


@dataclass
class _Search:
    """The atoms as they stand."""

    built: Construction
    pursuit: Pursuit

    def __post_init__(self) -> None:
        self.atoms = self.built.atoms.first(len(self.built.atoms))

    def exchange(self, rows: Rows, share: float, generator: numpy.random.Generator) -> None:
        """One round."""
        code = self.pursuit.encode(rows.values, self.atoms.gram)
        norm = norms(rows.values)
        losses = self.built.admission.threshold.losses(code.residual_norm.numpy(), norm)
        own = numpy.square(code.residual_norm.numpy()) <= OWN * numpy.square(norm)
        uses = use(_emptied(code, own), self.atoms.values)
        leaving = numpy.argsort(uses, kind="stable")[: int(share * len(self.atoms))]
        weights = numpy.square(code.residual_norm.double().numpy())
        weights[own] = 0
        drawn = _distinct(rows.values, norm, _drawn(weights, generator), CANDIDATES)
        gains = self._gains(rows.values, code, drawn)
        coming = drawn[_best(gains, len(leaving))]
        self._replace(leaving[: len(coming)], rows, coming, norm, losses)

    def _gains(self, values: torch.Tensor, code: SparseCode, drawn: NDArray[numpy.int64]) -> torch.Tensor:
        """(candidates, n): what each would explain of a row's residual, less the least square it would push out."""
        at = torch.from_numpy(drawn)
        residual = values - code.decode(self.atoms.values)
        explained = torch.nn.functional.normalize(values[at], dim=1) @ residual.mT
        if self.pursuit.nonnegative:
            explained.relu_()
        gains = explained.square_().sub_(code.coefficients.square().min(1).values).relu_()
        gains[torch.arange(len(at)), at] = 0
        return gains

    def _replace(
        self,
        leaving: NDArray[numpy.int64],
        rows: Rows,
        coming: NDArray[numpy.int64],
        norm: NDArray[numpy.float64],
        losses: NDArray[numpy.float64],
    ) -> None:
        stay = numpy.delete(numpy.arange(len(self.atoms)), leaving)
        old = self.atoms
        kept = Atoms.restored(old.values[torch.from_numpy(stay)], old.records[stay], None, self.pursuit.threads)
        kept.append(rows, coming, norm, losses)
        self.atoms = kept

    def construction(self) -> Construction:
        """The dictionary with these atoms, and the rest as it was."""
        self.atoms.limit = self.built.settings.max_atoms
        return Construction(
            self.built.settings,
            self.built.mean,
            self.pursuit,
            threshold=self.built.threshold,
            atoms=self.atoms,
            digest=self.built.digest.copy(),
            counts=replace(self.built.counts),
        )


def _emptied(code: SparseCode, rows: NDArray[numpy.bool_]) -> SparseCode:
    """The codes, without those of some rows."""
    none = torch.from_numpy(rows)[:, None]
    indices, coefficients = code.indices.masked_fill(none, -1), code.coefficients.masked_fill(none, 0.0)
    return SparseCode(indices, coefficients, code.residual_norm)


def use(code: SparseCode, atoms: torch.Tensor) -> NDArray[numpy.float64]:
    """(M,) how much the squared error of the rows would rise if an atom were taken out of the codes that have it.

    For least squares on a support with Gram G this is a_j^2 / (G^-1)_jj, row by row.
    """
    total = numpy.zeros(len(atoms))
    for start in range(0, len(code), CHUNK):
        part = slice(start, start + CHUNK)
        picked = code.indices[part] >= 0
        indices = code.indices[part].clamp(min=0).long()
        rise = code.coefficients[part].square() / _inverse_diagonal(atoms[indices], picked)
        total += numpy.bincount(indices[picked].numpy(), weights=rise[picked].double().numpy(), minlength=len(atoms))
    return total


def _inverse_diagonal(support: torch.Tensor, picked: torch.Tensor) -> torch.Tensor:
    """(n, k) diagonal of the inverse Gram of each row's atoms (n, k, D); 1 where there is none."""
    support = support * picked[:, :, None]
    gram = support @ support.mT
    gram.diagonal(dim1=1, dim2=2).add_(torch.where(picked, RIDGE, 1.0))
    return torch.linalg.inv(gram).diagonal(dim1=1, dim2=2)


def _drawn(weights: NDArray[numpy.float64], generator: numpy.random.Generator) -> NDArray[numpy.int64]:
    """Rows of positive weight in the order of a draw without replacement (Efraimidis and Spirakis 2006)."""
    possible = numpy.flatnonzero(weights > 0)
    keys = numpy.log1p(-generator.random(len(weights)))[possible] / weights[possible]
    order: NDArray[numpy.int64] = possible[numpy.argsort(-keys, kind="stable")]
    return order


def _best(gains: torch.Tensor, count: int) -> list[int]:
    """Up to `count` candidates, greedily by what they add to the best gain of every row so far.

    What a candidate adds never grows, so the one on top after its sum is taken anew is the best.
    """
    bounds = gains.sum(1)
    best = torch.zeros(gains.shape[1])
    chosen: list[int] = []
    while len(bounds) and len(chosen) < count:
        top = int(bounds.argmax())
        if bounds[top] <= 0:
            break
        bounds[top] = (gains[top] - best).relu().sum()
        if bounds[top] >= bounds.max():
            chosen.append(top)
            best = torch.maximum(best, gains[top])
            bounds[top] = 0
    return chosen


def _distinct(
    values: torch.Tensor, norm: NDArray[numpy.float64], order: NDArray[numpy.int64], count: int
) -> NDArray[numpy.int64]:
    """The first `count` rows in this order of which none is a multiple of another."""
    order = order[: count + count // 4]
    unit = torch.nn.functional.normalize(values[torch.from_numpy(order)], dim=1)
    alike = torch.triu((unit @ unit.mT).abs() > ALIKE, diagonal=1).any(0).numpy()
    first: NDArray[numpy.int64] = order[~alike & (norm[order] > 0)][:count]
    return first
