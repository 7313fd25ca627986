"""Memorisation in plain PyTorch: the fastest form under torch.compile, per-model gradients by vmap, eager autograd."""

from collections.abc import Callable, Iterable
from functools import partial

import torch
from torch.nn.functional import binary_cross_entropy_with_logits

from benchmarks.peers import BETA1, BETA2, EPS, TRAINED, Peer, Weights, step_scales

UPDATES = 8
"""Updates in a CUDA graph; the steps of a run are rounded up to a multiple of it."""
Gradients = Callable[[Weights], Iterable[torch.Tensor]]
"""Trained weights -> their gradients, in the order of TRAINED."""
Adam = partial(torch.optim.Adam, betas=(BETA1, BETA2), eps=EPS)


def _gradients(
    tokens: torch.Tensor, facts: torch.Tensor, W: torch.Tensor, c: torch.Tensor, r: torch.Tensor, c_out: torch.Tensor
) -> tuple[torch.Tensor, ...]:
    """Gradients by the spec's second identity, from tokens = [E1; -E2] (B, R + C, D) and facts (B, R, C) float32.

    The (B, R, C, H) tensors exist only inside fused reductions. The logits read -E2 W^T as (B, H, C), so that vector
    lanes run over columns and no sum is horizontal; the readout's gradient comes from W's, without another pass.
    """
    rows, columns = facts.shape[1:]
    A, nB = torch.baddbmm(c[:, None], tokens[:, :rows], W.mT), torch.bmm(tokens[:, rows:], W.mT)
    nB_transposed = torch.bmm(W, tokens[:, rows:].mT)
    hidden = torch.relu(A[..., None] - nB_transposed[:, None])
    z = (hidden * r[:, None, :, None]).sum(2) + c_out[:, None, None]
    g = (torch.sigmoid(z) - facts) / (rows * columns)
    masked = torch.where(A[:, :, None] > nB[:, None], g[..., None], 0.0)
    S = torch.cat((masked.sum(2), -masked.sum(1)), 1)
    unscaled, total = torch.bmm(S.mT, tokens), S[:, :rows].sum(1)
    return unscaled * r[..., None], total * r, (unscaled * W).sum(2) + total * c, g.sum((1, 2))


def _plain_gradients(
    tokens: torch.Tensor, facts: torch.Tensor, W: torch.Tensor, c: torch.Tensor, r: torch.Tensor, c_out: torch.Tensor
) -> tuple[torch.Tensor, ...]:
    """The same as the identity is written in the spec, without a thought for layouts."""
    rows, columns = facts.shape[1:]
    A, nB = tokens[:, :rows] @ W.mT + c[:, None], tokens[:, rows:] @ W.mT
    z = (torch.relu(A[:, :, None] - nB[:, None]) * r[:, None, None]).sum(3) + c_out[:, None, None]
    g = (torch.sigmoid(z) - facts) / (rows * columns)
    masked = torch.where(A[:, :, None] > nB[:, None], g[..., None], 0.0)
    SA, SB = masked.sum(2), masked.sum(1)
    dA, dB = SA * r[:, None], SB * r[:, None]
    dW = dA.mT @ tokens[:, :rows] - dB.mT @ tokens[:, rows:]
    return dW, dA.sum(1), (SA * A).sum(1) - (SB * nB).sum(1), g.sum((1, 2))


def _step(
    formula: Callable[..., tuple[torch.Tensor, ...]],
    tokens: torch.Tensor,
    facts: torch.Tensor,
    weights: tuple[torch.Tensor, ...],
    first: tuple[torch.Tensor, ...],
    second: tuple[torch.Tensor, ...],
    scale: torch.Tensor,
) -> None:
    """One gradient and one Adam update in place; `scale` is a row of `step_scales`."""
    gradients = formula(tokens, facts, *weights)
    for p, m, v, g in zip(weights, first, second, gradients, strict=True):
        m.lerp_(g, 1 - BETA1)
        v.mul_(BETA2).addcmul_(g, g, value=1 - BETA2)
        p.sub_(scale[0] * m / (v.sqrt() + scale[1]))


def _prepare_compiled(
    formula: Callable[..., tuple[torch.Tensor, ...]], weights: Weights, tables: torch.Tensor, steps: int, lr: float
) -> Callable[[], Weights]:
    tokens, facts = torch.cat((weights["E1"], -weights["E2"]), 1), tables.float()
    step = torch.compile(_step, fullgraph=True, dynamic=False)

    @torch.no_grad()
    def run(steps: int = steps) -> Weights:
        trained = tuple(weights[name].clone() for name in TRAINED)
        first, second = (tuple(torch.zeros_like(p) for p in trained) for _ in range(2))
        for scale in step_scales(steps, lr).unbind():
            step(formula, tokens, facts, trained, first, second, scale)
        return {**weights, **dict(zip(TRAINED, trained, strict=True))}

    with torch._dynamo.config.patch(recompile_limit=256):
        run(1)
    return run


