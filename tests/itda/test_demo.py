"""The ITDA part of the demo: its numbers, its words, its files."""

import json
import re
from dataclasses import replace
from pathlib import Path

import matplotlib.image
import pandas
import pytest
import torch

import interpkern
from interpkern.itda import ITDA, demo
from interpkern.itda.evaluation import DEFAULT, held_out_rows

FILES = {"demo.html", "itda-picks.png", "itda-picks.parquet", "itda-atoms.parquet", "itda-recipes.parquet", "itda.json"}
SEED = 3


@pytest.fixture(scope="module")
def ran() -> tuple[demo.Demo, list[str]]:
    lines: list[str] = []
    tiny = replace(demo.plan(quick=False), threshold=0.85, k=4, readings=2, rounds=1)
    return demo.run(tiny, seed=SEED, backend="auto", threads=None, say=lines.append, progress=False), lines


def test_the_plan_is_of_both_sets_and_of_one_when_quick():
    assert demo.plan(quick=False).sets == interpkern.data.NAMES
    assert len(demo.plan(quick=True).sets) == 1


def test_the_dictionary_is_that_of_the_prompts_not_held_out(ran):
    for one in ran[0].found:
        rows = interpkern.data.load(one.name)
        x, held_out = rows.tensor().float(), held_out_rows(rows.labels, 0.2, SEED)
        ordinary = x.norm(dim=1) <= 10 * x.norm(dim=1).median()
        expected = ITDA(k=4, threshold=0.85).fit(x[ordinary & ~held_out], rows.labels[ordinary & ~held_out])
        assert torch.equal(one.itda.atoms, expected.atoms)
        assert one.tokens == int((ordinary & ~held_out).sum())
        fvu = expected.fvu(x[ordinary & held_out])
        assert one.curves.loc[4, "OMP"] == pytest.approx(fvu, rel=1e-5)
        assert one.recipes[DEFAULT].ordinary.fvu == pytest.approx(fvu, rel=1e-5)
        assert (one.curves.diff().iloc[1:] < 0).all(axis=None)


def test_readings_are_codes_of_held_out_tokens(ran):
    for one in ran[0].found:
        rows = interpkern.data.load(one.name)
        held_out = set(rows.labels[held_out_rows(rows.labels, 0.2, SEED), 0].tolist())
        assert len(one.readings) == 2
        for reading in one.readings:
            label = torch.tensor([[reading.token.prompt_id, reading.token.position]])
            x = rows.tensor()[rows.find(label)].float()
            code = one.itda.encode(x)
            norm = float((x - one.itda.mean).norm())
            assert reading.token.prompt_id in held_out
            assert reading.error == pytest.approx((float(code.residual_norm[0]) / norm) ** 2, rel=1e-5)
            shares = dict(zip(code.indices[0].tolist(), (code.coefficients[0] / norm).tolist(), strict=True))
            sizes = sorted((abs(share) for share in shares.values()), reverse=True)
            for part, size in zip(reading.parts, sizes, strict=False):
                assert part.share == pytest.approx(shares[part.atom], rel=1e-5)
                assert abs(part.share) == pytest.approx(size, rel=1e-5)
                source = [part.source.prompt_id, part.source.position]
                assert one.itda.labels[part.atom].tolist() == source


def test_what_is_told_fits_a_terminal_and_holds_the_table(ran):
    found, lines = ran
    assert max(map(len, lines)) <= 140
    for one in found.found:
        assert sum(one.model in line for line in lines) >= 1
        for variant in one.recipes.variants:
            assert any(line.startswith(variant.name) and f"{variant.ordinary.fvu:.4f}" in line for line in lines)


def test_files(ran, tmp_path: Path):
    found, _ = ran
    assert {path.name for path in found.save(tmp_path / "new")} == FILES
    out = tmp_path / "new"
    assert {path.name for path in out.iterdir()} == FILES
    page = (out / "demo.html").read_text()
    assert not re.findall(r"""(?:src|href)\s*=\s*["'](?!#)""", page)
    assert not re.findall(r"@import|url\((?!#)|<script|<link", page)
    assert page.count("<svg") == 1
    for one in found.found:
        for reading in one.readings:
            assert f"<b>{reading.token.token}</b>" in page
    pixels = matplotlib.image.imread(out / "itda-picks.png")
    assert min(pixels.shape[:2]) > 500
    assert pixels.std() > 0.05
    atoms = pandas.read_parquet(out / "itda-atoms.parquet")
    assert atoms.groupby("set").size().to_dict() == {one.name: len(one.itda) for one in found.found}
    record = json.loads((out / "itda.json").read_text())
    assert record["sets"]["minilm"]["atoms"] == len(found.found[0].itda)
    assert record["provenance"]["seed"] == SEED


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
