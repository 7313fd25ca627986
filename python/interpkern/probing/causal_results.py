"""What the causal tests give: the effect between its bounds, and among its controls."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pandas
import torch

from interpkern.files import as_path, write_atomically
from interpkern.probing.outcomes import Outcome
from interpkern.report import parquet

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class _ReadOffEffect:
    """What is read off the outcome of a replacement: another residual, or a direction projected out."""

    effect: Outcome

    @property
    def delta_logit(self) -> torch.Tensor:
        """(P,) logit of the answer with the replacement, less that without."""
        return self.effect.delta_logit

    @property
    def logit_difference(self) -> torch.Tensor:
        """(P,) logit of the counterfactual answer less that of the answer, with the replacement; NaN without one."""
        return self.effect.logit_difference

    @property
    def kl(self) -> torch.Tensor:
        """(P,) nats: KL(without || with the replacement)."""
        return self.effect.kl

    @property
    def accuracy(self) -> float:
        """Share of prompts whose most likely token is the answer, with the replacement."""
        return float(self.effect.accuracy)


@dataclass(frozen=True, eq=False)
class PatchResult(_ReadOffEffect):
    """What a model answers with another residual at a position."""

    layer: int
    logits: torch.Tensor
    """(P, V) float32 logits of the last position with the replacement, float64 for a model in float64."""
    effect: Outcome
    """(P,) with the replacement."""
    before: Outcome
    """(P,) without."""
    floor: Outcome
    """(P,) with the residual replaced by itself: exactly 0."""
    ceiling: Outcome | None
    """(P,) with the whole residual of `counterfactual_prompts`, the most that a patch here could do."""
    starts_at_layer: bool
    """Whether the blocks before the layer were left out."""

    def to_pandas(self) -> pandas.DataFrame:
        """Means over the prompts, one row each for the patch, what was before, the floor and the ceiling."""
        rows = {"patch": self.effect, "before": self.before, "identity": self.floor, "full layer": self.ceiling}
        return _means({name: outcome for name, outcome in rows.items() if outcome is not None})

    def save(self, path: str | Path) -> None:
        """Write the table as parquet."""
        write_atomically(as_path("path", path), parquet(self.to_pandas()))

    def plot(self) -> "Figure":
        """Draw the effect on each prompt between floor and ceiling."""
        from interpkern.probing.causal_plots import plot_patch

        return plot_patch(self)


@dataclass(frozen=True, eq=False)
class AblationResult(_ReadOffEffect):
    """What a model answers with a direction projected out, against matched controls and bounds."""

    layer: int
    effect: Outcome
    """(P,) with the direction projected out."""
    controls: Outcome
    """(controls, P) with random directions projected out that remove as much variance."""
    before: Outcome
    """(P,) without an ablation."""
    floor: Outcome
    """(P,) with the residual replaced by itself: exactly 0."""
    ceiling: Outcome
    """(P,) with the mean over the prompts in place of the whole residual."""
    also: Mapping[str, Outcome]
    """(P,) with further directions projected out, by name."""
    removed_variance: float
    """Share of the variance over prompts at the positions that the direction holds."""
    control_removed_variance: torch.Tensor
    """(controls,) that the controls hold."""
    also_removed_variance: Mapping[str, float]
    control_dimensions: int
    """Directions in a control."""
    control_overlap: torch.Tensor
    """(controls,) squared cosine with the direction."""
    starts_at_layer: bool
    """Whether the blocks before the layer were left out."""
    warnings: tuple[str, ...]

    @property
    def controls_apart(self) -> bool:
        """Whether the controls are orthogonal to the direction."""
        return float(self.control_overlap.max()) < 1e-9

    @property
    def rank(self) -> int:
        """1 if the answers' mean logit falls by more than with every control; ties count against the direction."""
        return 1 + int((self.controls.delta_logit.mean(1) <= self.effect.delta_logit.mean()).sum())

    @property
    def p_value(self) -> float:
        """One-sided: rank / (controls + 1)."""
        return self.rank / (len(self.control_removed_variance) + 1)

    @property
    def kl_rank(self) -> int:
        """1 if the predictions change, in mean KL, by more than with every control."""
        return 1 + int((self.controls.kl.mean(1) >= self.effect.kl.mean()).sum())

    @property
    def kl_p_value(self) -> float:
        """kl_rank / (controls + 1)."""
        return self.kl_rank / (len(self.control_removed_variance) + 1)

    def to_pandas(self) -> pandas.DataFrame:
        """Means over the prompts: a row each for the direction, the bounds, other directions, and every control."""
        count = len(self.control_removed_variance)
        rows = {"direction": self.effect, "before": self.before, "identity": self.floor, "whole residual": self.ceiling}
        rows |= dict(self.also) | {f"control {place}": self.controls[place] for place in range(count)}
        removed = {"direction": self.removed_variance, "before": 0.0, "identity": 0.0, "whole residual": 1.0}
        removed |= dict(self.also_removed_variance)
        removed |= {f"control {place}": float(self.control_removed_variance[place]) for place in range(count)}
        return _means(rows).assign(removed_variance=list(removed.values()), layer=self.layer)

    def save(self, path: str | Path) -> None:
        """Write the table as parquet."""
        write_atomically(as_path("path", path), parquet(self.to_pandas()))

    def plot(self) -> "Figure":
        """Draw the direction among its controls, between floor and ceiling."""
        from interpkern.probing.causal_plots import plot_ablation

        return plot_ablation(self)

    def __repr__(self) -> str:
        return (
            f"AblationResult(layer {self.layer}: delta_logit {float(self.delta_logit.mean()):+.4g}, rank {self.rank} of"
            f" {len(self.control_removed_variance) + 1}, p = {self.p_value:.3g}; KL {float(self.kl.mean()):.3g} nats,"
            f" rank {self.kl_rank}; accuracy {float(self.before.accuracy):.0%} before, {self.accuracy:.0%} after;"
            f" {self.removed_variance:.1%} of the variance removed)"
        )


def _means(rows: Mapping[str, Outcome]) -> pandas.DataFrame:
    return pandas.DataFrame([{"what": name} | outcome.means() for name, outcome in rows.items()])
