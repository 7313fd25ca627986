"""What ITDA takes as activations and labels, and what it refuses, by name."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy
import pandas
import pytest
import torch

import interpkern
from interpkern.itda import ITDA
from tests.itda.problems import SETTINGS, activations, built, in_batches, labels_for, same


class Loader:
    """Batches that can be read again and again, in another order each time if it shuffles."""

    def __init__(self, batches: list[Any], *, shuffles: bool = False) -> None:
        self.batches, self.shuffles, self.readings = batches, shuffles, 0

    def __iter__(self) -> Iterator[Any]:
        self.readings += 1
        step = -1 if self.shuffles and self.readings % 2 == 0 else 1
        return iter(self.batches[::step])


def test_all_kinds_of_sources_give_the_same_dictionary() -> None:
    x, labels = activations(300, 31), labels_for(300)
    whole, batches = built(x, labels), in_batches(x, labels, 41)
    assert same(whole, built(batches))
    assert same(whole, built(tuple(batches)))
    assert same(whole, built([[part.numpy(), marks.numpy()] for part, marks in batches]))
    assert same(whole, built(Loader(batches)))
    assert same(whole, built(torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, labels), batch_size=17)))
    assert same(whole, built(interpkern.Activations(x, labels=labels)))
    assert same(whole, built(iter(batches), centre=whole.mean))
    assert same(built(x), built(x.split(41)))
    assert same(built(x), built([x[:0], x[:100], x[100:]]))


def test_a_memory_map_is_read_piece_by_piece(tmp_path: Any) -> None:
    x = activations(3000, 31).half()
    numpy.save(tmp_path / "x.npy", x.numpy())
    mapped = numpy.load(tmp_path / "x.npy", mmap_mode="r")
    assert same(built(x), built(mapped))
    assert same(built(x, order="canonical"), built(mapped, order="canonical"))


def test_data_are_read_as_often_as_they_must_be() -> None:
    x, labels = activations(300, 31), labels_for(300)
    loader = Loader(in_batches(x, labels, 41))
    built(loader)
    assert loader.readings == 2
    built(loader, centre=False)
    assert loader.readings == 3
    shuffling = Loader(in_batches(x, labels, 41), shuffles=True)
    with pytest.raises(ValueError, match="activations: the second reading gave other rows"):
        built(shuffling)
    built(shuffling, centre=False)


def test_iterators_need_a_centre_that_is_known() -> None:
    batches = in_batches(activations(300, 31), labels_for(300), 41)
    with pytest.raises(ValueError, match=r"activations: centre=True reads .* twice .* a list .* mean as a \(D,\)"):
        built(iter(batches))
    with pytest.raises(ValueError, match="activations: threshold=None reads the data many times"):
        built(iter(batches), centre=False, threshold=None, max_atoms=5)
    with pytest.raises(ValueError, match="centre: True needs the mean of all rows"):
        ITDA().partial_fit(batches)
    with pytest.raises(ValueError, match="order: 'canonical' needs all rows at hand"):
        built(batches, order="canonical")
    with pytest.raises(ValueError, match="order: 'canonical' needs all rows at hand"):
        ITDA(order="canonical", centre=False).partial_fit(batches[0][0])
    with pytest.raises(ValueError, match="threshold: None reads the data many times"):
        ITDA(threshold=None, max_atoms=3, centre=False).partial_fit(batches[0][0])


def test_default_labels_are_row_numbers_and_go_on() -> None:
    x = activations(300, 31)
    itda = ITDA(**SETTINGS, centre=False)
    for part in x.split(70):
        itda.partial_fit(part)
    assert torch.equal(itda.labels[:, 0], torch.tensor(itda.to_pandas()["birth_step"].tolist()))
    assert not itda.labels[:, 1].any()
    assert same(itda, built(x, centre=False))


@pytest.mark.parametrize("mode", ["exact", "fast"])
def test_rows_that_are_not_finite_are_named_or_left_out(mode: str) -> None:
    x, labels = activations(300, 31), labels_for(300)
    bad = [3, 50, 51, 299]
    spoilt = x.clone()
    spoilt[bad[0], 4], spoilt[bad[1]], spoilt[bad[2], 30], spoilt[bad[3], 0] = (
        torch.nan,
        torch.inf,
        -torch.inf,
        torch.nan,
    )
    named = rf"row 3 \(label \({labels[3, 0]}, {labels[3, 1]}\)\) .*skip_nonfinite=True"
    with pytest.raises(ValueError, match=named):
        built(spoilt, labels, mode=mode)
    skipping = built(in_batches(spoilt, labels, 60), skip_nonfinite=True, mode=mode)
    good = torch.tensor([row not in bad for row in range(300)])
    kept = built([(x[row][good[row]], labels[row][good[row]]) for row in torch.arange(300).split(60)], mode=mode)
    assert same(skipping, kept, records=False)
    assert skipping.report.skipped == 4
    assert skipping.report.rows_seen == 300
    assert "4 rows" in str(skipping.report)
    numbers = built(spoilt, skip_nonfinite=True, mode="exact").labels[:, 0].tolist()
    assert max(numbers) > 200
    assert not set(numbers) & set(bad)
    with pytest.raises(ValueError, match="activations: expected at least one finite row"):
        built(torch.full((4, 3), torch.nan), skip_nonfinite=True)


def test_what_is_no_activations_is_refused_by_name() -> None:
    x, labels = activations(30, 7), labels_for(30)
    for wrong, error, message in [
        (x[0], ValueError, r"activations: expected \(N, D\).*Did you mean activations\[None\]"),
        (x.view(5, 6, 7), ValueError, r"activations: .*activations.flatten\(0, 1\)"),
        (x.long(), TypeError, "activations: expected float32 or .*, got int64"),
        (x.clone().requires_grad_(), ValueError, "activations: requires_grad"),
        (x.to_sparse(), TypeError, "activations: .*to_dense"),
        (x.to("meta"), TypeError, "activations: .*meta"),
        (x[:0], ValueError, "activations: expected at least one"),
        ([], ValueError, "activations: expected at least one"),
        (None, TypeError, "activations: .*NoneType"),
        ("x.npy", TypeError, r"activations: .*str; open files with interpkern.Activations\(path\)"),
        (Path("x.npy"), TypeError, "activations: .*Activations"),
        (pandas.DataFrame(x.numpy()), TypeError, r"activations: .*DataFrame; give its .to_numpy\(\)"),
        (lambda: [x], TypeError, r"activations: .*interpkern.Activations\(function\)"),
        ([x[0], x[1]], ValueError, r"activations \(batch 0\): .*torch.stack\(rows\)"),
        ({"x": x}, TypeError, "activations: .*dict"),
        ([x, x[:, :3]], ValueError, r"activations \(batch 1\): expected width D = 7 .*got 3"),
        ([(x, labels, labels)], TypeError, r"activations \(batch 0\): .*3 parts"),
        ([[1.0, 2.0]], TypeError, r"activations \(batch 0\): expected a torch tensor"),
        (numpy.array([["a"]]), TypeError, "activations: expected an array of numbers"),
    ]:
        with pytest.raises(error, match=message):
            ITDA().fit(wrong)
    itda = built(x)
    for method in (itda.partial_fit, itda.encode, itda.fvu):
        with pytest.raises(ValueError, match=r"(activations|x): expected width D = 7 .*got 5"):
            method(activations(9, 5))
    with pytest.raises(TypeError, match=r"x: .*Activations; give its .tensor\(\)"):
        itda.encode(interpkern.Activations(x))


def test_what_is_no_labels_is_refused_by_name() -> None:
    x, labels = activations(30, 7), labels_for(30)
    for wrong, error, message in [
        (labels[:5], ValueError, r"labels: expected \(N, 2\) .* N = 30 .*got \(5, 2\)"),
        (labels[:, 0], ValueError, r"labels: .*torch.stack"),
        (labels.float(), TypeError, "labels: expected int64, got float32"),
        (labels.tolist(), TypeError, "labels: expected a torch tensor"),
    ]:
        with pytest.raises(error, match=message):
            ITDA().fit(x, wrong)
        with pytest.raises(error, match=message):
            ITDA(centre=False).partial_fit([(x, wrong)])
    for source in ([x], interpkern.Activations(x)):
        with pytest.raises(ValueError, match="labels: expected None"):
            ITDA().fit(source, labels)
    assert built(x, labels.int().numpy()).labels.dtype == torch.int64


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        ({"k": 0}, ValueError),
        ({"k": 2.5}, TypeError),
        ({"method": "lasso"}, ValueError),
        ({"threshold": 1.0}, ValueError),
        ({"threshold": -0.1}, ValueError),
        ({"threshold": torch.nan}, ValueError),
        ({"threshold": None}, ValueError),
        ({"threshold": None, "max_atoms": 5, "relative": False}, ValueError),
        ({"centre": "mean"}, TypeError),
        ({"centre": torch.ones(2, 2)}, ValueError),
        ({"centre": torch.full((3,), torch.inf)}, ValueError),
        ({"centre": torch.arange(3)}, TypeError),
        ({"max_atoms": 0}, ValueError),
        ({"mode": "quick"}, ValueError),
        ({"order": "random"}, ValueError),
        ({"relative": 1}, TypeError),
        ({"nonnegative": None}, TypeError),
        ({"skip_nonfinite": "yes"}, TypeError),
        ({"backend": "gpu"}, ValueError),
        ({"threads": 0}, ValueError),
    ],
)
def test_wrong_settings_are_refused_by_name(wrong: dict, error: type[Exception]) -> None:
    with pytest.raises(error, match=next(iter(wrong))):
        ITDA(**wrong)


def test_a_centre_of_another_width_is_refused() -> None:
    with pytest.raises(ValueError, match=r"centre: expected width D = 7 .*got 3"):
        built(activations(9, 7), centre=torch.zeros(3))
