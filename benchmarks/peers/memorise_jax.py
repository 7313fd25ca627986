"""Memorisation in JAX: a whole run in one call, over models by lax.map or vmap, over steps by lax.scan."""

from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import torch

from benchmarks.peers import BETA1, BETA2, TRAINED, Peer, Weights, step_scales

Arrays = dict[str, Any]
"""jax.Array by name: JAX is not there to type against."""

MODELS_AT_ONCE, UNROLLED_STEPS = 16, 4
"""The best on one core among 1..32 and 1..4: a tenth to a quarter faster than one model and one step."""


def _import_jax() -> ModuleType:
    try:
        import jax
    except ImportError as error:
        raise ImportError(
            "jax is not installed: it is in the extra `bench`, pip install 'interpkern[bench]'"
        ) from error
    return jax


def _loss(model: Arrays, E1: Any, E2: Any, facts: Any) -> Any:
    """Mean cross-entropy of one model in nats per fact: softplus(z) - y z."""
    jax = _import_jax()
    hidden = jax.nn.relu((E1 @ model["W"].T + model["c"])[:, None] + E2 @ model["W"].T)
    z = hidden @ model["r"] + model["c_out"]
    return (jax.nn.softplus(z) - facts * z).mean()


def _train_one(weights: Arrays, facts: Any, scales: Any) -> Arrays:
    """Train one model: a scan of Adam over the rows of `scales`."""
    jax = _import_jax()
    tree, gradient = jax.tree.map, jax.grad(_loss)

    def step(state: tuple[Arrays, Arrays, Arrays], scale: Any) -> tuple[tuple[Arrays, Arrays, Arrays], None]:
        model, first, second = state
        g = gradient(model, weights["E1"], weights["E2"], facts)
        first = tree(lambda m, g: BETA1 * m + (1 - BETA1) * g, first, g)
        second = tree(lambda v, g: BETA2 * v + (1 - BETA2) * g * g, second, g)
        model = tree(lambda p, m, v: p - scale[0] * m / (jax.numpy.sqrt(v) + scale[1]), model, first, second)
        return (model, first, second), None

    model = {name: weights[name] for name in TRAINED}
    zero = tree(jax.numpy.zeros_like, model)
    return jax.lax.scan(step, (model, zero, zero), scales, unroll=UNROLLED_STEPS)[0][0]


def _mapped(weights: Arrays, facts: Any, scales: Any) -> Arrays:
    def one(model: tuple[Arrays, Any]) -> Arrays:
        return _train_one(*model, scales)

    return _import_jax().lax.map(one, (weights, facts), batch_size=MODELS_AT_ONCE)


def _vmapped(weights: Arrays, facts: Any, scales: Any) -> Arrays:
    return _import_jax().vmap(_train_one, in_axes=(0, 0, None))(weights, facts, scales)


def _prepare(train: Callable[..., Arrays]) -> Callable[[Weights, torch.Tensor, int, float], Callable[[], Weights]]:
    """The `prepare` of a function of all models: compiles it for these shapes, ahead of time."""

    def prepare(weights: Weights, tables: torch.Tensor, steps: int, lr: float) -> Callable[[], Weights]:
        jax = _import_jax()
        arrays = {name: jax.numpy.asarray(weight.numpy()) for name, weight in weights.items()}
        arguments = (
            arrays,
            jax.numpy.asarray(tables.float().numpy()),
            jax.numpy.asarray(step_scales(steps, lr).numpy()),
        )
        compiled = jax.jit(train).lower(*arguments).compile()

        def run() -> Weights:
            trained = jax.block_until_ready(compiled(*arguments))
            return {**weights, **{name: torch.from_numpy(np.array(value)) for name, value in trained.items()}}

        return run

    return prepare


mapped = Peer("JAX lax.map over models, lax.scan over steps", _prepare(_mapped))
vmapped = Peer("JAX vmap over models, lax.scan over steps", _prepare(_vmapped))
