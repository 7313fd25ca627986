"""`interpkern itda`: options that follow the API, dictionaries on disk, refusals in one line."""

import inspect
import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy
import pandas
import pytest
import torch
from typer.testing import CliRunner

import interpkern
from interpkern import cli, cli_itda, cli_itda_input
from interpkern.activations import Activations, collect
from interpkern.cli_options import descriptions
from interpkern.itda import ITDA, jaccard, layer_match, metrics
from interpkern.itda.evaluation import DEFAULT, ORDER, PAPER, evaluate
from tests.bridges import HOOK, FakeBridge, texts_of_ids
from tests.itda.problems import activations, labels_for

SMALL = ["--k", "4", "--threshold", "0.6", "--threads", "1"]
COMMAND = [sys.executable, "-c", "from interpkern.cli import main; main()"]
FILES = {"cfg.json", "sae_weights.safetensors", "atoms.parquet", "provenance.json"}


def invoke(*arguments: str | Path) -> tuple[int, str]:
    """The exit code, and what was printed."""
    result = CliRunner().invoke(cli.app, ["itda", *map(str, arguments)])
    return result.exit_code, result.output


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of 300 x 16 activations with the labels of 30 prompts."""
    path = tmp_path_factory.mktemp("rows") / "rows.safetensors"
    from safetensors.torch import save_file

    save_file({"activations": activations(300, 16), "labels": labels_for(300)}, path)
    return path


@pytest.fixture(scope="module")
def dictionary(rows: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dictionary of them, fitted by the command."""
    out = tmp_path_factory.mktemp("itda") / "dictionary"
    code, output = invoke("fit", rows, *SMALL, "--out", out)
    assert code == 0, output
    return out


@pytest.mark.parametrize(
    ("command", "sources"), [("fit", (ITDA, ITDA.fit)), ("eval", (evaluate,)), ("diff", (jaccard,))]
)
def test_every_parameter_of_the_api_is_an_option_with_its_default_and_its_help(command: str, sources: tuple[Any, ...]):
    made = {option.name: option for option in cli._built("itda").commands[command].params}
    not_typed = {"self", "activations", "labels", "a", "b", "other_orders"}
    for source in sources:
        texts = descriptions(source)
        for name, parameter in inspect.signature(source).parameters.items():
            if name in not_typed:
                continue
            assert f"--{name.replace('_', '-')}" in made[name].opts
            assert made[name].default == parameter.default
            assert made[name].help.startswith(texts[name]), name


def test_fit_writes_the_dictionary_of_the_api(rows: Path, dictionary: Path):
    assert {path.name for path in dictionary.iterdir()} == FILES
    found = ITDA.from_pretrained(dictionary)
    expected = ITDA(k=4, threshold=0.6, threads=1).fit(Activations(rows))
    assert torch.equal(found.atoms, expected.atoms)
    assert torch.equal(found.labels, expected.labels)
    assert found.data["id"] == str(rows)


def test_fit_on_a_device_of_this_machine(rows: Path, dictionary: Path, tmp_path: Path):
    code, output = invoke("fit", rows, *SMALL, "--device", "cpu", "--out", tmp_path / "here")
    assert code == 0, output
    assert torch.equal(ITDA.from_pretrained(tmp_path / "here").atoms, ITDA.from_pretrained(dictionary).atoms)
    code, output = invoke("fit", rows, *SMALL, "--device", "nowhere", "--out", tmp_path / "there")
    assert code == 2
    assert "device: expected a device of this machine" in output


def test_fit_takes_shipped_sets_and_shows_their_atoms(tmp_path: Path):
    code, output = invoke("fit", "minilm", "--k", "2", "--max-atoms", "40", "--out", tmp_path / "minilm")
    assert code == 0, output
    assert "3,230 x 384 of minilm (minilm at blocks.3.hook_resid_pre)" in output
    assert "atom 0, prompt 0, position 0: «[CLS]» the context diff format" in output
    assert "stopped at max_atoms" in output
    assert ITDA.from_pretrained(tmp_path / "minilm").data["model"] == "minilm"


