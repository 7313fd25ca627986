"""Cross-coders against their definition in plain torch, plain ITDA, and what linear sites must give."""

from typing import Any

import numpy
import pytest
import torch
from torch.nn.functional import normalize

import interpkern
from interpkern import SparseCode, matching_pursuit
from interpkern.itda import ITDA, CrosscoderITDA, compare_with_separate
from tests.itda.problems import SETTINGS, activations, labels_for, naive

WIDTHS = {"a": 31, "b": 7, "c": 33}
METHODS = ("mp", "mp_refit", "omp")
SIGNS = [pytest.param(False, id="signed"), pytest.param(True, id="nonnegative")]


def tokens(rows: int, seed: int = 0) -> dict[str, torch.Tensor]:
    """The same tokens at three sites: what they share, seen through another map at each, and what is a site's own."""
    shared = activations(rows, 19, seed=seed)
    maps = torch.Generator().manual_seed(5)
    sites = {}
    for number, (site, width) in enumerate(WIDTHS.items()):
        seen = shared @ torch.randn(19, width, generator=maps) / 19**0.5
        sites[site] = 10.0**number * (seen + 0.5 * activations(rows, width, seed=seed + 50, world=number) + number)
    return sites


def built(x: dict[Any, torch.Tensor], labels: torch.Tensor | None = None, **settings: Any) -> CrosscoderITDA:
    return CrosscoderITDA(list(x), **SETTINGS | settings).fit(x, labels)


def joint(crosscoder: CrosscoderITDA, x: dict[str, torch.Tensor]) -> torch.Tensor:
    """(N, sum of D_l) float64 rows, from the definition."""
    parts = []
    for site in crosscoder.sites:
        centred = x[site].double() - crosscoder.means[site]
        parts.append(crosscoder.weights[site] * centred / crosscoder.scales[site])
    return torch.cat(parts, 1)


@pytest.fixture(scope="module")
def x() -> dict[str, torch.Tensor]:
    return tokens(331)


@pytest.fixture(scope="module")
def new() -> dict[str, torch.Tensor]:
    return tokens(57, seed=7)


def test_means_and_scales_are_those_of_each_site(x: dict[str, torch.Tensor]) -> None:
    crosscoder = built(x)
    for site, values in x.items():
        mean = values.double().mean(0)
        torch.testing.assert_close(crosscoder.means[site], mean.float(), rtol=1e-6, atol=1e-6)
        rms = (values.double() - mean).square().mean().sqrt()
        assert crosscoder.scales[site] == pytest.approx(float(rms), rel=1e-6)
    raw = built(x, centre=False)
    assert all((raw.means[site] == 0).all() for site in x)
    assert raw.scales["b"] == pytest.approx(float(x["b"].double().square().mean().sqrt()), rel=1e-6)


@pytest.mark.parametrize("nonnegative", SIGNS)
@pytest.mark.parametrize("method", METHODS)
def test_the_dictionary_is_that_of_joint_rows_one_at_a_time(method: str, nonnegative: bool) -> None:
    x, labels, weights = tokens(127), labels_for(127), {"a": 1.0, "b": 3.0, "c": 0.5}
    crosscoder = built(x, labels, method=method, nonnegative=nonnegative, weights=weights)
    z = joint(crosscoder, x)
    rows = naive(z, k=4, threshold=0.25, method=method, nonnegative=nonnegative, relative=True)
    assert 20 < len(rows) < 120
    assert crosscoder.labels.tolist() == labels[rows].tolist()
    torch.testing.assert_close(crosscoder.atoms, normalize(z[rows]).float(), rtol=0, atol=1e-6)
    places = dict(zip(x, crosscoder.atoms.split(list(WIDTHS.values()), 1), strict=True))
    assert all(torch.equal(crosscoder.site_atoms[site], places[site]) for site in x)


