"""The one run of a model without any replacement, and how it is to be run again from a layer."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from interpkern.activations.bridges import evaluating
from interpkern.errors import MissingExtra, ShapeError
from interpkern.probing.bridges import (
    capturing,
    checked_bridge,
    checked_layer,
    checked_tokens,
    entering,
    final_logits,
    leaving_out,
    noting_outputs,
)
from interpkern.probing.prefix import Prefix
from interpkern.validation import integer

CHECKED_ROWS = 4
"""Prompts on which leaving out blocks is compared with running the whole model."""
TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-5, torch.float16: 2e-2, torch.bfloat16: 1e-1}
"""Largest difference of logits, as a share of the largest logit, at which two ways to run a model are the same."""


@dataclass(frozen=True)
class Shortcut:
    """What a run from a layer leaves out, as checked against the whole model."""

    block_sizes: tuple[int | None, ...] | None
    """How each block before the layer gives its residual; None where all blocks have to run."""
    last_only: bool
    """Whether the last position alone is unembedded."""
    why_not: str | None


class Baseline:
    """A run of a bridge without replacements: the residuals entering some layers, and the logits of the last position.

    Args:
        bridge: a transformer_lens TransformerBridge (3.9 to 4.x) that predicts tokens.
        prompts: (P, S) int64 token ids, all of one length and without padding.
        layers: the layers whose entering residual is kept.
        batch_size: rows in one forward pass; fewer are filled up.
        at_once: replacements that will be run at once, beyond whose rows no pass is filled up.

    Attributes:
        residuals: {layer: (P, S, D)} in the model's dtype, on its device.
        logits: (P, V) of the last position, on the model's device, float32 or float64.
        tokens: (P, S) int64 on the model's device.

    Raises:
        ShapeError, DTypeError or ValueError that names the argument.

    Example:
        >>> baseline = Baseline(bridge, prompts, layers=[2, 4])  # doctest: +SKIP
        >>> runs = [LayerRun(bridge, prompts, layer=n, position=1, baseline=baseline) for n in (2, 4)]  # doctest: +SKIP
    """

    def __init__(
        self, bridge: Any, prompts: Any, *, layers: Sequence[int], batch_size: int = 64, at_once: int | None = None
    ) -> None:
        self.bridge = checked_bridge("bridge", bridge)
        self.tokens = checked_tokens("prompts", bridge, prompts)
        self.layers = tuple(sorted({checked_layer("layers", bridge, layer) for layer in layers}))
        if not self.layers:
            raise ValueError("layers: expected at least one layer, got none")
        rows = integer("batch_size", batch_size, 1)
        most = rows if at_once is None else len(self.tokens) * integer("at_once", at_once, 1)
        self.batch_size = min(rows, most)
        with evaluating(bridge):
            self.last_only = self._check_last_only()
            self.residuals, self.logits = self._run()
            self.shortcuts = {layer: self._shortcut(layer) for layer in self.layers}

    def logits_from(
        self, layer: int, rows: torch.Tensor, residual: torch.Tensor, prefix: Prefix | None = None
    ) -> torch.Tensor:
        """One pass: (n, V) logits of the prompts `rows` (n,) with `residual` (n, S, D) entering `layer`.

        With a prefix of L positions the residual is (n, S - L, D), of the positions after it.
        """
        with evaluating(self.bridge):
            if prefix is None:
                return self._from(layer, self.shortcuts[layer], self.tokens[rows], residual)
            tokens = self.tokens[rows, prefix.length :]
            return self._from(layer, self.shortcuts[layer], tokens, residual, prefix.cache(rows))

    def prefix(self, layer: int, length: int) -> Prefix | None:
        """What later positions attend to at the first `length`, or None where the model can't go on from there."""
        if length < 1 or self.shortcuts[layer].block_sizes is None:
            return None
        with evaluating(self.bridge):
            try:
                rows = min(self.batch_size, len(self.tokens))
                passes = filled_up(len(self.tokens), rows, self.tokens.device)
                found = Prefix.of(self.bridge, self.tokens[:, :length], layer, passes)
                return found if self._goes_on(found) else None
            except (RuntimeError, ValueError, TypeError, IndexError, KeyError, AttributeError, MissingExtra):
                return None

    def _goes_on(self, prefix: Prefix) -> bool:
        """Whether some other residuals after the prefix give what they give in the whole prompts."""
        layer, length = prefix.layer, prefix.length
        rows = torch.arange(min(CHECKED_ROWS, len(self.tokens)), device=self.tokens.device)
        residual = self.residuals[layer][rows]
        residual[:, length:] = residual[:, length:].roll(1, 0).flip(1)
        expected = self.logits_from(layer, rows, residual)
        return same(self.logits_from(layer, rows, residual[:, length:], prefix), expected, slack=10)

    def _run(self) -> tuple[dict[int, torch.Tensor], torch.Tensor]:
        residuals: dict[int, list[torch.Tensor]] = {layer: [] for layer in self.layers}
        logits: list[torch.Tensor] = []
        for part in filled_up(len(self.tokens), self.batch_size, self.tokens.device):
            with capturing(self.bridge, self.layers) as found:
                logits.append(at_least_float32(final_logits(self.bridge, self.tokens[part], last_only=self.last_only)))
            for layer in self.layers:
                residuals[layer].append(_checked_residual(found, layer, len(part), self.tokens.shape[1]))
        prompts = len(self.tokens)
        return {layer: torch.cat(parts)[:prompts] for layer, parts in residuals.items()}, torch.cat(logits)[:prompts]

    def _check_last_only(self) -> bool:
        tokens = self.tokens[:CHECKED_ROWS]
        whole = final_logits(self.bridge, tokens, last_only=False)
        try:
            return same(final_logits(self.bridge, tokens, last_only=True), whole)
        except (RuntimeError, ValueError, TypeError, IndexError):
            return False

    def _shortcut(self, layer: int) -> Shortcut:
        """Leave out the blocks before `layer` if residuals of other prompts give the same without them."""
        whole = Shortcut(None, self.last_only, None)
        tokens = self.tokens[:CHECKED_ROWS]
        residual = self.residuals[layer][:CHECKED_ROWS].roll(1, 0).flip(1)
        try:
            with noting_outputs(self.bridge, layer) as sizes:
                expected = self._from(layer, whole, tokens, residual)
            short = Shortcut(tuple(sizes), self.last_only, None)
            if len(sizes) != layer:
                raise ValueError("its blocks don't run once each, in their order")
            if not same(self._from(layer, short, tokens, residual), expected):
                raise ValueError("without the blocks below, its logits differ")
        except (RuntimeError, ValueError, TypeError, IndexError, KeyError, AttributeError) as error:
            return Shortcut(None, self.last_only, f"the whole model runs: {error}")
        return short

    def _from(
        self, layer: int, shortcut: Shortcut, tokens: torch.Tensor, residual: torch.Tensor, past: Any = None
    ) -> torch.Tensor:
        with leaving_out(self.bridge, shortcut.block_sizes or ()), entering(self.bridge, layer, residual):
            return at_least_float32(final_logits(self.bridge, tokens, last_only=shortcut.last_only, past=past))


