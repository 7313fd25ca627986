"""Reading dictionaries of the paper's code: right where they are what they say, refused where they are not."""

import os
import zipfile
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch

from interpkern.errors import ShapeError
from interpkern.itda import ITDA
from interpkern.itda.originals import load_original

yaml = pytest.importorskip("yaml")
METADATA = {
    "k": 5,
    "loss_threshold": 0.004,
    "layer": 3,
    "lm_name": "EleutherAI/pythia-70m-deduped",
    "dataset": "monology/pile-uncopyrighted",
    "steps": 20,
    "batch_size": 4,
    "seq_len": 128,
    "seed": None,
}


def write(folder: Path, *, atoms: Any = None, labels: Any = None, metadata: Any = METADATA) -> Path:
    """A run of the paper's code: atoms as they were appended, not all of norm 1."""
    generator = torch.Generator().manual_seed(0)
    if atoms is None:
        atoms = torch.randn(33, 7, generator=generator) * torch.linspace(0.1, 50, 33)[:, None]
    if labels is None:
        labels = torch.stack([torch.arange(33) // 3, torch.arange(33) % 3], 1)
    torch.save(atoms, folder / "atoms.pt")
    torch.save(labels, folder / "atom_indices.pt")
    (folder / "metadata.yaml").write_text(yaml.dump(metadata))
    return folder


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_a_run_is_read_with_normalised_atoms(tmp_path: Path, dtype: torch.dtype) -> None:
    raw = torch.randn(33, 7, generator=torch.Generator().manual_seed(1)).to(dtype) * 9
    with pytest.warns(UserWarning, match="labels: versions of the published code took an inverse map") as caught:
        itda = load_original(write(tmp_path, atoms=raw))
    assert "in this file" not in str(caught[0].message)
    wanted = raw.double() / raw.double().norm(dim=1, keepdim=True)
    torch.testing.assert_close(itda.atoms.double(), wanted, rtol=0, atol=1e-7)
    assert itda.labels[10].tolist() == [3, 1]
    assert (itda.settings.k, itda.settings.method, itda.settings.centre, itda.settings.mode) == (5, "mp", False, "fast")
    assert itda.report.rows_seen == 20 * 4 * 128
    assert (itda.data["model"], itda.data["hook"], itda.data["id"]) == (
        "EleutherAI/pythia-70m-deduped",
        "blocks.3.hook_resid_post",
        "monology/pile-uncopyrighted",
    )


@pytest.mark.filterwarnings("ignore:labels")
def test_it_encodes_as_the_paper_does_and_is_saved_as_ours(tmp_path: Path) -> None:
    (tmp_path / "theirs").mkdir()
    itda = load_original(write(tmp_path / "theirs"))
    x = torch.randn(31, 7, generator=torch.Generator().manual_seed(2))
    residual, dense = x.double(), torch.zeros(31, 33, dtype=torch.float64)
    for _ in range(5):
        products = residual @ itda.atoms.double().T
        best = products.abs().argmax(1)
        value = products.gather(1, best[:, None])
        dense.scatter_add_(1, best[:, None], value)
        residual = residual - value * itda.atoms[best]
    torch.testing.assert_close(itda.encode(x).to_dense(33).double(), dense, rtol=1e-4, atol=1e-4)
    again = ITDA.from_pretrained(itda.save_pretrained(tmp_path / "ours"))
    assert torch.equal(again.atoms, itda.atoms)
    assert torch.equal(again.labels, itda.labels)
    frame = again.to_pandas()
    assert frame["source_norm"].isna().all()
    assert (frame["token_id"] == -1).all()
    before = len(again)
    again.partial_fit(torch.eye(7) * 100)
    assert len(again) >= before


@pytest.mark.filterwarnings("ignore:labels")
def test_the_threshold_is_that_of_the_metadata(tmp_path: Path) -> None:
    itda = load_original(write(tmp_path))
    # a projection that leaves a share e of x has cosine sqrt(1 - e) with it, so their loss is (2 - 2 sqrt(1 - e)) / D
    share = itda.threshold
    assert (2 - 2 * (1 - share) ** 0.5) / 7 == pytest.approx(0.004)
    x = torch.tensor([1.0, 0.0], dtype=torch.float64)
    rebuilt = torch.tensor([1 - share, (share * (1 - share)) ** 0.5], dtype=torch.float64)
    assert float((x - rebuilt).square().sum()) == pytest.approx(share)
    assert float((x - rebuilt / rebuilt.norm()).square().sum()) / 7 == pytest.approx(0.004)
    assert load_original(tmp_path, threshold=0.25).threshold == 0.25
    write(tmp_path, metadata=METADATA | {"loss_threshold": 5.0})
    assert 0.999 < load_original(tmp_path).threshold < 1
    write(tmp_path, metadata={"k": 7})
    with pytest.raises(ValueError, match=r"threshold: metadata.yaml has no loss_threshold"):
        load_original(tmp_path)
    bare = load_original(tmp_path, threshold=0.1)
    assert (bare.data["model"], bare.data["hook"], bare.report.rows_seen) == (None, None, 0)


def test_impossible_labels_are_counted(tmp_path: Path) -> None:
    labels = torch.stack([torch.arange(33), torch.zeros(33, dtype=torch.int64)], 1)
    labels[4] = labels[2]
    labels[7] = -1
    labels[9, 1], labels[11, 1] = 128, 500
    write(tmp_path, labels=labels)
    with pytest.warns(UserWarning, match=r"1 labels are there before.*1 are below 0.*2 have a position beyond seq_len"):
        itda = load_original(tmp_path)
    assert torch.equal(itda.labels, labels)


class Executes:
    """A pickle that makes a file when it is read."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.marker}",)


@pytest.mark.parametrize("name", ["atoms.pt", "atom_indices.pt"])
@pytest.mark.parametrize("inside", ["alone", "list", "beside"])
def test_a_pickle_that_runs_code_is_refused_and_does_not_run(tmp_path: Path, name: str, inside: str) -> None:
    marker = tmp_path / "it-ran"
    write(tmp_path)
    evil: Any = Executes(marker)
    torch.save({"alone": evil, "list": [evil], "beside": {"atoms": torch.eye(3), "x": evil}}[inside], tmp_path / name)
    torch.load(tmp_path / name, weights_only=False)
    assert marker.exists(), "the pickle of this test does nothing"
    marker.unlink()
    with pytest.raises(ValueError, match=rf"{name} is refused: it holds \w+\.system besides tensors"):
        load_original(tmp_path)
    assert not marker.exists()


def test_yaml_that_runs_code_or_unfolds_is_refused(tmp_path: Path) -> None:
    write(tmp_path)
    marker, path = tmp_path / "it-ran", tmp_path / "metadata.yaml"
    attack = f"k: 5\nx: !!python/object/apply:os.system ['touch {marker}']\n"
    yaml.unsafe_load(attack)
    assert marker.exists(), "the YAML of this test does nothing"
    marker.unlink()
    for text in (
        attack,
        "a: &a [1, 1]\nb: [*a, *a]\n",
        "[" * 20_000,
        "k: 5\n\tbroken: [",
        "\x00",
        "k: !!timestamp x",
        "k: !!bool x",
    ):
        path.write_text(text)
        with pytest.raises(ValueError, match=r"metadata.yaml is refused, it is no plain YAML"):
            load_original(tmp_path)
    assert not marker.exists()
    path.write_text("- 1\n- 2\n")
    with pytest.raises(ValueError, match="expected names and values, got list"):
        load_original(tmp_path)
    path.write_text("k: 5 #" + "x" * (65 << 10))
    with pytest.raises(ValueError, match=r"metadata.yaml has .* bytes, expected at most 65,536"):
        load_original(tmp_path)


@pytest.mark.filterwarnings("ignore:labels")
@pytest.mark.parametrize("wrong", ["many", 0, 1.5, True])
def test_a_k_that_is_none_is_named(tmp_path: Path, wrong: Any) -> None:
    write(tmp_path, metadata=METADATA | {"k": wrong})
    with pytest.raises((ValueError, TypeError), match=r"metadata.yaml: k"):
        load_original(tmp_path)


def test_files_that_are_too_large_are_refused(tmp_path: Path) -> None:
    write(tmp_path)
    with pytest.raises(ValueError, match=r"atoms.pt has .* bytes, expected at most 1,000"):
        load_original(tmp_path, max_bytes=1000)
    # a few bytes that call themselves 400 TB
    torch.save(torch.ones(1).expand(10_000_000, 10_000_000), tmp_path / "atoms.pt")
    assert (tmp_path / "atoms.pt").stat().st_size < 4000
    with pytest.raises(ValueError, match=r"atoms.pt: expected at most .* bytes, got \(10000000, 10000000\)"):
        load_original(tmp_path)


def test_an_archive_that_unpacks_to_more_is_refused(tmp_path: Path) -> None:
    write(tmp_path)
    plain = tmp_path / "atoms.pt"
    torch.save(torch.zeros(4000, 100), plain)
    with zipfile.ZipFile(plain) as archive:
        parts = {info.filename: archive.read(info) for info in archive.infolist()}
    with zipfile.ZipFile(plain, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    assert plain.stat().st_size < 50_000
    with pytest.raises(ValueError, match=r"atoms.pt unpacks to 1,6.* bytes, above max_bytes 100,000"):
        load_original(tmp_path, max_bytes=100_000)
    with pytest.raises(ValueError, match=r"atoms.pt is refused, its parts are packed"):
        load_original(tmp_path)


@pytest.mark.parametrize(
    ("atoms", "error", "message"),
    [
        (torch.zeros(33, 7), ValueError, "expected atoms other than 0, got one of norm 0 in row 0"),
        (torch.full((33, 7), torch.nan), ValueError, "expected finite numbers"),
        (torch.zeros(33, 7, dtype=torch.int64), TypeError, "expected float32"),
        (torch.ones(33), ShapeError, r"expected \(M, D\)"),
        (torch.ones(32, 7), ShapeError, r"atom_indices.pt: expected \(N, 2\) .* N = 32"),
        (torch.eye(7).to_sparse(), TypeError, "layout sparse_coo"),
        ({"atoms": torch.eye(7)}, TypeError, "expected a torch tensor"),
        ([1.0, 2.0], TypeError, "expected a torch tensor"),
        (torch.empty(3, 3, device="meta"), TypeError, "meta tensor"),
    ],
)
def test_atoms_that_are_none_are_named(tmp_path: Path, atoms: Any, error: type[Exception], message: str) -> None:
    write(tmp_path, atoms=atoms)
    with pytest.raises(error, match=message):
        load_original(tmp_path)


@pytest.mark.filterwarnings("ignore:labels")
def test_parameters_are_atoms_too(tmp_path: Path) -> None:
    write(tmp_path, atoms=torch.nn.Parameter(torch.eye(33, 7) + 0.1))
    assert not load_original(tmp_path).atoms.requires_grad


def test_labels_that_are_none_are_named(tmp_path: Path) -> None:
    write(tmp_path, labels=list(range(33)))
    with pytest.raises(ShapeError, match=r"atom_indices.pt: expected \(M, 2\) .* an early form"):
        load_original(tmp_path)
    write(tmp_path, labels=torch.zeros(33, 2))
    with pytest.raises(TypeError, match=r"atom_indices.pt: expected int64"):
        load_original(tmp_path)
    write(tmp_path, labels=[2**70])
    with pytest.raises(TypeError, match=r"atom_indices.pt: expected a torch tensor"):
        load_original(tmp_path)


def test_missing_and_broken_files_are_named(tmp_path: Path) -> None:
    for name in ("metadata.yaml", "atoms.pt", "atom_indices.pt"):
        write(tmp_path)
        (tmp_path / name).unlink()
        with pytest.raises(FileNotFoundError, match=rf"{name} is not there"):
            load_original(tmp_path)
    write(tmp_path)
    torch.save(torch.eye(3), tmp_path / "atoms.pt", _use_new_zipfile_serialization=False)
    with pytest.raises(ValueError, match=r"atoms.pt is refused, it is no zip"):
        load_original(tmp_path)


@pytest.mark.filterwarnings("ignore:labels")
def test_damaged_files_are_read_or_named(tmp_path: Path) -> None:
    whole = (write(tmp_path) / "atoms.pt").read_bytes()
    generator = numpy.random.default_rng(0)
    messages = []
    for trial in range(100):
        broken = bytearray(whole)
        for place in generator.integers(0, len(whole), 8):
            broken[place] ^= 0xFF
        (tmp_path / "atoms.pt").write_bytes(bytes(broken[: len(whole) - 100 * (trial % 2)]))
        try:
            load_original(tmp_path)
        except (ValueError, TypeError) as error:
            messages.append(str(error))
    assert len(messages) > 50
    assert all("atoms.pt" in message for message in messages)
