"""Where a row comes from, in words: its token and the text around it."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy
import torch


@dataclass(frozen=True)
class Description:
    """A token in its text; `str()` puts it between guillemets."""

    prompt_id: int
    position: int
    token_id: int
    token: str
    before: str
    after: str

    def __str__(self) -> str:
        bare = self.token.lstrip()
        space = self.token[: len(self.token) - len(bare)]
        return " ".join(f"{self.before}{space}«{bare or self.token}»{self.after}".split())


class LabelIndex:
    """Row numbers by label; of equal labels the first row counts."""

    def __init__(self, labels: torch.Tensor) -> None:
        prompts, positions = labels.numpy().T
        self._prompts, prompt_codes = numpy.unique(prompts, return_inverse=True)
        self._positions, position_codes = numpy.unique(positions, return_inverse=True)
        codes = prompt_codes * len(self._positions) + position_codes
        self._order = numpy.argsort(codes, kind="stable")
        self._codes = codes[self._order]

    def find(self, labels: torch.Tensor) -> torch.Tensor:
        """(n,) int64 row numbers of (n, 2) labels, -1 where there is none."""
        if not len(self._codes):
            return torch.full((len(labels),), -1)
        prompts, positions = labels.numpy().T
        prompt_codes, known = _codes(self._prompts, prompts)
        position_codes, also_known = _codes(self._positions, positions)
        places, there = _codes(self._codes, prompt_codes * len(self._positions) + position_codes)
        return torch.from_numpy(numpy.where(known & also_known & there, self._order[places], -1))


def _codes(values: numpy.ndarray, wanted: numpy.ndarray) -> tuple[numpy.ndarray, numpy.ndarray]:
    """The first place of each wanted number among sorted values, and whether it is there."""
    places = numpy.searchsorted(values, wanted).clip(max=len(values) - 1)
    return places, values[places] == wanted


def describe(
    index: LabelIndex, tokens: torch.Tensor, words: Mapping[int, str], prompt_id: int, position: int, window: int
) -> Description:
    """The token of a label, and up to `window` tokens before and after it as far as they are rows."""
    positions = torch.arange(position - window, position + window + 1)
    rows = index.find(torch.stack([torch.full_like(positions, prompt_id), positions], dim=1))
    if rows[window] < 0:
        raise ValueError(f"prompt_id, position: no row has the label ({prompt_id}, {position})")
    texts = [words.get(int(tokens[row]), f"<{int(tokens[row])}>") if row >= 0 else "" for row in rows.tolist()]
    token_id = int(tokens[rows[window]])
    return Description(
        prompt_id, position, token_id, texts[window], "".join(texts[:window]), "".join(texts[window + 1 :])
    )