def _prepare_graphed(weights: Weights, tables: torch.Tensor, steps: int, lr: float) -> Callable[[], Weights]:
    """The compiled step, UPDATES of it in a CUDA graph that is replayed: no launch waits for Python."""
    tokens, facts = torch.cat((weights["E1"], -weights["E2"]), 1), tables.float()
    step = torch.compile(_step, fullgraph=True, dynamic=False)
    trained = tuple(weights[name].clone() for name in TRAINED)
    moments = [tuple(torch.zeros_like(p) for p in trained) for _ in range(2)]
    scales = step_scales(-(-steps // UPDATES) * UPDATES, lr).to(tables.device)
    now = scales[:UPDATES].clone()

    def updates() -> None:
        for scale in now.unbind():
            step(_gradients, tokens, facts, trained, *moments, scale)

    with torch.no_grad():
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            updates()
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            updates()

    def run() -> Weights:
        for part, name in zip(trained, TRAINED, strict=True):
            part.copy_(weights[name])
        for moment in moments:
            torch._foreach_zero_(list(moment))
        for scale in scales.split(UPDATES):
            now.copy_(scale)
            graph.replay()
        return {**weights, **{name: part.clone() for name, part in zip(TRAINED, trained, strict=True)}}

    return run


def _optimise(
    weights: Weights, gradients: Gradients, steps: int, optimiser: Callable[..., torch.optim.Adam]
) -> Weights:
    """`steps` updates by an optimiser of the trained weights."""
    trained = {name: weights[name].clone().requires_grad_() for name in TRAINED}
    adam = optimiser(trained.values())
    for _ in range(steps):
        for parameter, gradient in zip(trained.values(), gradients(trained), strict=True):
            parameter.grad = gradient
        adam.step()
    return {**weights, **{name: parameter.detach() for name, parameter in trained.items()}}


def _prepare_vmap(weights: Weights, tables: torch.Tensor, steps: int, lr: float) -> Callable[[], Weights]:
    facts = tables.float()

    def loss(model: Weights, E1: torch.Tensor, E2: torch.Tensor, facts: torch.Tensor) -> torch.Tensor:
        hidden = torch.relu((E1 @ model["W"].T + model["c"])[:, None] + E2 @ model["W"].T)
        return binary_cross_entropy_with_logits(hidden @ model["r"] + model["c_out"], facts)

    each = torch.func.vmap(torch.func.grad(loss))

    def gradients(trained: Weights) -> Iterable[torch.Tensor]:
        values = {name: parameter.detach() for name, parameter in trained.items()}
        return each(values, weights["E1"], weights["E2"], facts).values()

    return lambda: _optimise(weights, gradients, steps, partial(Adam, lr=lr, fused=True))


def _prepare_eager(weights: Weights, tables: torch.Tensor, steps: int, lr: float) -> Callable[[], Weights]:
    facts = tables.float().flatten(1)

    def gradients(trained: Weights) -> Iterable[torch.Tensor]:
        W, c, r, c_out = trained.values()
        A, B = torch.baddbmm(c[:, None], weights["E1"], W.mT), torch.bmm(weights["E2"], W.mT)
        hidden = torch.relu(A[:, :, None] + B[:, None]).flatten(1, 2)
        z = torch.baddbmm(c_out[:, None, None], hidden, r[..., None])[..., 0]
        loss = binary_cross_entropy_with_logits(z, facts, reduction="none").mean(1)
        return torch.autograd.grad(loss.sum(), (W, c, r, c_out))

    return lambda: _optimise(weights, gradients, steps, partial(Adam, lr=lr, foreach=True))


compiled = Peer("torch.compile of a hand-written and tuned backward and Adam", partial(_prepare_compiled, _gradients))
compiled_plain = Peer(
    "torch.compile of a hand-written backward and Adam, as the spec writes it",
    partial(_prepare_compiled, _plain_gradients),
)
graphed = Peer("torch.compile of the same, several updates in a CUDA graph", _prepare_graphed)
vmap = Peer("torch.func.vmap(grad) and fused Adam", _prepare_vmap)
eager = Peer("batched autograd and foreach Adam", _prepare_eager)
