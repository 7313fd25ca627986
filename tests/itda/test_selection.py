"""Exchange of atoms: what an atom is worth against brute force, and what the new dictionary is made of."""

import numpy
import pytest
import torch

import interpkern
from interpkern.errors import DTypeError, ShapeError
from interpkern.itda import ITDA
from interpkern.itda.selection import refine, use
from interpkern.ops.matching_pursuit import matching_pursuit
from tests.itda.problems import activations, built, labels_for, same


def unit(rows: int, width: int, seed: int) -> torch.Tensor:
    return torch.nn.functional.normalize(
        torch.randn(rows, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64), dim=1
    )


@pytest.mark.parametrize(("rows", "width", "atoms", "k"), [(31, 7, 13, 3), (33, 17, 29, 5), (1, 5, 4, 2)])
def test_use_is_what_leaving_an_atom_out_costs(rows: int, width: int, atoms: int, k: int) -> None:
    x, dictionary = 3 * unit(rows, width, 0), unit(atoms, width, 1)
    code = matching_pursuit(x, dictionary, k, method="omp", backend="reference")
    expected = numpy.zeros(atoms)
    for row, indices in zip(x, code.indices.tolist(), strict=True):
        support = [index for index in indices if index >= 0]
        whole = float(residual(row, dictionary[support]).square().sum())
        for index in support:
            rest = dictionary[[other for other in support if other != index]]
            expected[index] += float(residual(row, rest).square().sum()) - whole
    numpy.testing.assert_allclose(use(code, dictionary), expected, rtol=1e-3, atol=1e-4)


def residual(row: torch.Tensor, atoms: torch.Tensor) -> torch.Tensor:
    return row - atoms.mT @ torch.linalg.lstsq(atoms.mT, row[:, None]).solution[:, 0] if len(atoms) else row


def test_atoms_are_the_normalised_activations_of_their_labels() -> None:
    x, labels = activations(700, 33, seed=3), labels_for(700)
    itda = built(x, labels)
    refined = refine(itda, x, labels, rounds=3, rows=400)
    assert len(refined) == len(itda)
    assert torch.equal(refined.mean, itda.mean)
    assert not torch.equal(refined.labels, itda.labels)
    row_of = {tuple(label): row for row, label in enumerate(labels.tolist())}
    table = refined.to_pandas()
    for atom, label in zip(refined.atoms, refined.labels.tolist(), strict=True):
        centred = (x[row_of[tuple(label)]] - itda.mean).numpy()
        norm = numpy.sqrt(numpy.square(centred, dtype=numpy.float64).sum())
        assert torch.equal(atom, (torch.from_numpy(centred).double() / norm).float())
    assert [row_of[tuple(label)] for label in refined.labels.tolist()] == table["birth_step"].tolist()
    assert len(refined.labels.unique(dim=0)) == len(refined)


def test_the_same_seed_gives_the_same_bits_and_the_first_dictionary_stays() -> None:
    x, labels = activations(500, 17, seed=4), labels_for(500)
    itda, again = built(x, labels), built(x, labels)
    first, second = (refine(itda, x, labels, rounds=2, rows=300, seed=5) for _ in range(2))
    assert same(first, second)
    assert same(itda, again)
    assert not same(first, refine(itda, x, labels, rounds=2, rows=300, seed=6))


def test_useless_atoms_give_way() -> None:
    """Half the atoms point where no row does; they go, and held-out rows gain."""
    x = torch.randn(1500, 24, generator=torch.Generator().manual_seed(0))
    x[:, 12:] *= 0.01
    junk = torch.zeros(40, 24)
    junk[:, 12:] = torch.randn(40, 12, generator=torch.Generator().manual_seed(1))
    itda = ITDA(k=3, threshold=1e-9, centre=False, max_atoms=80, threads=1).fit(torch.cat([junk, x[:40]]))
    refined = refine(itda, x[40:1200], rounds=6, swap=0.3)
    held_out = x[1200:]
    assert refined.atoms[:, 12:].square().sum(1).gt(0.5).sum() == 0
    assert refined.fvu(held_out) < 0.95 * itda.fvu(held_out)


def test_it_helps_on_held_out_activations() -> None:
    source = interpkern.data.load("smollm2")
    x, labels = source.tensor().float(), source.labels
    ordinary = x.norm(dim=1) <= 10 * x.norm(dim=1).median()
    held_out = labels[:, 0] % 5 == 0
    train = ordinary & ~held_out
    itda = ITDA(k=8, max_atoms=256, threshold=0.5, threads=1).fit(x[train], labels[train])
    refined = refine(itda, x[train], labels[train], rounds=6)
    assert refined.fvu(x[ordinary & held_out]) < itda.fvu(x[ordinary & held_out])


def test_rows_that_are_alike_give_one_atom() -> None:
    x = activations(300, 17, seed=6)
    itda = built(x)
    loud = (100 * unit(1, 17, 2).float()).repeat(50, 1)
    refined = refine(itda, torch.cat([x, loud + itda.mean, itda.mean - loud]), rounds=3)
    cosines = (refined.atoms @ refined.atoms.mT).abs().fill_diagonal_(0)
    assert cosines.max() < 1 - 1e-6
    assert len(refined) == len(itda)


@pytest.mark.parametrize("method", ["mp", "mp_refit", "omp"])
@pytest.mark.parametrize("nonnegative", [False, True])
def test_every_method(method: str, nonnegative: bool) -> None:
    x = activations(257, 7, seed=7)
    itda = built(x, method=method, nonnegative=nonnegative)
    assert len(refine(itda, x, rounds=2)) == len(itda)


def test_a_refined_dictionary_can_be_kept(tmp_path) -> None:
    x = activations(300, 17, seed=8)
    refined = refine(built(x), x, rounds=1)
    refined.save_pretrained(tmp_path / "refined")
    assert same(ITDA.from_pretrained(tmp_path / "refined"), refined)


def test_few_rows_leave_atoms_in_place() -> None:
    x = activations(100, 7, seed=9)
    itda = built(x)
    refined = refine(itda, x[-1:], rounds=1)
    assert len(refined) == len(itda)
    assert (refined.atoms == itda.atoms[:, None]).all(2).any(1).sum() >= len(itda) - 1


@pytest.mark.parametrize(
    ("change", "error", "name"),
    [
        ({"rounds": 0}, ValueError, "rounds"),
        ({"swap": 1.0}, ValueError, "swap"),
        ({"rows": 0}, ValueError, "rows"),
        ({"seed": -1}, ValueError, "seed"),
        ({"seed": 0.5}, DTypeError, "seed"),
        ({"activations": torch.ones(5, 6)}, ShapeError, "activations"),
        ({"activations": torch.full((5, 7), torch.nan)}, ValueError, "activations"),
        ({"activations": []}, ValueError, "activations"),
        ({"itda": 3}, DTypeError, "itda"),
        ({"itda": ITDA()}, ValueError, "fit"),
    ],
)
def test_refusals(change: dict, error: type[Exception], name: str) -> None:
    x = activations(60, 7, seed=1)
    arguments = {"itda": built(x), "activations": x} | change
    with pytest.raises(error, match=name):
        refine(**arguments)