def test_fit_reads_arrays_with_labels_of_their_own(tmp_path: Path):
    values, labels = activations(60, 7).numpy(), labels_for(60).numpy() + 5
    numpy.save(tmp_path / "x.npy", values)
    numpy.save(tmp_path / "labels.npy", labels)
    given = ["--labels", tmp_path / "labels.npy", "--no-centre", "--json"]
    code, output = invoke("fit", tmp_path / "x.npy", *SMALL, *given, "--out", tmp_path / "out")
    assert code == 0, output
    expected = ITDA(k=4, threshold=0.6, centre=False).fit(values, labels)
    assert torch.equal(ITDA.from_pretrained(tmp_path / "out").labels, expected.labels)
    record = json.loads(output)
    assert (record["atoms"], record["settings"]["centre"]) == (len(expected), False)
    code, output = invoke("fit", tmp_path / "x.npy", *SMALL, "--out", tmp_path / "plain")
    assert "atom 0, prompt 0, position 0\n" in output


def test_fit_of_rows_that_are_all_the_same_has_no_atoms_to_show(tmp_path: Path):
    numpy.save(tmp_path / "same.npy", numpy.ones((31, 7), numpy.float32))
    code, output = invoke("fit", tmp_path / "same.npy", "--checkpoint", tmp_path / "kept", "--out", tmp_path / "out")
    assert code == 0, output
    assert "0 atoms from 31 rows" in output
    assert "rows/s" not in output, "a fit that may have gone on from a checkpoint has no rate"
    assert len(ITDA.from_pretrained(tmp_path / "out")) == 0


def test_threshold_none_looks_for_a_size(rows: Path, tmp_path: Path):
    sized = ["--k", "4", "--threshold", "none", "--max-atoms", "30", "--json", "--out", tmp_path / "out"]
    code, output = invoke("fit", rows, *sized)
    assert code == 0, output
    expected = ITDA(k=4, threshold=None, max_atoms=30).fit(Activations(rows))
    assert torch.equal(ITDA.from_pretrained(tmp_path / "out").atoms, expected.atoms)
    assert json.loads(output)["settings"]["threshold"] is None


def test_fit_collects_from_a_model_and_goes_on_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    bridge, texts = FakeBridge(), texts_of_ids(12)
    monkeypatch.setattr(cli_itda_input, "bridge_of", lambda model: bridge)
    (tmp_path / "texts.jsonl").write_text("".join(f"{json.dumps({'text': text})}\n" for text in texts))
    options = ["--model", "fake", "--hook", HOOK, "--texts", tmp_path / "texts.jsonl", *SMALL, "--dtype", "float32"]
    code, output = invoke("fit", *options, "--out", tmp_path / "out")
    assert code == 0, output
    assert ITDA.from_pretrained(tmp_path / "out").data["hook"] == HOOK
    expected = collect(FakeBridge(), texts, HOOK, tmp_path / "shards", dtype="float32")
    assert Activations(tmp_path / "out-activations").sha256 == expected.sha256
    calls = len(bridge.calls)
    code, output = invoke("fit", tmp_path / "shards", *options, "--out", tmp_path / "again")
    assert code == 0, output
    assert len(bridge.calls) == calls, "the shards were there"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("t.txt", "one text\n\n another \n"),
        ("t.jsonl", '{"text": "one text"}\n"another"\n'),
        ("t.parquet", pandas.DataFrame({"text": ["one text", "another"]})),
    ],
)
def test_texts(tmp_path: Path, name: str, content: Any):
    if isinstance(content, str):
        (tmp_path / name).write_text(content)
    else:
        content.to_parquet(tmp_path / name)
    assert list(cli_itda_input.texts_of(tmp_path / name)) == ["one text", "another"]


