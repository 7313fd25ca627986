"""A dictionary with one thing changed, to see what that is worth: other codes, random atoms, refined atoms."""

from dataclasses import replace

import numpy
import scipy.sparse
import torch
from numpy.typing import NDArray

from interpkern.itda.atoms import RECORD
from interpkern.itda.devices import norms
from interpkern.itda.dictionary import ITDA
from interpkern.itda.rows import Rows
from interpkern.itda.storage import Stored

RIDGE = 1e-6
"""Of the mean use of an atom, added where atoms are hardly used."""


def recoded(itda: ITDA, method: str) -> ITDA:
    """The same atoms and mean, encoded by another method."""
    return _with_atoms(itda, itda.atoms, itda._built.atoms.records, method)


def random_atoms(itda: ITDA, rows: Rows, seed: int, method: str) -> ITDA:
    """As many atoms from rows that are drawn at random, less the mean of the dictionary."""
    norm = norms(rows.values - itda.mean)
    order = numpy.random.default_rng(seed).permutation(len(rows))
    chosen = numpy.sort(order[norm[order] > 0][: len(itda)])
    at = torch.from_numpy(chosen)
    unit = ((rows.values[at] - itda.mean).double() / torch.from_numpy(norm[chosen])[:, None]).float()
    records = numpy.zeros(len(chosen), RECORD)
    records["prompt_id"], records["position"] = rows.labels[at].T.numpy()
    records["token_id"], records["birth_step"] = rows.tokens[at].numpy(), rows.numbers[at].numpy()
    records["source_norm"], records["admission_loss"] = norm[chosen], numpy.nan
    return _with_atoms(itda, unit, records, method)


def updated_atoms(itda: ITDA, rows: Rows) -> ITDA:
    """Atoms moved to where the codes of the rows want them, by one step of the method of optimal directions.

    They are no activations any more, and their labels say only what they came from.

    Source:
        Engan, Aase and Husoy 1999, "Method of optimal directions for frame design".
    """
    centred = rows.values - itda.mean
    code = itda.encode(rows.values, progress=False)
    picked = (code.indices >= 0).numpy()
    columns, values = code.indices.numpy()[picked], code.coefficients.double().numpy()[picked]
    starts = numpy.concatenate([[0], picked.sum(1).cumsum()])
    codes = scipy.sparse.csr_matrix((values, columns, starts), shape=(len(rows), len(itda)))
    products = (codes.T @ codes).toarray()
    ridge = RIDGE * float(numpy.trace(products)) / len(itda)
    old = itda.atoms.double().numpy()
    wanted = codes.T @ centred.double().numpy() + ridge * old
    products[numpy.diag_indices(len(itda))] += ridge
    moved: NDArray[numpy.float64] = torch.linalg.solve(torch.from_numpy(products), torch.from_numpy(wanted)).numpy()
    unit = torch.from_numpy(moved / numpy.linalg.norm(moved, axis=1, keepdims=True)).float()
    return _with_atoms(itda, unit, itda._built.atoms.records, itda.settings.method)


def _with_atoms(itda: ITDA, atoms: torch.Tensor, records: NDArray[numpy.void], method: str) -> ITDA:
    built, pursuit = itda._built, itda._pursuit
    stored = Stored(
        settings=replace(itda.settings, method=method),
        threshold=built.threshold,
        atoms=atoms,
        records=records,
        mean=built.mean,
        counts=built.counts,
        data=dict(itda.data),
    )
    return ITDA._of(stored, backend=pursuit.backend, threads=pursuit.threads)
