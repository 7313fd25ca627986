"""Random tables against the laws they are drawn from, and tables read from files against what was written."""

import math

import numpy
import pandas
import pytest
import torch

from interpkern.memorisation import load_table, random_tables
from interpkern.random import USES, normal, uniform, words

SHAPES = [(1, 1), (1, 7), (31, 33)]


@pytest.mark.parametrize(("rows", "cols"), SHAPES)
@pytest.mark.parametrize("balanced", [False, True])
def test_a_table_depends_only_on_seed_and_model(rows: int, cols: int, balanced: bool) -> None:
    eight = random_tables(8, rows, cols, p=0.3, balanced=balanced, seed=5)
    four = random_tables(4, rows, cols, p=0.3, balanced=balanced, seed=5)
    assert eight.dtype == torch.uint8
    assert eight.shape == (8, rows, cols)
    assert torch.equal(eight[:4], four)


def test_models_and_seeds_are_independent() -> None:
    signs = torch.cat([random_tables(16, 31, 33, seed=seed) for seed in range(4)]).flatten(1).double() * 2 - 1
    correlation = signs @ signs.T / signs.shape[1]
    off_diagonal = correlation - torch.diag(correlation.diag())
    assert off_diagonal.abs().max() < 5 / math.sqrt(signs.shape[1])


def test_share_of_ones_is_p() -> None:
    tables = random_tables(200, 31, 33, p=0.2, seed=1).double()
    facts = tables.numel()
    assert abs(float(tables.mean()) - 0.2) < 4 * math.sqrt(0.2 * 0.8 / facts)
    per_table = tables.sum(dim=(1, 2))
    assert float(per_table.var()) == pytest.approx(31 * 33 * 0.2 * 0.8, rel=0.4)


@pytest.mark.parametrize(("p", "ones"), [(0.0, 0), (0.3, round(0.3 * 217)), (0.5, round(0.5 * 217)), (1.0, 217)])
def test_balanced_tables_have_exactly_so_many_ones(p: float, ones: int) -> None:
    tables = random_tables(9, 31, 7, p=p, balanced=True, seed=2)
    assert tables.sum(dim=(1, 2)).tolist() == [ones] * 9


def test_balanced_places_are_uniform() -> None:
    each_cell = random_tables(4000, 3, 3, p=1 / 3, balanced=True).double().mean(0)
    assert (each_cell - 1 / 3).abs().max() < 5 * math.sqrt(2 / 9 / 4000)


def test_streams_are_told_apart_by_seed_model_and_use() -> None:
    keys = [(seed, model, use) for seed in (0, 1, 1 << 63) for model in (0, 1, 1 << 47) for use in USES]
    assert len({tuple(words(*key, 2).tolist()) for key in keys}) == len(keys)


def philox(counter: list[int], key: list[int]) -> list[int]:
    """Philox 4x64-10 as Salmon et al. 2011 write it."""
    for _ in range(10):
        first, second = 0xD2E7470EE14C6C93 * counter[0], 0xCA5A826395121157 * counter[2]
        high, low = [first >> 64, second >> 64], [first % 2**64, second % 2**64]
        counter = [high[1] ^ counter[1] ^ key[0], low[1], high[0] ^ counter[3] ^ key[1], low[0]]
        key = [(key[0] + 0x9E3779B97F4A7C15) % 2**64, (key[1] + 0xBB67AE8584CAA73B) % 2**64]
    return counter


def test_words_are_those_of_the_published_generator() -> None:
    assert philox([0] * 4, [0] * 2)[0] == 0x16554D9ECA36314C  # Random123's known answer
    seed, model = 2**64 - 3, 31
    for use, name in enumerate(USES):
        key = [seed, (use << 48) + model]
        wanted = philox([1, 0, 0, 0], key) + philox([2, 0, 0, 0], key)
        assert words(seed, model, name, 8).tolist() == wanted


def test_uniform_and_normal_have_their_moments() -> None:
    u, z = uniform(3, 0, "W", 100_000), normal(3, 0, "E1", 100_000)
    assert 0 < u.min() < u.max() < 1
    assert abs(u.mean() - 0.5) < 4 / math.sqrt(12e5)
    assert abs(z.mean()) < 4 / math.sqrt(1e5)
    assert abs(z.var() - 1) < 4 * math.sqrt(2e-5)


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        ({"models": 0}, ValueError),
        ({"rows": 2.5}, TypeError),
        ({"cols": True}, TypeError),
        ({"p": 1.5}, ValueError),
        ({"p": float("nan")}, ValueError),
        ({"balanced": 1}, TypeError),
        ({"seed": -1}, ValueError),
        ({"seed": 1 << 64}, ValueError),
    ],
)
def test_wrong_arguments_are_named(wrong: dict, error: type[Exception]) -> None:
    with pytest.raises(error, match=next(iter(wrong))):
        random_tables(**{"models": 2, "rows": 3, "cols": 4, **wrong})