def test_the_joint_gram_is_the_sum_of_the_site_grams(x: dict[str, torch.Tensor], new: dict[str, torch.Tensor]) -> None:
    crosscoder = built(x)
    atoms = crosscoder.atoms
    summed = sum(part @ part.mT for part in crosscoder.site_atoms.values())
    torch.testing.assert_close(atoms @ atoms.mT, summed, rtol=0, atol=1e-5)
    code = matching_pursuit(joint(crosscoder, new).float(), atoms, 4, method="omp", gram=summed, threads=1)
    assert torch.equal(code.indices, crosscoder.encode(new).indices)
    torch.testing.assert_close(code.coefficients, crosscoder.encode(new).coefficients, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("centre", [True, False])
@pytest.mark.parametrize("nonnegative", SIGNS)
@pytest.mark.parametrize("method", METHODS)
def test_one_site_is_plain_itda(method: str, nonnegative: bool, centre: bool) -> None:
    settings = {"method": method, "nonnegative": nonnegative, "centre": centre}
    rows, held_out, labels = 40 * activations(331, 31), 40 * activations(57, 31, seed=7), labels_for(331)
    plain = ITDA(**SETTINGS | settings).fit(rows, labels)
    one = built({"only": rows}, labels, **settings)
    assert 20 < len(plain) < 320
    assert torch.equal(one.labels, plain.labels)
    assert torch.equal(one.means["only"], plain.mean)
    torch.testing.assert_close(one.atoms, plain.atoms, rtol=0, atol=1e-6)
    code, wanted = one.encode({"only": held_out}), plain.encode(held_out)
    assert torch.equal(code.indices, wanted.indices)
    scale = one.scales["only"]
    for mine, theirs in ((code.coefficients, wanted.coefficients), (code.residual_norm, wanted.residual_norm)):
        torch.testing.assert_close(scale * mine, theirs, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(one.decode(code)["only"], plain.decode(wanted), rtol=1e-4, atol=1e-4)
    assert one.fvu({"only": held_out})["only"] == pytest.approx(plain.fvu(held_out), rel=1e-5)


def test_a_token_that_is_an_atom_comes_back_at_every_site(x: dict[str, torch.Tensor]) -> None:
    crosscoder = built(x, weights={"a": 2.0, "b": 0.3, "c": 1.0})
    rows = {site: values[crosscoder.labels[:, 0]] for site, values in x.items()}
    code = crosscoder.encode(rows)
    assert code.indices[:, 0].tolist() == list(range(len(crosscoder)))
    assert (code.residual_norm < 1e-5 * code.coefficients[:, 0]).all()
    for site, values in crosscoder.decode(code).items():
        torch.testing.assert_close(values, rows[site], rtol=1e-4, atol=1e-4 * crosscoder.scales[site])
        alone = crosscoder.decode(code, sites=[site])
        assert list(alone) == [site]
        assert torch.equal(alone[site], values)


def test_decode_is_the_code_times_the_site_atoms(x: dict[str, torch.Tensor], new: dict[str, torch.Tensor]) -> None:
    crosscoder = built(x, weights={"a": 2.0, "b": 0.3, "c": 1.0})
    code = crosscoder.encode(new)
    for site, values in crosscoder.decode(code).items():
        ratio = crosscoder.scales[site] / crosscoder.weights[site]
        wanted = code.to_dense(len(crosscoder)) @ crosscoder.site_atoms[site] * ratio + crosscoder.means[site]
        torch.testing.assert_close(values, wanted, rtol=1e-4, atol=1e-4 * crosscoder.scales[site])
    left = joint(crosscoder, new) - joint(crosscoder, crosscoder.decode(code))
    torch.testing.assert_close(left.norm(dim=1).float(), code.residual_norm, rtol=1e-4, atol=1e-4)


def test_weight_moves_the_error_between_sites(x: dict[str, torch.Tensor], new: dict[str, torch.Tensor]) -> None:
    even, uneven = built(x).fvu(new), built(x, weights={"a": 10.0, "b": 1.0, "c": 1.0}).fvu(new)
    assert uneven["a"] < 0.8 * even["a"]
    assert uneven["b"] > 1.1 * even["b"]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("sites", [["b"], ["c", "a"]])
def test_a_transcoder_searches_among_renormalised_atoms(
    x: dict[str, torch.Tensor], new: dict[str, torch.Tensor], method: str, sites: list[str]
) -> None:
    crosscoder = built(x, method=method)
    code = crosscoder.encode({site: new[site] for site in sites}, sites=sites)
    order = [site for site in x if site in sites]
    part = torch.cat([crosscoder.site_atoms[site] for site in order], 1)
    norms = part.norm(dim=1)
    starts = dict(zip(x, joint(crosscoder, new).split(list(WIDTHS.values()), 1), strict=True))
    z = torch.cat([starts[site] for site in order], 1).float()
    wanted = matching_pursuit(z, normalize(part), 4, method=method, threads=1)
    assert (code.indices == wanted.indices).all(1).float().mean() > 0.98
    torch.testing.assert_close(code.residual_norm, wanted.residual_norm, rtol=1e-4, atol=1e-4)
    same = (code.indices == wanted.indices) & (wanted.indices >= 0)
    coefficients = wanted.coefficients / norms[wanted.indices.clamp(min=0).long()]
    torch.testing.assert_close(code.coefficients[same], coefficients[same], rtol=1e-3, atol=1e-3)
    assert set(crosscoder.decode(code)) == set(x)
    everything = crosscoder.encode(new, sites=sites)  # what other sites hold is not looked at
    assert torch.equal(everything.coefficients, code.coefficients)


def test_a_transcoder_of_linear_sites_is_their_linear_map() -> None:
    a = activations(400, 19)
    turn = torch.linalg.qr(torch.randn(19, 19, generator=torch.Generator().manual_seed(2)))[0]
    crosscoder = built({"a": a, "b": 3 * a @ turn}, k=6)
    held_out = activations(100, 19, seed=9)
    found = crosscoder.decode(crosscoder.encode({"a": held_out}, sites=["a"]))
    torch.testing.assert_close(found["b"], 3 * found["a"] @ turn, rtol=1e-3, atol=1e-3)
    figures = crosscoder.fvu({"a": held_out, "b": 3 * held_out @ turn}, sites=["a"])
    assert figures["b"] == pytest.approx(figures["a"], rel=1e-3)
    assert figures["b"] == pytest.approx(crosscoder.fvu({"a": held_out, "b": 3 * held_out @ turn})["b"], rel=1e-3)


def test_a_transcoder_leaves_out_atoms_that_its_sites_do_not_see() -> None:
    a, b = activations(200, 19), activations(200, 7, world=1)
    a[::2] = 0
    crosscoder = built({"a": a, "b": b}, centre=False)
    unseen = (crosscoder.site_atoms["a"] == 0).all(1)
    assert 3 < int(unseen.sum()) < len(crosscoder) - 3
    code = crosscoder.encode({"a": activations(100, 19, seed=3)}, sites=["a"])
    assert not unseen[code.indices[code.indices >= 0].long()].any()
    assert code.coefficients.isfinite().all()
    assert int((code.indices >= 0).sum()) > 300
    nothing = built({"a": torch.zeros(200, 19), "b": b}, centre=False, scales={"a": 1.0, "b": 1.0})
    assert (nothing.encode({"a": activations(7, 19)}, sites=["a"]).indices == -1).all()


@pytest.mark.parametrize("nonnegative", SIGNS)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("sites", [None, ["b"]])
def test_refit_is_least_squares_on_the_shared_picks(
    x: dict[str, torch.Tensor], new: dict[str, torch.Tensor], method: str, nonnegative: bool, sites: list[str] | None
) -> None:
    from scipy.optimize import nnls

    crosscoder = built(x, method=method, nonnegative=nonnegative, k=6)
    code = crosscoder.encode(new, sites=sites)
    codes = crosscoder.refit_sites(code, new)
    starts = dict(zip(x, joint(crosscoder, new).split(list(WIDTHS.values()), 1), strict=True))
    for site, fitted in codes.items():
        atoms = crosscoder.site_atoms[site].double()
        for row in range(len(new["a"])):
            support = [atom for atom in dict.fromkeys(code.indices[row].tolist()) if atom >= 0]
            assert fitted.indices[row].tolist() == support + [-1] * (6 - len(support))
            columns, target = atoms[support].mT.numpy(), starts[site][row].numpy()
            wanted = nnls(columns, target)[0] if nonnegative else numpy.linalg.lstsq(columns, target)[0]
            left = numpy.linalg.norm(target - columns @ wanted)
            assert float(fitted.residual_norm[row]) == pytest.approx(left, rel=1e-4, abs=1e-4)
            if numpy.linalg.cond(columns) < 30:
                numpy.testing.assert_allclose(fitted.coefficients[row, : len(support)], wanted, rtol=1e-3, atol=1e-3)
        if nonnegative:
            assert (fitted.coefficients >= 0).all()
        assert (fitted.coefficients[fitted.indices < 0] == 0).all()


@pytest.mark.parametrize("nonnegative", SIGNS)
@pytest.mark.parametrize("method", METHODS)
def test_refit_is_never_worse_than_the_shared_code(
    x: dict[str, torch.Tensor], new: dict[str, torch.Tensor], method: str, nonnegative: bool
) -> None:
    crosscoder = built(x, method=method, nonnegative=nonnegative, k=12)
    for sites in (None, ["a"]):
        code = crosscoder.encode(new, sites=sites)
        shared, refit = crosscoder.decode(code), crosscoder.decode(crosscoder.refit_sites(code, new))
        for site, values in new.items():
            before, after = ((values - found[site]).norm(dim=1) for found in (shared, refit))
            assert (after <= before * (1 + 1e-5) + 1e-5 * crosscoder.scales[site]).all()
        without, fitted = crosscoder.fvu(new, sites=sites), crosscoder.fvu(new, sites=sites, refit=True)
        assert all(fitted[site] <= without[site] * (1 + 1e-6) for site in x)
        assert fitted["b"] < 0.9 * without["b"]


def test_refit_of_atoms_that_are_the_same_at_a_site() -> None:
    """Atoms that differ at one site alone are one atom at the other: any split of its coefficient is as good."""
    a, b = activations(60, 19), activations(60, 7, world=1)
    a[1:30] = a[0]
    crosscoder = built({"a": a, "b": b}, k=8, threshold=0.01)
    code = crosscoder.encode({"a": a, "b": b})
    codes = crosscoder.refit_sites(code, {"a": a, "b": b})
    assert codes["a"].coefficients.isfinite().all()
    assert codes["a"].coefficients.abs().max() < 1e3 * code.coefficients.abs().max()
    before = (joint(crosscoder, {"a": a, "b": b})[:, :19] - code.decode(crosscoder.site_atoms["a"])).norm(dim=1)
    assert (codes["a"].residual_norm <= before + 1e-5).all()


def test_refit_of_a_site_that_holds_nothing() -> None:
    x = {"a": activations(100, 19), "b": activations(100, 7, world=1)}
    for nonnegative in (False, True):
        crosscoder = built(x, centre=False, nonnegative=nonnegative)
        rows = {"a": x["a"][:9], "b": torch.zeros(9, 7)}
        codes = crosscoder.refit_sites(crosscoder.encode(rows), rows)
        assert (codes["b"].residual_norm < 1e-5).all()
        assert codes["a"].coefficients.isfinite().all()


def test_shares_are_squared_norms_and_sum_to_one(x: dict[str, torch.Tensor]) -> None:
    crosscoder = built(x, labels_for(331))
    found = crosscoder.exclusivity()
    torch.testing.assert_close(found.shares.sum(1), torch.ones(len(crosscoder), dtype=torch.float64))
    z = normalize(joint(crosscoder, x))
    rows = {tuple(label): row for row, label in enumerate(labels_for(331).tolist())}
    own = z[[rows[tuple(label)] for label in crosscoder.labels.tolist()]].square()
    wanted = torch.stack([part.sum(1) for part in own.split(list(WIDTHS.values()), 1)], 1)
    torch.testing.assert_close(found.shares, wanted, rtol=1e-5, atol=1e-6)
    table = found.to_pandas()
    assert table["share['b']"].tolist() == found.shares[:, 1].tolist()
    assert (table["effective_sites"].between(1, 3)).all()
    assert table["most"].tolist() == [list(x)[place] for place in found.shares.argmax(1)]
    assert crosscoder.to_pandas()["share['c']"].tolist() == table["share['c']"].tolist()
    assert len(found.plot().axes[0].get_legend().get_texts()) == 4


def test_atoms_of_one_site_are_exclusive() -> None:
    a, b = activations(100, 19), activations(100, 7, world=1)
    a[:50], b[50:] = 0, 0
    found = built({0: a, 12: b}, centre=False).exclusivity()
    summary = found.summary()
    assert summary.index.tolist() == [0, 12]
    assert summary["exclusive"].sum() == len(found.shares)
    assert summary.loc[0, "exclusive_share"] == pytest.approx(summary.loc[0, "mean_share"])
    torch.testing.assert_close(found.effective_sites, torch.ones(len(found.shares), dtype=torch.float64))
    with pytest.raises(ValueError, match=r"above: expected a number in \[0.5, 1\)"):
        found.summary(above=0.2)


def test_fvu_of_each_site_is_one_minus_its_explained_variance(
    x: dict[str, torch.Tensor], new: dict[str, torch.Tensor]
) -> None:
    crosscoder = built(x)
    found = crosscoder.fvu(new)
    for site, values in crosscoder.decode(crosscoder.encode(new)).items():
        left = (new[site] - values).double().square().sum()
        wanted = left / (new[site] - new[site].double().mean(0)).square().sum()
        assert found[site] == pytest.approx(float(wanted), rel=1e-5)
    batches = [{site: values[at : at + 10] for site, values in new.items()} for at in range(0, 57, 10)]
    assert crosscoder.fvu(batches) == pytest.approx(found, rel=1e-12)
    assert crosscoder.fvu({s: interpkern.Activations(values) for s, values in new.items()}) == found
    with pytest.raises(ValueError, match="x: expected something that can be read twice"):
        crosscoder.fvu(iter(batches))
    with pytest.raises(ValueError, match=r"x\['a'\]: expected rows that differ"):
        crosscoder.fvu({site: values[:1] for site, values in new.items()})


def test_codes_do_not_depend_on_batches(
    x: dict[str, torch.Tensor], new: dict[str, torch.Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    crosscoder = built(x)
    for sites in (None, ["b"]):
        whole = crosscoder.encode(new, sites=sites)
        rows = [{site: values[[row]] for site, values in new.items()} for row in range(57)]
        one_by_one = [crosscoder.encode(row, sites=sites) for row in rows]
        assert torch.equal(torch.cat([code.coefficients for code in one_by_one]), whole.coefficients)
        assert torch.equal(torch.cat([code.indices for code in one_by_one]), whole.indices)
        refit = crosscoder.refit_sites(whole, new)
        parts = [crosscoder.refit_sites(code, row) for code, row in zip(one_by_one, rows, strict=True)]
        for site, fitted in refit.items():
            together = torch.cat([part[site].coefficients for part in parts])
            torch.testing.assert_close(together, fitted.coefficients, rtol=1e-6, atol=1e-6)
        with monkeypatch.context() as patch:
            patch.setattr("interpkern.itda.crosscoder_encoding.CHUNK", 7)
            patch.setattr("interpkern.itda.crosscoder_encoding.FIT_NUMBERS", 1000)
            assert torch.equal(crosscoder.encode(new, sites=sites).coefficients, whole.coefficients)
            again = crosscoder.refit_sites(whole, new)
        torch.testing.assert_close(again["a"].coefficients, refit["a"].coefficients, rtol=1e-6, atol=1e-6)
    empty = {site: values[:0] for site, values in new.items()}
    nothing = crosscoder.encode(empty)
    assert nothing.indices.shape == (0, 4)
    assert crosscoder.decode(nothing)["c"].shape == (0, 33)
    assert crosscoder.decode(crosscoder.refit_sites(nothing, empty))["b"].shape == (0, 7)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_half_precision_is_centred_in_float32(x: dict[str, torch.Tensor], dtype: torch.dtype) -> None:
    given = {site: (values / 100).to(dtype) for site, values in x.items()}
    exact = {site: values.float() for site, values in given.items()}
    mine, wanted = built(given), built(exact)
    assert torch.equal(mine.atoms, wanted.atoms)
    assert torch.equal(mine.encode(given).coefficients, wanted.encode(exact).coefficients)
    codes = mine.refit_sites(mine.encode(given), given)
    assert torch.equal(codes["a"].coefficients, wanted.refit_sites(wanted.encode(exact), exact)["a"].coefficients)


def test_a_wanted_size_is_found(x: dict[str, torch.Tensor]) -> None:
    crosscoder = built(x, threshold=None, max_atoms=100)
    assert 99 <= len(crosscoder) <= 100
    assert crosscoder.threshold == crosscoder.report.threshold
    assert crosscoder.report.rows_seen == 331


def test_separate_dictionaries_are_of_the_same_size_and_settings() -> None:
    x, new = ({site: tokens(*draw)[site] for site in ("a", "c")} for draw in ((90, 0), (57, 7)))
    labels = labels_for(90)
    crosscoder = built(x, labels)
    found = compare_with_separate(crosscoder, x, new, labels)
    assert (found.atoms, found.k, found.split_k, found.rows) == (len(crosscoder), 4, 2, 57)
    table = found.to_pandas().set_index("site")
    assert table["shared"].to_dict() == crosscoder.fvu(new)
    assert table["refit"].to_dict() == crosscoder.fvu(new, refit=True)
    assert table["atoms"].between(0.99 * len(crosscoder) - 1, len(crosscoder)).all()
    alone = ITDA(k=4, threshold=None, max_atoms=len(crosscoder), threads=1).fit(x["c"], labels)
    assert table.loc["c", "separate"] == pytest.approx(alone.fvu(new["c"]), rel=1e-6)
    few = matching_pursuit(new["c"] - alone.mean, alone.atoms, 2, method="omp", threads=1)
    left = (new["c"] - alone.mean - few.decode(alone.atoms)).double().square().sum()
    wanted = left / (new["c"] - new["c"].double().mean(0)).square().sum()
    assert table.loc["c", "separate_split"] == pytest.approx(float(wanted), rel=1e-5)
    assert (table["separate"] < table["separate_split"]).all()
    assert (table["refit"] <= table["shared"]).all()
    assert len(found.plot().axes[0].patches) == 8
    assert "'a'" in repr(found)
    with pytest.raises(TypeError, match="crosscoder: expected a fitted CrosscoderITDA, got ITDA"):
        compare_with_separate(alone, x, new)  # type: ignore[arg-type]


def test_other_tools_take_a_crosscoder_for_a_dictionary(x: dict[str, torch.Tensor]) -> None:
    crosscoder = built(x)
    found = interpkern.itda.jaccard(crosscoder, ITDA(**SETTINGS).fit(x["a"]))
    assert 0 < found < 1
    assert found.warnings == ()
    assert interpkern.CrosscoderITDA is CrosscoderITDA
    assert isinstance(crosscoder.encode(x), SparseCode)
