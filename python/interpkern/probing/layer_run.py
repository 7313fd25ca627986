"""A model run once, then from one layer onwards again and again with other residuals at the positions of interest."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy
import torch

from interpkern.errors import DTypeError
from interpkern.probing.baseline import Baseline, filled_up
from interpkern.validation import FLOATS, Dimensions, boolean, integer, plain_tensor


@dataclass(frozen=True)
class Effects:
    """What replacements do to the prediction of the last position, without the logits of the whole vocabulary."""

    answer_logits: torch.Tensor
    """(K, P, A) of the tokens that were asked for."""
    kl: torch.Tensor
    """(K, P) nats: Kullback-Leibler divergence of the prediction from the baseline's, KL(baseline || replaced)."""
    top: torch.Tensor
    """(K, P) int64: the token with the largest logit."""


class LayerRun:
    """Prompts that a bridge has run on once, kept at the entry of a layer, to be run from there with replacements.

    Every pass holds `batch_size` rows, filled up where there are fewer, since BLAS rounds
    otherwise for another number of rows; so a replacement by `at_position` gives `before` again.

    Args:
        bridge: a transformer_lens TransformerBridge (3.9 to 4.x) that predicts tokens, from boot_transformers or
            boot_native.
        prompts: (P, S) int64 token ids, all of one length and without padding.
        layer: the layer from which the model runs; what is replaced is its resid_pre.
        position: where the residual is replaced: an integer for all prompts (negative counts from the end), (P,) int64,
            or (P, Q) int64 for Q positions of each prompt.
        answers: (P,) or (P, A) int64 tokens that `answer_logits` and `effects` gather.
        batch_size: rows in one forward pass.
        baseline: a run of the same prompts that kept this layer, where several layers share one.
        reuse_prefix: keep the keys and values of the positions before the first replaced one, where the model can go on
            from there, so that only later positions run: worth it for many replacements in long prompts. Logits then
            differ from the whole run by rounding.

    Attributes:
        at_position: (P, D) residual entering `layer` at `position`; (P, Q, D) where `position` is (P, Q).
        residual: (P, S, D) residual entering `layer`.
        before: (P, V) logits of the last position without a replacement, in passes like those with one.
        baseline: Baseline, with the logits of the whole run.
        positions: (P, Q) int64.
        starts_at_position: the first position that runs.
        starts_at_layer: whether the blocks before `layer` are left out. It is checked on the first prompts.
        why_not: why the whole model runs instead, or None.

    Shapes:
        replacements: (K, P, D), or (P, D) for one of them; (K, P, Q, D) or (P, Q, D) where `position` is (P, Q); any
        float dtype and device. Results have K in front where the replacements have, and lie on the CPU, in float32
        (float64 for a model in float64).

    Raises:
        ShapeError, DTypeError or ValueError that names the argument.

    Example:
        >>> run = LayerRun(bridge, prompts, layer=3, position=1, answers=answers)  # doctest: +SKIP
        >>> run.answer_logits(run.at_position)  # (P,), as in the baseline  # doctest: +SKIP
    """

    def __init__(
        self,
        bridge: Any,
        prompts: Any,
        *,
        layer: int,
        position: Any,
        answers: Any = None,
        batch_size: int = 64,
        baseline: Baseline | None = None,
        reuse_prefix: bool = False,
    ) -> None:
        if baseline is None:
            baseline = Baseline(bridge, prompts, layers=[layer], batch_size=batch_size)
        self.baseline, self.layer = baseline, _kept(baseline, layer, bridge, prompts)
        self.positions, self._several = checked_positions("position", position, baseline.tokens)
        first = int(self.positions.min()) if boolean("reuse_prefix", reuse_prefix) else 0
        self._prefix = baseline.prefix(self.layer, first)
        self.before = baseline.logits if self._prefix is None else self._unchanged()
        self._answers = None if answers is None else self._tokens("answers", answers)

    @property
    def residual(self) -> torch.Tensor:
        """(P, S, D) residual entering the layer."""
        return self.baseline.residuals[self.layer]

    @property
    def at_position(self) -> torch.Tensor:
        """(P, D) or (P, Q, D) residual entering the layer at the positions."""
        prompts = torch.arange(len(self.positions), device=self.positions.device)[:, None]
        found = self.residual[prompts, self.positions]
        return found if self._several else found[:, 0]

    @property
    def starts_at_layer(self) -> bool:
        """Whether the blocks before the layer are left out."""
        return self.why_not is None

    @property
    def starts_at_position(self) -> int:
        """The first position that runs; earlier ones are kept from the baseline."""
        return 0 if self._prefix is None else self._prefix.length

    @property
    def why_not(self) -> str | None:
        """Why the whole model runs, or None."""
        return self.baseline.shortcuts[self.layer].why_not

    def acts(self) -> torch.Tensor:
        """(P, Q, D) residual entering the layer at the positions, float64 on the CPU."""
        return (self.at_position if self._several else self.at_position[:, None]).to("cpu", torch.float64)

    def shaped(self, acts: torch.Tensor) -> torch.Tensor:
        """Residuals (K, P, Q, D) as replacements."""
        return acts if self._several else acts[:, :, 0]

    def run(self, replacements: Any, *, name: str = "replacements") -> torch.Tensor:
        """Give the logits (K, P, V) of the last position; K x P x V numbers, where `effects` keeps what is asked."""
        checked, single = self._checked(replacements, name)
        found = torch.cat([logits.cpu() for _, logits in self._passes(checked)])
        shaped = found.view(len(checked), len(self.positions), -1)
        return shaped[0] if single else shaped

    def answer_logits(self, replacements: Any, tokens: Any = None) -> torch.Tensor:
        """Give the logits (K, P) or (K, P, A) of `tokens` (P,) or (P, A) int64, by default of the answers."""
        checked, single = self._checked(replacements)
        wanted, flat = self._wanted(tokens)
        found = torch.cat([logits.gather(1, wanted[rows]).cpu() for rows, logits in self._passes(checked)])
        shaped = found.view(len(checked), *wanted.shape)
        shaped = shaped[..., 0] if flat else shaped
        return shaped[0] if single else shaped

    def effects(self, replacements: Any, tokens: Any = None) -> Effects:
        """Give the logits of the answers, the divergence from the baseline and the most likely token."""
        checked, _ = self._checked(replacements)
        wanted, _ = self._wanted(tokens)
        answers, kl, top = [], [], []
        for rows, logits in self._passes(checked):
            answers.append(logits.gather(1, wanted[rows]).cpu())
            kl.append(divergence(self.before[rows], logits).cpu())
            top.append(logits.argmax(1).cpu())
        shape = (len(checked), len(self.positions))
        return Effects(torch.cat(answers).view(*shape, -1), torch.cat(kl).view(shape), torch.cat(top).view(shape))

    def baseline_logits(self, tokens: Any = None) -> torch.Tensor:
        """Give the logits (P,) or (P, A) of `tokens`, by default of the answers, without a replacement."""
        wanted, flat = self._wanted(tokens)
        found = self.before.gather(1, wanted).cpu()
        return found[:, 0] if flat else found

    def _passes(self, replacements: torch.Tensor) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """The prompts (n,) and the logits (n, V) of each pass, over replacements (K, P, Q, D) and prompts in order."""
        total, prompts, size = replacements[..., 0, 0].numel(), len(self.positions), self.baseline.batch_size
        for number, part in enumerate(filled_up(total, size, self.positions.device)):
            rows = part % prompts
            new = replacements.flatten(0, 1)[part.to(replacements.device)].to(self.residual)
            start = self.starts_at_position
            residual = self.residual[rows, start:]
            residual[torch.arange(size, device=rows.device)[:, None], self.positions[rows] - start] = new
            real = min(size, total - number * size)
            yield rows[:real], self.baseline.logits_from(self.layer, rows, residual, self._prefix)[:real]

    def _unchanged(self) -> torch.Tensor:
        """(P, V) logits with every residual replaced by itself."""
        return torch.cat([logits for _, logits in self._passes(self._checked(self.at_position)[0])])

    def _checked(self, replacements: Any, name: str = "replacements") -> tuple[torch.Tensor, bool]:
        """Replacements as (K, P, Q, D), and whether there is one without K."""
        prompts, width = len(self.positions), self.residual.shape[2]
        sizes = {"P": prompts, "D": width} | ({"Q": self.positions.shape[1]} if self._several else {})
        letters = "P Q D" if self._several else "P D"
        tensor = plain_tensor(name, replacements)
        single = tensor.ndim == len(letters.split())
        bound = dict.fromkeys(sizes, "the prompts")
        tensor = Dimensions(sizes, bound).tensor(name, tensor, letters if single else f"K {letters}", FLOATS)
        tensor = tensor[None] if single else tensor
        return (tensor if self._several else tensor[:, :, None]), single

    def _tokens(self, name: str, tokens: Any) -> torch.Tensor:
        return checked_answers(name, tokens, len(self.positions), self.baseline.logits.shape[1])

    def _wanted(self, tokens: Any) -> tuple[torch.Tensor, bool]:
        """Tokens (P, A) on the model's device, and whether they came as (P,)."""
        if tokens is None and self._answers is None:
            raise ValueError("tokens: expected (P,) or (P, A) token ids, since no answers were given; pass either")
        chosen = self._answers if tokens is None else self._tokens("tokens", tokens)
        assert chosen is not None
        chosen = chosen.to(self.positions.device)
        return (chosen[:, None], True) if chosen.ndim == 1 else (chosen, False)


