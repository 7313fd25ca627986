"""The CUDA kernels of `matching_pursuit` where there is no GPU: geometry, keys, bounds, work, the compiler's table."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import interpkern
from benchmarks import kernel_resources
from benchmarks.kernel_resources import ARCHITECTURES
from interpkern import gpu, native
from interpkern.ops import matching_pursuit_cuda
from interpkern.ops.gram import prepared_on_gpu
from interpkern.ops.matching_pursuit import _checked
from interpkern.reference.matching_pursuit import Problem
from tests.ops.emulated import SHARED_BYTES, SHUFFLED, PursuitMachine
from tests.ops.pursuits import problem, pursue

COMMITTED = Path(kernel_resources.__file__).parent / "results" / "kernel_resources.json"
CPU: Any = native.load("_cpu")


def checked(x: torch.Tensor, atoms: torch.Tensor, k: int, **settings: Any) -> Problem:
    plain = {"method": "mp", "nonnegative": False, "tol": None, "gram": None, "precision": "exact", "threads": 1}
    return _checked(x, atoms, k, **{**plain, **settings})


def geometry(M: int, D: int = 768, k: int = 40, *, arch: str = "sm_90", **changes: Any) -> dict[str, Any]:
    settings = {"samples": 1 << 20, "method": "mp", "nonnegative": False, "products": True, **changes}
    limit = SHARED_BYTES[arch]
    return CPU._matching_pursuit_geometry(atoms=M, width=D, k=k, shared_bytes_per_block=limit, **settings)


def test_the_form_is_chosen_by_what_fits() -> None:
    whole = geometry(16_384, 2304)
    assert (whole["screen"], whole["on_chip"]) == ("correlations", 16_384)
    assert geometry(54_000)["on_chip"] == 54_016
    assert geometry(16_384, method="mp_refit")["on_chip"] == 16_384
    for M, arch in ((54_000, "sm_80"), (65_536, "sm_90"), (200_000, "sm_90")):
        part = geometry(M, arch=arch)["on_chip"]  # the first ones, as many as fit and all threads read at once
        assert part % 1024 == 0
        assert SHARED_BYTES[arch] - 4096 < geometry(M, arch=arch)["shared_bytes"] <= SHARED_BYTES[arch]
    assert geometry(16_384, method="omp")["screen"] == "last products"
    assert geometry(200_000, products=False)["screen"] == "panels"
    assert not geometry(1000, 60_000)["residual_in_shared"]


@pytest.mark.parametrize("arch", SHARED_BYTES)
@pytest.mark.parametrize("method", ["mp", "mp_refit", "omp"])
@pytest.mark.parametrize("nonnegative", [False, True])
def test_memory_of_blocks_and_slots(arch, method, nonnegative) -> None:
    for M in (1, 33, 4096, 16_384, 200_000):
        for D in (1, 33, 768, 4096):
            for k in (1, 40, 3000):
                for products in (True, False):
                    settings = {"method": method, "nonnegative": nonnegative, "products": products}
                    found = geometry(M, D, k, arch=arch, **settings)
                    assert found["shared_bytes"] <= SHARED_BYTES[arch]
                    assert 1 <= found["slots"] <= 4096
                    assert found["workspace_bytes"] <= (1 << 30) + (1 << 20) or found["slots"] == 1
                    columns = -(-M // 256) * 256
                    screen = columns if products else columns // 32
                    support = 0 if method == "mp" else 4 * min(k, M, M if nonnegative else D) ** 2
                    assert found["workspace_bytes"] >= found["slots"] * (4 * D + 4 * screen + support)
    assert geometry(16_384, samples=5)["slots"] == 5
    assert geometry(16_384, samples=0)["slots"] == 1


def test_no_more_than_a_share_of_all_correlations_is_ever_kept() -> None:
    """Never N x M: 4,096 samples' in Gram form, and one number for 32 atoms without a Gram."""
    assert geometry(16_384)["workspace_bytes"] < 4096 * 17_500 * 4
    assert geometry(200_000, products=False)["workspace_bytes"] < 4096 * (200_000 / 32 + 900) * 4


def test_keys_order_picks_by_size_and_then_by_the_lowest_index() -> None:
    for c, index in [(1.0, 0), (-0.25, 7), (1e-40, 3), (3e38, (1 << 31) - 2), (-2.0, 12)]:
        assert CPU._pick_key(c, index, False)[1:] == (index, pytest.approx(c, rel=1e-6))
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(200, generator=generator).mul(4).round().div(4).tolist()
    keys = [CPU._pick_key(value, index, False)[0] for index, value in enumerate(values)]
    best = max(range(200), key=lambda index: (abs(values[index]), -index))
    assert keys.index(max(keys)) == best
    positive = [CPU._pick_key(value, index, True)[0] for index, value in enumerate(values)]
    assert positive.index(max(positive)) == max(range(200), key=lambda index: (values[index], -index))
    assert CPU._pick_key(-3.0, 1, True)[0] == CPU._pick_key(0.0, 1, False)[0] == CPU._pick_key(-0.0, 1, False)[0] == 0


