"""`interpkern probe`: options that follow the API, files in, a page out, refusals in one line."""

import inspect
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy
import pandas
import pytest
import torch
from typer.testing import CliRunner

from interpkern import cli, cli_probe, cli_probe_helix
from interpkern.cli_options import descriptions
from interpkern.cli_probe_input import layers_of, numbers_of
from interpkern.probing.addition import addition_study
from interpkern.probing.log_probe import log_probe
from interpkern.probing.number_sets import NumberActivations

QUICK = ["--surrogates", "19", "--sensitivity", "none", "--no-progress"]


def invoke(*arguments: str | Path) -> tuple[int, str]:
    """The exit code, and what was printed."""
    result = CliRunner().invoke(cli.app, ["probe", *map(str, arguments)])
    return result.exit_code, result.output


@pytest.fixture(scope="module")
def rows() -> torch.Tensor:
    """(60, 6) with a line in ln n."""
    generator = torch.Generator().manual_seed(0)
    log = torch.arange(1, 61).double().log()
    return torch.randn(60, 6, generator=generator) + 5 * log[:, None] * torch.randn(6, generator=generator)


@pytest.mark.parametrize(
    ("command", "source", "left_out"),
    [
        ("log", log_probe, cli_probe.NOT_FROM_API),
        ("helix", addition_study, cli_probe_helix.NOT_FROM_API),
    ],
)
def test_every_parameter_of_the_api_is_an_option_with_its_default_and_its_help(command, source, left_out):
    made = {option.name: option for option in cli._built("probe").commands[command].params}
    texts = descriptions(source)
    for name, parameter in inspect.signature(source).parameters.items():
        if name in left_out:
            continue
        assert f"--{name.replace('_', '-')}" in made[name].opts
        assert made[name].default == parameter.default
        assert made[name].help.startswith(texts[name]), name


def test_numbers_are_lists_of_ranges():
    assert numbers_of("numbers", "1-3,7, 9-9") == [1, 2, 3, 7, 9]
    assert layers_of("layers", None) is None
    for typed in ("", "1-", "a", "3-1", "1.5", "1,,2"):
        with pytest.raises(ValueError, match="numbers: expected integers such as"):
            numbers_of("numbers", typed)


def test_log_reads_arrays_and_writes_a_page(rows: torch.Tensor, tmp_path: Path):
    numpy.save(tmp_path / "rows.npy", rows.numpy())
    out = tmp_path / "out"
    code, output = invoke("log", "--activations", tmp_path / "rows.npy", "--numbers", "1-60", *QUICK, "--out", out)
    assert code == 0, output
    found = log_probe(tmp_path / "rows.npy", numbers=range(1, 61), surrogates=19, sensitivity="none", progress=False)
    for verdict in found.verdicts:
        assert f"{verdict.question} {verdict.answer}" in output
    assert "Is there a magnitude direction? yes: component 1 of layer 0" in output
    assert (out / "log_probe.html").exists()
    table = pandas.read_parquet(out / "log-probe-verdicts.parquet")
    assert table["answer"].tolist() == [verdict.answer for verdict in found.verdicts]
    assert torch.equal(NumberActivations.load(out / "log-probe-activations.safetensors")[0], rows)


def test_log_takes_shipped_sets_and_prints_json():
    code, output = invoke("log", "--activations", "minilm", "--layers", "3", *QUICK, "--json")
    assert code == 0, output
    record = json.loads(output)
    assert record["layers"] == [3]
    assert record["verdicts"][0]["answer"] == "yes: component 1 of layer 3"


def test_log_gives_the_model_and_its_options_to_the_api(monkeypatch: pytest.MonkeyPatch):
    bridge, asked = object(), {}

    def fake(source: Any, **settings: Any) -> Any:
        asked.update(settings | {"source": source})
        raise ValueError("seen")

    monkeypatch.setattr(cli_probe, "bridge_of", lambda name: bridge)
    monkeypatch.setattr(cli_probe, "log_probe", fake)
    options = ["--numbers", "1-9", "--layers", "0,2", "--operands", "2-9", "--multiplication-layers", "1"]
    code, output = invoke("log", "--model", "smollm2", *options, "--prefix", "n = ", "--controls", "7")
    assert (code, output.strip()) == (2, "error: seen")
    assert asked["source"] is bridge
    assert (asked["numbers"], asked["layers"], asked["operands"]) == ([*range(1, 10)], [0, 2], [*range(2, 10)])
    assert (asked["multiplication_layers"], asked["prefix"], asked["controls"]) == ([1], "n = ", 7)
    assert asked["model_name"] == "smollm2"
    invoke("log", "--model", "smollm2", "--activations", "minilm")
    assert asked["source"].name == "minilm"
    assert asked["bridge"] is bridge


