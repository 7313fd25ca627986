"""Files: what is saved comes back bit for bit, and whatever is wrong with them is refused by the file's name."""

import hashlib
import io
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas
import pytest
import torch
from safetensors.torch import load_file, save

import interpkern
from interpkern.itda import ITDA
from tests.itda.problems import SETTINGS, activations, built, labels_for, same

FILES = ("cfg.json", "sae_weights.safetensors", "atoms.parquet", "provenance.json")


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    return built(activations(300, 31), labels_for(300)).save_pretrained(tmp_path / "itda")


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"method": "mp_refit", "nonnegative": True, "relative": False, "threshold": 0.3, "centre": False},
        {"threshold": None, "max_atoms": 30},
        {"centre": torch.arange(31.0) / 31, "mode": "fast", "skip_nonfinite": True},
        {"order": "canonical", "max_atoms": 20},
    ],
)
def test_a_dictionary_comes_back_bit_for_bit(settings: dict[str, Any], tmp_path: Path) -> None:
    x = activations(500, 31)
    itda = built(x[:400], labels_for(400), **settings)
    again = interpkern.ITDA.from_pretrained(itda.save_pretrained(tmp_path / "a"), threads=1)
    assert same(itda, again)
    assert again.settings == itda.settings
    assert again.report == itda.report
    assert again.data == itda.data
    for mine, theirs in zip(*(vars(dictionary.encode(x[400:])).values() for dictionary in (itda, again)), strict=True):
        assert torch.equal(mine, theirs)
    again.save_pretrained(tmp_path / "b")
    for name in FILES:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    if itda.settings.order == "given":
        assert same(itda.partial_fit(x[400:]), again.partial_fit(x[400:]))


def test_the_files_hold_what_the_spec_says(saved: Path) -> None:
    itda = ITDA.from_pretrained(saved)
    config, provenance = (json.loads((saved / name).read_text()) for name in ("cfg.json", "provenance.json"))
    assert set(config["checksums"]) == set(FILES) - {"cfg.json"}
    assert (config["d_in"], config["d_sae"], config["architecture"], config["schema"]) == (31, len(itda), "itda", 1)
    weights = load_file(saved / "sae_weights.safetensors")
    assert torch.equal(weights["W_dec"], itda.atoms)
    assert torch.equal(weights["b_dec"], itda.mean)
    assert weights["scale"] == 1
    table = pandas.read_parquet(saved / "atoms.parquet")
    columns = ["prompt_id", "position", "token_id", "source_norm", "birth_step", "admission_loss"]
    assert list(table.columns) == columns
    assert set(table["token_id"]) == {-1}
    assert provenance["data"]["sha256"] == itda.data["sha256"]
    for name in ("order", "mode", "threshold", "method", "versions"):
        assert name in provenance


def test_no_other_seed_of_change_shows_in_the_files(saved: Path, tmp_path: Path) -> None:
    twin = built(activations(300, 31), labels_for(300), threads=2).save_pretrained(tmp_path / "twin")
    assert all((saved / name).read_bytes() == (twin / name).read_bytes() for name in FILES)


def test_an_earlier_dictionary_is_replaced_and_other_files_are_safe(saved: Path, tmp_path: Path) -> None:
    other = built(activations(200, 7))
    other.save_pretrained(saved)
    assert same(ITDA.from_pretrained(saved), other)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("")
    with pytest.raises(ValueError, match=r"directory: .*other files \(thesis.tex\)"):
        other.save_pretrained(tmp_path / "mine")
    with pytest.raises(ValueError, match=r"directory: .*is a file"):
        other.save_pretrained(tmp_path / "mine" / "thesis.tex")
    with pytest.raises(TypeError, match="directory"):
        other.save_pretrained(3)  # type: ignore[arg-type]
    with pytest.raises(FileNotFoundError, match=r"directory: .*no cfg.json"):
        ITDA.from_pretrained(tmp_path / "mine")