def filled_up(count: int, size: int, device: torch.device) -> Iterator[torch.Tensor]:
    """The numbers below `count` in passes (size,), the last filled up with zeros."""
    for start in range(0, count, size):
        part = torch.arange(start, start + size, device=device)
        yield torch.where(part < count, part, 0)


def at_least_float32(logits: torch.Tensor) -> torch.Tensor:
    """Logits in float32, or in float64 as they are."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


def same(logits: torch.Tensor, expected: torch.Tensor, *, slack: float = 1.0) -> bool:
    """Whether logits are those expected to rounding."""
    if logits.shape != expected.shape or not bool(expected.isfinite().all()):
        return False
    scale = max(1.0, float(expected.abs().max()))
    return float((logits - expected).abs().max()) <= slack * TOLERANCE[expected.dtype] * scale


def _checked_residual(found: dict[int, torch.Tensor], layer: int, rows: int, positions: int) -> torch.Tensor:
    if layer not in found:
        raise ValueError(f"layer: block {layer} of this model is never run; choose another")
    residual = found[layer]
    if residual.ndim != 3 or residual.shape[:2] != (rows, positions):
        raise ShapeError(f"layer: the residual entering {layer} is {tuple(residual.shape)}, expected (prompts, S, D)")
    if not bool(residual.isfinite().all()):
        raise ValueError(f"bridge: the residual entering {layer} has NaN or infinity; load the model in float32")
    return residual
