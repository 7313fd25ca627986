"""The transformer that multiplies modulo 59, a positive control: its module and the checkpoint that ships."""

from pathlib import Path

import torch
from safetensors import safe_open
from torch import nn
from torch.nn import functional

from interpkern.errors import DTypeError
from interpkern.random import check_seed, uniform
from interpkern.validation import integer, number

CHECKPOINT = Path(__file__).parent.parent / "data" / "modmul59.safetensors"
MODULUS = 59


class ModularTransformer(nn.Module):
    """One layer of causal attention and an MLP on the tokens a, b, =; no layer norm, no biases in attention.

    Only the last position is read, so only its attention and its MLP are computed.

    Example:
        >>> model = ModularTransformer(7, d_model=8, heads=2, d_hidden=16)
        >>> model.logits(torch.arange(7), torch.arange(7)).shape
        torch.Size([7, 7])
    """

    def __init__(self, p: int, *, d_model: int = 128, heads: int = 4, d_hidden: int = 512) -> None:
        super().__init__()
        self.p, self.heads = p, heads
        self.embedding = nn.Parameter(torch.randn(p, d_model) / d_model**0.5)
        self.equals = nn.Parameter(torch.randn(d_model) / d_model**0.5)
        self.positions = nn.Parameter(torch.randn(3, d_model) / d_model**0.5)
        self.query, self.key, self.value, self.output = (
            nn.Parameter(torch.randn(d_model, d_model) / d_model**0.5) for _ in range(4)
        )
        self.hidden = nn.Linear(d_model, d_hidden)
        self.back = nn.Linear(d_hidden, d_model)
        self.readout = nn.Parameter(torch.randn(p, d_model) / d_model**0.5)
        self.register_buffer("trained_pairs", torch.zeros(p, p, dtype=torch.uint8))
        self.about: dict[str, str] = {}

    trained_pairs: torch.Tensor
    """(p, p) uint8: 1 where the pair (a, b) was trained on."""

    def logits(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        """(P, p) logits of the product of each pair, from (P,) residues a and b."""
        equals = self.equals + self.positions[2]
        last = equals + self._attention(a, b, equals)
        last = last + self.back(torch.relu(self.hidden(last)))
        return last @ self.readout.mT

    def _attention(self, a: torch.Tensor, b: torch.Tensor, equals: torch.Tensor) -> torch.Tensor:
        """(P, d) output at the last position; what it sees of a token is the same in all pairs and computed once."""
        tokens = torch.cat([self.embedding + self.positions[0], self.embedding + self.positions[1], equals[None]])
        query = (equals @ self.query).unflatten(-1, (self.heads, -1))
        scores = ((tokens @ self.key).unflatten(-1, query.shape) * query).sum(-1) / query.shape[-1] ** 0.5
        seen = torch.stack([a, b + self.p, torch.full_like(a, 2 * self.p)], 1)
        weights = functional.embedding(seen, scores).softmax(1)
        values = functional.embedding(seen, tokens @ self.value).unflatten(-1, query.shape)
        return (weights[..., None] * values).sum(1).flatten(1) @ self.output

    @torch.no_grad()
    def accuracy(self, *, trained: bool = False) -> float:
        """The share of pairs whose product has the largest logit, of those not trained on, or of those trained on."""
        a, b = (self.trained_pairs == int(trained)).nonzero(as_tuple=True)
        return float((self.logits(a, b).argmax(1) == a * b % self.p).double().mean())


def random_pairs(p: int, share: float, seed: int) -> torch.Tensor:
    """(p, p) uint8 with 1 at `share` of the pairs, rounded down, drawn by the counter-based generator."""
    p, seed, share = integer("p", p, 2), check_seed(seed), number("share", share, 0.0, 1.0)
    order = torch.from_numpy(uniform(seed, 0, "tables", p * p)).argsort()
    chosen = torch.zeros(p * p, dtype=torch.uint8)
    chosen[order[: int(share * p * p)]] = 1
    return chosen.reshape(p, p)


def load_modmul59() -> ModularTransformer:
    """Load the transformer that multiplies modulo 59, trained on half of the 3,481 pairs, in evaluation mode.

    Returns:
        ModularTransformer with `embedding` (59, 128), `trained_pairs`, and `about`: seed, accuracy on the other half
        of the pairs and the command that trained it.

    Source:
        Our own weights, by `benchmarks/train_modmul59.py`; the task and the finding are those of arXiv 2606.17399,
        which has p = 113.

    Example:
        >>> model = load_modmul59()
        >>> int(model.logits(torch.tensor([7]), torch.tensor([11])).argmax())  # 77 = 59 + 18
        18
    """
    return load_modular(CHECKPOINT)


def load_modular(path: str | Path) -> ModularTransformer:
    """A ModularTransformer that `benchmarks/train_modmul59.py` saved."""
    if not isinstance(path, (str, Path)):
        raise DTypeError(f"path: expected a path, got {path!r}")
    with safe_open(path, framework="pt") as file:
        about = dict(file.metadata() or {})
        state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    p, d_model = state["embedding"].shape
    model = ModularTransformer(p, d_model=d_model, heads=int(about["heads"]), d_hidden=state["hidden.weight"].shape[0])
    model.load_state_dict({name: value if name == "trained_pairs" else value.float() for name, value in state.items()})
    model.about = about
    return model.eval().requires_grad_(False)
