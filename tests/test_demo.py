"""The demo of all labs: one page, a section for each, and the files of all."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

from interpkern import cli, demo, report


class Part:
    """A lab's demo that does nothing."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.asked: dict[str, Any] = {}

    def plan(self, *, quick: bool) -> str:
        return f"{self.name}, {'quick' if quick else 'whole'}"

    def run(self, plan: str, **settings: Any) -> Any:
        self.asked = settings | {"plan": plan}
        settings["say"](plan)
        about = {"command": ["interpkern", "demo"], "time": self.name}
        files = {f"{self.name}.json": b"{}"}
        content = {"note": self.name, "k": 1, "sets": [], "threshold": "", "figure": "", "massive": False}
        section = report.Section(f"About {self.name} & more", "itda.html", content, files, about)
        return SimpleNamespace(section=lambda: section)


@pytest.fixture
def parts(monkeypatch: pytest.MonkeyPatch) -> dict[str, Part]:
    made = {name: Part(name) for name in ("one", "two")}
    monkeypatch.setattr(demo, "PARTS", made)
    return made


def invoke(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(cli.app, ["demo", *arguments])
    return result.exit_code, result.output


def test_all_parts_are_on_one_page(parts: dict[str, Part], tmp_path: Path):
    code, output = invoke("--out", str(tmp_path), "--seed", "7", "--threads", "1")
    assert code == 0, output
    assert {path.name for path in tmp_path.iterdir()} == {"demo.html", "one.json", "two.json"}
    page = (tmp_path / "demo.html").read_text()
    assert page.index("About one &amp; more</h2>") < page.index("About two &amp; more</h2>")
    assert page.count("<section") == 2
    assert '<a href="#itda">' in page
    assert "<dd>one</dd>" in page, "provenance of the first part"
    assert output.index("one, whole") < output.index("two, whole")
    for part in parts.values():
        assert {name: part.asked[name] for name in ("seed", "threads", "backend")} == {
            "seed": 7,
            "threads": 1,
            "backend": "auto",
        }


def test_parts_can_be_chosen(parts: dict[str, Part], tmp_path: Path):
    code, output = invoke("--out", str(tmp_path), "--part", "two", "--quick")
    assert code == 0, output
    assert {path.name for path in tmp_path.iterdir()} == {"demo.html", "two.json"}
    assert parts["two"].asked["plan"] == "two, quick"
    assert not parts["one"].asked


def test_an_unknown_part_is_refused(parts: dict[str, Part], tmp_path: Path):
    code, output = invoke("--out", str(tmp_path), "--part", "tow")
    assert (code, output.strip()) == (2, "error: part: expected one of one, two, got 'tow'. Did you mean 'two'?")


def test_the_labs_are_there():
    assert list(demo.PARTS) == ["memorisation", "itda", "probing"]
    for part in demo.PARTS.values():
        assert part.plan(quick=True) != part.plan(quick=False)
