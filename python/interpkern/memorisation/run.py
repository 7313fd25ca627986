"""What `memorise` gives back: trained models, how they got there, and what they store."""

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas
import torch
from matplotlib.figure import Figure

from interpkern.memorisation import storage
from interpkern.memorisation.bits import bits_accuracy, bits_ce, density
from interpkern.memorisation.models import COUNTS, TableMLPs, chosen_models
from interpkern.memorisation.plots import plot_run
from interpkern.reference.memorise import Fields, State
from interpkern.validation import choice

PER_MODEL = ("lr", "betas", "eps", "weight_decay")


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class MemoriseRun:
    """B trained models with the loss on the way, accuracy, settings and provenance.

    Example:
        >>> run = memorise(TableMLPs.init(8, 6, 6, 6, 6), random_tables(8, 6, 6), steps=500)
        >>> list(run.to_pandas().columns)[-3:]
        ['bits_ce', 'bits_accuracy', 'bits_per_P2']
        >>> rest = run[~run.solved]
        >>> more = memorise(rest.models, rest.tables, steps=500, state=rest.state)
    """

    models: TableMLPs
    """The models at the end."""
    tables: torch.Tensor
    """(B, R, C) uint8, the facts."""
    state: State
    """Adam's memory, to go on from."""
    loss: torch.Tensor
    """(B, L) nats per fact after each of `logged_steps` updates of this run; the last is that of `models`."""
    logged_steps: torch.Tensor
    """(L,) int64."""
    steps_taken: torch.Tensor
    """(B,) int64, updates made in this run; fewer than `steps` where a solved model stopped."""
    accuracy: torch.Tensor
    """(B,) float64, share of facts right."""
    solved: torch.Tensor
    """(B,) bool, whether all facts are right."""
    settings: dict[str, Any]
    """The arguments of `memorise`, as JSON has them."""
    provenance: dict[str, Any]
    """Versions, backend, threads, device, seconds, and the seed of the models if known."""

    def __len__(self) -> int:
        """B, the number of models."""
        return len(self.models)

    def __repr__(self) -> str:
        solved, loss = int(self.solved.sum()), float(self.loss[:, -1].nanmedian())
        return f"MemoriseRun({self.models!r}, solved={solved}/{len(self)}, median loss={loss:.3g} nats per fact)"

    def __getitem__(self, index: Any) -> "MemoriseRun":
        """The part of the run with the models chosen by an int, a slice, a mask or indices, say run[~run.solved]."""
        at = chosen_models(index, len(self))
        there = at.to(self.state.step.device)
        first, second = (Fields(*(part[there] for part in moment)) for moment in (self.state.first, self.state.second))
        return replace(
            self,
            models=self.models[at],
            state=State(first, second, self.state.step[there]),
            settings=self.settings | {name: _pick(self.settings[name], at, name == "betas") for name in PER_MODEL},
            **{name: getattr(self, name)[at] for name in ("tables", "loss", "steps_taken", "accuracy", "solved")},
        )

    @property
    def facts(self) -> int:
        """R * C, the facts of one model."""
        return self.models.rows * self.models.cols

    def parameters(self, count: str = "two_logit") -> int:
        """Parameters that were free in this run: those of the fields it trained, P2 with both logits or P1 with one."""
        logits = 2 if choice("count", count, COUNTS) == "two_logit" else 1
        sizes = {name: part[0].numel() for name, part in self.models.state_dict().items()}
        sizes |= {"r": sizes["r"] * logits, "c_out": logits}
        return sum(sizes[name] for name in self.settings["train"])

    def bits(self, kind: str = "ce") -> torch.Tensor:
        """(B,) float64, bits that each model stores, by its cross-entropy ("ce") or by its right answers ("accuracy").

        `bits_ce` and `bits_accuracy` say how they are counted; a model that diverged (loss NaN) has NaN bits of both.
        """
        loss = self.loss[:, -1]
        if choice("kind", kind, ("ce", "accuracy")) == "ce":
            return bits_ce(loss, self.tables)
        return torch.where(loss.isnan(), torch.nan, bits_accuracy(self.accuracy, self.tables))

    def to_pandas(self) -> pandas.DataFrame:
        """One row for each model; `steps` counts all its updates, loss is in nats per fact, bits are per model."""
        one, two = self.parameters("one_logit"), self.parameters("two_logit")
        shape = {name: getattr(self.models, name) for name in ("rows", "cols", "d_model", "d_hidden", "embedding")}
        ce = self.bits("ce").numpy()
        columns = {
            "model": range(len(self)),
            **shape,
            "P1": one,
            "P2": two,
            "facts": self.facts,
            "facts_per_P1": self.facts / one,
            "density": density(self.tables).numpy(),
            "lr": self.settings["lr"],
            "steps": self.state.step.cpu().numpy(),
            "loss": self.loss[:, -1].double().numpy(),
            "accuracy": self.accuracy.numpy(),
            "solved": self.solved.numpy(),
            "bits_ce": ce,
            "bits_accuracy": self.bits("accuracy").numpy(),
            "bits_per_P2": ce / two,
        }
        return pandas.DataFrame(columns)

    def plot(self) -> Figure:
        """Draw the loss against updates, and how many bits per parameter the models store."""
        return plot_run(self)

    def save(self, directory: str | os.PathLike[str]) -> Path:
        """Write models.safetensors, training.safetensors, runs.parquet and run.json; `load` takes them back.

        A directory that holds an earlier run is overwritten, one that holds anything else refused.
        """
        return storage.save(self, directory)

    @classmethod
    def load(cls, directory: str | os.PathLike[str]) -> "MemoriseRun":
        """Read what `save` wrote, bit for bit."""
        return cls(**storage.load(directory))


def _pick(setting: Any, at: torch.Tensor, pair: bool) -> Any:
    """A setting's values for the chosen models; one number serves all."""
    if pair:
        return [_pick(part, at, False) for part in setting]
    return [setting[model] for model in at.tolist()] if isinstance(setting, list) else setting
