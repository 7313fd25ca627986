"""The log probe: planted answers, one page, and what its summaries are made of."""

import json
import math
import re
from pathlib import Path

import numpy
import pandas
import pytest
import torch

import interpkern
from interpkern.errors import DTypeError
from interpkern.probing.circle_layers import CircleLayers, circles_by_layer
from interpkern.probing.circle_test import circle_test
from interpkern.probing.log_probe import LogProbe, log_probe
from interpkern.probing.log_probe_report import verdict_lines
from interpkern.probing.log_verdicts import QUESTIONS
from interpkern.probing.magnitude import magnitude_test
from interpkern.probing.number_sets import NumberActivations

NUMBERS = torch.arange(1, 241).double()
QUICK = {"surrogates": 39, "sensitivity": "none", "progress": False}


def planted(scale: torch.Tensor | None, *, circle: float = 0.0, noise: float = 1.0, seed: int = 0) -> torch.Tensor:
    """(240, 12) noise with a line in a scale of the numbers, and a circle in ln n of period .5."""
    generator = torch.Generator().manual_seed(seed)
    rows = noise * torch.randn(len(NUMBERS), 12, generator=generator, dtype=torch.float64)
    plane = torch.linalg.qr(torch.randn(12, 3, generator=generator, dtype=torch.float64)).Q
    if scale is not None:
        rows += 6 * ((scale - scale.mean()) / scale.std())[:, None] * plane[:, 0]
    angle = 2 * math.pi * NUMBERS.log() / 0.5
    return rows + circle * torch.stack([angle.cos(), angle.sin()], 1) @ plane[:, 1:].T


@pytest.fixture(scope="module")
def probed() -> LogProbe:
    rows = {0: planted(None, seed=1), 3: planted(NUMBERS.log(), circle=2.0, seed=2)}
    numbers = NumberActivations(NUMBERS.long(), rows, positions=torch.ones(240, dtype=torch.int64))
    return log_probe(numbers, **QUICK)


@pytest.mark.parametrize(("name", "scale"), [("log", NUMBERS.log()), ("sqrt", NUMBERS.sqrt()), ("linear", NUMBERS)])
def test_the_scale_of_a_planted_line_is_found(name: str, scale: torch.Tensor):
    rows = planted(scale, seed=5)
    found = magnitude_test({7: rows}, NUMBERS, surrogates=99, bootstrap=199)
    assert found.scales == (name,)
    assert (found.layer, found.component) == (7, 1)
    assert found.p_value == 0.01
    centred = rows - rows.mean(0)
    component = (centred @ torch.linalg.svd(centred, full_matrices=False).Vh[0]).numpy()
    expected = {"log": numpy.log, "sqrt": numpy.sqrt, "linear": numpy.asarray}[name](NUMBERS.numpy())
    assert found.r_squared[name] == pytest.approx(numpy.corrcoef(component, expected)[0, 1] ** 2, abs=1e-9)
    assert found.r == pytest.approx(max(found.r_squared[one] for one in ("log", "sqrt", "linear")) ** 0.5)
    by_count = pandas.DataFrame({"x": component, "f": expected, "digits": [len(str(int(n))) for n in NUMBERS]})
    left = by_count[["x", "f"]] - by_count.groupby("digits")[["x", "f"]].transform("mean")
    assert found.r_within >= abs(left["x"].corr(left["f"])) - 1e-9


def test_digit_count_alone_is_no_magnitude_direction():
    digits = torch.tensor([float(len(str(int(n)))) for n in NUMBERS])
    found = magnitude_test({0: planted(digits, seed=3)}, NUMBERS, surrogates=99, bootstrap=99)
    assert found.p_value > 0.05
    assert found.r_squared["digits"] > 0.9 > found.r_squared["log"]


def test_noise_has_no_magnitude_direction_at_the_level_of_the_test():
    p = [
        magnitude_test({0: planted(None, seed=seed)}, NUMBERS, surrogates=19, bootstrap=2).p_value for seed in range(40)
    ]
    assert sum(one <= 0.05 for one in p) <= 7
    assert min(p) > 0


