"""The baselines solve the problem that they are timed on, and paired timing finds a known ratio."""

import dataclasses
import sys
import time
from importlib.util import find_spec

import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits, normalize

from benchmarks import bench_matching_pursuit
from benchmarks.paired import machine, on_cores, paired_ratio, with_control
from benchmarks.peers import (
    TRAINED,
    Peer,
    Weights,
    matching_pursuit_packages,
    matching_pursuit_torch,
    memorise_jax,
    memorise_torch,
)
from benchmarks.peers.matching_pursuit import Dictionary, Encode, PursuitPeer, scattered
from interpkern import matching_pursuit

needs_jax = pytest.mark.skipif(find_spec("jax") is None, reason="jax is in the extra `bench`")
PEERS = [
    pytest.param(memorise_torch.compiled, marks=pytest.mark.slow, id="compiled"),
    pytest.param(memorise_torch.compiled_plain, marks=pytest.mark.slow, id="compiled_plain"),
    pytest.param(memorise_torch.vmap, id="vmap"),
    pytest.param(memorise_torch.eager, id="eager"),
    pytest.param(memorise_jax.mapped, marks=needs_jax, id="mapped"),
    pytest.param(memorise_jax.vmapped, marks=needs_jax, id="vmapped"),
]


def needs(module: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(find_spec(module) is None, reason=f"{module} is in an extra")


needs_batched_omp = needs("orthogonal_matching_pursuit_gpu")
PURSUIT_PEERS = [
    pytest.param(matching_pursuit_torch.loop, id="loop"),
    pytest.param(matching_pursuit_torch.plain_gram, id="plain_gram"),
    pytest.param(matching_pursuit_torch.gram, id="gram"),
    pytest.param(matching_pursuit_torch.compiled_gram, marks=pytest.mark.slow, id="compiled_gram"),
    pytest.param(matching_pursuit_torch.compiled_loop, marks=pytest.mark.slow, id="compiled_loop"),
    pytest.param(matching_pursuit_packages.saelens, marks=[needs("sae_lens"), pytest.mark.slow], id="saelens"),
    pytest.param(matching_pursuit_packages.spams, marks=needs("spams"), id="spams"),
    pytest.param(matching_pursuit_packages.batched_omp, marks=needs_batched_omp, id="batched_omp"),
    pytest.param(matching_pursuit_packages.batched_omp_naive, marks=needs_batched_omp, id="batched_omp_naive"),
    pytest.param(matching_pursuit_packages.sklearn, marks=needs("sklearn"), id="sklearn"),
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


PICKS = 5


def pursuit_problem(N: int = 32, M: int = 61, D: int = 17) -> tuple[torch.Tensor, Dictionary]:
    random = torch.Generator().manual_seed(0)
    atoms = normalize(torch.randn(M, D, generator=random), dim=1)
    return torch.randn(N, D, generator=random), Dictionary(atoms, atoms @ atoms.T)


def order_recursive(x: torch.Tensor, atoms: torch.Tensor, k: int) -> torch.Tensor:
    """(M,) least squares of x on the atoms that are picked one by one for what their fit with the others leaves."""
    support: list[int] = []
    for _ in range(k):
        left = {}
        for atom in set(range(len(atoms))) - set(support):
            chosen = atoms[[*support, atom]]
            left[atom] = (x - torch.linalg.lstsq(chosen.T, x).solution @ chosen).norm().item()
        support.append(min(left, key=left.__getitem__))
    dense = x.new_zeros(len(atoms))
    dense[support] = torch.linalg.lstsq(atoms[support].T, x).solution
    return dense


@pytest.mark.parametrize("peer", PURSUIT_PEERS)
def test_pursuit_peer_follows_float64(peer: PursuitPeer) -> None:
    x, dictionary = pursuit_problem(8 if peer.explains_more else 32)
    before, M = x.clone(), len(dictionary.atoms)
    encode = peer.prepare(dictionary, PICKS, len(x))
    first, second = peer.dense(encode(x), M).clone(), peer.dense(encode(x), M)
    exact_x, exact_atoms = x.double(), dictionary.atoms.double()
    if peer.explains_more:
        exact = torch.stack([order_recursive(row, exact_atoms, PICKS) for row in exact_x])
    else:
        exact = matching_pursuit(
            exact_x, exact_atoms, PICKS, method=peer.method, backend="reference", progress=False
        ).to_dense(M)
    assert torch.equal(first != 0, exact != 0)
    assert (first - exact).abs().max() <= TOLERANCE
    assert torch.equal(first, second)
    assert torch.equal(x, before)


@pytest.mark.parametrize(
    ("peer", "module", "extra"),
    [
        (matching_pursuit_packages.spams, "spams", "bench"),
        (matching_pursuit_packages.saelens, "sae_lens.saes.matching_pursuit_sae", "sae"),
    ],
)
def test_absent_package_names_its_extra(
    monkeypatch: pytest.MonkeyPatch, peer: PursuitPeer, module: str, extra: str
) -> None:
    monkeypatch.setitem(sys.modules, module.split(".")[0], None)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=f"interpkern\\[{extra}\\]"):
        peer.prepare(pursuit_problem()[1], 1, 1)


def small_bench() -> bench_matching_pursuit.Bench:
    rows = bench_matching_pursuit.shuffled(bench_matching_pursuit.synthetic(64 + bench_matching_pursuit.SAMPLES, 17))
    return bench_matching_pursuit.Bench(rows, (64,), (PICKS,), threads=1, seconds=0.0)


def test_sections_measure_what_they_say(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_matching_pursuit, "PAIRS", 3)
    monkeypatch.setattr(bench_matching_pursuit, "PEERS", (matching_pursuit_torch.loop,))
    bench = small_bench()
    for section, measure in bench_matching_pursuit.SECTIONS.items():
        for row in measure(bench):
            assert row["atoms"] == 64
            assert section == "gram" or row["ratio"] > 0 < row["control"]
            assert row.get("same_supports", 1.0) >= 0.9
            assert section == "gram" or str(row["pairs"]) in bench_matching_pursuit.table([row])


def test_no_ratio_against_another_code() -> None:
    def prepare(dictionary: Dictionary, k: int, n: int) -> Encode:
        return matching_pursuit_torch.gram.prepare(dictionary, k - 1, n)

    fewer_picks = PursuitPeer("one pick less", "mp", prepare, scattered, (16,))
    bench = small_bench()
    with pytest.raises(bench_matching_pursuit.Disagreement, match="one pick less"):
        next(bench_matching_pursuit.peer_results(bench, bench.sizes[0], fewer_picks, PICKS))


def test_share_of_a_call_that_its_samples_cost(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]

    def encode(x: torch.Tensor) -> None:
        now[0] += 10 + len(x)

    monkeypatch.setitem(bench_matching_pursuit.CLOCKS, "known", lambda: now[0])
    share = bench_matching_pursuit.without_its_gram(encode, torch.zeros(64, 1), "known", 10.0 + 64)
    assert share == pytest.approx(64 / 74)


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


def test_on_cores_is_undone() -> None:
    threads, cores = torch.get_num_threads(), machine()["cores"]
    with on_cores(1):
        assert (torch.get_num_threads(), machine()["cores"]) == (1, 1)
    assert (torch.get_num_threads(), machine()["cores"]) == (threads, cores)
