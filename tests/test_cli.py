"""The command line: options that follow the API, results on disk, refusals in one line, a fast --help."""

import inspect
import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy
import pandas
import pytest
import torch
from typer.main import get_command
from typer.testing import CliRunner

import interpkern
from interpkern import cli, cli_memorise, cli_output
from interpkern.cli_options import descriptions, option_type, options
from interpkern.memorisation import MemoriseRun, TableMLPs, memorise, random_tables

SMALL = ["--models", "8", "--rows", "5", "--cols", "7", "--d-model", "6", "--d-hidden", "9", "--steps", "300"]
COMMAND = [sys.executable, "-c", "from interpkern.cli import main; main()"]
SOURCES = (TableMLPs.init, random_tables, memorise)
NOT_OPTIONS = {memorise: {"models", "tables", "state"}}


def invoke(*arguments: str) -> tuple[int, str]:
    """The exit code, and what was printed."""
    result = CliRunner().invoke(cli.app, list(arguments))
    return result.exit_code, result.output


@pytest.mark.parametrize("function", SOURCES)
def test_every_parameter_of_the_api_is_an_option_with_its_default_and_its_help(function):
    made = {option.name: option for option in cli._built("memorise").params}
    texts = descriptions(function)
    for name, parameter in inspect.signature(function).parameters.items():
        if name in NOT_OPTIONS.get(function, ()):
            continue
        assert texts[name], f"{function.__qualname__} says nothing of {name} in Args"
        found = made[name]
        assert f"--{name.replace('_', '-')}" in found.opts
        if parameter.default is not inspect.Parameter.empty:
            assert found.default == parameter.default
        else:
            assert found.required or name in cli_memorise.SIDES or name == "d_model"
        first = next(source for source in SOURCES if name in descriptions(source))
        assert found.help.startswith(descriptions(first)[name])


def test_what_cannot_be_typed_is_no_option():
    assert {"models", "tables", "state"}.isdisjoint(parameter.name for parameter in options(memorise))


@pytest.mark.parametrize(
    ("hint", "expected"),
    [
        (float | torch.Tensor, float),
        (int | None, int | None),
        (tuple[float | torch.Tensor, float], tuple[float, float]),
        (torch.Tensor, None),
        (bool, bool),
    ],
)
def test_option_types(hint, expected):
    assert option_type(hint) == expected


def test_descriptions_join_lines_that_go_on():
    def function() -> None:
        """First.

        Args:
            one: begins
                and goes on.
            two: another.

        Returns:
            one: no argument.
        """

    assert descriptions(function) == {"one": "begins and goes on.", "two": "another."}


def test_memorise_writes_what_the_api_gives(tmp_path: Path):
    out = tmp_path / "results"
    settings = ["--betas", "0.8", "0.99", "--schedule", "cosine", "--train", "W", "--train", "r", "--seed", "3"]
    code, output = invoke("memorise", *SMALL, *settings, "--balanced", "--p", "0.4", "--out", str(out))
    assert code == 0, output
    assert "P1 63" in output
    assert "solved" in output
    run = MemoriseRun.load(out)
    expected = memorise(
        TableMLPs.init(8, 5, 7, 6, 9, seed=3),
        random_tables(8, 5, 7, p=0.4, balanced=True, seed=3),
        steps=300,
        betas=(0.8, 0.99),
        schedule="cosine",
        train=("W", "r"),
    )
    assert torch.equal(run.models.W, expected.models.W)
    assert torch.equal(run.loss, expected.loss)
    assert (out / "loss.png").read_bytes().startswith(b"\x89PNG")
    assert "cosine" in (out / "summary.txt").read_text()
    assert len(pandas.read_parquet(out / "runs.parquet")) == 8
    code, output = invoke("memorise", *SMALL, "--out", str(out))
    assert code == 0, output


def test_memorise_trains_on_a_table_of_the_users_own(tmp_path: Path):
    table = numpy.arange(12).reshape(3, 4) % 2
    numpy.save(tmp_path / "facts.npy", table)
    sizes = ["--models", "4", "--d-model", "6", "--d-hidden", "6", "--steps", "50"]
    code, output = invoke("memorise", "--table", str(tmp_path / "facts.npy"), *sizes, "--out", str(tmp_path / "run"))
    assert code == 0, output
    tables = MemoriseRun.load(tmp_path / "run").tables
    assert numpy.array_equal(tables.numpy(), numpy.broadcast_to(table, (4, 3, 4)))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([*SMALL, "--models", "0"], "models: expected an integer"),
        ([*SMALL, "--schedule", "cosin"], "Did you mean 'cosine'?"),
        ([*SMALL, "--backend", "cuda"], "cpu: available"),
        ([*SMALL, "--lr", "nan"], "lr: expected a finite number"),
        ([*SMALL, "--table", "missing.npy"], "missing.npy: no such file"),
        ([*SMALL, "--out", "/dev/null/folder"], "out: cannot make the folder"),
        (["--models", "4", "--d-model", "3", "--d-hidden", "3", "--steps", "9"], "rows: expected --rows"),
    ],
)
def test_a_refusal_is_one_clean_line(arguments, words):
    code, output = invoke("memorise", *arguments)
    assert code == 2
    assert output.startswith("error: ")
    assert words in output
    assert len(output.strip().splitlines()) == 1