def screens(x: torch.Tensor, atoms: torch.Tensor, *, panels: bool, exact: bool = True, **how: Any) -> torch.Tensor:
    """The tensor cores' products of samples, whose largest element is 1, or the largest of each 32."""
    prepared = prepared_on_gpu(checked(x, atoms, 1), products=not panels)
    columns = -(-len(atoms) // 256) * 256
    out = torch.full((len(x), columns // 32 if panels else columns), torch.nan)
    where = {"slots": 200, "thread_order": SHUFFLED, "nonnegative": False, **how}
    arguments = {"x": x, "rows": prepared.rows, "products": prepared.products, "count": len(atoms), "screens": out}
    native.call(CPU._products_as_on_a_gpu, **arguments, exact=exact, **where)
    return out


@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 7, 5), (150, 33, 131), (131, 64, 257), (9, 1000, 40)])
def test_products_of_tensor_cores_are_within_their_bound(shape: tuple[int, int, int]) -> None:
    x, atoms = problem(*shape)
    x = x / x.abs().amax(1, keepdim=True)
    exact = x.double() @ atoms.double().mT
    worst = []
    for split in (True, False):
        found = screens(x, atoms, panels=False, exact=split)
        off = (found[:, : len(atoms)] - exact).abs() / x.double().norm(dim=1, keepdim=True)
        assert off.max() <= CPU._tile_error(width=shape[1], exact=split)
        assert (found[:, len(atoms) :] == 0).all()
        assert torch.equal(found, screens(x, atoms, panels=False, exact=split, slots=7, thread_order=0))
        worst.append(float(off.max()))
        for nonnegative in (False, True):
            largest = (found if nonnegative else found.abs()).clamp(min=0).unflatten(1, (-1, 32)).amax(2)
            assert torch.equal(largest, screens(x, atoms, panels=True, exact=split, nonnegative=nonnegative))
    if len(x) > 100:
        assert worst[1] > 100 * worst[0] > 0  # the smaller halves count


@pytest.mark.parametrize("method", ["mp", "omp"])
def test_screens_leave_few_dots_to_do(method) -> None:
    """Else all atoms would be compared, and the results would be right and slow."""
    x, atoms = problem(120, 64, 1000)
    run = checked(x, atoms, 12, method=method)
    picks, rounds, dots = PursuitMachine(slots=120).work(run)
    made = int((picks.indices >= 0).sum())
    assert rounds == 1
    assert made <= dots <= 1.3 * made
    rounds, dots = PursuitMachine(slots=120, products=False).work(run)[1:]
    assert 12 <= rounds <= 13
    assert 32 * made <= dots <= 1.3 * 32 * made
    rounds, dots = PursuitMachine(slots=40, picks=5).work(run)[1:]
    assert rounds == 9
    assert dots <= 1.3 * made


def test_why_not_says_which_and_why(monkeypatch: pytest.MonkeyPatch) -> None:
    x, atoms = problem(3, 7, 9)
    assert "float64" in str(matching_pursuit_cuda.why_not(checked(x.double(), atoms, 2)))
    if not torch.cuda.is_available():
        with pytest.raises(interpkern.BackendUnavailable, match=r"cuda: .*; triton: .*; cpu: available"):
            pursue(x, atoms, 2, backend="cuda")
    monkeypatch.setattr(native, "load", lambda name: object())
    monkeypatch.setattr(gpu, "_no_device", lambda: None)
    assert matching_pursuit_cuda.why_not(checked(x, atoms, 2)) == "takes tensors on a GPU, got cpu"
    assert matching_pursuit_cuda.why_not(None) is None


def test_the_table_names_the_kernels_that_run() -> None:
    committed = json.loads(COMMITTED.read_text())
    names = {kernel["name"] for kernel in committed["kernels"]}
    assert {name for name in names if name.startswith("pursue_samples")} >= {
        row["kernel"] for row in committed["matching_pursuit"]
    }
    assert {f"multiply_atoms<{a}, {b}>" for a in ("true", "false") for b in ("true", "false")} <= names
    for row in committed["matching_pursuit"]:
        found = kernel_resources.pursuit_geometry(row["shape"], row["method"], ARCHITECTURES[row["arch"]])
        assert {name: row[name] for name in found} == found
        assert row["blocks_per_multiprocessor"] >= 1
