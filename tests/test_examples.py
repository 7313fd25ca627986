"""Notebooks and the Python of the pages: every cell and every block runs, from top to bottom."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
NOTEBOOKS = sorted((ROOT / "examples").glob("*.ipynb"))
LABS = ("itda", "memorisation", "probing")
PAGES = [*(ROOT / "docs" / "labs" / f"{lab}.md" for lab in LABS), ROOT / "docs" / "ops" / "matching_pursuit.md"]
BLOCK = re.compile(r"(<!-- needs a model -->\n)?```python\n(.*?)```", re.DOTALL)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty folder to run in, with no window for pictures."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "Agg")


def run(sources: list[str], name: str) -> dict[str, Any]:
    """The names that the sources leave, one after the other in one namespace."""
    names: dict[str, Any] = {"__name__": "__main__"}
    for number, source in enumerate(sources):
        exec(compile(source, f"{name}, part {number}", "exec"), names)
    return names


def cells(notebook: Path) -> list[dict[str, Any]]:
    return json.loads(notebook.read_text())["cells"]


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.name)
def test_notebook_runs(notebook: Path):
    run(["".join(cell["source"]) for cell in cells(notebook) if cell["cell_type"] == "code"], notebook.name)


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.name)
def test_notebook_is_kept_without_outputs(notebook: Path):
    assert all(not cell["outputs"] and cell["execution_count"] is None for cell in cells(notebook) if "outputs" in cell)


def test_the_notebooks_are_there():
    assert [notebook.name for notebook in NOTEBOOKS] == ["itda.ipynb", "memorisation.ipynb", "probing.ipynb"]


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_python_of_the_page_runs(page: Path):
    blocks = [source for needs_model, source in BLOCK.findall(page.read_text()) if not needs_model]
    assert blocks
    run(blocks, page.name)
