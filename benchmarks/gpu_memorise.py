"""`memorise` on a GPU: whole public calls in model-steps/s, against the roofs and the strongest forms in PyTorch."""

from collections.abc import Callable, Iterator
from typing import Any

import torch

from benchmarks.bench_memorise import flops
from benchmarks.gpu_roofs import Roofs, seconds_of
from benchmarks.peers import Peer, loss, memorise_torch
from interpkern.memorisation import TableMLPs, memorise, random_tables

MAIN, SMALL = (32, 16, 32), (32, 20, 20)
ISSUE_CEILING = 0.58
"""Share of the fp32 peak that the instructions of a step leave, by the spec."""
SIZES = (528, 1056, 4096, 16_384, 65_536)
SHAPES = ((16, 16, 16), SMALL, (48, 32, 32), (64, 48, 48), (128, 128, 128))
SECONDS = 0.25
"""What a timed call should take."""
CHECKED = 8
COLUMNS = ("form", "shape", "models", "steps", "seconds", "model_steps_per_second", "share_of_fma", "share_of_ceiling",
           "ours_is_times_as_fast", "note")  # fmt: skip


def timings(roofs: Roofs, left: Callable[[], float]) -> list[dict[str, Any]]:
    """One row a form, shape and batch, until the time is over."""
    rows: list[dict[str, Any]] = []
    for backend, shape, models in cases():
        if left() < 20:
            rows.append(row(backend, shape, models) | {"note": "left out: no time left"})
            continue
        rows.append(timed(lambda b=backend, s=shape, m=models: ours(b, s, m, roofs), backend, shape, models))
    for peer, models in peers():
        if left() < 45:
            rows.append(row(peer.name, MAIN, models) | {"note": "left out: no time left"})
            continue
        rows.append(timed(lambda p=peer, m=models: theirs(p, MAIN, m, roofs, rows), peer.name, MAIN, models))
    if left() > 20:
        rows.append(timed(lambda: ours("cuda", SMALL, 4096, roofs, steps=50_000), "cuda", SMALL, 4096))
    return rows


def cases() -> Iterator[tuple[str, tuple[int, int, int], int]]:
    """What is timed of ours: the main shape at all batches, the others at one, Triton at two."""
    yield from (("cuda", MAIN, models) for models in SIZES)
    yield from (("cuda", shape, 4096 if shape[0] < 128 else 528) for shape in SHAPES)
    yield from (("triton", MAIN, models) for models in (528, 4096))


def peers() -> Iterator[tuple[Peer, int]]:
    """The baselines at the main shape."""
    for models in (4096, 528, 65_536):
        yield memorise_torch.graphed, models
    yield memorise_torch.vmap, 4096


def row(form: str, shape: tuple[int, int, int], models: int) -> dict[str, Any]:
    """What every row begins with."""
    return {"form": form, "shape": str(shape), "models": models}


def timed(measure: Callable[[], dict[str, Any]], form: str, shape: tuple[int, int, int], models: int) -> dict[str, Any]:
    """A row; a form that fails, say for want of memory, says so in its note."""
    try:
        found = measure()
    except RuntimeError as error:
        found = row(form, shape, models) | {"note": f"{type(error).__name__}: {str(error).splitlines()[0][:120]}"}
    print(found, flush=True)
    torch.cuda.empty_cache()
    return found


def problem(shape: tuple[int, int, int], models: int) -> tuple[TableMLPs, torch.Tensor]:
    """Models and tables on the GPU; few are drawn and repeated, since only their number counts."""
    m, d_model, d_hidden = shape
    drawn = min(models, 528)
    few, tables = TableMLPs.init(drawn, m, m, d_model, d_hidden, device="cuda"), random_tables(drawn, m, m)
    index = torch.arange(models) % drawn
    return few[index], tables[index].cuda()


def ours(
    backend: str, shape: tuple[int, int, int], models: int, roofs: Roofs, *, steps: int | None = None
) -> dict[str, Any]:
    """Our public call, with as many steps as fill SECONDS, or with `steps`."""
    start, tables = problem(shape, models)

    def call(steps: int) -> object:
        return memorise(start, tables, steps=steps, lr=0.01, backend=backend, progress=False)

    if steps is None:
        few = 50
        steps = max(few, int(few * SECONDS / seconds_of(lambda: call(few), 1)))
        seconds = seconds_of(lambda: call(steps), 3, 1)
    else:
        seconds = seconds_of(lambda: call(steps), 1, 0)
    return row(backend, shape, models) | rates(shape, models, steps, seconds, roofs)


def theirs(
    peer: Peer, shape: tuple[int, int, int], models: int, roofs: Roofs, rows: list[dict[str, Any]]
) -> dict[str, Any]:
    """A baseline, once it agrees with us after a few updates."""
    start, tables = problem(shape, models)
    difference = disagreement(peer, start[:CHECKED], tables[:CHECKED])
    if not difference <= 1e-4:
        return row(peer.name, shape, models) | {"note": f"disagrees by {difference:.1e} nats after 8 updates"}
    steps = 64
    run = peer.prepare(start.state_dict(), tables, steps, 0.01)
    seconds = seconds_of(run, 3, 1)
    found = row(peer.name, shape, models) | rates(shape, models, steps, seconds, roofs)
    same = [known for known in rows if known["form"] == "cuda" and known["shape"] == str(shape)]
    rate = next((known.get("model_steps_per_second") for known in same if known["models"] == models), None)
    return found | ({"ours_is_times_as_fast": rate / found["model_steps_per_second"]} if rate else {})


def disagreement(peer: Peer, start: TableMLPs, tables: torch.Tensor) -> float:
    """Largest difference in loss from ours after 8 updates, in nats per fact."""
    run = memorise(start, tables, steps=8, lr=0.01, backend="cuda", progress=False)
    trained = peer.prepare(start.state_dict(), tables, 8, 0.01)()
    return float((loss(trained, tables).cpu() - run.loss[:, -1]).abs().max())


def rates(shape: tuple[int, int, int], models: int, steps: int, seconds: float, roofs: Roofs) -> dict[str, float | int]:
    """Speed and shares of the roof, FLOPs counted as the spec does."""
    per_second = models * steps / seconds
    share = per_second * flops(*shape) / (roofs.fma_tflops * 1e12)
    return {
        "steps": steps,
        "seconds": seconds,
        "model_steps_per_second": per_second,
        "share_of_fma": share,
        "share_of_ceiling": share / ISSUE_CEILING,
    }
