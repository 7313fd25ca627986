"""The dictionary in use: encode, decode, FVU, descriptions, merging, and the faults of the published code."""

import copy
from pathlib import Path

import pytest
import torch
from torch.nn.functional import normalize

import interpkern
from interpkern import itda as lab
from interpkern import matching_pursuit
from interpkern.itda import ITDA, merge
from tests.itda.problems import HERE, SETTINGS, activations, built, in_batches, labels_for, same


@pytest.mark.parametrize("backend", HERE)
@pytest.mark.parametrize("method", ["mp", "mp_refit", "omp"])
def test_encode_is_matching_pursuit_of_centred_rows(method: str, backend: str) -> None:
    x, new = activations(400, 33), activations(257, 33, seed=7)
    itda = built(x, method=method, backend=backend)
    code = itda.encode(new)
    wanted = matching_pursuit((new - itda.mean).double(), itda.atoms.double(), 4, method=method)
    near = (wanted.residual_norm - code.residual_norm).abs() < 1e-4 * (new - itda.mean).norm(dim=1)
    assert near.all()
    assert (code.indices == wanted.indices).all(1).float().mean() > 0.99
    torch.testing.assert_close(itda.decode(code), code.to_dense(len(itda)) @ itda.atoms + itda.mean)
    torch.testing.assert_close((itda.decode(code) - new).norm(dim=1), code.residual_norm, rtol=0, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_encode_takes_half_precision_and_centres_in_float32(dtype: torch.dtype) -> None:
    itda, new = built(activations(400, 33)), (activations(57, 33, seed=7) + 3).to(dtype)
    mine, wanted = itda.encode(new), itda.encode(new.float())
    assert torch.equal(mine.indices, wanted.indices)
    assert torch.equal(mine.coefficients, wanted.coefficients)


def test_codes_do_not_depend_on_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    itda, new = built(activations(400, 33)), activations(300, 33, seed=7)
    whole = itda.encode(new)
    monkeypatch.setattr("interpkern.itda.encoding.CHUNK", 37)
    assert torch.equal(itda.encode(new).coefficients, whole.coefficients)
    assert torch.equal(torch.cat([itda.encode(row).indices for row in new.split(1)]), whole.indices)
    assert itda.encode(new[:0]).indices.shape == (0, 4)
    assert itda.encode(new.numpy()).indices.shape == (300, 4)


def test_decode_passes_gradients_to_coefficients() -> None:
    itda = built(activations(400, 33))
    code = itda.encode(activations(5, 33, seed=7))
    code.coefficients.requires_grad_()
    itda.decode(code).sum().backward()
    torch.testing.assert_close(code.coefficients.grad, itda.atoms.sum(1)[code.indices.long()])


def test_fvu_is_one_minus_explained_variance_about_the_mean_of_x() -> None:
    itda, new = built(activations(400, 33)), activations(9000, 33, seed=7)
    reconstruction = itda.decode(itda.encode(new)).double()
    wanted = (new - reconstruction).square().sum() / (new - new.double().mean(0)).square().sum()
    assert itda.fvu(new) == pytest.approx(float(wanted), rel=1e-6)
    assert itda.fvu(new.split(70)) == pytest.approx(itda.fvu(new), rel=1e-12)
    assert itda.fvu(interpkern.Activations(new)) == itda.fvu(new)
    far = built(activations(400, 33) + 1000, k=50, threshold=0.01)
    assert far.fvu(activations(400, 33) + 1000) < 0.02
    with pytest.raises(ValueError, match="x: expected rows that differ"):
        itda.fvu(new[:1])
    with pytest.raises(ValueError, match="x: expected something that can be read twice"):
        itda.fvu(iter([new]))


def test_nothing_works_before_fit_and_the_error_names_it(tmp_path: Path) -> None:
    itda, x = ITDA(), activations(5, 7)
    code = built(x).encode(x)
    for use in (
        lambda: itda.encode(x),
        lambda: itda.decode(code),
        lambda: itda.fvu(x),
        lambda: itda.atoms,
        lambda: itda.labels,
        lambda: itda.mean,
        lambda: itda.report,
        lambda: itda.to_pandas(),
        lambda: itda.describe(0),
        lambda: itda.save_pretrained(tmp_path),
        lambda: merge(itda, itda),
    ):
        with pytest.raises(ValueError, match=r"call fit\(activations\)"):
            use()
    assert len(itda) == 0
    assert "not fitted" in repr(itda)


def test_wrong_x_and_codes_are_named() -> None:
    itda = built(activations(50, 7))
    for wrong, error, message in [
        (activations(5, 7)[0], ValueError, r"x: .*Did you mean x\[None\]"),
        (torch.full((2, 7), torch.nan), ValueError, "x: expected finite"),
        (torch.full((2, 7), 1e300, dtype=torch.float64), ValueError, "x: expected finite numbers within float32"),
        (torch.zeros(2, 7, dtype=torch.int64), TypeError, "x: expected float32"),
        ([[1.0] * 7], TypeError, "x: expected a torch tensor"),
    ]:
        with pytest.raises(error, match=message):
            itda.encode(wrong)
    with pytest.raises(TypeError, match="code: expected the SparseCode"):
        itda.decode(activations(5, 7))
    with pytest.raises(ValueError, match="atom: expected an integer from 0 to"):
        itda.describe(len(itda))


class Tokenizer:
    """As little of a transformers tokenizer as descriptions take."""

    all_special_ids: tuple[int, ...] = ()

    def encode(self, text: str, **settings: bool) -> list[int]:
        return [0]

    def decode(self, ids: list[int], **settings: bool) -> str:
        return "".join(f"w{token}" for token in ids)

    def convert_ids_to_tokens(self, ids: list[int]) -> list[str]:
        return [f"w{token}" for token in ids]


def test_atoms_know_their_token_and_text() -> None:
    x, labels = activations(90, 31), torch.stack([torch.arange(90) // 9, torch.arange(90) % 9], 1)
    tokens = torch.arange(90) + 500

    source = interpkern.Activations(x, labels=labels, tokens=tokens, tokenizer=Tokenizer())
    itda = built(source)
    table = itda.to_pandas()
    assert table["token_id"].tolist() == (table["prompt_id"] * 9 + table["position"] + 500).tolist()
    for atom in (0, len(itda) - 1):
        found, token = itda.describe(atom), f"w{table['token_id'][atom]}"
        assert (found.prompt_id, found.position) == tuple(itda.labels[atom].tolist())
        assert found.token == token
        assert f"«{token}»" in str(found)
    assert itda.describe(3, tokenizer=Tokenizer()) == itda.describe(3)
    plain = built(x, labels)
    assert str(plain.describe(0)) == "atom 0, prompt 0, position 0"
    assert plain.describe(0, activations=source).token == "w500"
    assert same(plain, built(source), records=False)


def test_a_tokenizer_alone_gives_the_token(tmp_path: Path) -> None:
    source = interpkern.Activations(activations(50, 7), tokens=torch.arange(50))
    loaded = ITDA.from_pretrained(built(source).save_pretrained(tmp_path / "itda"))
    assert str(loaded.describe(0)) == "atom 0, prompt 0, position 0"
    assert str(loaded.describe(0, tokenizer=Tokenizer())) == "atom 0, prompt 0, position 0: 'w0'"


def test_merging_tests_the_atoms_of_the_second() -> None:
    x, labels, mean = activations(2000, 31), labels_for(2000), activations(2000, 31).mean(0)
    a, b = (built(x[part], labels[part], centre=mean) for part in (slice(1000), slice(1000, 2000)))
    merged, whole = merge(a, b), built(x, labels, centre=mean)
    assert torch.equal(merged.atoms[: len(a)], a.atoms)
    assert len(a) < len(merged) < len(a) + len(b)
    assert len(merged) == pytest.approx(len(whole), rel=0.1)
    assert merged.fvu(x) == pytest.approx(whole.fvu(x), rel=0.05)
    rows = {tuple(label): row for row, label in enumerate(labels.tolist())}
    sources = x[[rows[tuple(label)] for label in merged.labels.tolist()]] - mean
    torch.testing.assert_close(merged.atoms, normalize(sources), rtol=0, atol=1e-6)
    assert merged.report.rows_seen == 2000
    assert merged.to_pandas()["birth_step"].is_monotonic_increasing
    assert len(a) == len(built(x[:1000], labels[:1000], centre=mean))
    assert len(merge(a, a)) == len(a)
    for other, message in [
        (built(x[1000:], centre=mean, k=5), "b: expected k=4"),
        (built(x[1000:], centre=mean, threshold=0.3), "b: expected threshold=0.25"),
        (built(x[1000:]), "b: expected the mean of a"),
    ]:
        with pytest.raises(ValueError, match=message):
            merge(a, other)
    with pytest.raises(TypeError, match="b: expected a fitted ITDA"):
        merge(a, None)  # type: ignore[arg-type]


def test_the_package_exports_the_lab() -> None:
    assert interpkern.ITDA is ITDA
    assert interpkern.itda is lab


# The faults of the published code, one by one.


@pytest.mark.parametrize("mode", ["exact", "fast"])
def test_fault_labels_come_apart_from_atoms(mode: str, tmp_path: Path) -> None:
    """atoms[i] is the normalised activation of labels[i], with repeated rows, skipped rows, streams and files."""
    x, labels = activations(600, 31), labels_for(600)
    x[100:200] = x[:100]
    x[[5, 300]] = torch.nan
    itda = ITDA(**SETTINGS | {"skip_nonfinite": True, "mode": mode}).fit(in_batches(x[:400], labels[:400], 37))
    itda.partial_fit(x[400:], labels[400:])
    rows = {tuple(label): row for row, label in enumerate(labels.tolist())}
    for dictionary in (itda, ITDA.from_pretrained(itda.save_pretrained(tmp_path / "itda"))):
        assert len(dictionary.atoms) == len(dictionary.labels) == len(dictionary.to_pandas())
        sources = x[[rows[tuple(label)] for label in dictionary.labels.tolist()]] - dictionary.mean
        norms = sources.double().norm(dim=1)
        assert torch.equal(dictionary.atoms, (sources.double() / norms[:, None]).float())
        assert dictionary.to_pandas()["source_norm"].tolist() == pytest.approx(norms.tolist(), rel=1e-12)
    assert len(set(map(tuple, itda.labels.tolist()))) == len(itda)


def test_fault_atoms_of_other_norms_than_one() -> None:
    """Matching pursuit diverges over such atoms; here residuals never grow, whatever the norms of the rows."""
    x = activations(400, 31) * torch.logspace(-3, 3, 400)[:, None]
    itda = built(x, centre=False)
    torch.testing.assert_close(itda.atoms.norm(dim=1), torch.ones(len(itda)), rtol=0, atol=1e-6)
    residuals = [ITDA(**SETTINGS | {"k": k, "centre": False}).fit(x).encode(x).residual_norm for k in (1,)]
    for k in (2, 8, 32):
        residuals.append(matching_pursuit(x, itda.atoms, k, method="mp").residual_norm)
    assert (residuals[2] <= residuals[1] * (1 + 1e-5)).all()
    assert (residuals[3] <= residuals[2] * (1 + 1e-5)).all()
    assert (residuals[3] <= x.norm(dim=1) * (1 + 1e-5)).all()


def test_fault_a_threshold_that_depends_on_the_scale_of_a_layer() -> None:
    x, labels = activations(500, 31), labels_for(500)
    assert torch.equal(built(x * 100, labels).labels, built(x, labels).labels)
    assert torch.equal(built(x * 2**-7, labels).labels, built(x, labels).labels)


def test_fault_dense_codes_of_all_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """No N x M array: what is encoded at a time is a chunk, and codes have k columns."""
    itda = built(activations(400, 33))
    sizes: list[int] = []
    encode = interpkern.itda.pursuit.Pursuit.encode

    def spy(self: object, x: torch.Tensor, *rest: object, **settings: object) -> object:
        sizes.append(len(x))
        return encode(self, x, *rest, **settings)  # type: ignore[arg-type]

    monkeypatch.setattr("interpkern.itda.pursuit.Pursuit.encode", spy)
    code = itda.encode(activations(10_000, 33, seed=1))
    built(activations(3000, 33))
    assert max(sizes) <= 4096
    assert code.indices.shape == (10_000, 4)


def test_fault_reading_by_position_in_the_store() -> None:
    """Rows are labelled by who brings them, not by where they lie: any order of rows keeps each with its label."""
    x, labels = activations(300, 31), labels_for(300)
    order = torch.randperm(300, generator=torch.Generator().manual_seed(1))
    itda = built(interpkern.Activations(x[order], labels=labels[order]))
    rows = {tuple(label): row for row, label in enumerate(labels.tolist())}
    sources = x[[rows[tuple(label)] for label in itda.labels.tolist()]] - itda.mean
    torch.testing.assert_close(itda.atoms, normalize(sources), rtol=0, atol=1e-6)


def test_fault_files_that_are_pickles_without_settings(tmp_path: Path) -> None:
    folder = built(activations(50, 7), k=3).save_pretrained(tmp_path / "itda")
    for path in folder.iterdir():
        content = path.read_bytes()
        assert not content.startswith((b"\x80", b"PK"))
        assert path.suffix in (".json", ".safetensors", ".parquet")
    assert ITDA.from_pretrained(folder).settings.k == 3


def test_a_deep_copy_goes_on_apart():
    rows = torch.randn(300, 16, generator=torch.Generator().manual_seed(0))
    itda = ITDA(k=3, threshold=0.2, centre=False).fit(rows[:200])
    before, twin = itda.atoms.clone(), copy.deepcopy(itda)
    twin.partial_fit(rows[200:])
    assert torch.equal(itda.atoms, before)
    assert torch.equal(twin.atoms, ITDA(k=3, threshold=0.2, centre=False).fit(rows).atoms)
