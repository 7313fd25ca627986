"""What replacing a residual does to a model's answers, by metrics with explicit names."""

from dataclasses import dataclass, fields

import torch

from interpkern.probing.layer_run import LayerRun

GROUP_BYTES = 1 << 26
"""Replacements that are made and run at once."""


@dataclass(frozen=True, eq=False)
class Outcome:
    """Metrics of each prompt, (P,) for one replacement or (K, P) for K of them, float64."""

    delta_logit: torch.Tensor
    """Logit of the answer after the replacement, less that before: the same token."""
    counterfactual_delta_logit: torch.Tensor
    """The same for the counterfactual answer; NaN where none was given."""
    logit_difference: torch.Tensor
    """Logit of the counterfactual answer less that of the answer, both after; NaN where none was given."""
    kl: torch.Tensor
    """Nats: KL(before || after) of the predicted distributions."""
    correct: torch.Tensor
    """1 where the answer is the most likely token, else 0."""
    counterfactual_correct: torch.Tensor
    """1 where the counterfactual answer is; NaN where none was given."""

    @property
    def accuracy(self) -> torch.Tensor:
        """Share of the prompts whose most likely token is the answer."""
        return self.correct.mean(-1)

    def means(self) -> dict[str, float]:
        """Means over the prompts of one replacement."""
        return {field.name: float(getattr(self, field.name).mean()) for field in fields(self)}

    def __getitem__(self, number: int | slice) -> "Outcome":
        return Outcome(*(getattr(self, field.name)[number] for field in fields(self)))


class Asked:
    """The answers of a run's prompts, with the counterfactual ones where there are any."""

    def __init__(self, run: LayerRun, answers: torch.Tensor, counterfactual: torch.Tensor | None) -> None:
        self.run, self.counterfactual = run, counterfactual
        self.tokens = torch.stack([answers, answers if counterfactual is None else counterfactual], 1).cpu()
        self._before = run.baseline_logits(self.tokens).double()

    def outcome(self, replacements: torch.Tensor) -> Outcome:
        """Of K replacements in front, (K, P)."""
        found = self.run.effects(replacements, self.tokens)
        return self._of(found.answer_logits.double(), found.kl.double(), found.top)

    def of_logits(self, logits: torch.Tensor, kl: torch.Tensor) -> Outcome:
        """Of logits (P, V)."""
        return self._of(logits.gather(1, self.tokens).double()[None], kl.double()[None], logits.argmax(1)[None])[0]

    def before(self) -> Outcome:
        """Without a replacement, from the baseline itself."""
        logits = self.run.before.cpu()
        return self.of_logits(logits, torch.zeros(len(logits)))

    def _of(self, after: torch.Tensor, kl: torch.Tensor, top: torch.Tensor) -> Outcome:
        change, difference = after - self._before, after[..., 1] - after[..., 0]
        right, other = ((top == self.tokens[:, place]).double() for place in (0, 1))
        if self.counterfactual is None:
            unknown = torch.full_like(difference, torch.nan)
            return Outcome(change[..., 0], unknown, unknown, kl, right, unknown)
        return Outcome(change[..., 0], change[..., 1], difference, kl, right, other)


def joined(parts: list[Outcome]) -> Outcome:
    """Outcomes (K, P) of several groups of replacements."""
    return Outcome(*(torch.cat([getattr(part, field.name) for part in parts]) for field in fields(Outcome)))
