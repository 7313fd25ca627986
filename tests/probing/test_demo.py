"""The probing part of the demo: shipped numbers, no network, no model."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

import interpkern
from interpkern.probing import demo
from interpkern.probing.log_probe import log_probe


@pytest.fixture(scope="module")
def ran() -> tuple[demo.Demo, list[str]]:
    lines: list[str] = []
    tiny = replace(demo.plan(quick=True), layers={"minilm": (3,), "smollm2": (10,)}, surrogates=19)
    return demo.run(tiny, seed=3, backend="auto", threads=None, say=lines.append, progress=False), lines


def test_plans_are_of_both_models_and_shorter_when_quick():
    whole, quick = demo.plan(quick=False), demo.plan(quick=True)
    assert tuple(whole.layers) == tuple(quick.layers) == interpkern.data.NAMES
    assert whole.layers == {name: interpkern.data.numbers(name).layers for name in interpkern.data.NAMES}
    for name, layers in quick.layers.items():
        assert set(layers) < set(whole.layers[name])


def test_it_is_the_log_probe_of_each_set(ran):
    found, lines = ran
    assert [one.activations.name for one in found.found] == ["minilm", "smollm2"]
    expected = log_probe(
        interpkern.data.numbers("smollm2"), layers=(10,), surrogates=19, sensitivity="none", seed=3, progress=False
    )
    assert str(found.found[1]) == str(expected)
    for one in found.found:
        for verdict in one.verdicts:
            assert f"{verdict.question} {verdict.answer}" in lines


def test_files(ran, tmp_path: Path):
    found, _ = ran
    files = {path.name for path in found.save(tmp_path)}
    assert files == {path.name for path in tmp_path.iterdir()}
    page = (tmp_path / "demo.html").read_text()
    assert not re.findall(r"""(?:src|href)\s*=\s*["'](?!#|data:)""", page)
    assert page.count("<h3>minilm</h3>") == page.count("<h3>smollm2</h3>") == 1
    assert page.count("<svg") == 6
    for name in ("minilm", "smollm2"):
        record = json.loads((tmp_path / f"probing-{name}.json").read_text())
        assert record["origin"]["model"] == name
        assert f"probing-{name}-activations.safetensors" in files


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"seed": -1, "backend": "auto", "threads": None}, "seed"),
        ({"seed": 0, "backend": "nope", "threads": None}, "backend"),
        ({"seed": 0, "backend": "auto", "threads": 0}, "threads"),
    ],
)
def test_bad_arguments_are_refused_before_the_first_line(arguments, words):
    lines: list[str] = []
    with pytest.raises(ValueError, match=words):
        demo.run(demo.plan(quick=True), **arguments, say=lines.append)
    assert not lines
