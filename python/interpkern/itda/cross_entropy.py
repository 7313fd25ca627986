"""How much of a model's prediction survives when activations are replaced by their reconstruction."""

import math
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import pandas
import torch

from interpkern.activations.bridges import check_hook, evaluating, padded
from interpkern.activations.tokenising import Text, checked_texts, token_ids
from interpkern.errors import DTypeError, ShapeError
from interpkern.itda.dictionary import ITDA
from interpkern.itda.rows import MASSIVE
from interpkern.progress import Progress, reporting
from interpkern.validation import integer, number


@dataclass(frozen=True, eq=False, repr=False)
class CEScore(float):
    """A cross-entropy score: a number that knows what it was made of; all cross-entropies are in nats per token."""

    value: float
    """(H_zero - H_reconstructed) / (H_zero - H_original): 1 for activations as they were, 0 for zeros; NaN where zeros
    change nothing."""
    ordinary: float
    """The same where tokens of massive norm keep their activation in the reconstruction."""
    ce_original: float
    ce_reconstructed: float
    ce_ordinary: float
    """Reconstructed but for massive tokens."""
    ce_zero: float
    predictions: int
    """Next tokens that were predicted."""
    tokens: int
    """Activations that were replaced."""
    massive_tokens: int
    """Those among them whose norm is above `massive_above` times the median."""
    massive_above: float
    hook: str

    def __new__(cls, value: float, *rest: object, **about: object) -> "CEScore":
        return super().__new__(cls, value)

    def __repr__(self) -> str:
        nats = f"original {self.ce_original:.4f}, reconstructed {self.ce_reconstructed:.4f}, zeros {self.ce_zero:.4f}"
        apart = f"; {self.ordinary:.4f} with {self.massive_tokens} massive of {self.tokens:,} tokens left as they are"
        return f"CEScore {self.value:.4f} at {self.hook} ({nats} nats per token{apart})"

    def to_pandas(self) -> pandas.DataFrame:
        """One row."""
        return pandas.DataFrame([asdict(self)])


def ce_score(
    itda: Any,
    bridge: Any,
    texts: Iterable[Text] | torch.Tensor,
    hook: str,
    *,
    max_tokens: int = 128,
    batch_size: int = 8,
    massive_above: float = MASSIVE,
    progress: Progress | bool | None = None,
) -> CEScore:
    """Run a model with the activations at a hook point as they are, reconstructed, and zero, and compare its loss.

    Args:
        itda: a fitted ITDA, or another object whose `decode(encode(x))` gives (N, D) for (N, D).
        bridge: a transformer_lens TransformerBridge (3.9 to 4.x) of a model that predicts the next token.
        texts: strings, lists of token ids, or an integer tensor (P, S) of them.
        hook: a hook point that gives (batch, position, D), such as "blocks.15.hook_resid_pre".
        max_tokens: tokens of a text that are kept, with the one that the model wants in front.
        batch_size: texts in one forward pass.
        massive_above: norm above which a token is massive, as a multiple of the median norm.
        progress: a function of (texts, texts in all), which are counted once a run, True or False for a bar or none;
            by default a bar on a terminal.

    Returns:
        CEScore, a number; padding is neither replaced nor counted.

    Raises:
        ShapeError, DTypeError or ValueError that names the argument.

    Source:
        Leask, Nanda and Al Moubayed 2025, "Inference-Time Decomposition of Activations (ITDA)", section 4; the score is
        that of Bricken et al. 2023.

    Example:
        >>> ce_score(itda, bridge, ["A first text.", "And another."], "blocks.3.hook_resid_pre")  # doctest: +SKIP
    """
    _check_dictionary(itda)
    check_hook(bridge, hook)
    most, size = integer("max_tokens", max_tokens, 2), integer("batch_size", batch_size, 1)
    limit = number("massive_above", massive_above, 1.0)
    ids = sorted((token_ids(bridge, text, most) for text in checked_texts(texts)), key=len)  # little padding
    predictions = sum(len(text) - 1 for text in ids)
    if predictions == 0:
        raise ValueError("texts: expected at least one of two tokens or more, since the next token is predicted")
    norms: list[torch.Tensor] = []

    def noted(values: torch.Tensor) -> torch.Tensor:
        norms.append(values.double().norm(dim=1))
        return values

    def reconstructed(values: torch.Tensor) -> torch.Tensor:
        encode = partial(itda.encode, progress=False) if isinstance(itda, ITDA) else itda.encode
        rebuilt: torch.Tensor = itda.decode(encode(values if isinstance(itda, ITDA) else values.cpu()))
        return rebuilt.to(values)

    with evaluating(bridge), reporting(progress, "ce score", " texts") as report:
        runs = _Runs(bridge, ids, hook, size, report)
        original, zero, rebuilt = runs.loss(noted), runs.loss(torch.zeros_like), runs.loss(reconstructed)
        found = torch.cat(norms)
        top = limit * float(found.median())
        massive = int((found > top).sum())
        ordinary = runs.loss(lambda values: _where_massive(values, reconstructed(values), top)) if massive else rebuilt
    return CEScore(
        value=_score(original, rebuilt, zero),
        ordinary=_score(original, ordinary, zero),
        ce_original=original / predictions,
        ce_reconstructed=rebuilt / predictions,
        ce_ordinary=ordinary / predictions,
        ce_zero=zero / predictions,
        predictions=predictions,
        tokens=sum(map(len, ids)),
        massive_tokens=massive,
        massive_above=limit,
        hook=hook,
    )