def test_a_correlation_of_the_detectable_size_is_found_four_times_in_five():
    limit = magnitude_test({0: planted(None)}, NUMBERS, components=1, bootstrap=2).detectable_r
    group = torch.tensor([len(str(int(n))) for n in NUMBERS])
    within = NUMBERS.clone()
    for count in group.unique():
        within[group == count] -= within[group == count].mean()
    within /= within.norm()
    found = 0
    for seed in range(50):
        noise = torch.randn(240, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)) / 240**0.5
        rows = (limit * within + (1 - limit**2) ** 0.5 * noise)[:, None] @ torch.ones(1, 2, dtype=torch.float64)
        found += magnitude_test({0: rows}, NUMBERS, components=1, surrogates=99, bootstrap=2, seed=seed).p_value <= 0.05
    assert 32 <= found <= 48


def test_planted_answers(probed: LogProbe):
    size, scale, circle, use = probed.verdicts
    assert [verdict.question for verdict in probed.verdicts] == list(QUESTIONS)
    assert size.answer == "yes: component 1 of layer 3"
    assert scale.answer == "yes: log"
    assert probed.circles.believed == (3,)
    assert circle.answer.startswith("yes: layer 3, period")
    assert probed.circles.strongest.period == pytest.approx(0.5, rel=0.03)
    assert use.answer == "not tested"
    assert math.isnan(use.p_value)
    for verdict in (size, circle):
        assert 0 < verdict.p_value <= 0.05


def test_noise_gives_no_evidence():
    found = log_probe(NumberActivations(NUMBERS.long(), {0: planted(None, seed=4)}), **QUICK)
    assert found.verdicts[0].answer == "no evidence"
    assert found.verdicts[1].answer == "no magnitude direction, so no scale"
    assert found.verdicts[2].answer.startswith("no evidence")


def test_a_circle_in_n_is_no_circle_in_ln_n():
    angle = 2 * math.pi * NUMBERS / 25
    rows = planted(None, seed=6)
    rows[:, :2] += 3 * torch.stack([angle.cos(), angle.sin()], 1)
    found = circles_by_layer({0: rows}, NUMBERS, surrogates=39, sensitivity="none")
    assert found.believed == ()
    assert any("exponent 1" in doubt for doubt in found.doubts(0))


def test_p_over_layers_compares_the_largest_over_layers():
    rows = {layer: planted(None, seed=layer) for layer in (1, 2, 5)}
    found = circles_by_layer(rows, NUMBERS, surrogates=39, sensitivity="none", permutation=False)
    alone = {
        layer: circle_test(x, NUMBERS, surrogates=39, sensitivity=False, progress=False) for layer, x in rows.items()
    }
    z = {layer: (one.statistic - one.statistics.mean()) / one.statistics.std() for layer, one in alone.items()}
    null = torch.stack([(one.statistics - one.statistics.mean()) / one.statistics.std() for one in alone.values()])
    largest = null.max(0).values
    for layer, one in alone.items():
        assert found.tests[layer].p_value == one.p_value
        assert found.over_layers(layer) == (1 + int((largest >= z[layer]).sum())) / 40
        assert found.over_layers(layer) >= 1 / 40
    assert found.layer == max(z, key=lambda layer: float(z[layer]))
    assert found.permutation == {}


def test_permuted_labels_support_no_circle():
    found = circles_by_layer(
        {0: planted(None, circle=3.0)}, NUMBERS, null="permutation", surrogates=39, sensitivity="none"
    )
    assert found.p_value <= 0.05
    assert found.believed == ()


def test_the_smallest_circle_is_looked_for_where_it_is_asked(monkeypatch: pytest.MonkeyPatch):
    asked = []

    def fake(rows, numbers, *, sensitivity, null, **settings):
        asked.append((int(rows[0, 0]), sensitivity))
        return circle_test(rows, numbers, sensitivity=False, null=null, **settings)

    monkeypatch.setattr("interpkern.probing.circle_layers.circle_test", fake)
    rows = {layer: planted(None, seed=layer) for layer in (1, 2)}
    for layer, one in rows.items():
        one[0, 0] = layer
    steps: list[int] = []
    settings = {"surrogates": 19, "permutation": False, "step": lambda: steps.append(1)}
    for where, count in (("none", 0), ("strongest", 1), ("all", 2)):
        asked.clear()
        steps.clear()
        found = circles_by_layer(rows, NUMBERS, sensitivity=where, **settings)
        assert isinstance(found, CircleLayers)
        assert sum(planted for _, planted in asked) == count
        assert len(steps) == 2 + count
        if where == "strongest":
            assert (found.layer, True) in asked


