"""The CUDA kernel of `memorise` where there is no GPU: launch geometry, queue, refusals, and what the compiler made."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import interpkern
from benchmarks import kernel_resources
from benchmarks.kernel_resources import ARCHITECTURES, Kernel, blocks_per_multiprocessor, cuobjdump, resource_usage
from interpkern import gpu, native
from interpkern.ops import memorise_cuda, memorise_native
from interpkern.reference.memorise import Fields
from tests.ops.emulated import SHARED_BYTES
from tests.ops.problems import problem, train
from tests.ops.test_memorise_triton import checked_problem

COMMITTED = Path(kernel_resources.__file__).parent / "results" / "kernel_resources.json"
MODULE: Any = native.load("_cuda")
needs_module = pytest.mark.skipif(isinstance(MODULE, str), reason="interpkern._cuda was not built: there is no nvcc")


def geometry(rows: int, columns: int, width: int, hidden: int, *, arch: str = "sm_90", every: bool = False) -> Any:
    train = [every or name not in ("E1", "E2") for name in Fields._fields]
    sizes = {"rows": rows, "columns": columns, "width": width, "hidden": hidden}
    return native.load("_cpu")._memorise_geometry(**sizes, train=train, shared_bytes_per_block=SHARED_BYTES[arch])


@pytest.mark.parametrize(
    ("shape", "threads"),
    [
        ((1, 1, 1, 1), 32),  # one warp
        ((16, 16, 8, 8), 32),
        ((32, 32, 20, 20), 96),  # (8 + 8) tiles of tokens x 5 of hidden units
        ((32, 32, 16, 32), 128),
        ((64, 64, 48, 48), 384),
        ((80, 80, 64, 64), 320),  # 640 tiles in two rounds
        ((128, 128, 128, 128), 512),
    ],
)
def test_threads_are_one_for_each_tile_of_the_widest_pass(shape: tuple[int, ...], threads: int) -> None:
    assert geometry(*shape)["threads"] == threads


@pytest.mark.parametrize("arch", SHARED_BYTES)
@pytest.mark.parametrize("every", [False, True])
def test_memory_of_a_block(arch: str, every: bool) -> None:
    """Everything in shared memory where it fits; past that the rest is in global memory, and nothing is lost."""
    whole = {}
    for m in (1, 7, 16, 31, 32, 33, 48, 64, 96, 128, 257):
        found = geometry(m, m, m, m, arch=arch, every=every)
        assert found["shared_bytes"] <= SHARED_BYTES[arch]
        assert found["threads"] % 32 == 0
        assert 32 <= found["threads"] <= 512
        whole[m] = found["shared_bytes"] + found["global_bytes"]
        # E1, E2, A, N, SA and SB, the errors, W and its moments at the least
        floats = 2 * m * m + 4 * m * m + m * m + 3 * m * m + (3 * 2 * m * m if every else 0)
        assert whole[m] >= 4 * floats
        assert (found["global_bytes"] > 0) == (whole[m] > SHARED_BYTES[arch])
    assert list(whole.values()) == sorted(whole.values())


def test_the_specs_shapes_fit_in_shared_memory() -> None:
    for m, width, hidden in [(32, 20, 20), (48, 32, 28), (64, 40, 40), (64, 48, 48)]:
        assert geometry(m, m, width, hidden)["global_bytes"] == 0


@pytest.mark.parametrize(
    ("milliseconds", "budget"), [(40.0, 1000), (80.0, 500), (20.0, 2000), (1.0, 4000), (4000.0, 250), (0.0, 4000)]
)
def test_the_next_launch_aims_at_40_ms(milliseconds: float, budget: int) -> None:
    assert native.load("_cpu")._next_budget(1000, milliseconds) == budget


def test_a_launch_has_at_least_one_update() -> None:
    assert native.load("_cpu")._next_budget(1, 1e6) == 1


def test_launches_in_python_cover_the_work_once() -> None:
    seen: list[int] = []
    gpu.in_launches(100, seen.append, lambda until: until == 100, first=3, device=torch.device("cpu"))
    assert seen[0] == 0
    assert seen[1] == 3
    assert seen == sorted(seen)
    assert seen[-1] == 100


def test_queue_is_longest_first() -> None:
    run = checked_problem(5, 3, 3, 2, 2)
    lr = torch.tensor([0.02, 0.01, 0.03, 0.01, 0.005], dtype=torch.float64)
    solving = type(run)(**{**vars(run), "lr": lr})
    assert memorise_native.queue_order(solving).tolist() == [4, 1, 3, 0, 2]
    assert memorise_native.queue_order(type(run)(**{**vars(solving), "stop_margin": None})).tolist() == [0, 1, 2, 3, 4]


def test_occupancy_is_the_scarcest_resource() -> None:
    hopper = ARCHITECTURES["sm_90"]
    assert blocks_per_multiprocessor(hopper, 96, 96, 27_968) == 7  # registers: 65,536 / (96 * 96)
    assert blocks_per_multiprocessor(hopper, 32, 32, 100_000) == 2  # shared memory
    assert blocks_per_multiprocessor(hopper, 16, 1024, 0) == 2  # threads
    assert blocks_per_multiprocessor(hopper, 16, 32, 0) == 32  # blocks


def test_issue_cycles_of_a_shape_counted_by_hand() -> None:
    """(4, 4, 4): one warp and one round of four terms everywhere, 2 tiles of tokens, 8 tokens."""
    passes = (8 + 64) + (9 + 128 + 16 + 16 * 26) + (8 + 128) + (8 * 18 + 320) + 80
    assert kernel_resources.issue_cycles(4, 4, 4) == passes // 4


def test_why_not_says_which_and_why(monkeypatch: pytest.MonkeyPatch) -> None:
    weights, tables = problem(2, 3, 3, 2, 2)
    doubles = checked_problem(2, 3, 3, 2, 2)
    doubles = type(doubles)(**{**vars(doubles), "weights": Fields(*(part.double() for part in weights))})
    assert "float64" in str(memorise_cuda.why_not(doubles))
    if not torch.cuda.is_available():
        with pytest.raises(interpkern.BackendUnavailable, match=r"cuda: .*; triton: .*; cpu: available"):
            train(weights, tables, backend="cuda")
    monkeypatch.setattr(native, "load", lambda name: object())
    monkeypatch.setattr(gpu, "_no_device", lambda: None)
    assert memorise_cuda.why_not(checked_problem(2, 3, 3, 2, 2)) == "takes tensors on a GPU, got cpu"
    assert memorise_cuda.why_not(None) is None


def test_sizes_past_32_bits_are_refused() -> None:
    shapes = {"E1": (1, 1 << 20, 8), "E2": (1, 1 << 10, 8), "W": (1, 2040, 8), "c": (1, 2040), "r": (1, 2040)}
    weights = Fields(
        **{name: torch.empty(shape, device="meta") for name, shape in shapes.items()}, c_out=torch.empty(1)
    )
    assert memorise_cuda.largest_array(weights) >= 1 << 31


@needs_module
def test_module_is_built_for_the_supported_architectures() -> None:
    archs = {arch.split("-")[0] for arch in MODULE.archs()}
    assert {"80", "90"} <= archs
    assert isinstance(MODULE.devices(), list)


@needs_module
@pytest.mark.skipif(cuobjdump() is None, reason="there is no cuobjdump")
def test_no_kernel_spills_and_the_table_is_up_to_date() -> None:
    kernels = resource_usage(Path(MODULE.__file__))
    assert {kernel.arch for kernel in kernels} >= {"sm_80", "sm_90"}
    assert all(kernel.stack == kernel.local == 0 for kernel in kernels)
    committed = json.loads(COMMITTED.read_text())
    if committed["compiler"] == MODULE.compiler():
        assert set(kernels) == {Kernel(**kernel) for kernel in committed["kernels"]}
    assert {kernel.name for kernel in kernels} == {kernel["name"] for kernel in committed["kernels"]}


def test_the_table_names_the_kernels_that_run() -> None:
    committed = json.loads(COMMITTED.read_text())
    assert {row["kernel"] for row in committed["memorise"]} == {
        kernel["name"] for kernel in committed["kernels"] if kernel["name"].startswith("train_blocks")
    }
    for row in committed["memorise"]:
        m, width, hidden = row["shape"]
        assert kernel_resources.memorise_geometry(m, width, hidden, ARCHITECTURES[row["arch"]]).items() <= row.items()