TABLE = numpy.array([[1, 0, 1], [0, 0, 1]], dtype=numpy.uint8)
CSVS = {
    "bare": "1,0,1\n0,0,1\n",
    "spaces and a byte order mark": "\ufeff1, 0, 1\n0,0,1\n\n",
    "words": "True,False,True\nfalse,FALSE,true\n",
    "floats": "1.0,0.0,1\n0,0.0,1e0\n",
    "header": "a,b,c\n1,0,1\n0,0,1\n",
    "labels": "x,1,0,1\ny,0,0,1\n",
    "header and labels": "name,a,b,c\nx,1,0,1\ny,0,0,1\n",
    "pandas with names": pandas.DataFrame(TABLE, columns=list("abc"), index=["x", "y"]).to_csv(),
    "pandas without names": pandas.DataFrame(TABLE).to_csv(),
}


@pytest.mark.parametrize("kind", CSVS)
def test_csv_with_or_without_labels(tmp_path, kind: str) -> None:
    file = tmp_path / "table.csv"
    file.write_text(CSVS[kind], encoding="utf-8")
    assert load_table(file).tolist() == TABLE.tolist()


def test_small_csvs_keep_every_row_and_column(tmp_path) -> None:
    file = tmp_path / "table.csv"
    for text, wanted in [("1", [[1]]), ("0\n1\n", [[0], [1]]), ("x\n0\n1\n", [[0], [1]]), (",0,1\n0,1,1\n", [[1, 1]])]:
        file.write_text(text)
        assert load_table(file).tolist() == wanted


@pytest.mark.parametrize("dtype", [bool, numpy.int8, numpy.uint16, numpy.float16, numpy.float64])
def test_numpy_files_of_any_dtype(tmp_path, dtype: type) -> None:
    numpy.save(tmp_path / "table.npy", TABLE.astype(dtype))
    numpy.savez_compressed(tmp_path / "table.npz", facts=TABLE.astype(dtype))
    for name in ("table.npy", "table.npz"):
        loaded = load_table(str(tmp_path / name))
        assert loaded.dtype == torch.uint8
        assert loaded.tolist() == TABLE.tolist()


@pytest.mark.parametrize("labels", [None, ["x", "y"]])
def test_parquet_with_or_without_labels(tmp_path, labels: list[str] | None) -> None:
    frame = pandas.DataFrame(TABLE.astype(bool), columns=list("abc"))
    if labels:
        frame.insert(0, "name", labels)
    frame.to_parquet(tmp_path / "table.parquet")
    assert load_table(tmp_path / "table.parquet").tolist() == TABLE.tolist()


def bad_files(folder) -> dict[str, tuple[type[Exception], str]]:
    numpy.save(folder / "two.npy", TABLE * 2)
    numpy.save(folder / "stack.npy", TABLE[None])
    numpy.save(folder / "empty.npy", TABLE[:0])
    numpy.save(folder / "text.npy", numpy.array([["a", "b"]]))
    numpy.save(folder / "object.npy", numpy.array([[1, None]], dtype=object), allow_pickle=True)
    numpy.savez(folder / "many.npz", first=TABLE, second=TABLE)
    (folder / "zero.npy").write_bytes(b"")
    (folder / "broken.npz").write_bytes(b"PK\x03\x04 nothing")
    (folder / "broken.parquet").write_bytes(b"PAR1")
    (folder / "ragged.csv").write_text("1,0\n1\n")
    (folder / "none.csv").write_text("")
    (folder / "semicolons.csv").write_text("1;0\n0;1\n")
    (folder / "hole.csv").write_text("1,0\n,1\n")
    (folder / "first.csv").write_text(",1,0\n0,1,1\n")
    (folder / "word.csv").write_text("1,0\n1,maybe\n")
    (folder / "latin.csv").write_bytes("é,1\n".encode("latin-1"))
    (folder / "table.txt").write_text("1,0\n")
    (folder / "folder.npy").mkdir()
    pandas.DataFrame({"a": [0, 1], "b": ["x", "y"]}).to_parquet(folder / "text.parquet")
    pandas.DataFrame({"a": [0, None]}).to_parquet(folder / "hole.parquet")
    return {
        "two.npy": (ValueError, "got 2 at row 0, column 0"),
        "stack.npy": (ValueError, r"array\[0\]"),
        "empty.npy": (ValueError, "no empty side"),
        "text.npy": (TypeError, "numbers or booleans"),
        "object.npy": (ValueError, "allow_pickle=False"),
        "many.npz": (ValueError, "first, second"),
        "zero.npy": (ValueError, "cannot be read"),
        "broken.npz": (ValueError, "cannot be read"),
        "broken.parquet": (ValueError, "cannot be read"),
        "ragged.csv": (ValueError, "one length"),
        "none.csv": (ValueError, "an empty file"),
        "semicolons.csv": (ValueError, "commas"),
        "hole.csv": (ValueError, "empty cell"),
        "first.csv": (ValueError, "empty cell"),
        "word.csv": (ValueError, "maybe"),
        "latin.csv": (ValueError, "cannot be read"),
        "table.txt": (ValueError, r"\.parquet"),
        "folder.npy": (ValueError, "expected a file"),
        "text.parquet": (ValueError, "column 'b'"),
        "hole.parquet": (ValueError, "empty cell"),
        "absent.npy": (FileNotFoundError, "no such file"),
    }


def test_refused_files_are_named_with_the_reason(tmp_path) -> None:
    for name, (error, reason) in bad_files(tmp_path).items():
        with pytest.raises(error, match=reason) as caught:
            load_table(tmp_path / name)
        assert name in str(caught.value)
    with pytest.raises(TypeError, match="path"):
        load_table(3)
