"""The baselines solve the problem that they are timed on, and paired timing finds a known ratio."""

import dataclasses
import sys
import time
from importlib.util import find_spec

import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits

from benchmarks.paired import machine, one_core, paired_ratio, with_control
from benchmarks.peers import TRAINED, Peer, Weights, memorise_jax, memorise_torch

needs_jax = pytest.mark.skipif(find_spec("jax") is None, reason="jax is in the extra `bench`")
PEERS = [
    pytest.param(memorise_torch.compiled, marks=pytest.mark.slow, id="compiled"),
    pytest.param(memorise_torch.compiled_plain, marks=pytest.mark.slow, id="compiled_plain"),
    pytest.param(memorise_torch.vmap, id="vmap"),
    pytest.param(memorise_torch.eager, id="eager"),
    pytest.param(memorise_jax.mapped, marks=needs_jax, id="mapped"),
    pytest.param(memorise_jax.vmapped, marks=needs_jax, id="vmapped"),
]
TOLERANCE = 1e-5
"""Adam divides by the gradient's size, so rounding of a small gradient shows at lr's scale (1e-2), not at float32's."""


def problem(B: int = 3, R: int = 5, C: int = 7, D: int = 3, H: int = 4) -> tuple[Weights, torch.Tensor]:
    random = torch.Generator().manual_seed(0)
    shapes = {"E1": (B, R, D), "E2": (B, C, D), "W": (B, H, D), "c": (B, H), "r": (B, H), "c_out": (B,)}
    weights = {name: torch.randn(shape, generator=random) for name, shape in shapes.items()}
    return weights, torch.randint(2, (B, R, C), generator=random, dtype=torch.uint8)


def loss_in_float64(w: Weights, tables: torch.Tensor) -> torch.Tensor:
    x = w["E1"][:, :, None] + w["E2"][:, None]
    hidden = torch.relu(torch.einsum("bijd,bhd->bijh", x, w["W"]) + w["c"][:, None, None])
    z = torch.einsum("bijh,bh->bij", hidden, w["r"]) + w["c_out"][:, None, None]
    return binary_cross_entropy_with_logits(z, tables.double(), reduction="none").mean((1, 2))


def train_in_float64(weights: Weights, tables: torch.Tensor, *, steps: int, lr: float) -> tuple[Weights, torch.Tensor]:
    exact = {name: weight.double().requires_grad_(name in TRAINED) for name, weight in weights.items()}
    adam = torch.optim.Adam([exact[name] for name in TRAINED], lr=lr, betas=(0.9, 0.999), eps=1e-8)
    for _ in range(steps):
        adam.zero_grad()
        loss_in_float64(exact, tables).sum().backward()
        adam.step()
    return {name: weight.detach() for name, weight in exact.items()}, loss_in_float64(exact, tables).detach()


@pytest.mark.parametrize("peer", PEERS)
def test_peer_follows_float64(peer: Peer) -> None:
    weights, tables = problem()
    before = {name: weight.clone() for name, weight in weights.items()}
    trained, loss = peer.train(weights, tables, steps=5, lr=1e-2)
    exact, exact_loss = train_in_float64(weights, tables, steps=5, lr=1e-2)
    assert (loss - exact_loss).abs().max() <= TOLERANCE
    for name, weight in exact.items():
        assert (trained[name] - weight).abs().max() <= TOLERANCE, name
        assert torch.equal(weights[name], before[name]), name


@pytest.mark.parametrize("peer", PEERS)
def test_prepared_run_repeats(peer: Peer) -> None:
    run = peer.prepare(*problem(), 3, 1e-2)
    first, second = run(), run()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_absent_jax_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jax", None)
    with pytest.raises(ImportError, match="interpkern\\[bench\\]"):
        memorise_jax.mapped.prepare(*problem(), 1, 1e-2)


def test_paired_ratio_by_a_clock_of_known_cost() -> None:
    now, calls = [0.0], []

    def work(name: str, seconds: float) -> None:
        now[0] += seconds
        calls.append(name)

    ratio = paired_ratio(lambda: work("a", 2.0), lambda: work("b", 3.0), pairs=4, clock=lambda: now[0])
    assert dataclasses.astuple(ratio) == (1.5, 1.5, 1.5, 1.5, 4, 2.0, 3.0)
    assert "".join(calls) == "ab" + "abba" * 2


def test_paired_ratio_of_busy_loops() -> None:
    comparison = with_control(lambda: sum(range(20_000)), lambda: sum(range(60_000)), pairs=50)
    assert comparison.ratio.median == pytest.approx(3.0, rel=0.15)
    assert comparison.control.median == pytest.approx(1.0, rel=0.15)


def test_paired_ratio_of_sleeps() -> None:
    ratio = paired_ratio(lambda: time.sleep(0.01), lambda: time.sleep(0.02), pairs=5, clock=time.perf_counter)
    assert ratio.of_minima == pytest.approx(2.0, rel=0.15)


@pytest.mark.parametrize(("pairs", "match"), [(0, "pairs"), (3, "no time")])
def test_paired_ratio_refuses(pairs: int, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        paired_ratio(lambda: None, lambda: None, pairs=pairs, clock=lambda: 0.0)


def test_one_core_is_undone() -> None:
    threads, cores = torch.get_num_threads(), machine()["cores"]
    with one_core():
        assert (torch.get_num_threads(), machine()["cores"]) == (1, 1)
    assert (torch.get_num_threads(), machine()["cores"]) == (threads, cores)
