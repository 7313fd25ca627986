"""Training runs: the identities they obey, what they report, and saving them."""

import json
import math
from dataclasses import FrozenInstanceError

import numpy
import pandas
import pytest
import torch
from matplotlib.figure import Figure

import interpkern
from interpkern.files import write_atomically
from interpkern.memorisation import MemoriseRun, TableMLPs, memorise, random_tables
from interpkern.reference.memorise import cross_entropy

SHAPES = [(1, 1, 1, 1), (7, 1, 3, 5), (31, 33, 9, 7)]


def problem(models: int, shape: tuple[int, int, int, int], **options) -> tuple[TableMLPs, torch.Tensor]:
    rows, cols, d_model, d_hidden = shape
    return TableMLPs.init(models, rows, cols, d_model, d_hidden, **options), random_tables(models, rows, cols, seed=1)


def tensors_of(run: MemoriseRun) -> list[torch.Tensor]:
    results = [run.tables, run.loss, run.logged_steps, run.steps_taken, run.accuracy, run.solved, run.state.step]
    return [*run.models.fields(), *run.state.first, *run.state.second, *results]


def same(a: MemoriseRun, b: MemoriseRun) -> bool:
    pairs = zip(tensors_of(a), tensors_of(b), strict=True)
    return all(x.dtype == y.dtype and numpy.array_equal(x.numpy(), y.numpy(), equal_nan=True) for x, y in pairs)


@pytest.fixture(scope="module")
def run() -> MemoriseRun:
    models, tables = problem(7, (7, 5, 6, 6))
    return memorise(models, tables, steps=500, schedule="cosine", log_every=33)


@pytest.mark.parametrize("shape", SHAPES)
def test_results_agree_with_the_trained_models(shape: tuple) -> None:
    models, tables = problem(7, shape)
    kept = [part.clone() for part in models.fields()]
    run = memorise(models, tables, steps=31, log_every=7)
    assert run.logged_steps.tolist() == [0, 7, 14, 21, 28, 31]
    assert all(torch.equal(part, was) for part, was in zip(models.fields(), kept, strict=True))
    before, after = cross_entropy(models.logits(), tables), cross_entropy(run.models.logits(), tables)
    torch.testing.assert_close(run.loss[:, 0], before, rtol=0, atol=2e-6)
    torch.testing.assert_close(run.loss[:, -1], after, rtol=0, atol=2e-6)
    right = (run.models.logits() > 0) == tables.bool()
    assert run.accuracy.tolist() == right.double().mean((1, 2)).tolist()
    assert run.solved.tolist() == right.all(2).all(1).tolist()
    assert run.steps_taken.tolist() == [31] * 7


def test_two_logit_adam_is_a_doubled_readout_learning_rate() -> None:
    models, tables = problem(5, (7, 5, 3, 4))
    run = memorise(models, tables, steps=20, lr=0.01, readout_lr_scale=2.0, log_every=1)
    for index in range(5):
        wanted = torch.tensor(two_logit_losses(models, tables, index, lr=0.01, steps=20))
        assert float((run.loss[index].double() - wanted).abs().max()) <= 1e-6


def two_logit_losses(models: TableMLPs, tables: torch.Tensor, index: int, *, lr: float, steps: int) -> list[float]:
    """Cross-entropy of a plain float64 PyTorch model with two logits, before each update and at the end."""
    two, hidden = models.to_two_logit(), models.to_module(index).hidden.double()
    readout = torch.nn.Linear(models.d_hidden, 2).double()
    with torch.no_grad():
        readout.weight.copy_(two.V[index])
        readout.bias.copy_(two.c_out[index])
    x = (models.E1[index, :, None] + models.E2[index]).double().flatten(0, 1)
    optimiser = torch.optim.Adam([*hidden.parameters(), *readout.parameters()], lr=lr)
    losses = []
    for _ in range(steps + 1):
        loss = torch.nn.CrossEntropyLoss()(readout(torch.relu(hidden(x))), tables[index].flatten().long())
        losses.append(float(loss.detach()))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return losses


@pytest.mark.parametrize("backend", ["auto", "reference"])
@pytest.mark.parametrize("schedule", ["constant", "cosine"])
def test_two_halves_are_one_whole_run(backend: str, schedule: str) -> None:
    models, tables = problem(3, (7, 5, 3, 4))
    options = {"schedule": schedule, "warmup": 7, "schedule_steps": 62, "weight_decay": 0.01, "backend": backend}
    whole = memorise(models, tables, steps=62, **options)
    first = memorise(models, tables, steps=31, **options)
    second = memorise(first.models, tables, steps=31, state=first.state, **options)
    for a, b in zip(whole.models.fields(), second.models.fields(), strict=True):
        assert torch.equal(a, b)
    assert torch.equal(whole.loss[:, -1], second.loss[:, -1])
    assert second.state.step.tolist() == [62] * 3
    assert second.steps_taken.tolist() == [31] * 3


