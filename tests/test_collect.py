"""Collecting activations from a model: right rows, resumable, refused by name."""

import hashlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from interpkern.activations import Activations, collect
from tests.bridges import HOOK, WIDTH, FakeBridge, texts_of_ids, write_bert, write_llama

TEXTS = ["the cat sat.", "a", "the the cats, ## and the é."]


def shards(folder: Path) -> dict[str, str]:
    """The hashes of all shards, by name."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.glob("*.safetensors")}


def test_rows_are_those_of_the_model_without_padding(tmp_path: Path):
    bridge, texts = FakeBridge(), texts_of_ids(31)
    found = collect(bridge, texts, HOOK, tmp_path, max_tokens=7, batch_size=4, texts_per_shard=8, dtype="float32")
    expected = [(p, n, token) for p, text in enumerate(texts) for n, token in enumerate(text[:7])]
    assert found.labels.tolist() == [[p, n] for p, n, _ in expected]
    assert found.tokens.tolist() == [token for _, _, token in expected]
    assert torch.equal(found.tensor(), torch.stack([bridge.table[token] + n for _, n, token in expected]))
    assert (len(found), found.width, len(shards(tmp_path))) == (len(expected), WIDTH, 4)
    assert bridge.training
    assert {options["stop_at_layer"] for options in bridge.calls} == {2}


def test_batches_of_texts_make_no_difference(tmp_path: Path):
    one = collect(FakeBridge(), texts_of_ids(9), HOOK, tmp_path / "1", batch_size=1)
    seven = collect(FakeBridge(), texts_of_ids(9), HOOK, tmp_path / "7", batch_size=7, texts_per_shard=3)
    assert one.sha256 == seven.sha256


@pytest.mark.parametrize(
    ("dtype", "expected"), [("float16", torch.float16), ("bfloat16", torch.bfloat16), ("float32", torch.float32)]
)
def test_dtypes(tmp_path: Path, dtype: str, expected: torch.dtype):
    exact = collect(FakeBridge(), texts_of_ids(3), HOOK, tmp_path / "exact", dtype="float32").tensor()
    found = collect(FakeBridge(), texts_of_ids(3), HOOK, tmp_path / dtype, dtype=dtype).tensor()
    assert torch.equal(found, exact.to(expected))


def test_the_manifest_says_where_the_rows_come_from(tmp_path: Path):
    collect(FakeBridge(), texts_of_ids(5), HOOK, tmp_path, notes="ids at random")
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert manifest["complete"]
    assert manifest["settings"]["model"] == "fake"
    assert manifest["settings"]["hook"] == HOOK
    assert manifest["provenance"]["notes"] == "ids at random"
    assert {shard["file"]: shard["sha256"] for shard in manifest["shards"]} == shards(tmp_path)
    other = collect(FakeBridge(), texts_of_ids(5, seed=2), HOOK, tmp_path / "other")
    assert other.origin["texts_sha256"] != manifest["settings"]["texts_sha256"]


KILLED = """
import os, signal, sys
from pathlib import Path
from interpkern.activations import collect
from tests.bridges import HOOK, FakeBridge, texts_of_ids

when, folder = sys.argv[1:]
kill = lambda: os.kill(os.getpid(), signal.SIGKILL)
replace, calls = os.replace, []
def replace_or_die(source, target):
    calls.append(str(target))
    if when == "before" and sum(name.endswith("safetensors") for name in calls) == 3: kill()
    replace(source, target)
    if when == "after" and sum(name.endswith("safetensors") for name in calls) == 3: kill()
    if when == "vocabulary" and str(target).endswith("vocabulary.parquet"): kill()
