"""The Gram as it is kept, and as on a GPU, here in the CPU's memory."""

import mmap
import sys
from pathlib import Path

import pytest
import torch

import interpkern
from interpkern import native
from interpkern.ops import gram as grams
from interpkern.ops import gram_stores
from tests.ops.pursuits import problem, pursue, same_bits


@pytest.fixture
def on_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every device is taken for a GPU."""
    monkeypatch.setattr(grams, "store_for", lambda device: gram_stores.ON_GPU)


def products(gram: interpkern.Gram) -> torch.Tensor:
    return gram.prepared.products[: len(gram), : len(gram)]


def test_a_gpu_has_a_store_of_its_own() -> None:
    assert gram_stores.store_for(torch.device("cuda:1")) is gram_stores.ON_GPU
    assert gram_stores.store_for(torch.device("cpu")) is not gram_stores.ON_GPU
    assert interpkern.Gram(torch.eye(3)).prepared.panels is not None


@pytest.mark.parametrize("width", [1, 7, 33, 64])
def test_products_are_kept_as_atoms_come(on_gpu, monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    monkeypatch.setattr(gram_stores, "NUMBERS", 1000)
    atoms = problem(1, width, 600)[1]
    exact = (atoms.double() @ atoms.double().mT).float()
    grown, whole = interpkern.Gram(atoms[:0]), interpkern.Gram(atoms, capacity=1000)
    for start, stop in ((0, 1), (1, 2), (2, 2), (2, 257), (257, 258), (258, 600)):
        grown.append(atoms[start:stop])
    for gram in (grown, whole):
        assert len(gram) == 600
        assert torch.equal(gram.atoms, atoms)
        assert torch.allclose(products(gram), exact, rtol=0, atol=6e-8)
        assert torch.equal(products(gram), products(gram).mT)
        assert (gram.prepared.products[600:] == 0).all()
        assert gram.prepared.rounding is gram.prepared.panels is None
        assert gram.prepared.rows.stride(0) % 16 == 0
        assert (gram.prepared.rows[:, width:] == 0).all()
    assert (products(grown) != products(whole)).float().mean() < 1e-3
    assert len(whole.prepared.rows) == 1024


def test_products_are_dropped_where_they_are_too_many(on_gpu, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grams, "MAX_GRAM_ATOMS", 256)
    atoms = problem(1, 7, 300)[1]
    gram = interpkern.Gram(atoms[:256])
    assert gram.prepared.products.shape == (256, 256)
    gram.append(atoms[256:])
    assert gram.prepared.products is None
    assert torch.equal(gram.atoms, atoms)
    forced = interpkern.Gram(atoms, products=True)
    assert forced.prepared.products.shape == (512, 512)
    assert interpkern.Gram(atoms[:5], products=False).prepared.products is None


def test_given_products_are_taken_over(on_gpu) -> None:
    atoms = problem(1, 7, 33)[1]
    given = atoms @ atoms.mT
    gram = interpkern.Gram.from_products(atoms, given)
    assert torch.equal(products(gram), given)
    gram.append(atoms[:3])
    assert torch.allclose(products(gram), (gram.atoms.double() @ gram.atoms.double().mT).float(), atol=1e-6)
    with pytest.raises(ValueError, match="row 32 that is off"):
        interpkern.Gram.from_products(atoms, given + torch.eye(33)[:, [32]] * 0.1)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("width", [7, 33])
def test_expected_atoms_come_one_by_one_as_if_they_had_been_appended(width: int, threads: int) -> None:
    x, atoms = problem(50, width, 700)
    settings = {"method": "omp", "threads": threads, "backend": "cpu"}
    grown = interpkern.Gram(atoms[:5], threads=threads)
    came = 5
    for expected, admitted in ((1, 1), (8, 3), (9, 0), (300, 280), (40, 40), (5, 1)):
        grown.expect(atoms[came : came + expected])
        whole = interpkern.Gram(atoms[:came])  # what only may come is not there
        assert same_bits(*(pursue(x, gram.atoms, 4, gram=gram, **settings) for gram in (grown, whole)))
        for _ in range(admitted):
            grown.append_expected()
        came += admitted
        assert torch.equal(grown.atoms, atoms[:came])
    grown.append(atoms[came:690])
    whole, exact = interpkern.Gram(atoms[:690]), (atoms[:690].double() @ atoms[:690].double().mT).float()
    assert torch.equal(products(grown), products(whole))
    assert torch.equal(products(grown), products(grown).mT)
    assert (products(grown) * native.load("_cpu").PRODUCT_STEP - exact).abs().max() < 2e-5
    assert torch.equal(grown.prepared.rounding, whole.prepared.rounding)
    panels = [gram.prepared.panels[:22].view(torch.uint8) for gram in (grown, whole)]
    assert torch.equal(*panels)
    assert same_bits(*(pursue(x, gram.atoms, 4, gram=gram, **settings) for gram in (grown, whole)))


def test_expected_atoms_come_where_nothing_is_multiplied(on_gpu) -> None:
    atoms = problem(1, 7, 20)[1]
    for products_kept in (True, False):
        gram = interpkern.Gram(atoms[:3], products=products_kept)
        gram.expect(atoms[3:])
        for _ in range(17):
            gram.append_expected()
        assert torch.equal(gram.atoms, atoms)
        with pytest.raises(ValueError, match="append_expected"):
            gram.append_expected()


def test_what_the_cpu_keeps_begins_with_a_cache_line_or_a_page() -> None:
    for atoms in (3, 300, 1100):
        gram = interpkern.Gram(problem(1, 33, atoms)[1])
        for buffer in (gram.prepared.rows, gram.prepared.panels, gram.prepared.products):
            large = buffer.nbytes >= gram_stores.HUGE_PAGE
            assert buffer.data_ptr() % (gram_stores.HUGE_PAGE if large else gram_stores.CACHE_LINE) == 0
    assert gram.prepared.products.nbytes > gram_stores.HUGE_PAGE


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_room_for_atoms_takes_no_memory_and_gives_it_back() -> None:
    def megabytes() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * mmap.PAGESIZE >> 20

    atoms, before = problem(1, 33, 1100)[1], megabytes()
    gram = interpkern.Gram(atoms, capacity=20_000)  # 800 MB
    assert megabytes() - before < 100
    kept = gram.atoms
    del gram
    assert torch.equal(kept, atoms)
    assert megabytes() - before < 20
