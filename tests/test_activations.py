"""Activations from memory, files, folders and iterables: the same rows in any division, refused by name."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy
import pandas
import pyarrow
import pyarrow.parquet
import pytest
import torch
from safetensors.torch import save_file

import interpkern
from interpkern import data
from interpkern.activations import Activations

N, D = 257, 7
VALUES = torch.randn(N, D, generator=torch.Generator().manual_seed(0))
LABELS = torch.stack([torch.arange(N) // 31, torch.arange(N) % 31], dim=1)
TOKENS = torch.arange(N) * 3 % 17
ROW_NUMBERS = torch.stack([torch.arange(N), torch.zeros(N, dtype=torch.int64)], dim=1)


def _npy(folder: Path) -> Any:
    numpy.save(folder / "a.npy", VALUES.numpy())
    return folder / "a.npy"


def _safetensors(folder: Path) -> Any:
    save_file({"activations": VALUES, "labels": LABELS, "tokens": TOKENS}, folder / "a.safetensors")
    return str(folder / "a.safetensors")


def _table(**columns: Any) -> pyarrow.Table:
    marks = {"prompt_id": LABELS[:, 0].numpy(), "position": LABELS[:, 1].numpy(), "token_id": TOKENS.numpy()}
    return pyarrow.table(columns | marks)


def _parquet_of_lists(folder: Path) -> Any:
    flat = pyarrow.array(VALUES.numpy().reshape(-1))
    table = _table(activations=pyarrow.FixedSizeListArray.from_arrays(flat, D))
    pyarrow.parquet.write_table(table, folder / "a.parquet", row_group_size=100)
    return folder / "a.parquet"


def _parquet_of_columns(folder: Path) -> Any:
    table = _table(**{f"d{n}": VALUES[:, n].numpy() for n in range(D)})
    pyarrow.parquet.write_table(table, folder / "a.parquet", row_group_size=64)
    return folder / "a.parquet"


def _folder_of_files(folder: Path) -> Any:
    for number, (values, labels, tokens) in enumerate(
        zip(VALUES.split(90), LABELS.split(90), TOKENS.split(90), strict=True)
    ):
        tensors = {"activations": values.clone(), "labels": labels.clone(), "tokens": tokens.clone()}
        save_file(tensors, folder / f"{number}.safetensors")
    return folder


def _shards(folder: Path) -> Any:
    Activations((VALUES, LABELS), tokens=TOKENS).save(folder / "shards", rows_per_shard=100)
    return folder / "shards"


WITH_TOKENS = (_safetensors, _parquet_of_lists, _parquet_of_columns, _folder_of_files, _shards)
WITH_LABELS = (lambda folder: (VALUES, LABELS), lambda folder: [(VALUES[:31], LABELS[:31]), (VALUES[31:], LABELS[31:])])
BARE = (_npy, lambda folder: VALUES, lambda folder: VALUES.numpy(), lambda folder: list(VALUES.split(33)))
Source = Callable[[Path], Any]


@pytest.mark.parametrize(
    ("source", "labels", "tokens"),
    [
        *((source, LABELS, TOKENS) for source in WITH_TOKENS),
        *((source, LABELS, None) for source in WITH_LABELS),
        *((source, ROW_NUMBERS, None) for source in BARE),
    ],
)
def test_every_source_gives_its_rows(tmp_path: Path, source: Source, labels: torch.Tensor, tokens: torch.Tensor | None):
    found = Activations(source(tmp_path))
    assert (len(found), found.width, found.rereadable) == (N, D, True)
    assert torch.equal(found.tensor(), VALUES)
    assert torch.equal(found.labels, labels)
    assert (found.tokens is None) if tokens is None else torch.equal(found.tokens, tokens)
    assert found.sha256 == Activations((VALUES, labels)).sha256
    for size in (1, 37, 256, 257, 512):
        batches = list(found.batches(size))
        assert [len(batch) for batch, _ in batches] == [size] * (N // size) + [N % size] * (N % size > 0)
        assert torch.equal(torch.cat([batch for batch, _ in batches]), VALUES)
        assert torch.equal(torch.cat([marks for _, marks in batches]), labels)


def test_streams_are_read_piece_by_piece():
    again = Activations(lambda: iter(VALUES.split(33)))
    assert again.rereadable
    assert again.labels is None
    assert again.width == D
    for _ in range(2):
        batches = list(again.batches(100))
        assert [len(batch) for batch, _ in batches] == [100, 100, 57]
        assert torch.equal(torch.cat([marks for _, marks in batches]), ROW_NUMBERS)
    assert again.sha256 == Activations(VALUES).sha256
    with pytest.raises(TypeError, match=r"len: an iterable is read piece by piece; write it .* with \.save"):
        len(again)


@pytest.mark.parametrize("sizes", [[1] * N, [0, 100, 0, 157], [N], [32, 33, 192]])
def test_groups_have_one_size_whatever_the_pieces(sizes: list[int]):
    pieces = list(zip(VALUES.split(sizes), LABELS.split(sizes), strict=True))
    groups = list(Activations(lambda: pieces).batches(33))
    assert [len(values) for values, _ in groups] == [33] * 7 + [26]
    assert torch.equal(torch.cat([values for values, _ in groups]), VALUES)
    assert torch.equal(torch.cat([labels for _, labels in groups]), LABELS)


def test_a_generator_is_read_once(tmp_path: Path):
    def pieces() -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        yield from zip(VALUES.split(33), LABELS.split(33), strict=True)

    once = Activations(pieces())
    assert not once.rereadable
    with pytest.raises(ValueError, match="sha256: this source can be read once"):
        _ = once.sha256
    assert once.width == D
    saved = once.save(tmp_path / "saved", rows_per_shard=50)
    assert torch.equal(saved.tensor(), VALUES)
    assert torch.equal(saved.labels, LABELS)
    with pytest.raises(ValueError, match="this iterator can be read once, and was"):
        list(once)
    assert once.width == D


def test_labels_and_tokens_can_be_given():
    found = Activations([VALUES[:100], VALUES[100:]], labels=LABELS, tokens=TOKENS.numpy())
    assert torch.equal(found.labels, LABELS)
    assert torch.equal(found.tokens, TOKENS)


def test_float64_is_given_as_float32_and_half_precision_as_stored(tmp_path: Path):
    numpy.save(tmp_path / "a.npy", VALUES.double().numpy())
    assert torch.equal(Activations(tmp_path / "a.npy").tensor(), VALUES)
    for dtype in (torch.float16, torch.bfloat16):
        saved = Activations(VALUES.to(dtype)).save(tmp_path / str(dtype))
        assert torch.equal(saved.tensor(), VALUES.to(dtype))


@pytest.mark.parametrize("array", [numpy.asfortranarray(VALUES.numpy()), VALUES.numpy().astype(">f4")])
def test_numpy_layouts(tmp_path: Path, array: numpy.ndarray):
    numpy.save(tmp_path / "a.npy", array)
    assert torch.equal(Activations(tmp_path / "a.npy").tensor(), VALUES)
    assert torch.equal(Activations(array).tensor(), VALUES)


def test_a_file_stays_as_it_is_when_a_batch_is_changed(tmp_path: Path):
    for path in (_npy(tmp_path), _safetensors(tmp_path)):
        found = Activations(path)
        next(iter(found))[0].zero_()
        assert torch.equal(Activations(path).tensor(), VALUES)


@pytest.mark.parametrize(
    "rows", [slice(0, 1), slice(33, 221), slice(-7, None), slice(5, 5), LABELS[:, 1] > 0, LABELS[:, 0] == 99]
)
def test_some_rows_keep_their_labels(tmp_path: Path, rows: slice | torch.Tensor):
    found = Activations(_shards(tmp_path))[rows]
    assert (len(found), found.width) == (len(VALUES[rows]), D)
    assert torch.equal(found.tensor(), VALUES[rows])
    assert torch.equal(found.labels, LABELS[rows])
    assert torch.equal(found.tokens, TOKENS[rows])
    assert len(found.to_pandas()) == len(found)
    if len(found) > 2:
        assert torch.equal(found[1:3].tensor(), VALUES[rows][1:3])


def test_rows_are_found_by_label():
    order = torch.randperm(N, generator=torch.Generator().manual_seed(1))
    found = Activations((VALUES[order], LABELS[order]))
    wanted = torch.tensor([[3, 5], [99, 0], [0, 31], [8, 8], [0, 0], [-1, 2]])
    rows = found.find(wanted)
    assert [row < 0 for row in rows.tolist()] == [False, True, True, False, False, True]
    assert torch.equal(found.labels[rows[rows >= 0]], wanted[rows >= 0])
    twice = Activations((VALUES[:4], torch.tensor([[1, 1], [0, 0], [1, 1], [0, 0]])))
    assert twice.find(torch.tensor([[0, 0], [1, 1]])).tolist() == [1, 0]


def test_describe_needs_tokens_and_a_row():
    with pytest.raises(ValueError, match="tokens: this source has no token ids"):
        Activations(VALUES).describe(0, 0)
    found = Activations((VALUES, LABELS), tokens=TOKENS)
    assert str(found.describe(1, 1, window=1)) == "<8>«<11>»<14>"
    with pytest.raises(ValueError, match=r"prompt_id, position: no row has the label \(1, 31\)"):
        found.describe(1, 31)


def test_rows_that_are_not_finite():
    values = VALUES.clone()
    values[[5, 44], [0, 6]] = torch.tensor([torch.nan, torch.inf])
    found = Activations((values, LABELS))
    with pytest.raises(ValueError, match=r"2 rows hold NaN or infinity, .* \(0, 5\), \(1, 13\);"):
        list(found.batches(nonfinite="refuse"))
    kept = [batch for batch, _ in found.batches(nonfinite="skip")]
    good = torch.isfinite(values).all(dim=1)
    assert torch.equal(torch.cat(kept), VALUES[good])
    assert sum(len(batch) for batch, _ in found.batches(64)) == N
    with pytest.raises(ValueError, match="nonfinite: expected one of keep, refuse, skip"):
        found.batches(nonfinite="drop")


def test_the_hash_tells_contents_apart():
    base = Activations((VALUES, LABELS)).sha256
    changed = VALUES.clone()
    changed[-1, -1] += 1
    others = [(changed, LABELS), (VALUES, LABELS.flip(0)), (VALUES.half(), LABELS), (VALUES[:-1], LABELS[:-1])]
    hashes = {Activations(other).sha256 for other in others}
    assert len(hashes | {base}) == 5


def _write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def _table_of(column: list[Any], name: str = "activations") -> Source:
    def write(folder: Path) -> Path:
        pyarrow.parquet.write_table(pyarrow.table({name: column}), folder / "a.parquet")
        return folder / "a.parquet"

    return write


def _two_tensors(folder: Path) -> Path:
    save_file({"first": VALUES, "second": VALUES.clone()}, folder / "a.safetensors")
    return folder / "a.safetensors"


@pytest.mark.parametrize(
    ("source", "error", "match"),
    [
        (lambda f: 3, TypeError, "source: expected a tensor, an array, a path"),
        (lambda f: Activations(VALUES), TypeError, "source: these are Activations already"),
        (lambda f: [], ValueError, "source: expected at least one piece"),
        (lambda f: VALUES[0], ValueError, r"activations: expected \(N, D\), got \(7,\)"),
        (lambda f: VALUES[None], ValueError, r"activations: .*Did you mean activations.flatten\(0, -2\)"),
        (lambda f: VALUES.long(), TypeError, "activations: expected float32 or .*, got int64"),
        (lambda f: [VALUES, VALUES[:, 1:]], ValueError, r"activations, piece 1: expected \(N, 7\) like"),
        (lambda f: (VALUES, LABELS[1:]), ValueError, r"activations labels: expected \(257, 2\)"),
        (lambda f: (VALUES, LABELS.float()), TypeError, "activations labels: expected int64, got float32"),
        (lambda f: (VALUES, LABELS, TOKENS), TypeError, "expected a tensor or a pair .*, got 3 things"),
        (lambda f: VALUES.clone().requires_grad_(), ValueError, r"activations: requires_grad .*detach"),
        (lambda f: f / "none.npy", ValueError, "none.npy: expected a folder or a file .*, got no such file"),
        (lambda f: _write(f / "a.pt", b""), ValueError, r"a\.pt: expected a folder or a file .*, got \.pt"),
        (lambda f: f, ValueError, "holds no manifest.json and no files"),
        (lambda f: _write(f / "a.npy", b"no"), ValueError, r"a\.npy: expected an array"),
        (lambda f: _write(f / "a.safetensors", b"no"), ValueError, r"a\.safetensors: damaged"),
        (lambda f: _write(f / "a.parquet", b"no"), ValueError, r"a\.parquet: damaged"),
        (_two_tensors, ValueError, "key: .* holds first, second; say which"),
        (_table_of([[1.0, 2.0], [3.0]]), ValueError, "expected lists of equal length"),
        (_table_of([[1.0], [2.0, 3.0, 4.0]]), ValueError, "expected lists of equal length"),
        (_table_of([[1.0], None]), ValueError, "expected lists of equal length"),
        (_table_of([1.0, 2.0]), ValueError, "'activations' of .* holds double, expected lists"),
        (_table_of(["a", "b"], "words"), TypeError, r"a\.parquet: expected an array of numbers"),
        (_table_of([1, 2], "token_id"), ValueError, r"a\.parquet: expected columns of numbers"),
    ],
)
def test_refusals(tmp_path: Path, source: Source, error: type, match: str):
    with pytest.raises(error, match=match):
        Activations(source(tmp_path))


def test_pickles_in_numpy_files_are_refused(tmp_path: Path):
    numpy.save(tmp_path / "a.npy", numpy.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match=r"a\.npy: expected an array of numbers"):
        Activations(tmp_path / "a.npy")


def test_a_key_chooses_the_tensor(tmp_path: Path):
    assert torch.equal(Activations(_two_tensors(tmp_path), key="second").tensor(), VALUES)
    with pytest.raises(ValueError, match=r"key: .* holds first, second"):
        Activations(_two_tensors(tmp_path), key="third")


@pytest.mark.parametrize(("name", "width"), [("minilm", 384), ("smollm2", 576)])
def test_the_shipped_sets(name: str, width: int):
    found = data.load(name)
    assert found.width == width
    assert len(found) >= 3000
    values = found.tensor()
    assert values.dtype == torch.float16
    assert bool(torch.isfinite(values).all())
    assert found.origin["model"] == name
    assert set(found.tokens.tolist()) <= set(found.words)
    assert len(found.labels.unique(dim=0)) == len(found)
    assert "longest matching «block» in a" in " ".join(str(found.describe(1, 4)).split())
    table = found.to_pandas()
    assert numpy.allclose(table["norm"], values.float().norm(dim=1), rtol=1e-3)
    massive = table["norm"] > 10 * table["norm"].median()
    assert set(table["position"][massive]) <= ({0, 1, 2} if name == "smollm2" else set())


def test_data_names_its_sets():
    with pytest.raises(ValueError, match="name: expected one of minilm, smollm2"):
        data.load("gpt2")
    assert interpkern.data is data
    assert interpkern.Activations is Activations


def test_to_pandas_has_words(tmp_path: Path):
    table = data.load("minilm").to_pandas()
    assert list(table.columns) == ["prompt_id", "position", "norm", "token_id", "token"]
    assert table["token"].iloc[0] == "[CLS]"
    assert isinstance(table, pandas.DataFrame)
