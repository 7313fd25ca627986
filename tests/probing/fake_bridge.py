"""A bridge without any package: characters are tokens, numbers below ten and 12 are one, and layers are plain sums."""

import re
from types import SimpleNamespace
from typing import Any

import torch

LAYERS, WIDTH, BOS = 3, 5, 1
PIECES = re.compile(r"12|.")


class FakeTokenizer:
    """What the collection asks of a fast tokenizer."""

    is_fast = True

    def __call__(self, text: str, **options: Any) -> dict[str, Any]:
        assert options == {"add_special_tokens": False, "return_offsets_mapping": True}
        found = list(PIECES.finditer(text))
        return {"input_ids": [_id(piece[0]) for piece in found], "offset_mapping": [piece.span() for piece in found]}

    def get_vocab(self) -> dict[str, int]:
        return {"<s>": BOS, "12": 2} | {chr(code): code for code in range(32, 127)}


def _id(piece: str) -> int:
    return 2 if piece == "12" else ord(piece)


class FakeNumberBridge:
    """The residual at layer l and position p is table[token] + l * (sum of the tokens so far) + p."""

    def __init__(self, *, in_front: bool = True) -> None:
        self.tokenizer: Any = FakeTokenizer()
        self.cfg = SimpleNamespace(model_name="some/folder/fake", device="cpu", n_layers=LAYERS)
        self.hook_dict = {
            f"blocks.{layer}.hook_{hook}" for layer in range(LAYERS) for hook in ("resid_pre", "resid_post")
        }
        self.original_model = torch.nn.Linear(2, 2)
        self.table = torch.randn(128, WIDTH, generator=torch.Generator().manual_seed(0))
        self.training = True
        self.in_front = [BOS] if in_front else []
        self.calls: list[Any] = []

    def eval(self) -> None:
        self.training = False

    def train(self, mode: bool) -> None:
        self.training = mode

    def to_tokens(self, text: str) -> torch.Tensor:
        return torch.tensor([[*self.in_front, *(_id(piece[0]) for piece in PIECES.finditer(text))]])

    def residual(self, tokens: torch.Tensor, layer: int) -> torch.Tensor:
        """(batch, S, D)."""
        places = torch.arange(tokens.shape[1])[None, :, None]
        return self.table[tokens] + layer * tokens.cumsum(1)[..., None] + places

    def run_with_cache(self, tokens: torch.Tensor, *, names_filter: list[str], stop_at_layer: int | None) -> Any:
        assert not self.training
        self.calls.append((tuple(tokens.shape), stop_at_layer))
        layers = {name: int(name.split(".")[1]) + name.endswith("post") for name in names_filter}
        return None, {name: self.residual(tokens, layer) for name, layer in layers.items()}