def test_a_folder_with_other_files_is_refused_before_training(tmp_path: Path):
    (tmp_path / "thesis.tex").write_text("years of work")
    code, output = invoke("memorise", *SMALL, "--steps", "90000000", "--out", str(tmp_path))
    assert (code, list(tmp_path.iterdir())) == (2, [tmp_path / "thesis.tex"])
    assert "holds other files" in output


@pytest.mark.parametrize("extra", [["--rows", "4"], ["--p", "0.2"], ["--balanced"]])
def test_a_table_refuses_what_it_settles_itself(extra, tmp_path: Path):
    numpy.save(tmp_path / "facts.npy", numpy.eye(3))
    sizes = ["--models", "4", "--d-model", "6", "--d-hidden", "6", "--steps", "5"]
    code, output = invoke("memorise", "--table", str(tmp_path / "facts.npy"), *sizes, *extra)
    assert code == 2
    assert "leave" in output


def test_traceback_shows_where_a_refusal_came_from():
    result = CliRunner().invoke(cli.app, ["--traceback", "memorise", *SMALL, "--lr", "-1"])
    assert isinstance(result.exception, ValueError)


def test_a_bug_is_no_refusal(monkeypatch: pytest.MonkeyPatch):
    def broken() -> dict:
        raise RuntimeError("a bug")

    monkeypatch.setattr("interpkern.doctor.report", broken)
    result = CliRunner().invoke(cli.app, ["doctor"])
    assert isinstance(result.exception, RuntimeError)
    assert result.exit_code == 1


def test_help_names_every_command_and_imports_no_torch():
    code = "\n".join(
        [
            "import sys",
            "from interpkern.cli import main",
            "sys.argv[1:] = ['--help']",
            "try: main()",
            "finally: print('torch' in sys.modules)",
        ]
    )
    start = time.perf_counter()
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert time.perf_counter() - start < 5
    assert result.stdout.rstrip().endswith("False")
    assert {"memorise", "itda", "demo", "doctor"} <= set(re.findall(r"^  (\w+)", result.stdout, re.MULTILINE))


def test_help_of_memorise_fits_eighty_columns(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("COLUMNS", "80")
    code, output = invoke("memorise", "--help")
    assert code == 0
    assert max(map(len, output.splitlines())) <= 80
    assert "--readout-lr-scale" in output


def test_version():
    assert invoke("--version") == (0, f"interpkern {interpkern.__version__}\n")


def test_the_stub_has_the_name_and_purpose_of_the_command():
    stub = get_command(cli.app).commands["memorise"]
    assert stub.help.removesuffix(".").split(", ")[-1] in cli_memorise.command.__doc__


def test_ctrl_c_ends_training_with_a_word():
    sizes = ["--models", "64", "--rows", "32", "--cols", "32", "--d-model", "20", "--d-hidden", "20"]
    process = subprocess.Popen(
        [*COMMAND, "memorise", *sizes, "--steps", "50000000", "--progress"], stderr=subprocess.PIPE, text=True
    )
    assert process.stderr.read(1)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 130
    assert errors.rstrip().endswith("interrupted")
    assert "Traceback" not in errors


def test_a_log_gets_signs_of_life_in_lines(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture):
    monkeypatch.setattr(cli_output, "SECONDS_BETWEEN_SIGNS", 0.0)
    report = cli_output.signs_of_life("memorise")
    report(1, 4)
    report(4, 4)
    assert capsys.readouterr().err == "memorise: 25% after 0 s, about 0 s left\nmemorise: 100% after 0 s\n"


def test_lines_are_wrapped_at_words_on_a_terminal_alone(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture):
    monkeypatch.setenv("COLUMNS", "30")
    sentence = "budget      Adam, lr 0.03, cosine schedule over 20,000 updates"
    cli_output.say(sentence, indent=12)
    assert capsys.readouterr().out == f"{sentence}\n"
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    cli_output.say(sentence, indent=12)
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 30
    assert all(line.startswith(" " * 12) for line in lines[1:])
    assert " ".join(map(str.strip, lines)) == sentence


def test_json_of_a_run_is_json(tmp_path: Path):
    assert invoke("memorise", *SMALL, "--out", str(tmp_path))[0] == 0
    assert json.loads((tmp_path / "run.json").read_text())["settings"]["steps"] == 300