def test_tables_agree_with_what_they_are_made_of(probed: LogProbe):
    table = probed.to_pandas()
    assert table.columns.tolist() == ["question", "answer", "effect", "p_value", "null", "detectable"]
    assert table["p_value"][2] == probed.circles.p_value
    layers = probed.layers_to_pandas()
    assert layers["layer"].tolist() == [0, 3]
    assert layers.set_index("layer")["p_value"][3] == probed.circles.tests[3].p_value
    scans = probed.scans_to_pandas()
    assert len(scans) == 2 * len(probed.circles.tests[0].scan.frequencies)
    assert probed.directions_to_pandas().groupby("layer").size().nunique() == 1
    lines = verdict_lines(probed)
    assert sum(line.startswith(QUESTIONS) for line in lines) == 4
    assert any(f"p = {probed.magnitude.p_value:.3g}" in line for line in lines)


def test_the_page_holds_the_verdicts_and_the_files_are_enough_to_go_on(probed: LogProbe, tmp_path: Path):
    files = probed.save(tmp_path)
    assert files[0].name == "log_probe.html"
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {path.name for path in files}
    page = files[0].read_text()
    assert not re.findall(r"""(?:src|href)\s*=\s*["'](?!#|data:)""", page)
    assert page.count("<svg") == 4
    for verdict in probed.verdicts:
        assert verdict.question in page
        assert verdict.answer in page
    record = json.loads((tmp_path / "log-probe.json").read_text())
    assert record["circle_layer"] == 3
    assert record["verdicts"][3]["p_value"] is None
    table = pandas.read_parquet(tmp_path / "log-probe-verdicts.parquet")
    assert table["answer"].tolist() == [verdict.answer for verdict in probed.verdicts]
    again = log_probe(tmp_path / "log-probe-activations.safetensors", layers=(3,), **QUICK)
    assert again.circles.tests[3].p_value == probed.circles.tests[3].p_value
    assert torch.equal(again.circles.tests[3].statistics, probed.circles.tests[3].statistics)


def test_confounds_are_named_with_their_layers():
    rows = {0: planted(None, seed=1), 1: planted(None, seed=2)}
    rows[1][5] *= 100
    counts = torch.tensor([len(str(int(n))) for n in NUMBERS])
    found = log_probe(NumberActivations(NUMBERS.long(), rows, counts + 1, counts), **QUICK)
    where = {text.split(":")[0]: layers for text, layers in found.confounds.items()}
    assert where["digit-split tokenizer"] == (0, 1)
    massive = [layers for text, layers in found.confounds.items() if "massive" in text]
    assert massive == [(1,)]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"source": torch.zeros(9, 3)}, "source: expected NumberActivations"),
        ({"layers": (9,)}, "layer: expected one of"),
        ({"numbers": range(1, 9)}, "numbers: .* brings its own, 1 to 240"),
        ({"sensitivity": "some"}, "sensitivity"),
        ({"null": "label"}, "null"),
        ({"surrogates": 0}, "surrogates"),
        ({"components": 0}, "components"),
        ({"seed": -1}, "seed"),
        ({"progress": 3}, "progress"),
    ],
)
def test_bad_arguments_are_refused_by_name(arguments: dict, words: str):
    source = arguments.pop("source", NumberActivations(NUMBERS.long(), {0: planted(None)}))
    with pytest.raises((ValueError, DTypeError), match=words):
        log_probe(source, **{**QUICK, **arguments})


def test_shipped_sets_answer_as_the_literature_says():
    found = log_probe(interpkern.data.numbers("minilm"), layers=(3,), **QUICK)
    assert found.verdicts[0].answer == "yes: component 1 of layer 3"
    assert "log" not in found.magnitude.scales
    assert found.verdicts[2].answer.startswith("no evidence")
