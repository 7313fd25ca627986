"""Models: their initial laws, shapes, logits, counts, and the ways to and from PyTorch."""

import math
from pathlib import Path

import numpy
import pytest
import torch

from interpkern.memorisation import MemoriseRun, TableMLP, TableMLPs, memorise, quantise, random_tables
from interpkern.memorisation.plots import sizes
from tests.tolerances import TOLERANCES

SHAPES = [(1, 1, 1, 1), (7, 1, 3, 5), (31, 33, 9, 7)]
EMBEDDINGS = ["random", "optimised", "basis", "trained"]


def some(models: int, shape: tuple[int, int, int, int], **options) -> TableMLPs:
    rows, cols, d_model, d_hidden = shape
    width = None if options.get("embedding") == "basis" else d_model
    return TableMLPs.init(models, rows, cols, width, d_hidden, **options)


def same(a: TableMLPs, b: TableMLPs) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.fields(), b.fields(), strict=True))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("embedding", EMBEDDINGS)
def test_a_model_depends_only_on_seed_and_number(shape: tuple, embedding: str) -> None:
    seven = some(7, shape, embedding=embedding, seed=3)
    assert same(seven[:1], some(1, shape, embedding=embedding, seed=3))
    assert same(seven[4], some(20, shape, embedding=embedding, seed=3)[4])
    rows, cols, d_model, d_hidden = shape
    width = rows + cols if embedding == "basis" else d_model
    wanted = [(7, rows, width), (7, cols, width), (7, d_hidden, width), (7, d_hidden), (7, d_hidden), (7,)]
    assert [tuple(part.shape) for part in seven.fields()] == wanted
    assert all(part.is_contiguous() and part.dtype == torch.float32 for part in seven.fields())


def test_initial_layers_are_uniform_within_their_bounds() -> None:
    models = TableMLPs.init(500, 7, 7, 16, 25)
    for part, bound in [(models.W, 1 / 4), (models.c, 1 / 4), (models.r, 1 / 5), (models.c_out, 1 / 5)]:
        scaled = part.double().flatten() / bound
        assert scaled.abs().max() <= 1 + 1e-6
        assert abs(float(scaled.mean())) < 4 / math.sqrt(3 * scaled.numel())
        assert float(scaled.var()) == pytest.approx(1 / 3, abs=4 * math.sqrt(4 / 45 / scaled.numel()))
    assert len({round(float(part.flatten()[0]), 6) for part in models.fields()}) == 6


def test_random_rows_are_unit_and_in_all_directions() -> None:
    models = TableMLPs.init(300, 31, 33, 7, 1, seed=9)
    rows = torch.cat([models.E1, models.E2], 1).double()
    torch.testing.assert_close(rows.norm(dim=2), torch.ones(300, 64, dtype=torch.float64), rtol=1e-6, atol=0)
    squared = ((rows @ rows.mT) ** 2).sum((1, 2)) - 64
    assert float(squared.mean()) == pytest.approx(64 * 63 / 7, rel=0.02)


@pytest.mark.parametrize(("rows", "cols", "d_model"), [(31, 33, 7), (7, 5, 12), (1, 7, 31), (31, 33, 64), (7, 1, 1)])
def test_optimised_embeddings_reach_the_welch_bound(rows: int, cols: int, d_model: int) -> None:
    models = TableMLPs.init(3, rows, cols, d_model, 1, embedding="optimised")
    x = torch.cat([models.E1, models.E2], 1).double()
    squared = ((x @ x.mT) ** 2).sum((1, 2)) - rows - cols
    bound = max(0.0, (rows + cols) ** 2 / d_model - rows - cols)
    torch.testing.assert_close(x.norm(dim=2), torch.ones_like(x[:, :, 0]), rtol=1e-6, atol=0)
    assert squared.tolist() == pytest.approx([bound] * 3, rel=1e-3, abs=1e-5)