def test_a_run_in_part_goes_on_as_it_would_have_in_whole() -> None:
    models, tables = problem(7, (7, 5, 3, 4))
    run = memorise(models, tables, steps=31, lr=torch.linspace(0.001, 0.03, 7), betas=(0.9, torch.full((7,), 0.99)))
    part = run[[5, 2]]
    assert part.settings["lr"] == [run.settings["lr"][5], run.settings["lr"][2]]
    assert part.settings["betas"] == [0.9, run.settings["betas"][1][:2]]
    more = memorise(run.models, run.tables, steps=7, state=run.state)
    more_part = memorise(part.models, part.tables, steps=7, state=part.state)
    assert same(more[[5, 2]], more_part)


def test_trained_embeddings_move_and_are_counted() -> None:
    frozen, tables = problem(3, (7, 5, 3, 4))
    trained, _ = problem(3, (7, 5, 3, 4), embedding="trained")
    left, moved = memorise(frozen, tables, steps=7), memorise(trained, tables, steps=7)
    assert torch.equal(left.models.E1, frozen.E1)
    assert bool((moved.models.E1 != trained.E1).any())
    assert bool((moved.models.E2 != trained.E2).any())
    assert moved.parameters() == trained.parameters() == left.parameters() + 12 * 3
    everything = memorise(frozen, tables, steps=7, train=("E1", "E2", "W", "c", "r", "c_out"))
    assert same(everything[0], moved[0])
    assert everything.models.parameters() == trained.parameters()


def test_only_what_a_run_trains_counts_as_its_parameters() -> None:
    models, tables = problem(3, (7, 5, 3, 4))
    run = memorise(models, tables, steps=7, train=("r", "c_out"))
    assert torch.equal(run.models.W, models.W)
    assert (run.parameters("one_logit"), run.parameters()) == (4 + 1, 8 + 2)
    assert run.to_pandas().facts_per_P1.tolist() == [35 / 5] * 3


def test_diverged_models_are_reported_and_touch_no_other() -> None:
    models, tables = problem(3, (7, 5, 3, 4))
    rates = torch.tensor([0.01, 1e38, 0.01], dtype=torch.float64)
    run, clean = memorise(models, tables, steps=31, lr=rates), memorise(models, tables, steps=31, lr=0.01)
    assert same(run[[0, 2]], clean[[0, 2]])
    assert not math.isfinite(float(run.loss[1, -1]))
    assert [math.isnan(float(run.bits(kind)[1])) for kind in ("ce", "accuracy")] == [True, True]
    assert not bool(run.solved[1])
    assert isinstance(run.plot(), Figure)
    assert run.models.finite().tolist() == [True, False, True]
    with pytest.raises(ValueError, match=r"models: .* in W, c, r, c_out of 1 of 3 models \(first: 1\)"):
        memorise(run.models, tables, steps=1, state=run.state)
    rest = run[run.models.finite()]
    assert rest.loss.shape == (2, 2)
    assert int(memorise(rest.models, rest.tables, steps=1, state=rest.state).state.step.max()) == 32


def test_stopping_when_solved() -> None:
    models, tables = problem(7, (3, 3, 6, 8))
    run = memorise(models, tables, steps=2000, stop_when_solved=True, margin=0.5)
    assert bool(run.solved.all())
    assert int(run.steps_taken.max()) < 2000
    logits = run.models.logits() * (tables.float() * 2 - 1)
    assert float(logits.min()) > 0.5 - 1e-5


def test_table_of_results(run: MemoriseRun) -> None:
    frame = run.to_pandas()
    assert len(frame) == len(run) == 7
    assert (frame.P1 == 6 * 8 + 1).all()
    assert (frame.P2 == 6 * 9 + 2).all()
    assert (frame.facts_per_P1 == 35 / 49).all()
    assert frame.loss.tolist() == run.loss[:, -1].tolist()
    assert frame.density.tolist() == run.tables.double().mean((1, 2)).tolist()
    torch.testing.assert_close(torch.tensor(frame.bits_per_P2.to_numpy()), run.bits() / 56)
    torch.testing.assert_close(torch.tensor(frame.bits_accuracy.to_numpy()), run.bits("accuracy"))
    assert (frame.steps == 500).all()
    with pytest.raises(ValueError, match="kind"):
        run.bits("both")


def test_settings_are_recorded_as_used(run: MemoriseRun) -> None:
    assert run.settings["train"] == ["W", "c", "r", "c_out"]
    assert run.settings["schedule_steps"] == 500
    assert run.provenance["interpkern"] == interpkern.__version__
    assert run.provenance["backend"] in {"cpu", "reference", "cuda", "triton"}
    assert run.provenance["seconds"] > 0
    assert run.provenance["seed"] == 0
    json.dumps(run.settings | run.provenance)
    with pytest.raises(FrozenInstanceError):
        run.loss = run.loss


