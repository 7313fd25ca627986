"""The studies that look into models, and the page that is made of all of them."""

import re
from pathlib import Path

import pandas
import pytest
import torch
from matplotlib.figure import Figure
from typer.testing import CliRunner

from interpkern import cli
from interpkern.memorisation import capacity_sweep, circuits, lab_report, lab_studies, lab_study, load_lab_study
from interpkern.memorisation.circuit_cells import BITS, restored, weights_result
from interpkern.memorisation.claims import claims_of
from interpkern.memorisation.lab_report import finished_studies
from interpkern.memorisation.places import Place
from interpkern.memorisation.sweeps import load_sweep
from interpkern.memorisation.training_cells import Training, drawn, trained

ONE_THREAD = Place(threads=1)
BRIEF = {"seeds": 8, "steps": 200, "threads": 1, "progress": False}
SMALL = {"row lookup": (4, 6), "zigzag": (4, 6)}
TRAINING = Training(rows=5, cols=6, d_model=4, d_hidden=7, models=7, steps=150, lr=0.03, copies=3)


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every study that looks into models, and three of capacity, of models that are trained for moments."""
    made = tmp_path_factory.mktemp("lab") / "runs"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lab_studies, "CONSTRUCTION_SIZES", SMALL)
        patch.setattr(lab_studies, "RETRAINING", 20)
        for study in lab_studies.STUDIES:
            lab_study(made, study=study, **BRIEF)
    capacity_sweep(made, sizes=(4, 6, 8), **BRIEF)
    for study in ("frozen", "points"):
        capacity_sweep(made, study=study, sizes=(4,), **BRIEF)
    return made


def test_models_that_share_a_table_start_differently() -> None:
    models, tables = drawn(TRAINING)
    assert [torch.equal(tables[0], table) for table in tables] == [True] * 3 + [False] * 4
    assert torch.equal(tables[3], tables[5])
    assert len(torch.unique(models.E1.flatten(1), dim=0)) == 7
    assert Training.of(TRAINING.cell()) == TRAINING


def test_saved_weights_give_the_run_again() -> None:
    run = trained(TRAINING, ONE_THREAD, progress=False)
    result = weights_result(TRAINING, ONE_THREAD, progress=False)
    again = restored(TRAINING, result)
    for one, other in zip(run.models.fields(), again.models.fields(), strict=True):
        assert torch.equal(one, other)
    assert torch.equal(run.tables, again.tables)
    torch.testing.assert_close(run.loss[:, -1], again.loss[:, -1], rtol=0, atol=1e-6)
    assert again.parameters() == run.parameters()


def test_a_study_that_looks_into_models_says_first_how_long_it_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines: list[str] = []
    monkeypatch.setattr(lab_studies, "CONSTRUCTION_SIZES", SMALL)
    for study in ("quantisation", "constructions"):
        for _ in range(2):
            lab_study(tmp_path, study=study, **BRIEF | {"seeds": 1, "steps": 3}, say=lines.append)
    assert [line.split("; ")[0] for line in lines] == [
        "quantisation: 0 of 8 cells are there",
        "quantisation: 8 of 8 cells are there",
        "constructions: 0 of 4 cells are there",
        "constructions: 4 of 4 cells are there",
    ]
    assert "about" in lines[0]
    with pytest.raises(ValueError, match="backend"):
        lab_study(tmp_path / "none", study="circuits", backend="gpu", **BRIEF)
    with pytest.raises(ValueError, match="seeds: expected an integer from 5"):
        lab_study(tmp_path / "none", study="circuits", **BRIEF | {"seeds": 4})
    assert not (tmp_path / "none").exists()


def test_circuits_are_those_of_the_models(directory: Path) -> None:
    found = load_lab_study(directory, "circuits")
    frame = found.to_pandas()
    assert len(frame) == 8
    pandas.testing.assert_frame_equal(frame, circuits(found.run).to_pandas())
    assert isinstance(found.plot(), Figure)


def test_quantisation_has_every_model_at_every_number_of_bits(directory: Path) -> None:
    frame = load_lab_study(directory, "quantisation").to_pandas()
    counts = frame.groupby(["d_hidden", "per", "retraining", "weight_bits"]).size()
    assert len(counts) == 2 * 2 * 2 * (len(BITS) + 1)
    assert (counts == 8).all()
    whole = frame[frame.weight_bits == 32].groupby(["d_hidden", "model"]).bits_ce.nunique()
    assert (whole == 1).all()
    plain = frame[frame.retraining == 0].groupby("weight_bits").bits_ce.mean()
    assert plain[32] == pytest.approx(plain[10], rel=0.02)
    assert plain[3] < plain[10]


def test_constructions_are_exact_and_saved(directory: Path, tmp_path: Path) -> None:
    found = load_lab_study(directory, "constructions")
    frame = found.to_pandas()
    assert frame.exact.all()
    assert (frame.groupby(["construction", "rows"]).size() == 8).all()
    found.save(tmp_path)
    pandas.testing.assert_frame_equal(pandas.read_parquet(tmp_path / "constructions.parquet"), frame)


def test_the_page_needs_nothing_else_and_says_what_was_claimed(directory: Path, tmp_path: Path) -> None:
    lines: list[str] = []
    found = lab_report(directory, say=lines.append)
    assert not lines
    files = found.save(tmp_path)
    page = files[0].read_text()
    assert files[0].name == "report.html"
    for name in ("growth", "frozen", "points", "circuits", "quantisation", "constructions", "claims"):
        assert page.count(f'<section id="{name}">') == 1
    targets = re.findall(r'(?:href|src)="([^"]*)"', page) + re.findall(r"url\(([^)]*)\)", page)
    assert targets
    assert all(target.startswith(("#", "data:image/png;base64,")) for target in targets)
    assert "<script" not in page
    assert "@import" not in page
    assert page.count("What was claimed.") == 6
    assert page.count("Budget:") == 7
    assert "1.58" in page
    assert {path.name for path in files[1:]} >= {"growth.png", "law.png", "decomposition.png", "quantisation.png"}
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in files[1:])


def test_claims_are_what_the_studies_measured(directory: Path) -> None:
    growth, constructed = load_sweep(directory, "growth"), load_lab_study(directory, "constructions")
    claims = claims_of({"growth": growth}, {"constructions": constructed})
    best = constructed.to_pandas().groupby(["construction", "rows"]).bits_per_P1.mean().max()
    assert f"{best:.3f} bits/P1" in claims[-1].measured
    assert "200 updates" in claims[0].budget


def test_what_is_not_finished_is_left_out_and_said(directory: Path, tmp_path: Path) -> None:
    lines: list[str] = []
    capacity_sweep(tmp_path / "runs", sizes=(4,), **BRIEF)
    (tmp_path / "runs" / "circuits.json").write_bytes((directory / "circuits.json").read_bytes())
    found = lab_report(tmp_path / "runs", say=lines.append)
    assert [section.name for section in found.sections] == ["claims", "growth"]
    assert "circuits" in lines[0]
    with pytest.raises(ValueError, match="no finished study"):
        lab_report(tmp_path / "nothing")
    with pytest.raises(ValueError, match="study"):
        lab_study(tmp_path / "runs", study="growth")


def test_the_commands(directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lab_studies, "CONSTRUCTION_SIZES", SMALL)
    runs = str(tmp_path / "runs")
    made = CliRunner().invoke(cli.app, ["capacity", "--study", "constructions", "--seeds", "2", "--out", runs])
    assert made.exit_code == 0, made.output
    assert "zigzag" in made.output
    page = CliRunner().invoke(cli.app, ["report", runs])
    assert page.exit_code == 0, page.output
    assert (tmp_path / "runs" / "report.html").exists()
    assert CliRunner().invoke(cli.app, ["report", str(tmp_path / "nowhere")]).exit_code == 2
    refused = CliRunner().invoke(cli.app, ["capacity", "--study", "circuits", "--sizes", "4", "--out", runs])
    assert refused.exit_code == 2


RESULTS = Path(__file__).parent.parent.parent / "benchmarks" / "results" / "memorisation_lab"
PAGE = Path(__file__).parent.parent.parent / "docs" / "labs" / "memorisation.md"


def test_the_page_of_the_lab_says_what_the_committed_cells_say() -> None:
    lines: list[str] = []
    claims = claims_of(*finished_studies(RESULTS, lines.append))
    assert not lines
    text = PAGE.read_text()
    for claim in claims:
        assert f"| {claim.what} | {claim.said} | {claim.measured} | {claim.budget} |" in text