os.replace = replace_or_die
collect(FakeBridge(), texts_of_ids(31), HOOK, folder, texts_per_shard=4)
"""


@pytest.mark.skipif(os.name != "posix", reason="SIGKILL")
@pytest.mark.parametrize(("when", "left"), [("before", 2), ("after", 3), ("vocabulary", 8)])
def test_a_killed_run_goes_on_to_the_same_bytes(tmp_path: Path, when: str, left: int):
    whole = collect(FakeBridge(), texts_of_ids(31), HOOK, tmp_path / "whole", texts_per_shard=4)
    folder = tmp_path / "killed"
    root = Path(__file__).parent.parent
    done = subprocess.run([sys.executable, "-c", KILLED, when, str(folder)], cwd=root, check=False)
    assert done.returncode == -signal.SIGKILL
    assert len(shards(folder)) == left
    with pytest.raises(ValueError, match=r"killed: not complete; call collect again"):
        Activations(folder)
    bridge = FakeBridge()
    found = collect(bridge, texts_of_ids(31), HOOK, folder, texts_per_shard=4)
    assert shards(folder) == shards(tmp_path / "whole")
    assert found.sha256 == whole.sha256
    assert (folder / "vocabulary.parquet").read_bytes() == (tmp_path / "whole/vocabulary.parquet").read_bytes()
    assert len(bridge.calls) == 8 - (2 if when != "vocabulary" else 8)


def test_a_finished_folder_is_not_computed_again(tmp_path: Path):
    first = collect(FakeBridge(), texts_of_ids(3), HOOK, tmp_path)
    bridge = FakeBridge()
    assert collect(bridge, texts_of_ids(3), HOOK, tmp_path).sha256 == first.sha256
    assert bridge.calls == []


@pytest.mark.parametrize(
    "change", [{"hook": "blocks.2.hook_resid_pre"}, {"max_tokens": 3}, {"dtype": "float32"}, {"texts": [[1, 2]]}]
)
def test_the_folder_of_another_run_is_refused(tmp_path: Path, change: dict):
    given = {"texts": texts_of_ids(3), "hook": HOOK, "out_dir": tmp_path}
    collect(FakeBridge(), **given)
    with pytest.raises(ValueError, match=rf"out_dir: .* holds another run, with {next(iter(change))}"):
        collect(FakeBridge(), **given | change)


def test_other_weights_are_another_run(tmp_path: Path):
    collect(FakeBridge(), texts_of_ids(3), "blocks.1.hook_resid_pre", tmp_path)
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    manifest["settings"]["weights_sha256"] = "0" * 64
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ValueError, match="weights_sha256"):
        collect(FakeBridge(), texts_of_ids(3), "blocks.1.hook_resid_pre", tmp_path)


def test_a_run_killed_before_it_began(tmp_path: Path):
    (tmp_path / ".manifest.json.0123.tmp").write_text("{")
    assert len(collect(FakeBridge(), [[1, 2]], HOOK, tmp_path)) == 2
    assert not list(tmp_path.glob(".*"))


def test_no_more_tokens_than_the_context_of_the_model(tmp_path: Path):
    bridge = FakeBridge()
    bridge.cfg.n_ctx = 3
    assert collect(bridge, [[1, 2, 3, 4]], HOOK, tmp_path).tokens.tolist() == [1, 2, 3]


def test_a_folder_with_other_files_is_refused(tmp_path: Path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match=r"out_dir: .* holds files and no manifest.json"):
        collect(FakeBridge(), texts_of_ids(3), HOOK, tmp_path)


def test_a_damaged_shard_is_named_and_refused(tmp_path: Path):
    collect(FakeBridge(), texts_of_ids(9), HOOK, tmp_path, texts_per_shard=3)
    path = tmp_path / "activations-00001.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    damaged = Activations(tmp_path)
    for read in (damaged.tensor, lambda: damaged.labels, lambda: damaged.sha256):
        with pytest.raises(ValueError, match=r"activations-00001\.safetensors: damaged"):
            read()
    path.unlink()
    with pytest.raises(ValueError, match=r"activations-00001\.safetensors: missing"):
        Activations(tmp_path).tensor()


def test_going_on_checks_what_is_there_and_makes_what_is_not(tmp_path: Path):
    whole = collect(FakeBridge(), texts_of_ids(9), HOOK, tmp_path, texts_per_shard=3).sha256
    path, last = (tmp_path / f"activations-0000{number}.safetensors" for number in (1, 2))
    path.write_bytes(path.read_bytes()[:-5])
    kept = last.read_bytes()
    last.unlink()
    with pytest.raises(ValueError, match=r"activations-00001\.safetensors: damaged, .*; delete it and collect again"):
        collect(FakeBridge(), texts_of_ids(9), HOOK, tmp_path, texts_per_shard=3)
    last.write_bytes(kept)
    path.unlink()
    bridge = FakeBridge()
    assert collect(bridge, texts_of_ids(9), HOOK, tmp_path, texts_per_shard=3).sha256 == whole
    assert len(bridge.calls) == 1


@pytest.mark.parametrize("content", ["{", "[]", '{"schema": 99}', '{"schema": 1, "settings": {}, "shards": [1]}'])
def test_a_damaged_manifest_is_named(tmp_path: Path, content: str):
    (tmp_path / "manifest.json").write_text(content)
    with pytest.raises(ValueError, match=r"manifest\.json: expected a manifest of activations"):
        Activations(tmp_path)


def test_numbers_that_are_not_finite_are_named(tmp_path: Path):
    with pytest.raises(ValueError, match=r"dtype: .* is too large for .*float16, at prompt 0, position 0"):
        collect(FakeBridge(scale=1e6), [[1, 2]], HOOK, tmp_path / "large")
    bridge = FakeBridge()
    bridge.table[5] = torch.nan
    with pytest.raises(ValueError, match=r"bridge: the model gave NaN or infinity at prompt 1, position 2"):
        collect(bridge, [[1, 2], [3, 4, 5]], HOOK, tmp_path / "nan")


@pytest.mark.parametrize(
    ("change", "error", "match"),
    [
        ({"texts": "one text"}, TypeError, "texts: expected an iterable of strings, got str; put it in a list"),
        ({"texts": []}, ValueError, "texts: expected at least one text"),
        ({"texts": [[1], []]}, TypeError, "texts: .* at 1"),
        ({"texts": [[1.5]]}, TypeError, "texts: .* at 0"),
        ({"texts": [[1], [2, 31]]}, ValueError, "texts: text 1 has token id 31 of a vocabulary of 31"),
        ({"texts": ["words"]}, ValueError, "texts: this model has no tokenizer"),
        ({"hook": "blocks.1.hook_resid_per"}, ValueError, "hook: .*Did you mean 'blocks.1.hook_resid_pre'"),
        ({"hook": "blocks.2.hook_resid_pre"}, ValueError, "hook: .* is never reached"),
        ({"hook": "blocks.1.attn.hook_pattern"}, ValueError, r"hook: .* gives \(1, 1, 2, 7\), expected"),
        ({"hook": 3}, TypeError, "hook: expected the name"),
        ({"dtype": "float64"}, ValueError, "dtype: expected one of float16, bfloat16, float32"),
        ({"max_tokens": 0}, ValueError, "max_tokens: "),
        ({"batch_size": 2.5}, TypeError, "batch_size: "),
        ({"bridge": object()}, TypeError, "bridge: expected a transformer_lens TransformerBridge, got object"),
        ({"out_dir": 3}, TypeError, "out_dir: expected a path"),
    ],
)
def test_refusals(tmp_path: Path, change: dict, error: type, match: str):
    given = {"bridge": FakeBridge(), "texts": [[1, 2]], "hook": HOOK, "out_dir": tmp_path}
    with pytest.raises(error, match=match):
        collect(**given | change)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Tiny random models on disk."""
    pytest.importorskip("transformer_lens")
    os.environ["HF_HUB_OFFLINE"] = "1"
    root = tmp_path_factory.mktemp("models")
    return {"llama": write_llama(root / "llama"), "bert": write_bert(root / "bert")}