def test_helix_gives_the_model_and_its_options_to_the_api(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    asked = {}
    fits, patches = pandas.DataFrame({"site": ["a"], "r_squared": [0.5]}), pandas.DataFrame({"method": ["helix"]})
    study = SimpleNamespace(
        settings={"seed": 3},
        accuracy=0.25,
        warnings=("mind the gap",),
        tables=lambda: {"fits": fits, "patches": patches},
        fits_to_pandas=lambda: fits,
        to_pandas=lambda: patches,
        save=lambda folder: (Path(folder) / "study.json").write_text("{}"),
    )
    monkeypatch.setattr(cli_probe_helix, "bridge_of", lambda name: name)
    monkeypatch.setattr(
        cli_probe_helix, "addition_study", lambda bridge, **settings: asked.update(settings, bridge=bridge) or study
    )
    options = ["--model", "smollm2", "--numbers", "0-9", "--periods", "2,2.5", "--sites", "a,b", "--layers", "1"]
    code, output = invoke("helix", *options, "--out", tmp_path)
    assert code == 0, output
    assert "25%" in output
    assert "note: mind the gap" in output
    assert (tmp_path / "study.json").exists()
    assert (asked["numbers"], asked["layers"]) == ([*range(10)], [1])
    assert asked["controls"] == 99
    assert (asked["periods"], asked["sites"], asked["bridge"]) == ((2.0, 2.5), ("a", "b"), "smollm2")
    code, output = invoke("helix", *options, "--json")
    assert json.loads(output)["patches"] == [{"method": "helix"}]
    assert invoke("helix", "--periods", "two") == (
        2,
        "error: periods: expected numbers such as 2,5,10,100, got 'two'\n",
    )


def test_helix_runs_its_whole_analysis_on_a_model_with_planted_truth(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    pytest.importorskip("transformer_lens")
    toys = pytest.importorskip("tests.probing.addition_toys")
    toy = toys.adder(noise=0.3)
    monkeypatch.setattr(cli_probe_helix, "bridge_of", lambda name: toy)
    options = ["--numbers", "0-29", "--periods", "2,5,10,30", "--layers", "0", "--sites", "a"]
    options += ["--test-prompts", "6", "--no-progress"]

    def tokenised(encode: Any) -> Any:
        return lambda bridge, **settings: addition_study(bridge, encode=encode, **settings)

    monkeypatch.setattr(cli_probe_helix, "addition_study", tokenised(toys.encode))
    code, output = invoke("helix", *options, "--out", tmp_path)
    assert code == 0, output
    assert "the model answers 100% of the tested prompts right" in output
    assert "helix 2, 5, 10, 30" in output
    patches = pandas.read_parquet(tmp_path / "patches.parquet").query("site == 'a'").set_index("method")
    assert patches.loc["helix", "share_of_full"] > 0.98 > 0.5 > patches.loc["polynomial", "share_of_full"]
    parts = pandas.read_parquet(tmp_path / "components.parquet")["component"]
    assert {f"L{toys.MOVES_A[0]}H{toys.MOVES_A[1]}", f"MLP {toys.ADDS}"} == set(parts[:2])
    assert pandas.read_parquet(tmp_path / "neurons.parquet")["r_squared"].min() > 0.999
    monkeypatch.setattr(cli_probe_helix, "addition_study", tokenised(toys.split_digits))
    code, output = invoke("helix", *options)
    assert code == 2
    assert output.startswith("error: numbers: 20 of 30 are more than one token to this tokenizer (10 to 29)")
    assert "give the others alone, 0 to 9" in output


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "error: model: expected --model, or --activations"),
        (["--activations", "nothing.npz"], "error: activations: nothing.npz is not there; expected a file"),
        (["--activations", "minilm", "--layers", "x"], "error: layers: expected integers"),
        (["--activations", "minilm", "--layers", "9"], "error: layer: expected one of 0, 1"),
        (["--activations", "minilm", "--null", "none"], "error: null: expected one of"),
        (
            ["--model", "nothing"],
            "error: model: nothing is no folder; expected its folder, smollm2, minilm",
        ),
    ],
)
def test_bad_arguments_end_in_one_line(arguments: list[str], words: str):
    code, output = invoke("log", *arguments)
    assert code == 2
    assert output.startswith(words)
    assert output.count("\n") == 1


def test_activations_alone_need_no_transformer_lens():
    import subprocess
    import sys

    script = (
        "import sys; sys.modules['transformer_lens'] = None\n"
        "import interpkern\nfrom interpkern.probing.log_probe import log_probe\n"
        "log_probe(interpkern.data.numbers('minilm'), layers=(3,), surrogates=9, sensitivity='none', progress=False)\n"
        "from interpkern import demo\nassert 'probing' in demo.PARTS\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