@pytest.mark.parametrize("threshold", [["--threshold", "3"], ["--method", "omq"], ["--mode", "quick"]])
def test_fit_refuses_settings_before_it_reads(threshold: list[str], tmp_path: Path):
    code, output = invoke("fit", "nowhere", *threshold, "--out", tmp_path / "out")
    assert (code, len(output.strip().splitlines())) == (2, 1)
    assert output.startswith(f"error: {threshold[0][2:]}: ")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["fit", "--out", "OUT"], "activations: expected a file"),
        (["fit", "nowhere", "--out", "OUT"], "nowhere is not there; expected a file, a folder, minilm or smollm2"),
        (["fit", "ROWS", "--labels", "nowhere.npy", "--out", "OUT"], "labels: nowhere.npy cannot be read"),
        (["fit", "--hook", "h", "--out", "OUT"], "model: expected --model"),
        (["fit", "--model", "m", "--hook", "h", "--texts", "no.txt", "--out", "OUT"], "texts: no.txt"),
        (["fit", "--model", "m", "--hook", "h", "--texts", "TEXTS", "--out", "OUT"], "model: m is no folder"),
        (["eval", "--model", "m", "--hook", "h", "--texts", "TEXTS"], "activations: expected a folder to collect to"),
        (["eval", "minilm", "--atoms", "100000"], "atoms: expected at most half"),
        (["eval", "minilm", "--dictionary", "nowhere"], "nowhere holds no finished dictionary"),
        (["diff", "DICTIONARY", "nowhere"], "b: nowhere holds no cfg.json, while"),
        (["diff", "nowhere", "nowhere"], "a: nowhere is no folder"),
        (["diff", "DICTIONARY", "DICTIONARY", "--activations-a", "x"], "activations_a, activations_b"),
    ],
)
def test_a_refusal_is_one_clean_line(arguments: list[str], words: str, dictionary: Path, tmp_path: Path):
    (tmp_path / "texts.txt").write_text("a text\n")
    numpy.save(tmp_path / "x.npy", numpy.zeros((3, 2)))
    places = {"OUT": tmp_path / "out", "TEXTS": tmp_path / "texts.txt", "ROWS": tmp_path / "x.npy"}
    places["DICTIONARY"] = dictionary
    code, output = invoke(*(places.get(argument, argument) for argument in arguments))
    assert code == 2, output
    assert output.startswith("error: ")
    assert words in output
    assert len(output.strip().splitlines()) == 1


def test_a_folder_with_other_files_is_refused_before_the_fit(rows: Path, tmp_path: Path):
    (tmp_path / "thesis.tex").write_text("years of work")
    code, output = invoke("fit", rows, "--out", tmp_path)
    assert (code, list(tmp_path.iterdir())) == (2, [tmp_path / "thesis.tex"])
    assert "out: " in output
    assert "holds other files" in output


def test_eval_prints_the_table_of_the_api(rows: Path, tmp_path: Path):
    settings = {"atoms": 40, "k": 4, "rounds": 2, "threads": 1, "seed": 3}
    typed = [part for name, value in settings.items() for part in (f"--{name}", value)]
    code, output = invoke("eval", rows, *map(str, typed), "--out", tmp_path / "out")
    assert code == 0, output
    found = evaluate(Activations(rows), **settings)
    for variant in found.variants:
        figures = rf"{re.escape(f'{variant.change:+.1%}')} +{variant.ordinary.fvu:.4f} "
        assert re.search(rf"^{re.escape(variant.name)} +{figures}", output, re.MULTILINE)
    assert f"leaves {found[DEFAULT].ordinary.fvu:.1%}" in output
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "eval.html",
        "recipes.png",
        "recipes.parquet",
        "recipes.json",
    }
    page = (tmp_path / "out" / "eval.html").read_text()
    assert all(name.replace("'", "&#39;") in page for name in ORDER)
    assert json.loads((tmp_path / "out" / "recipes.json").read_text())["variants"][0]["name"] == PAPER
    code, output = invoke("eval", rows, *map(str, typed), "--json")
    assert [variant["name"] for variant in json.loads(output)["variants"]] == list(ORDER)


def test_eval_measures_a_dictionary(rows: Path, dictionary: Path, tmp_path: Path):
    code, output = invoke("eval", rows, "--dictionary", dictionary, "--out", tmp_path / "out")
    assert code == 0, output
    found = metrics(ITDA.from_pretrained(dictionary), Activations(rows))
    assert f"{found.all.fvu:.4f}" in output
    assert (tmp_path / "out" / "dictionary.png").read_bytes().startswith(b"\x89PNG")
    code, output = invoke("eval", rows, "--dictionary", dictionary, "--json")
    assert json.loads(output)["all"]["fvu"] == found.all.fvu


def test_eval_reports_massive_tokens_apart(tmp_path: Path):
    invoke("fit", "smollm2", "--k", "2", "--max-atoms", "20", "--out", tmp_path / "d")
    code, output = invoke("eval", "smollm2", "--dictionary", tmp_path / "d", "--out", tmp_path / "out")
    assert code == 0, output
    assert re.search(r"^massive +97 ", output, re.MULTILINE)
    assert "Massive tokens" in (tmp_path / "out" / "eval.html").read_text()
    assert len(pandas.read_parquet(tmp_path / "out" / "massive.parquet")) == 97


