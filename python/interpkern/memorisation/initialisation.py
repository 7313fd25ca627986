"""The weights that the lab's models start from; embeddings are random, optimised towards orthogonality or a basis."""

import numpy
from numpy.typing import NDArray

from interpkern.random import normal, uniform
from interpkern.validation import choice, integer

EMBEDDINGS = ("random", "optimised", "basis", "trained")
POINTS = "points"
"""Instead of them: dense inputs, a token each, in tables of one column."""
OPTIMISER_STEPS = 100
CHUNK = 16
MAX_SIZE = 1 << 20

Array = NDArray[numpy.float32]


def width(d_model: int | None, tokens: int, embedding: str) -> int:
    """D for `embedding`: what the caller asks, except that a basis has one direction for each token."""
    if choice("embedding", embedding, EMBEDDINGS) != "basis":
        return integer("d_model", d_model, 1, MAX_SIZE)
    if d_model is not None and integer("d_model", d_model, 1, MAX_SIZE) != tokens:
        raise ValueError(f"d_model: expected rows + cols = {tokens} (or None) with embedding='basis', got {d_model}")
    return tokens


def layers(models: int, d_model: int, d_hidden: int, seed: int) -> dict[str, Array]:
    """W (B, H, D) and c (B, H) from U(+-1/sqrt(D)), r (B, H) and c_out (B,) from U(+-1/sqrt(H))."""
    return {
        "W": _between(seed, models, "W", (d_hidden, d_model), d_model**-0.5),
        "c": _between(seed, models, "c", (d_hidden,), d_model**-0.5),
        "r": _between(seed, models, "r", (d_hidden,), d_hidden**-0.5),
        "c_out": _between(seed, models, "c_out", (), d_hidden**-0.5),
    }


def _between(seed: int, models: int, use: str, shape: tuple[int, ...], bound: float) -> Array:
    drawn = numpy.empty((models, *shape), dtype=numpy.float32)
    flat = drawn.reshape(models, -1)
    for model in range(models):
        flat[model] = bound * (2 * uniform(seed, model, use, flat.shape[1]) - 1)
    return drawn


def gaussian_points(models: int, points: int, d_model: int, seed: int) -> Array:
    """(B, N, D) float32 standard normal numbers."""
    drawn = numpy.empty((models, points * d_model), dtype=numpy.float32)
    for model in range(models):
        drawn[model] = normal(seed, model, "E1", points * d_model)
    return drawn.reshape(models, points, d_model)


def token_embeddings(embedding: str, models: int, rows: int, cols: int, d_model: int, seed: int) -> Array:
    """(B, R + C, D) float32: the rows of E1, then those of E2, for one of EMBEDDINGS."""
    if embedding == "basis":
        return numpy.tile(numpy.eye(rows + cols, dtype=numpy.float32), (models, 1, 1))
    tokens = numpy.empty((models, rows + cols, d_model), dtype=numpy.float32)
    for model in range(models):
        drawn = [normal(seed, model, "E1", rows * d_model), normal(seed, model, "E2", cols * d_model)]
        tokens[model] = _unit(numpy.concatenate(drawn).reshape(rows + cols, d_model))
    return orthogonalised(tokens) if embedding == "optimised" else tokens


def orthogonalised(tokens: Array) -> Array:
    """Move unit rows apart by gradient steps on the sum of their squared inner products, (B, N, D) -> (B, N, D).

    The minimum is the Welch bound: orthogonal rows where N <= D, a tight frame, sum = N^2 / D - N, where N > D. The
    step is that of Newton and Schulz for the polar factor. NumPy multiplies one model's matrices at a time, so a
    model's bits don't depend on its batch.

    Source:
        Benedetto and Fickus 2003, "Finite normalized tight frames" (the sum has no other local minimum).
    """
    _, count, d_model = tokens.shape
    share = min(1.0, d_model / count) / 3
    step = share / (1 - share)
    done = []
    for start in range(0, len(tokens), CHUNK):
        x = tokens[start : start + CHUNK].astype(numpy.float64)
        for _ in range(OPTIMISER_STEPS):
            x = _unit(x - step * (x @ (x.transpose(0, 2, 1) @ x) - x))
        done.append(x.astype(numpy.float32))
    return numpy.concatenate(done)


def _unit(x: NDArray[numpy.float64]) -> NDArray[numpy.float64]:
    return x / numpy.sqrt((x * x).sum(axis=-1, keepdims=True))