def test_basis_gives_each_token_its_own_direction() -> None:
    models = TableMLPs.init(2, 3, 4, None, 5, embedding="basis")
    assert torch.equal(torch.cat([models.E1, models.E2], 1), torch.eye(7).expand(2, 7, 7))
    with pytest.raises(ValueError, match=r"d_model: expected rows \+ cols = 7"):
        TableMLPs.init(2, 3, 4, 6, 5, embedding="basis")


@pytest.mark.parametrize("shape", SHAPES)
def test_logits_are_those_of_the_formula(shape: tuple) -> None:
    models = some(37, shape)
    E1, E2, W, c, r, c_out = (part[5].double() for part in models.fields())
    logits = models.logits()
    for a, b in [(0, 0), (shape[0] - 1, shape[1] // 2)]:
        wanted = r @ torch.relu(W @ (E1[a] + E2[b]) + c) + c_out
        assert float(logits[5, a, b]) == pytest.approx(float(wanted), abs=1e-6)
    torch.testing.assert_close(models[[30, 5, 36]].logits(), logits[[30, 5, 36]], rtol=0, atol=1e-6)


@pytest.mark.parametrize(("shape", "P1", "P2"), [((32, 32, 20, 24), 529, 554), ((16, 16, 8, 8), 81, 90)])
def test_parameters_are_those_of_the_spec(shape: tuple, P1: int, P2: int) -> None:
    frozen, trained = some(2, shape), some(2, shape, embedding="trained")
    assert frozen.parameters("one_logit") == P1
    assert frozen.parameters() == P2
    module = trained.to_module(0)
    assert trained.parameters("one_logit") == sum(part.numel() for part in module.parameters())
    assert trained.parameters() == P2 + (shape[0] + shape[1]) * shape[2]
    with pytest.raises(ValueError, match="count"):
        frozen.parameters("three")


def test_two_logits_under_cross_entropy_are_one_logit() -> None:
    models = some(7, (31, 33, 9, 7))
    two = models.to_two_logit()
    assert torch.equal(two.V[:, 1] - two.V[:, 0], models.r)
    assert torch.equal(two.c_out[:, 1] - two.c_out[:, 0], models.c_out)
    E1, E2, W, c, _, _ = (part.double() for part in models.fields())
    hidden = torch.relu((E1[:, :, None] + E2[:, None]) @ W.mT[:, None] + c[:, None, None])
    logits = hidden @ two.V.double().mT[:, None] + two.c_out.double()[:, None, None]
    targets = torch.arange(31 * 33) % 2
    for model in range(7):
        wanted = torch.nn.functional.binary_cross_entropy_with_logits(
            models.logits()[model].flatten().double(), targets.double()
        )
        got = torch.nn.functional.cross_entropy(logits[model].reshape(-1, 2), targets)
        assert float(got) == pytest.approx(float(wanted), abs=1e-7)


def plain_mlp(models: TableMLPs, index: int) -> torch.nn.Sequential:
    """The MLP of a dense input with the weights of one model, in float64."""
    _, _, W, c, r, c_out = (part[index] for part in models.fields())
    plain = torch.nn.Sequential(torch.nn.Linear(W.shape[1], len(c)), torch.nn.ReLU(), torch.nn.Linear(len(c), 1))
    state = {"0.weight": W, "0.bias": c, "2.weight": r[None], "2.bias": c_out[None]}
    plain.double().load_state_dict({name: part.double() for name, part in state.items()})
    return plain


@pytest.mark.parametrize(("count", "d_model", "d_hidden"), [(1, 1, 1), (33, 7, 31), (257, 10, 9)])
def test_models_of_points_are_plain_mlps(count: int, d_model: int, d_hidden: int) -> None:
    points = torch.randn(3, count, d_model, generator=torch.Generator().manual_seed(count))
    models, labels = TableMLPs.of_points(points, d_hidden, seed=5), random_tables(3, count, 1, seed=1)
    run = memorise(models, labels, steps=1, lr=0.03, betas=(0.9, 0.999), eps=1e-3)
    for index in range(3):
        plain, targets = plain_mlp(models, index), labels[index].double()
        logits = plain(points[index].double())
        torch.testing.assert_close(models.logits()[index].double(), logits, rtol=0, atol=1e-6)
        optimiser = torch.optim.Adam(plain.parameters(), lr=0.03, betas=(0.9, 0.999), eps=1e-3)
        torch.nn.functional.binary_cross_entropy_with_logits(logits, targets).backward()
        optimiser.step()
        for name, wanted in zip(("W", "c", "r", "c_out"), plain.parameters(), strict=True):
            gradient = getattr(run.state.first, name)[index].double().reshape(wanted.shape) / 0.1
            reach = TOLERANCES["memorise", "gradient"] * float(wanted.grad.abs().max())
            torch.testing.assert_close(gradient, wanted.grad, rtol=0, atol=reach)
            moved = getattr(run.models, name)[index].double().reshape(wanted.shape)
            reach = TOLERANCES["memorise", "weights after 20 steps"]
            torch.testing.assert_close(moved, wanted.detach(), rtol=0, atol=reach)


def test_points_stay_and_are_not_parameters(tmp_path: Path) -> None:
    points = torch.randn(33, 10, generator=torch.Generator().manual_seed(0))
    models = TableMLPs.of_points(points, 7, models=5, seed=3)
    assert (len(models), models.rows, models.cols, models.d_model, models.d_hidden) == (5, 33, 1, 10, 7)
    assert torch.equal(models.E1, points.expand(5, 33, 10))
    assert not models.E2.any()
    like = TableMLPs.init(5, 33, 1, 10, 7, seed=3)
    assert all(torch.equal(getattr(models, name), getattr(like, name)) for name in ("W", "c", "r", "c_out"))
    assert same(models[2], TableMLPs.of_points(points.expand(3, 33, 10), 7, seed=3)[2])
    assert same(models, TableMLPs.of_points(points.numpy(), 7, models=5, seed=3))
    assert (models.parameters(), models.parameters("one_logit")) == (7 * 13 + 2, 7 * 12 + 1)
    run = memorise(models, random_tables(5, 33, 1), steps=7)
    assert torch.equal(run.models.E1, models.E1)
    assert not run.models.E2.any()
    assert torch.equal(quantise(run.models, 4).E1, models.E1)
    run.save(tmp_path / "run")
    loaded = MemoriseRun.load(tmp_path / "run").models
    assert same(loaded, run.models)
    assert (loaded.embedding, loaded.parameters()) == ("points", models.parameters())
    assert "33 points, d_model 10" in sizes(run)


@pytest.mark.parametrize(
    ("points", "options", "error", "message"),
    [
        (torch.zeros(5), {}, ValueError, r"points: expected \(N, D\)"),
        (torch.zeros(2, 3, 0), {}, ValueError, "points: .*empty"),
        (torch.zeros(3, 2).double(), {}, TypeError, "points: expected float32"),
        (numpy.zeros((3, 2)), {}, TypeError, "points: expected float32"),
        (torch.tensor([[0.0, math.nan]]), {}, ValueError, "points: expected finite"),
        (torch.zeros(3, 2).requires_grad_(), {}, ValueError, r"points: .*detach"),
        ([[0.0]], {}, TypeError, "points: expected a torch tensor"),
        (torch.zeros(2, 3, 4), {"models": 3}, ValueError, "models: expected 2, one for each set"),
        (torch.zeros(3, 4), {"models": 0}, ValueError, "models"),
        (torch.zeros(3, 4), {"d_hidden": 0}, ValueError, "d_hidden"),
        (torch.zeros(3, 4), {"seed": -1}, ValueError, "seed"),
    ],
)
def test_wrong_points_are_refused(points: object, options: dict, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        TableMLPs.of_points(points, **{"d_hidden": 5, **options})


@pytest.mark.parametrize("embedding", ["random", "trained"])
def test_to_modules_and_back(embedding: str) -> None:
    models = some(3, (7, 1, 3, 5), embedding=embedding)
    before = torch.get_rng_state()
    modules = [models.to_module(index) for index in range(3)]
    assert torch.equal(torch.get_rng_state(), before)
    a, b = torch.arange(7)[:, None], torch.arange(1)
    torch.testing.assert_close(modules[2](a, b), models.logits()[2], rtol=0, atol=1e-6)
    back = TableMLPs.from_modules(modules)
    assert same(back, models)
    assert back.parameters() == models.parameters()
    with torch.no_grad():
        modules[0].hidden.weight.zero_()
    assert bool(models.W[0].any())
    assert bool(back.W[0].any())


def test_state_dict_and_numpy() -> None:
    models = some(3, (7, 1, 3, 5), embedding="trained")
    again = TableMLPs.from_state_dict(models.state_dict(), embedding="trained")
    assert same(again, models)
    arrays = {name: part.numpy() for name, part in models.state_dict().items()}
    assert same(TableMLPs(**arrays), models)
    with pytest.raises(ValueError, match="state_dict: expected the names"):
        TableMLPs.from_state_dict({"W": models.W})


def test_choosing_models_keeps_the_batch_dimension() -> None:
    models = some(7, (7, 1, 3, 5))
    mask = torch.arange(7) % 3 == 0
    assert len(models[-1]) == 1
    assert torch.equal(models[2:4].W, models.W[2:4])
    for index in (mask, mask.numpy(), [0, 3, 6], torch.tensor([0, 3, 6]), numpy.array([0, 3, 6])):
        assert torch.equal(models[index].r, models.r[mask])
    for wrong in (7, "a", (0, 1), None, 1.5, torch.ones(3, dtype=torch.bool)):
        with pytest.raises(IndexError, match="index"):
            models[wrong]
    with pytest.raises(ValueError, match="index: expected to choose"):
        models[mask & False]


def test_fields_must_fit_each_other() -> None:
    good = some(3, (7, 1, 3, 5)).state_dict()
    for name, bad, error, message in [
        ("W", good["W"].mT, ValueError, r"W: .*Did you mean W\.mT"),
        ("r", good["r"][:2], ValueError, r"r: .*B = 3"),
        ("E2", good["E2"].double(), TypeError, "E2: expected float32"),
        ("c", good["c"].clone().requires_grad_(), ValueError, r"c: .*detach"),
        ("c_out", 3.0, TypeError, "c_out: expected a torch tensor"),
    ]:
        with pytest.raises(error, match=message):
            TableMLPs(**{**good, name: bad})
    with pytest.raises(ValueError, match="embedding"):
        TableMLPs(**good, embedding="learned")


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        ({"models": 0}, ValueError),
        ({"d_model": None}, TypeError),
        ({"d_hidden": 0}, ValueError),
        ({"embedding": "orthogonal"}, ValueError),
        ({"seed": 0.5}, TypeError),
        ({"device": 0}, TypeError),
        ({"device": "gpu"}, ValueError),
        ({"device": "cuda:99"}, ValueError),
        ({"device": "meta"}, ValueError),
    ],
)
def test_wrong_arguments_are_named(wrong: dict, error: type[Exception]) -> None:
    with pytest.raises(error, match=next(iter(wrong))):
        TableMLPs.init(**{"models": 2, "rows": 3, "cols": 4, "d_model": 5, "d_hidden": 6, **wrong})


def test_modules_must_be_of_one_shape() -> None:
    with pytest.raises(ValueError, match=r"modules\[1\].rows.weight"):
        TableMLPs.from_modules([TableMLP(3, 4, 5, 6), TableMLP(2, 4, 5, 6)])
    with pytest.raises(TypeError, match=r"modules\[0\]"):
        TableMLPs.from_modules([torch.nn.Linear(2, 2)])
    with pytest.raises(ValueError, match="at least one"):
        TableMLPs.from_modules([])
