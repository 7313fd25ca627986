"""Comparisons of dictionaries and of activations, against closed forms, brute force and their invariances."""

import math
import warnings

import numpy
import pytest
import torch

from interpkern.errors import DTypeError, ShapeError
from interpkern.itda import ITDA
from interpkern.itda.layer_matching import layer_match
from interpkern.itda.representations import cka, svcca
from interpkern.itda.similarity import jaccard


def labels_of(*numbers: int) -> torch.Tensor:
    return torch.tensor([[number // 7, number % 7] for number in numbers])


def test_jaccard_is_shared_over_either() -> None:
    found = jaccard(labels_of(0, 1, 2, 3, 9), labels_of(3, 9, 10))
    assert float(found) == found.value == 2 / 6
    assert (found.shared, found.sizes) == (2, (5, 3))
    assert found.shuffled is None
    assert found.warnings == ()
    assert jaccard(labels_of(5, 1), labels_of(1, 5)) == 1.0
    assert jaccard(labels_of(5, 1), labels_of(2, 8)) == 0.0
    # a pair is one label: (1, 0) and (0, 1) share numbers and no label; a label that is there twice counts once
    assert jaccard(torch.tensor([[1, 0]]), torch.tensor([[0, 1]])) == 0.0
    assert jaccard(labels_of(5, 5, 1), labels_of(5, 1)) == 1.0


def test_shuffled_labels_are_hypergeometric() -> None:
    n, m, population = 7, 31, 57
    found = jaccard(labels_of(*range(n)), labels_of(*range(3, 3 + m)), population=population, confidence=0.9)
    generator = numpy.random.default_rng(0)
    drawn = numpy.empty(20_000)
    for trial in range(len(drawn)):
        marked = numpy.zeros(population, bool)
        marked[generator.permutation(population)[:n]] = True
        shared = int(marked[:m].sum())
        drawn[trial] = shared / (n + m - shared)
    null = found.shuffled
    assert null is not None
    assert null.expected == pytest.approx(drawn.mean(), abs=4 * drawn.std() / math.sqrt(len(drawn)))
    assert null.p_value == pytest.approx((drawn >= found.value).mean(), abs=0.015)
    chances = [math.comb(m, shared) * math.comb(population - m, n - shared) for shared in range(n + 1)]
    below = numpy.cumsum([0, *chances]) / math.comb(population, n)
    for end, tail in ((null.low, 0.05), (null.high, 0.95)):
        shared = round(end * (n + m) / (1 + end))
        assert end == pytest.approx(shared / (n + m - shared))
        assert below[shared] < tail <= below[shared + 1]


def test_populations_too_small_are_refused() -> None:
    whole = labels_of(*range(31))
    null = jaccard(whole, whole, population=31).shuffled
    assert null is not None
    assert (null.expected, null.low, null.high, null.p_value) == (1.0, 1.0, 1.0, 1.0)
    with pytest.raises(ValueError, match="population: expected an integer from 31"):
        jaccard(whole, whole, population=30)


@pytest.fixture(scope="module")
def x() -> torch.Tensor:
    return torch.randn(600, 7, generator=torch.Generator().manual_seed(3))


def test_a_fit_in_another_order_is_the_ceiling() -> None:
    # rows of five dimensions, where the first to come becomes an atom, and 26 rows that nothing else explains
    x = torch.zeros(600, 31)
    x[:574, :5] = torch.randn(574, 5, generator=torch.Generator().manual_seed(3))
    x[574:, 5:] = torch.eye(26)
    permuted = torch.randperm(len(x), generator=torch.Generator().manual_seed(1))
    labels = torch.stack([torch.arange(len(x)), torch.zeros(len(x), dtype=torch.int64)], 1)
    itda = ITDA(k=3, centre=False).fit(x, labels)
    other = ITDA(k=3, centre=False).fit(x[permuted], labels[permuted])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = jaccard(itda, itda, other_orders=[other, lambda: other])
    with pytest.warns(UserWarning, match="^order of the rows differs: b met"):
        direct = jaccard(itda, other)
    assert found.other_orders == (direct.value, direct.value)
    assert 0 < direct.value < 1
    assert found.shuffled is not None
    assert found.shuffled.population == 600
    assert direct.value > found.shuffled.high
    assert jaccard(itda, itda, other_orders=other).other_orders == (direct.value,)
    frame = found.to_pandas()
    assert frame.loc[0, "other_order"] == direct.value
    assert frame.loc[0, "jaccard"] == 1.0
    assert "another order" in repr(found)
    assert found.plot().axes[0].get_legend() is not None


@pytest.mark.parametrize(
    ("other", "name"),
    [
        ({"order": "canonical"}, "order"),
        ({"mode": "fast"}, "mode"),
        ({"threshold": 0.2}, "threshold"),
        ({"method": "mp"}, "method"),
        ({"k": 2}, "k"),
        ({"centre": False}, "centre"),
        ({"nonnegative": True}, "nonnegative"),
        ({"max_atoms": 20}, "rows seen"),
    ],
)
def test_each_difference_of_construction_is_named(x: torch.Tensor, other: dict[str, object], name: str) -> None:
    a, b = ITDA(k=3).fit(x), ITDA(**({"k": 3} | other)).fit(x)
    with pytest.warns(UserWarning, match=f"^{name} differs: a has"):
        found = jaccard(a, b)
    assert [text.split(" differs")[0] for text in found.warnings] == [name]
    with pytest.warns(UserWarning, match=f"{name} differs: list_a.0. has"):
        matched = layer_match([a, a], [a, b])
    assert len(matched.warnings) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert layer_match([a, a], [a, a]).warnings == ()


def test_another_order_of_the_stream_is_seen_in_the_atoms(x: torch.Tensor) -> None:
    labels = torch.stack([torch.arange(len(x)), torch.zeros(len(x), dtype=torch.int64)], 1)
    itda = ITDA(k=3, threshold=0.02).fit(x, labels)
    swapped = torch.cat([torch.arange(300, 600), torch.arange(300)])  # two shards, the second first
    other = ITDA(k=3, threshold=0.02).fit(x[swapped], labels[swapped])
    with pytest.warns(UserWarning, match="order of the rows differs: list_b.1. met") as told:
        assert len(layer_match([itda, itda], [itda, other]).warnings) == 1
    assert len(told) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        kept = labels[:, 0] % 9 > 0
        jaccard(itda.labels, other)
        jaccard(itda, other.labels)
        jaccard(
            ITDA(k=3, threshold=0.02, order="canonical").fit(x, labels),
            ITDA(k=3, threshold=0.02, order="canonical").fit(x[swapped], labels[swapped]),
        )
    # rows that are left out move the others up and leave their order as it is
    with pytest.warns(UserWarning, match="rows seen differs") as told:
        found = jaccard(itda, ITDA(k=3, threshold=0.02).fit(x[kept], labels[kept]))
    assert [text.split(" differs")[0] for text in found.warnings] == ["rows seen"]


def test_dictionaries_of_one_size_are_built_alike(x: torch.Tensor) -> None:
    a, b, other = (
        ITDA(k=3, threshold=None, max_atoms=atoms).fit(part) for atoms, part in ((40, x), (40, 3 * x**3), (50, x))
    )
    assert a.threshold != b.threshold
    assert not any("threshold" in text for text in jaccard(a, b).warnings)
    with pytest.warns(UserWarning, match="threshold differs: a has 'one for 40 atoms', b has 'one for 50 atoms'"):
        jaccard(a, other)
    with pytest.warns(UserWarning, match="threshold differs: a has 'one for 40 atoms', b has 0.2"):
        jaccard(a, ITDA(k=3, threshold=0.2).fit(x))


def test_a_baseline_built_otherwise_is_named(x: torch.Tensor) -> None:
    itda = ITDA(k=3).fit(x)
    with pytest.warns(UserWarning, match=r"k differs: a has 3, other_orders\[0\] has 2"):
        jaccard(itda, itda, other_orders=ITDA(k=2).fit(x))


def test_inputs_of_jaccard_are_named(x: torch.Tensor) -> None:
    good = labels_of(1, 2)
    with pytest.raises(DTypeError, match="a: expected a fitted ITDA"):
        jaccard([1, 2], good)
    with pytest.raises(DTypeError, match="b: expected int64"):
        jaccard(good, good.float())
    with pytest.raises(ShapeError, match=r"b: expected \(N, 2\)"):
        jaccard(good, good[:, 0])
    with pytest.raises(ValueError, match="a: expected at least one label"):
        jaccard(good[:0], good)
    with pytest.raises(ValueError, match="call fit"):
        jaccard(ITDA(), good)
    with pytest.raises(ValueError, match="confidence"):
        jaccard(good, good, confidence=1.0)


def test_layers_match_by_their_largest_similarity() -> None:
    a = [labels_of(*range(10 * layer, 10 * layer + 10)) for layer in range(3)]
    b = [labels_of(*range(4, 14)), labels_of(*range(9, 19)), labels_of(*range(12, 22))]
    found = layer_match(a, b)
    wanted = torch.tensor([[6, 1, 0], [4, 9, 8], [0, 0, 2]], dtype=torch.float64)
    torch.testing.assert_close(found.jaccard, wanted / (20 - wanted), rtol=0, atol=1e-15)
    assert found == found.value == found.score() == 1.0
    swapped = layer_match(a, [b[1], b[0], b[2]])
    assert swapped.matches().tolist() == [False, False, True]
    assert float(swapped) == pytest.approx(1 / 3)
    # a tie is no match
    assert float(layer_match(a, [labels_of(50)] * 3)) == 0.0
    frame = found.to_pandas()
    assert frame.set_index(["layer_a", "layer_b"]).loc[(1, 2), "jaccard"] == pytest.approx(8 / 12)
    assert found.cka is None
    assert found.measures == ("jaccard",)


def test_layers_of_noisy_copies_match_and_shuffled_tokens_do_not(x: torch.Tensor) -> None:
    generator = torch.Generator().manual_seed(5)
    layers = [torch.randn(400, 9, generator=generator) for _ in range(3)]
    noisy = [layer + 0.2 * torch.randn(400, 9, generator=generator) for layer in layers]
    ours = [ITDA(k=3).fit(layer) for layer in layers]
    theirs = [ITDA(k=3).fit(layer) for layer in noisy]
    found = layer_match(ours, theirs, activations_a=layers, activations_b=noisy)
    assert (found.score(), found.score("cka"), found.score("svcca")) == (1.0, 1.0, 1.0)
    assert found.cka is not None
    assert found.svcca is not None
    assert float(found.cka[1, 2]) == pytest.approx(cka(layers[1], noisy[2]), abs=1e-12)
    assert float(found.svcca[1, 2]) == pytest.approx(svcca(layers[1], noisy[2]), abs=1e-12)
    assert found.to_pandas().columns.tolist() == ["layer_a", "layer_b", "jaccard", "cka", "svcca"]
    assert len(found.plot().axes) == 6
    other = layer_match(ours, theirs, activations_a=layers, activations_b=[noisy[1], noisy[2], noisy[0]])
    assert (other.score("cka"), other.score("svcca")) == (0.0, 0.0)


def test_inputs_of_layer_match_are_named() -> None:
    a = [labels_of(1), labels_of(2)]
    with pytest.raises(ShapeError, match="list_b: expected 2 layers"):
        layer_match(a, a[:1])
    with pytest.raises(ShapeError, match="list_a: expected at least 2"):
        layer_match(a[:1], a[:1])
    with pytest.raises(DTypeError, match="list_a: expected a list"):
        layer_match(torch.zeros(2, 2), a)
    with pytest.raises(DTypeError, match=r"list_b\[1\]: expected a fitted"):
        layer_match(a, [labels_of(1), None])
    with pytest.raises(ValueError, match="activations_b"):
        layer_match(a, a, activations_a=[torch.randn(9, 3)] * 2)
    with pytest.raises(ShapeError, match=r"activations_b\[0\]: expected 9 rows"):
        layer_match(a, a, activations_a=[torch.randn(9, 3)] * 2, activations_b=[torch.randn(8, 3)] * 2)
    with pytest.raises(ValueError, match="measure"):
        layer_match(a, a).score("cka")


def brute_force_cka(x: torch.Tensor, y: torch.Tensor) -> float:
    """By Gram matrices of the samples and HSIC, the other form of the same number."""
    n = len(x)
    centring = torch.eye(n, dtype=torch.float64) - 1 / n
    k, m = (centring @ (part.double() @ part.double().mT) @ centring for part in (x, y))
    return float((k * m).sum() / (k.norm() * m.norm()))


def brute_force_svcca(x: torch.Tensor, y: torch.Tensor, variance: float) -> float:
    """By singular vectors of the activations themselves."""
    kept = []
    for part in (x, y):
        centred = part.double() - part.double().mean(0)
        u, s, _ = torch.linalg.svd(centred, full_matrices=False)
        explained = (s**2).cumsum(0) / (s**2).sum()
        kept.append(u[:, : int(torch.nonzero(explained >= variance)[0]) + 1])
    return float(torch.linalg.svdvals(kept[0].mT @ kept[1]).mean())


@pytest.mark.parametrize("chunk", [7, 2048])
@pytest.mark.parametrize("widths", [(1, 1), (7, 33), (31, 5)])
def test_cka_and_svcca_against_brute_force(
    monkeypatch: pytest.MonkeyPatch, chunk: int, widths: tuple[int, int]
) -> None:
    monkeypatch.setattr("interpkern.itda.representations.CHUNK", chunk)
    generator = torch.Generator().manual_seed(sum(widths))
    x = torch.randn(257, widths[0], generator=generator) * torch.logspace(0, -1, widths[0]) + 5
    y = x[:, :1] + torch.randn(257, widths[1], generator=generator)
    assert cka(x, y) == pytest.approx(brute_force_cka(x, y), rel=1e-9)
    for variance in (0.5, 0.9, 0.99):
        assert svcca(x, y, variance) == pytest.approx(brute_force_svcca(x, y, variance), rel=1e-7)


def test_cka_and_svcca_are_invariant_as_they_should_be() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(300, 8, generator=generator, dtype=torch.float64) * torch.logspace(0, -1, 8, dtype=torch.float64)
    rotation = torch.linalg.qr(torch.randn(8, 8, generator=generator, dtype=torch.float64)).Q
    assert cka(x, 3 * x @ rotation + 7) == pytest.approx(1.0, abs=1e-12)
    stretched = x @ (rotation * torch.logspace(0, 1, 8, dtype=torch.float64))
    assert cka(x, stretched) < 0.99
    assert svcca(x, stretched, variance=1.0) == pytest.approx(1.0, abs=1e-9)
    assert cka(x, stretched) == pytest.approx(cka(stretched, x), abs=1e-12)
    unrelated = torch.randn(300, 8, generator=generator)
    assert cka(x, unrelated) < 0.1
    assert svcca(x, unrelated) < 0.3
    # directions without variance are left out: a repeated column changes nothing
    assert svcca(torch.cat([x, x[:, :1]], 1), x, variance=1.0) == pytest.approx(1.0, abs=1e-9)


def test_inputs_of_cka_and_svcca_are_named() -> None:
    x = torch.randn(9, 3)
    with pytest.raises(ShapeError, match="y: expected 9 rows to match x"):
        cka(x, x[:8])
    with pytest.raises(ValueError, match="y: expected rows that differ"):
        cka(x, torch.ones(9, 3))
    with pytest.raises(ValueError, match="x: expected finite"):
        svcca(x / 0, x)
    with pytest.raises(DTypeError, match="x: expected a tensor"):
        cka([[1.0]], x)
    with pytest.raises(ShapeError, match="x: expected at least 2 rows"):
        cka(x[:1], x[:1])
    for wrong in (0.0, 1.1, float("nan")):
        with pytest.raises(ValueError, match="variance"):
            svcca(x, x, wrong)