def test_plot_shows_the_numbers_of_the_run(run: MemoriseRun) -> None:
    loss, bits = run.plot().axes
    assert loss.lines[0].get_ydata().tolist() == pytest.approx(run.loss.double().median(0).values.tolist())
    assert loss.get_yscale() == "log"
    assert max(bar.get_y() + bar.get_height() for bar in bits.patches) <= 7
    assert sum(bar.get_height() for bar in bits.patches) >= 7
    assert f"solved {int(run.solved.sum())} of 7" in bits.get_title()
    assert "nats" in loss.get_ylabel()
    assert "P2" in bits.get_xlabel()


def test_saved_and_loaded_bit_for_bit(run: MemoriseRun, tmp_path) -> None:
    directory = run.save(tmp_path / "deep" / "run")
    assert sorted(path.name for path in directory.iterdir()) == [
        "models.safetensors",
        "run.json",
        "runs.parquet",
        "training.safetensors",
    ]
    again = MemoriseRun.load(str(directory))
    assert same(again, run)
    assert (again.settings, again.provenance) == (run.settings, run.provenance)
    assert (again.models.embedding, again.models.seed) == ("random", 0)
    pandas.testing.assert_frame_equal(pandas.read_parquet(directory / "runs.parquet"), run.to_pandas())
    more = memorise(again.models, again.tables, steps=7, state=again.state)
    assert same(more, memorise(run.models, run.tables, steps=7, state=run.state))
    run[:2].save(directory)
    assert len(MemoriseRun.load(directory)) == 2


def test_saving_touches_no_foreign_directory(run: MemoriseRun, tmp_path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match=r"directory: .*notes\.txt"):
        run.save(tmp_path)
    with pytest.raises(ValueError, match="is a file"):
        run.save(tmp_path / "notes.txt")
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
    saved = run.save(tmp_path / "run")
    (saved / "figure.png").write_bytes(b"")
    run.save(saved)
    (saved / "figure.png").unlink()
    (saved / "run.json").unlink()
    with pytest.raises(FileNotFoundError, match="no finished run"):
        MemoriseRun.load(saved)
    run.save(saved)
    assert same(MemoriseRun.load(saved), run)


def test_damaged_directories_are_refused_by_name(run: MemoriseRun, tmp_path) -> None:
    saved = run.save(tmp_path / "run")
    with pytest.raises(FileNotFoundError, match="directory"):
        MemoriseRun.load(tmp_path / "nowhere")
    record = json.loads((saved / "run.json").read_text())
    (saved / "run.json").write_text(json.dumps(record | {"schema": 99}))
    with pytest.raises(ValueError, match="schema 99"):
        MemoriseRun.load(saved)
    run.save(saved)
    whole = (saved / "training.safetensors").read_bytes()
    (saved / "training.safetensors").write_bytes(whole[:100])
    with pytest.raises(ValueError, match=r"training\.safetensors cannot be read"):
        MemoriseRun.load(saved)
    other = run[:2].save(tmp_path / "other")
    (saved / "training.safetensors").write_bytes((other / "training.safetensors").read_bytes())
    with pytest.raises(ValueError, match="of others"):
        MemoriseRun.load(saved)


def test_a_write_that_fails_leaves_the_old_file_and_no_other(tmp_path) -> None:
    path = tmp_path / "run.json"
    write_atomically(path, b"old")

    def fail(file) -> None:
        file.write(b"ne")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_atomically(path, fail)
    assert path.read_bytes() == b"old"
    write_atomically(path, lambda file: file.write(b"new"))
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


def test_progress_counts_to_the_end() -> None:
    models, tables = problem(3, (7, 5, 3, 4))
    calls: list[tuple[int, int]] = []
    memorise(models, tables, steps=31, progress=lambda done, total: calls.append((done, total)))
    assert calls[-1] == (93, 93)
    assert calls == sorted(calls)


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        ({"models": "mlp"}, TypeError),
        ({"tables": [[0, 1]]}, TypeError),
        ({"tables": torch.zeros(3, 5, 7)}, ValueError),
        ({"tables": torch.full((3, 7, 5), 2)}, ValueError),
        ({"steps": -1}, ValueError),
        ({"lr": -0.1}, ValueError),
        ({"lr": torch.zeros(2)}, ValueError),
        ({"betas": (0.9, 1.0)}, ValueError),
        ({"train": "W"}, TypeError),
        ({"train": ("V",)}, ValueError),
        ({"schedule": "cosin"}, ValueError),
        ({"log_every": 0}, ValueError),
        ({"threads": 0}, ValueError),
        ({"backend": "gpu"}, ValueError),
        ({"state": {}}, TypeError),
        ({"progress": 3}, TypeError),
    ],
)
def test_wrong_arguments_are_named(wrong: dict, error: type[Exception]) -> None:
    models, tables = problem(3, (7, 5, 3, 4))
    arguments = {"models": models, "tables": tables, "steps": 2} | wrong
    with pytest.raises(error, match=next(iter(wrong))):
        memorise(arguments.pop("models"), arguments.pop("tables"), **arguments)