@pytest.mark.parametrize("name", ["llama", "bert"])
def test_transformer_lens_gives_the_hidden_states_of_transformers(folders: dict, tmp_path: Path, name: str):
    from transformer_lens.model_bridge import TransformerBridge
    from transformers import AutoModel

    bridge = TransformerBridge.boot_transformers(str(folders[name]), dtype=torch.float32, device="cpu")
    model = AutoModel.from_pretrained(folders[name], dtype=torch.float32).eval()
    found = collect(bridge, TEXTS, "blocks.2.hook_resid_pre", tmp_path, batch_size=3, dtype="float32")
    for prompt, text in enumerate(TEXTS):
        ids = bridge.to_tokens(text)
        here = found.labels[:, 0] == prompt
        assert found.tokens[here].tolist() == ids[0].tolist()
        with torch.no_grad():
            expected = model(ids, output_hidden_states=True).hidden_states[2][0]
        assert torch.allclose(found[here].tensor(), expected, rtol=0, atol=1e-5)
    again = TransformerBridge.boot_transformers(str(folders[name]), dtype=torch.float32, device="cpu")
    collect(again, TEXTS, "blocks.2.hook_resid_pre", tmp_path, batch_size=3, dtype="float32")


@pytest.mark.parametrize(
    ("name", "expected"),
    [("llama", "<s>t«h»e the cats, ## and"), ("bert", "[CLS] «the» the cats[UNK][UNK][UNK][UNK] the e.[SEP]")],
)
def test_rows_read_as_text(folders: dict, tmp_path: Path, name: str, expected: str):
    from transformer_lens.model_bridge import TransformerBridge

    bridge = TransformerBridge.boot_transformers(str(folders[name]), dtype=torch.float32, device="cpu")
    found = collect(bridge, TEXTS, "blocks.0.hook_resid_pre", tmp_path)
    described = found.describe(2, 2 if name == "llama" else 1, window=14)
    assert str(described) == expected
    assert found[found.labels[:, 0] == 2].describe(2, described.position, window=14) == described


def test_a_native_toy_model(tmp_path: Path):
    pytest.importorskip("transformer_lens")
    from transformer_lens.config import TransformerBridgeConfig
    from transformer_lens.model_bridge import TransformerBridge

    config = TransformerBridgeConfig(
        d_model=8, d_head=4, n_layers=2, n_ctx=16, n_heads=2, d_vocab=31, act_fn="relu", d_mlp=12
    )
    bridge = TransformerBridge.boot_native(config)
    found = collect(bridge, texts_of_ids(5), "blocks.1.hook_resid_pre", tmp_path, dtype="float32")
    tokens = torch.tensor([texts_of_ids(5)[1]])
    with torch.no_grad():
        _, cache = bridge.run_with_cache(tokens, names_filter="blocks.1.hook_resid_pre")
    here = found.labels[:, 0] == 1
    assert torch.allclose(found[here].tensor(), cache["blocks.1.hook_resid_pre"][0], atol=1e-6)
    assert str(found.describe(1, 0)).startswith(f"«<{tokens[0, 0]}>»")