def _where_massive(values: torch.Tensor, rebuilt: torch.Tensor, top: float) -> torch.Tensor:
    """The activations themselves where their norm is above `top`, elsewhere what was rebuilt."""
    return torch.where(values.double().norm(dim=1, keepdim=True) > top, values, rebuilt)


def _score(original: float, reconstructed: float, zero: float) -> float:
    return (zero - reconstructed) / (zero - original) if zero != original else math.nan


class _Runs:
    """Texts that a model is run on again and again, each time with other activations at a hook point."""

    def __init__(self, bridge: Any, ids: list[list[int]], hook: str, size: int, report: Progress | None) -> None:
        self._bridge, self._hook, self._report = bridge, hook, report
        self._batches = [ids[start : start + size] for start in range(0, len(ids), size)]
        self._texts = len(ids)

    def loss(self, replace: Callable[[torch.Tensor], torch.Tensor]) -> float:
        """Cross-entropy of all next tokens, summed, in nats, with (n, D) activations replaced."""
        total, done = 0.0, 0
        for batch in self._batches:
            total += self._loss_of(batch, replace)
            done += len(batch)
            if self._report is not None:
                self._report(done, self._texts)
        return total

    def _loss_of(self, batch: list[list[int]], replace: Callable[[torch.Tensor], torch.Tensor]) -> float:
        tokens, mask = padded(batch, self._bridge.cfg.device)
        real, called = mask.bool(), []

        def hooked(value: torch.Tensor, hook: object) -> torch.Tensor:
            if value.ndim != 3 or value.shape[:2] != tokens.shape:
                raise ShapeError(f"hook: {self._hook!r} gives {tuple(value.shape)}, expected (batch, position, D)")
            called.append(hook)
            new = value.clone()
            new[real] = replace(value[real])
            return new

        logits = self._bridge.run_with_hooks(
            tokens, fwd_hooks=[(self._hook, hooked)], return_type="logits", attention_mask=mask
        )
        if not called:
            raise ValueError(f"hook: {self._hook!r} is never reached in this model; choose another")
        predicted = real[:, 1:]
        losses = torch.nn.functional.cross_entropy(
            logits[:, :-1][predicted].float(), tokens[:, 1:][predicted], reduction="none"
        )
        return float(losses.double().sum())


def _check_dictionary(itda: Any) -> None:
    if not (callable(getattr(itda, "encode", None)) and callable(getattr(itda, "decode", None))):
        raise DTypeError(f"itda: expected a fitted ITDA, got {type(itda).__name__}")
