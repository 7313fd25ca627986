"""Activations with known answers: a circle in ln n planted into a background, and backgrounds without one."""

from typing import Any

import torch

from interpkern.probing.numbers import coordinate, positive_numbers
from interpkern.validation import choice, integer, number

BACKGROUNDS = ("smooth in n", "smooth in ln n", "helix", "independent", "falling", "falling smooth")
HELIX_PERIODS = (2, 5, 10, 100)
NOISE = 0.1


def background(kind: str, numbers: Any, channels: int, *, noise: float | None = None, seed: int = 0) -> torch.Tensor:
    """Draw activations that have no circle in ln n.

    Shapes:
        numbers (N,), positive -> (N, channels) float64.

    Args:
        kind: "smooth in n" is a Gaussian process of length scale 60, "smooth in ln n" of .5; "helix" is n with circles
            in n of period 2, 5, 10 and 100; "independent" is white; "falling" is white with variances 1, 1/4, 1/16...,
            "falling smooth" is smooth in ln n with such variances.
        numbers: what the rows are of.
        channels: columns.
        noise: standard deviation of what is white; by default .1 beside smooth and helical activations, and 0 beside
            "falling smooth".
        seed: of the draw.

    Returns:
        Activations, in units of the standard deviation of a channel.

    Raises:
        DTypeError or ValueError that names the argument.

    Example:
        >>> background("helix", range(1, 361), 10).shape
        torch.Size([360, 10])
    """
    n, channels = positive_numbers(numbers), integer("channels", channels, 1)
    generator = torch.Generator().manual_seed(integer("seed", seed, 0))
    kind = choice("kind", kind, BACKGROUNDS)
    white = torch.randn(len(n), channels, generator=generator, dtype=torch.float64)
    falling = 0.5 ** torch.arange(channels, dtype=torch.float64)
    if kind in ("independent", "falling"):
        return white * falling if kind == "falling" else white
    share = NOISE * (kind != "falling smooth") if noise is None else number("noise", noise, 0.0)
    if kind == "helix":
        return _helix(n, channels, generator) + share * white
    process = _process(n, 60.0, channels, generator) if kind == "smooth in n" else None
    if process is None:
        process = _process(n.log(), 0.5, channels, generator)
    return process * (falling if kind == "falling smooth" else 1.0) + share * white


def plant_circle(
    acts: torch.Tensor, numbers: Any, period: float, share: float, *, kind: str | float = "log", seed: int = 0
) -> torch.Tensor:
    """Add a circle in a random plane and at a random phase, of `share` times the variance of the activations.

    Shapes:
        acts (N, d) floating point with d >= 2, numbers (N,) -> (N, d) float64.

    Args:
        acts: the background.
        numbers: what its rows are of.
        period: of the circle, in units of the coordinate.
        share: variance of the circle over that of the background, each summed over the channels.
        kind: the coordinate, as in `scan`.
        seed: of the plane and the phase.

    Returns:
        Background and circle, in the unit of acts.

    Raises:
        DTypeError or ValueError that names the argument.

    Example:
        >>> numbers = range(1, 361)
        >>> plant_circle(background("independent", numbers, 10), numbers, 0.5, 0.05).shape
        torch.Size([360, 10])
    """
    period, share = number("period", period, 1e-12), number("share", share, 0.0)
    generator = torch.Generator().manual_seed(integer("seed", seed, 0))
    rows = acts.double()
    phase = 2 * torch.pi * torch.rand(1, generator=generator, dtype=torch.float64)
    angles = 2 * torch.pi * coordinate(numbers, kind) / period + phase
    circle = torch.stack([angles.cos(), angles.sin()], 1)
    circle = circle - circle.mean(0)
    plane = torch.linalg.qr(torch.randn(rows.shape[1], 2, generator=generator, dtype=torch.float64)).Q
    size = (share * (rows - rows.mean(0)).square().sum() / circle.square().sum()).sqrt()
    return rows + size * circle @ plane.mT


def _process(positions: torch.Tensor, scale: float, channels: int, generator: torch.Generator) -> torch.Tensor:
    """(N, channels) draws of a Gaussian process with a squared exponential covariance."""
    covariance = torch.exp(-0.5 * ((positions[:, None] - positions) / scale).square())
    sizes, vectors = torch.linalg.eigh(covariance)
    noise = torch.randn(len(positions), channels, generator=generator, dtype=torch.float64)
    return (vectors * sizes.clamp(min=0).sqrt()) @ noise


def _helix(n: torch.Tensor, channels: int, generator: torch.Generator) -> torch.Tensor:
    columns = [(n - n.mean()) / n.std()]
    for period in HELIX_PERIODS:
        angles = 2 * torch.pi * n / period
        columns += [angles.cos(), angles.sin()]
    mixing = torch.randn(len(columns), channels, generator=generator, dtype=torch.float64)
    return torch.stack(columns, 1) @ mixing
