"""What cross-coders take, keep and refuse: streams, batches, labels, files, and wrong input by the name of its site."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch

import interpkern
from interpkern.itda import CrosscoderITDA
from tests.itda.problems import SETTINGS, activations, labels_for
from tests.itda.test_crosscoder import built
from tests.itda.test_dictionary import Tokenizer
from tests.itda.test_streams import Loader

Sites = dict[str, torch.Tensor]


def pair(rows: int, seed: int = 0) -> Sites:
    return {"a": activations(rows, 31, seed=seed), "b": 5 + 9 * activations(rows, 7, seed=seed, world=1)}


def in_batches(x: Sites, labels: torch.Tensor, size: int) -> list[tuple[Sites, torch.Tensor]]:
    starts = range(0, len(labels), size)
    return [({site: v[at : at + size] for site, v in x.items()}, labels[at : at + size]) for at in starts]


def same(a: CrosscoderITDA, b: CrosscoderITDA) -> bool:
    """Whether two cross-coders are the same to the last bit."""
    parts = [(a.atoms, b.atoms), (a.labels, b.labels), *((a.means[site], b.means[site]) for site in a.sites)]
    return (
        all(torch.equal(*part) for part in parts)
        and (a.sites, a.scales, a.weights) == (b.sites, b.scales, b.weights)
        and a.to_pandas().equals(b.to_pandas())
    )


@pytest.mark.parametrize("size", [1, 37, 512])
def test_bytes_do_not_depend_on_batches(size: int, tmp_path: Path) -> None:
    x, labels = pair(1100), labels_for(1100)
    whole = built(x, labels)
    batches = in_batches(x, labels, size)
    split = CrosscoderITDA(["a", "b"], **SETTINGS).fit(batches)
    assert 50 < len(whole) < 1000
    assert same(whole, split)
    folders = [one.save_pretrained(tmp_path / name) for one, name in ((whole, "whole"), (split, "split"))]
    files = [{p.relative_to(f): p.read_bytes() for p in f.rglob("*") if p.is_file()} for f in folders]
    assert len(files[0]) == 5
    assert files[0] == files[1]
    streamed = CrosscoderITDA(["a", "b"], **SETTINGS, centre=whole.means, scales=whole.scales)
    for batch, marks in batches:
        streamed.partial_fit(batch, marks)
    assert same(whole, streamed)
    assert streamed.data["sha256"] == whole.data["sha256"]


def test_all_kinds_of_sources_give_the_same_crosscoder(tmp_path: Path) -> None:
    x, labels = pair(300), labels_for(300)
    whole, batches = built(x, labels), in_batches(x, labels, 41)
    numpy.save(tmp_path / "a.npy", x["a"].numpy())
    mapped = numpy.load(tmp_path / "a.npy", mmap_mode="r")
    known = {"centre": whole.means, "scales": whole.scales}
    sources: list[tuple[Any, Any]] = [
        ({"b": x["b"], "a": x["a"]}, labels),
        ({"a": mapped, "b": x["b"].numpy()}, labels.numpy()),
        ({site: interpkern.Activations(values, labels=labels) for site, values in x.items()}, None),
        ({"a": interpkern.Activations(x["a"], labels=labels), "b": x["b"]}, None),
        ({s: interpkern.Activations(lambda s=s: iter([(p[s], m) for p, m in batches])) for s in x}, None),
        ([[part, marks] for part, marks in batches], None),
        (Loader(batches), None),
    ]
    for source, marks in sources:
        assert same(whole, CrosscoderITDA(["a", "b"], **SETTINGS).fit(source, marks))
    given = CrosscoderITDA(["a", "b"], **SETTINGS, **known).fit(iter(batches))
    assert same(whole, given)
    assert same(built(x), CrosscoderITDA(["a", "b"], **SETTINGS).fit([part for part, _ in batches]))
    assert built(x).labels[-1, 1] == 0


def test_data_are_read_twice_at_most() -> None:
    batches = in_batches(pair(300), labels_for(300), 41)
    loader = Loader(batches)
    whole = CrosscoderITDA(["a", "b"], **SETTINGS).fit(loader)
    assert loader.readings == 2
    CrosscoderITDA(["a", "b"], **SETTINGS, centre=whole.means, scales=whole.scales).fit(loader)
    assert loader.readings == 3
    with pytest.raises(ValueError, match="activations: the second reading gave other rows"):
        CrosscoderITDA(["a", "b"], **SETTINGS).fit(Loader(batches, shuffles=True))
    for settings in ({}, {"centre": False}, {"scales": whole.scales}):
        with pytest.raises(ValueError, match=r"activations: the means and scales .* an iterator can be read once"):
            CrosscoderITDA(["a", "b"], **SETTINGS, **settings).fit(iter(batches))
        with pytest.raises(ValueError, match=r"centre, scales: .* use fit, or give scales"):
            CrosscoderITDA(["a", "b"], **SETTINGS, **settings).partial_fit(batches)


def test_canonical_order_and_fast_mode() -> None:
    x, labels = pair(300), labels_for(300)
    order = torch.randperm(300, generator=torch.Generator().manual_seed(1))
    turned = {site: values[order] for site, values in x.items()}
    wanted = built(x, labels, order="canonical")
    found = built(turned, labels[order], order="canonical")
    assert torch.equal(wanted.labels, found.labels)
    assert not torch.equal(wanted.labels, built(x, labels).labels)
    fast = CrosscoderITDA(["a", "b"], **SETTINGS, mode="fast").fit(in_batches(x, labels, 41))
    assert fast.report.batch_rows == 41
    with pytest.raises(ValueError, match="order: 'canonical' needs all rows"):
        CrosscoderITDA(
            ["a", "b"], **SETTINGS, order="canonical", centre=False, scales={"a": 1.0, "b": 1.0}
        ).partial_fit(x)


def test_partial_fit_goes_on_and_forgets_what_it_had_prepared() -> None:
    x, more = pair(300), pair(200, seed=4)
    crosscoder = built(x)
    known = len(crosscoder)
    before = crosscoder.encode(more, sites=["a"])
    crosscoder.partial_fit(more)
    assert len(crosscoder) > known
    assert crosscoder.report.rows_seen == 500
    assert crosscoder.labels[known:, 0].min() >= 300
    after = crosscoder.encode(more, sites=["a"])
    assert int(after.indices.max()) >= known
    assert after.residual_norm.sum() < before.residual_norm.sum()
    with pytest.raises(ValueError, match=r"activations\['b'\]: expected width D = 7 to match the means"):
        crosscoder.partial_fit({"a": more["a"], "b": more["b"][:, :5]})
    none = {site: values[:0] for site, values in more.items()}
    for nothing in ([], none, [none]):
        assert crosscoder.partial_fit(nothing) is crosscoder
        unfitted = CrosscoderITDA(["a", "b"], **SETTINGS, centre=False, scales={"a": 1.0, "b": 1.0})
        assert len(unfitted.partial_fit(nothing).partial_fit(more)) > 3
    assert crosscoder.report.rows_seen == 500


def test_a_fit_that_fails_changes_nothing() -> None:
    x = pair(300)
    crosscoder = built(x)
    atoms = crosscoder.atoms.clone()
    broken = {"a": x["a"], "b": x["b"].clone()}
    broken["b"][250, 3] = torch.nan
    codes = {sites: crosscoder.encode(x, sites=sites).coefficients for sites in (None, ("a",))}
    for attempt in (crosscoder.fit, crosscoder.partial_fit):
        with pytest.raises(ValueError, match=r"activations\['b'\]: expected finite .* in row (250|550)"):
            attempt(broken)
        assert torch.equal(crosscoder.atoms, atoms)
        assert crosscoder.report.rows_seen == 300
    long = {site: torch.cat([values, broken[site]]) for site, values in pair(2000, seed=8).items()}
    with pytest.raises(ValueError, match=r"activations\['b'\]: expected finite .* in row 2550"):
        crosscoder.partial_fit(long)
    for sites, coefficients in codes.items():
        assert torch.equal(crosscoder.encode(x, sites=sites).coefficients, coefficients)


def test_rows_that_are_not_finite_anywhere_are_left_out() -> None:
    x, labels = pair(300), labels_for(300)
    good = torch.ones(300, dtype=torch.bool)
    good[[7, 100]] = False
    dirty = {site: values.clone() for site, values in x.items()}
    dirty["a"][7, 0], dirty["b"][100, 2] = torch.inf, torch.nan
    found = built(dirty, labels, skip_nonfinite=True)
    wanted = built({site: values[good] for site, values in x.items()}, labels[good])
    assert found.report.skipped == 2
    assert torch.equal(found.atoms, wanted.atoms)
    assert torch.equal(found.labels, wanted.labels)
    assert found.scales == wanted.scales
    with pytest.raises(ValueError, match=r"x\['a'\]: expected finite numbers within float32"):
        found.encode(dirty)


def test_a_killed_fit_goes_on(tmp_path: Path) -> None:
    x, labels = pair(3000), labels_for(3000)
    whole = built(x, labels, max_atoms=150)
    calls = 0

    def stop(done: int, total: int) -> None:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise KeyboardInterrupt

    crosscoder = CrosscoderITDA(["a", "b"], **SETTINGS, max_atoms=150)
    with pytest.raises(KeyboardInterrupt):
        crosscoder.fit(x, labels, checkpoint=tmp_path / "fit", checkpoint_every=1, progress=stop)
    assert len(crosscoder) == 0
    assert (tmp_path / "fit" / "checkpoint.safetensors").exists()
    assert same(whole, crosscoder.fit(x, labels, checkpoint=tmp_path / "fit"))
    other = CrosscoderITDA(["a", "b"], **SETTINGS, max_atoms=150, weights={"a": 2.0, "b": 1.0})
    with pytest.raises(ValueError, match=r"checkpoint: .*other data"):
        other.fit(x, labels, checkpoint=tmp_path / "fit")


def test_atoms_know_their_token_and_text(tmp_path: Path) -> None:
    x, labels = pair(90), torch.stack([torch.arange(90) // 9, torch.arange(90) % 9], 1)
    tokens = torch.arange(90) + 500
    seen = interpkern.Activations(x["b"], labels=labels, tokens=tokens, tokenizer=Tokenizer())
    seen.origin = {"model": "tiny", "hook": "blocks.1.hook_resid_pre", "tokenizer_sha256": "ab"}
    crosscoder = CrosscoderITDA(["a", "b"], **SETTINGS).fit({"a": x["a"], "b": seen}, labels, data_id="made up")
    table = crosscoder.to_pandas()
    assert table["token_id"].tolist() == (table["prompt_id"] * 9 + table["position"] + 500).tolist()
    assert crosscoder.describe(3).token == f"w{table['token_id'][3]}"
    assert crosscoder.data["id"] == "made up"
    assert crosscoder.data["sites"]["b"] == seen.origin
    assert crosscoder.data["sites"]["a"]["model"] is None
    folder = crosscoder.save_pretrained(tmp_path / "kept")
    wanted = {"models": {"b": "tiny"}, "hooks": {"b": "blocks.1.hook_resid_pre"}, "widths": {"a": 31, "b": 7}}
    again = CrosscoderITDA.from_pretrained(folder, **wanted)
    assert again.data == crosscoder.data
    assert again.describe(3, activations=seen) == crosscoder.describe(3)
    for name, other in {"models": "large", "hooks": "blocks.2.hook_resid_pre", "widths": 8}.items():
        with pytest.raises(ValueError, match=rf"{name}\['b'\]: .*crosscoder.safetensors .*expected {other!r}"):
            CrosscoderITDA.from_pretrained(folder, **wanted | {name: {"b": other}})
    with pytest.raises(ValueError, match="widths: has 'c'"):
        CrosscoderITDA.from_pretrained(folder, widths={"c": 3})


def test_nothing_works_before_fit_and_the_error_names_it(tmp_path: Path) -> None:
    crosscoder, x = CrosscoderITDA(["a", "b"]), pair(30)
    code = built(x).encode(x)
    for use in (
        lambda: crosscoder.encode(x),
        lambda: crosscoder.decode(code),
        lambda: crosscoder.refit_sites(code, x),
        lambda: crosscoder.fvu(x),
        lambda: crosscoder.exclusivity(),
        lambda: crosscoder.atoms,
        lambda: crosscoder.site_atoms,
        lambda: crosscoder.labels,
        lambda: crosscoder.means,
        lambda: crosscoder.scales,
        lambda: crosscoder.data,
        lambda: crosscoder.report,
        lambda: crosscoder.to_pandas(),
        lambda: crosscoder.describe(0),
        lambda: crosscoder.save_pretrained(tmp_path),
    ):
        with pytest.raises(ValueError, match=r"call fit\(activations\)"):
            use()
    assert len(crosscoder) == 0
    assert "not fitted" in repr(crosscoder)


BAD_SETTINGS: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"sites": "ab"}, TypeError, "sites: expected a list"),
    ({"sites": []}, ValueError, "sites: expected at least one"),
    ({"sites": ["a", "a"]}, ValueError, "sites: .* all different"),
    ({"sites": [None]}, TypeError, "sites: expected names or whole numbers"),
    ({"k": 0}, ValueError, "k: expected"),
    ({"method": "lasso"}, ValueError, "method: expected"),
    ({"centre": torch.zeros(31)}, TypeError, r"centre: expected True, False or \{site"),
    ({"centre": {"a": torch.zeros(31)}}, ValueError, "centre: lacks 'b'"),
    ({"centre": {"a": torch.zeros(31), "b": 3}}, TypeError, r"centre\['b'\]: expected a torch tensor"),
    ({"centre": {"a": torch.zeros(31), "b": torch.full((7,), torch.nan)}}, ValueError, r"centre\['b'\]: .*finite"),
    ({"weights": {"a": 1.0}}, ValueError, "weights: lacks 'b'"),
    ({"weights": {"a": 1.0, "b": 0.0}}, ValueError, r"weights\['b'\]: expected a number above 0"),
    ({"weights": {"a": 1.0, "b": -1.0}}, ValueError, r"weights\['b'\]: expected"),
    ({"weights": {"a": 1.0, "b": "2"}}, TypeError, r"weights\['b'\]: expected a number"),
    ({"weights": [1.0, 2.0]}, TypeError, "weights: expected {site"),
    ({"scales": {"a": 1.0, "b": 1.0, "c": 1.0}}, ValueError, "scales: has 'c', which is no site"),
    ({"scales": {"a": torch.inf, "b": 1.0}}, ValueError, r"scales\['a'\]: expected"),
]


@pytest.mark.parametrize(("settings", "error", "message"), BAD_SETTINGS)
def test_wrong_settings_are_named(settings: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        CrosscoderITDA(**{"sites": ["a", "b"]} | settings)


def shifted(x: Sites) -> dict[str, Any]:
    labels = labels_for(30)
    return {s: interpkern.Activations(values, labels=labels + (s == "b")) for s, values in x.items()}


BAD_INPUT: list[tuple[Callable[[Sites], Any], type[Exception], str]] = [
    (lambda x: {"a": x["a"]}, ValueError, ": lacks 'b'; expected one entry for each of 'a', 'b'"),
    (lambda x: x | {"c": x["a"]}, ValueError, ": has 'c', which is no site"),
    (lambda x: {"a": x["a"], "b": x["b"][:29]}, ValueError, r"\['b'\]: expected 30 rows to match .*\['a'\], got 29"),
    (lambda x: {"a": x["a"], "b": x["b"][0]}, ValueError, r"\['b'\]: expected \(N, D\)"),
    (lambda x: {"a": x["a"], "b": x["b"].long()}, TypeError, r"\['b'\]: expected float32"),
    (lambda x: {"a": x["a"] * torch.nan, "b": x["b"]}, ValueError, r"\['a'\]: expected finite"),
    (lambda x: {"a": x["a"].double() * 1e200, "b": x["b"]}, ValueError, r"\['a'\]: expected finite .* float32"),
    (lambda x: {"a": x["a"].clone().requires_grad_(), "b": x["b"]}, ValueError, r"\['a'\]: requires_grad"),
]


@pytest.mark.parametrize(("wrong", "error", "message"), BAD_INPUT)
def test_wrong_rows_are_named(wrong: Callable[[Sites], Any], error: type[Exception], message: str) -> None:
    x = pair(30)
    crosscoder = built(x)
    code = crosscoder.encode(x)
    uses: dict[str, list[Callable[[Any], Any]]] = {
        "activations": [crosscoder.fit, crosscoder.partial_fit, lambda bad: crosscoder.fit([x, bad])],
        "x": [crosscoder.encode, crosscoder.fvu, lambda bad: crosscoder.refit_sites(code, bad)],
    }
    for name, calls in uses.items():
        for call in calls:
            with pytest.raises(error, match=rf"{name}.*{message}"):
                call(wrong(x))
    assert torch.equal(crosscoder.encode(x).coefficients, code.coefficients)


def test_other_misuse_is_named() -> None:
    x, new = pair(30), pair(7, seed=1)
    crosscoder = built(x)
    code = crosscoder.encode(x)
    codes = crosscoder.refit_sites(code, x)
    narrow = {"a": x["a"], "b": x["b"][:, :5]}
    cases: list[tuple[Callable[[], Any], type[Exception], str]] = [
        (lambda: crosscoder.fit(x["a"]), TypeError, "activations: expected {site"),
        (lambda: crosscoder.fit({"a": x["a"], "b": [x["b"]]}), TypeError, r"activations\['b'\]: expected a tensor"),
        (lambda: crosscoder.fit(shifted(x)), ValueError, r"activations\['b'\]: expected the labels of .* in row 0"),
        (lambda: crosscoder.fit(x, labels_for(29)), ValueError, "labels: expected"),
        (lambda: crosscoder.fit([x], labels_for(30)), ValueError, "labels: expected None with batches"),
        (lambda: crosscoder.fit([(x, None, 3)]), TypeError, r"activations \(batch 0\): expected .* got 3 parts"),
        (lambda: crosscoder.fit([x, narrow]), ValueError, r"\(batch 1\)\['b'\]: expected width D = 7 .*first batch"),
        (lambda: crosscoder.fit([]), ValueError, "activations: expected at least one row"),
        (lambda: crosscoder.fit({s: v[:0] for s, v in x.items()}), ValueError, "activations: expected at least one"),
        (lambda: crosscoder.fit({"a": x["a"], "b": torch.ones(30, 7)}), ValueError, r"scales\['b'\]: .* the same"),
        (lambda: built(x, centre={"a": torch.zeros(31), "b": torch.zeros(6)}), ValueError, r"centre\['b'\]: .* D = 7"),
        (lambda: crosscoder.encode(narrow), ValueError, r"x\['b'\]: expected width D = 7 to match the atoms, got 5"),
        (lambda: crosscoder.fvu(narrow), ValueError, r"x\['b'\]: expected width D = 7 to match the atoms, got 5"),
        (lambda: crosscoder.encode({"b": x["b"]}, sites=["a"]), ValueError, "x: lacks 'a'"),
        (lambda: crosscoder.encode(x, sites=["c"]), ValueError, "sites: expected some of 'a', 'b', got 'c'"),
        (lambda: crosscoder.encode(x, sites=[]), ValueError, "sites: expected at least one"),
        (lambda: crosscoder.encode(x, precision="half"), ValueError, "precision: expected"),
        (lambda: crosscoder.refit_sites(code, new), ValueError, "x: expected 30 rows to match code, got 7"),
        (lambda: crosscoder.refit_sites(x, x), TypeError, "code: expected the SparseCode"),  # type: ignore[arg-type]
        (lambda: crosscoder.decode(x["a"]), TypeError, "code: expected the SparseCode"),  # type: ignore[arg-type]
        (lambda: crosscoder.decode({"a": codes["a"]}, sites=["b"]), ValueError, "code: lacks 'b'"),
        (lambda: crosscoder.decode({"a": codes["a"], "c": code}), ValueError, "sites: expected some of"),
        (lambda: crosscoder.fvu(x, refit="yes"), TypeError, "refit: expected True or False"),  # type: ignore[arg-type]
        (lambda: crosscoder.describe(10_000), ValueError, "atom: expected an integer from 0 to"),
    ]
    for call, error, message in cases:
        with pytest.raises(error, match=message):
            call()


def test_streams_of_unknown_length_must_end_together() -> None:
    def rows(count: int) -> Callable[[], Iterator[torch.Tensor]]:
        return lambda: iter(activations(count, 7).split(100))

    sources = {"a": interpkern.Activations(rows(1500)), "b": interpkern.Activations(rows(1100))}
    with pytest.raises(ValueError, match=r"activations\['b'\]: expected 476 rows to match .*, got 76"):
        CrosscoderITDA(["a", "b"], **SETTINGS).fit(sources)