def test_diff_gives_the_jaccard_with_its_baselines(rows: Path, dictionary: Path, tmp_path: Path):
    other, reordered = tmp_path / "other", tmp_path / "reordered"
    assert invoke("fit", rows, "--k", "4", "--threshold", "0.5", "--out", other)[0] == 0
    assert invoke("fit", rows, *SMALL, "--order", "canonical", "--out", reordered)[0] == 0
    code, output = invoke("diff", dictionary, other, "--other-orders", reordered, "--plot", tmp_path / "plot.png")
    assert code == 0, output
    a, b, c = (ITDA.from_pretrained(path) for path in (dictionary, other, reordered))
    with pytest.warns(UserWarning, match="threshold"):
        found = jaccard(a, b, other_orders=[c])
    assert output.startswith(f"jaccard   {found.value:.4g}: {found.shared:,} labels of both")
    assert f"{found.shuffled.expected:.4g} for shuffled labels of 300 rows" in output
    assert f"order     {found.other_orders[0]:.4g}" in output
    assert "warning   threshold differs: a has 0.6, b has 0.5" in output
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")
    code, output = invoke("diff", dictionary, other, "--json", "--population", "1000")
    record = json.loads(output)
    assert (record["value"], record["shuffled"]["population"]) == (found.value, 1000)


def test_diff_matches_layers_of_two_models(tmp_path: Path):
    sides: dict[str, list[ITDA]] = {"a": [], "b": []}
    for layer in (2, 10):
        x = activations(200, 16, seed=layer)
        for side, noise in (("a", 0.0), ("b", 0.1)):
            values = x + noise * torch.randn(200, 16, generator=torch.Generator().manual_seed(layer))
            (tmp_path / f"rows-{side}").mkdir(exist_ok=True)
            numpy.save(tmp_path / f"rows-{side}" / f"layer_{layer}.npy", values.numpy())
            sides[side].append(ITDA(k=4, threshold=0.5, threads=1).fit(values))
            sides[side][-1].save_pretrained(tmp_path / side / f"layer_{layer}")
    given = [f"--activations-{side}={tmp_path / f'rows-{side}'}" for side in "ab"]
    code, output = invoke("diff", tmp_path / "a", tmp_path / "b", *given, "--plot", tmp_path / "plot.png", "--json")
    assert code == 0, output
    expected = layer_match(sides["a"], sides["b"])
    record = json.loads(output)
    assert record["jaccard"] == expected.jaccard.tolist()
    assert record["scores"]["jaccard"] == float(expected)
    assert record["scores"]["cka"] == 1.0
    code, output = invoke("diff", tmp_path / "a", tmp_path / "b")
    best = ("layer_2", "layer_10")[int(expected.jaccard[1].argmax())]
    assert re.search(rf"^layer_10 +{best} at {float(expected.jaccard[1].max()):.3f}$", output, re.MULTILINE)
    assert "chance is 0.500" in output


def test_ctrl_c_ends_a_fit_with_a_word_and_leaves_its_checkpoint(tmp_path: Path):
    numpy.save(tmp_path / "x.npy", activations(60_000, 64).numpy())
    options = [str(tmp_path / "x.npy"), "--k", "4", "--out", str(tmp_path / "out")]
    kept = ["--checkpoint", str(tmp_path / "kept"), "--checkpoint-every", "1"]
    process = subprocess.Popen(
        [*COMMAND, "itda", "fit", *options, *kept, "--progress"], stderr=subprocess.PIPE, text=True
    )
    while not (tmp_path / "kept" / "checkpoint.safetensors").exists():
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 130
    assert errors.rstrip().endswith("interrupted")
    assert "Traceback" not in errors
    assert not (tmp_path / "out" / "cfg.json").exists()


def test_help_of_fit_fits_eighty_columns(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("COLUMNS", "80")
    for command in ("fit", "eval", "diff"):
        code, output = invoke(command, "--help")
        assert code == 0
        assert max(map(len, output.splitlines())) <= 80
    assert "interpkern itda diff" in output


def test_the_group_explains_itself():
    _, output = invoke("--help")
    assert {"fit", "eval", "diff"} <= set(re.findall(r"^  (\w+)", output, re.MULTILINE))
    assert "..." not in output.split("Commands:")[1]
    assert cli_itda.about.__doc__ in output


def test_shipped_sets_are_found_unless_a_file_has_their_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    values = {"activations": "minilm", "labels": None, "key": None} | dict.fromkeys(cli_itda_input.FROM_MODEL)
    assert len(cli_itda_input.given(values)) == len(interpkern.data.load("minilm"))
    (tmp_path / "minilm").mkdir()
    numpy.save(tmp_path / "minilm" / "x.npy", numpy.ones((3, 2)))
    assert len(cli_itda_input.given(values)) == 3