def checked_positions(name: str, position: Any, tokens: torch.Tensor) -> tuple[torch.Tensor, bool]:
    """(P, Q) int64 positions from 0, and whether several were given for a prompt."""
    prompts, length = tokens.shape
    if not isinstance(position, (torch.Tensor, numpy.ndarray)):
        if isinstance(position, (list, tuple)):
            raise DTypeError(f"{name}: expected an integer or a tensor (P,) or (P, Q), got {position!r}")
        number = integer(name, position, -length, length - 1)
        return torch.full((prompts, 1), number % length, device=tokens.device), False
    tensor = plain_tensor(name, position)
    letters = "P Q" if tensor.ndim == 2 else "P"
    checked = Dimensions({"P": prompts}, {"P": "prompts"}).tensor(name, tensor, letters, (torch.int64,))
    if int(checked.min()) < -length or int(checked.max()) >= length:
        raise ValueError(
            f"{name}: expected positions from {-length} to {length - 1} in prompts of {length} tokens, got"
            f" {int(checked.min())} to {int(checked.max())}"
        )
    places = (checked % length).to(tokens.device)
    if places.ndim == 2 and bool((places.sort(1).values.diff(dim=1) == 0).any()):
        raise ValueError(f"{name}: expected different positions for a prompt, got one twice")
    return (places, True) if places.ndim == 2 else (places[:, None], False)