@pytest.mark.parametrize("name", FILES)
def test_damage_is_found_and_the_file_named(name: str, saved: Path) -> None:
    path = saved / name
    content = path.read_bytes()
    step = max(1, len(content) // 60)
    flips = [content[:at] + bytes([content[at] ^ 4]) + content[at + 1 :] for at in range(0, len(content), step)]
    for damaged in [b"", b"null", b"[]", content[:-1], content[: len(content) // 2], b"\xff" + content, *flips]:
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=rf"directory: .*{name}"):
            ITDA.from_pretrained(saved)
    path.unlink()
    with pytest.raises((ValueError, FileNotFoundError), match=name):
        ITDA.from_pretrained(saved)


def forge(folder: Path, name: str, content: bytes, **changed: Any) -> None:
    """Put in a file, with checksums that are right."""
    (folder / name).write_bytes(content)
    config = json.loads((folder / "cfg.json").read_text()) | changed
    config.pop("own_checksum")
    if name != "cfg.json":
        config["checksums"][name] = hashlib.sha256(content).hexdigest()
    own = hashlib.sha256(written(config)).hexdigest()
    (folder / "cfg.json").write_bytes(written(config | {"own_checksum": own}))


def written(config: dict[str, Any]) -> bytes:
    return (json.dumps(config, indent=2, sort_keys=True) + "\n").encode()


def parquet(change: Callable[[pandas.DataFrame], pandas.DataFrame]) -> Callable[[Path], bytes]:
    def forged(folder: Path) -> bytes:
        buffer = io.BytesIO()
        change(pandas.read_parquet(folder / "atoms.parquet")).to_parquet(buffer, index=False)
        return buffer.getvalue()

    return forged


def weights(**changes: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[Path], bytes]:
    def forged(folder: Path) -> bytes:
        tensors = load_file(folder / "sae_weights.safetensors")
        return save(tensors | {name: change(tensors[name]).contiguous() for name, change in changes.items()})

    return forged


class Bomb:
    """Pickled, it would run a command when it is unpickled."""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return exec, ("raise SystemExit('unpickled')",)


def torch_pickle(folder: Path) -> bytes:
    buffer = io.BytesIO()
    torch.save({"W_dec": Bomb()}, buffer)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("sae_weights.safetensors", torch_pickle, "cannot be read"),
        ("sae_weights.safetensors", lambda folder: pickle.dumps(Bomb()), "cannot be read"),
        ("sae_weights.safetensors", weights(W_dec=lambda w: w[:, :30]), r"expected W_dec as float32 \(.*, 31\)"),
        ("sae_weights.safetensors", weights(W_dec=lambda w: w[1:]), "expected W_dec"),
        ("sae_weights.safetensors", weights(W_dec=lambda w: w * 2), "W_dec: expected rows of norm 1"),
        ("sae_weights.safetensors", weights(W_dec=lambda w: w * torch.nan), "NaN"),
        ("sae_weights.safetensors", weights(W_dec=lambda w: w.half()), "float16"),
        ("sae_weights.safetensors", weights(b_dec=lambda b: b[1:]), "expected b_dec"),
        ("sae_weights.safetensors", lambda folder: save({"W_dec": torch.eye(3)}), "expected W_dec"),
        ("atoms.parquet", lambda folder: pickle.dumps(Bomb()), "cannot be read"),
        ("atoms.parquet", parquet(lambda table: table.iloc[1:]), "rows for"),
        ("atoms.parquet", parquet(lambda table: table.drop(columns="prompt_id")), "prompt_id"),
        ("atoms.parquet", parquet(lambda table: table.astype({"position": float})), "position"),
        ("atoms.parquet", parquet(lambda table: table.astype({"prompt_id": str})), "prompt_id"),
        ("provenance.json", lambda folder: b"{}", "data"),
        ("provenance.json", lambda folder: b'{"data": 3}', "data"),
        ("provenance.json", lambda folder: b'{"data": {}}', "sha256"),
    ],
)
def test_forged_files_are_refused(name: str, content: Callable[[Path], bytes], message: str, saved: Path) -> None:
    forge(saved, name, content(saved))
    with pytest.raises(ValueError, match=rf"directory: .*{name} .*{message}"):
        ITDA.from_pretrained(saved)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"kind": "interpkern.memorise.run"}, "kind"),
        ({"schema": 2}, "schema 2 and this version reads 1"),
        ({"settings": {"k": 3}}, "lacks or misstates"),
        ({"settings": vars(ITDA().settings) | {"centre": "mean"}}, "lacks or misstates .*centre"),
        ({"settings": None}, "lacks or misstates"),
        ({"counts": [1]}, "lacks or misstates"),
        ({"counts": {"rows": 1}}, "lacks or misstates"),
        ({"threshold": "low"}, "lacks or misstates"),
        ({"threshold": -1.0}, "lacks or misstates"),
        ({"checksums": {}}, "lacks or misstates"),
        ({"d_in": None}, "lacks or misstates"),
    ],
)
def test_forged_configurations_are_refused(changed: dict[str, Any], message: str, saved: Path) -> None:
    forge(saved, "cfg.json", (saved / "cfg.json").read_bytes(), **changed)
    with pytest.raises(ValueError, match=rf"directory: .*cfg.json .*{message}"):
        ITDA.from_pretrained(saved)


def test_another_model_hook_or_width_is_refused(tmp_path: Path) -> None:
    itda = ITDA(**SETTINGS)
    source = interpkern.Activations(activations(100, 31))
    source.origin = {"model": "tiny", "hook": "blocks.0.hook_resid_pre", "tokenizer_sha256": "ab"}
    folder = itda.fit(source, data_id="made up").save_pretrained(tmp_path / "itda")
    wanted = {"model": "tiny", "hook": "blocks.0.hook_resid_pre", "width": 31}
    again = ITDA.from_pretrained(folder, **wanted)
    assert again.data["id"] == "made up"
    assert again.data["tokenizer_sha256"] == "ab"
    metadata = json.loads((folder / "cfg.json").read_text())["metadata"]
    assert (metadata["model_name"], metadata["hook_name"]) == ("tiny", "blocks.0.hook_resid_pre")
    for name, other in {"model": "large", "hook": "blocks.1.hook_resid_pre", "width": 32}.items():
        with pytest.raises(ValueError, match=rf"{name}: .*cfg.json .*expected {other!r}"):
            ITDA.from_pretrained(folder, **wanted | {name: other})