def checked_answers(name: str, answers: Any, prompts: int, vocabulary: int, *, several: bool = True) -> torch.Tensor:
    """(P,) int64 tokens of the model's vocabulary, or (P, A) where several may be given."""
    tensor = plain_tensor(name, answers)
    letters = "P A" if tensor.ndim == 2 and several else "P"
    checked = Dimensions({"P": prompts}, {"P": "prompts"}).tensor(name, tensor, letters, (torch.int64,))
    if int(checked.min()) < 0 or int(checked.max()) >= vocabulary:
        raise ValueError(
            f"{name}: expected token ids from 0 to {vocabulary - 1}, got {int(checked.min())} to {int(checked.max())}"
        )
    return checked


def divergence(baseline: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
    """(n,) nats: KL(baseline || new) of the predictions of (n, V) logits."""
    old, new = baseline.log_softmax(1), logits.log_softmax(1)
    return (old.exp() * (old - new)).sum(1).clamp(min=0)


def _kept(baseline: Any, layer: Any, bridge: Any, prompts: Any) -> int:
    """The layer, refused unless the baseline is of this bridge and these prompts and kept it."""
    if not isinstance(baseline, Baseline):
        raise DTypeError(f"baseline: expected a Baseline, got {type(baseline).__name__}")
    if baseline.bridge is not bridge or not torch.equal(plain_tensor("prompts", prompts).cpu(), baseline.tokens.cpu()):
        raise ValueError("baseline: expected a run of this bridge on these prompts; leave it out")
    number = integer("layer", layer, 0, len(bridge.blocks) - 1)
    if number not in baseline.residuals:
        raise ValueError(f"layer: expected one that the baseline kept ({baseline.layers}), got {number}")
    return number
