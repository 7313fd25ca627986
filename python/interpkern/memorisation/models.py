"""Many tiny MLPs of one shape, as one batch of stacked weights."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy
import torch

from interpkern import validation
from interpkern.memorisation import initialisation, modules
from interpkern.memorisation.initialisation import EMBEDDINGS, MAX_SIZE, POINTS
from interpkern.memorisation.modules import TableMLP
from interpkern.ops.memorise import check_fields
from interpkern.random import MAX_MODELS, check_seed
from interpkern.reference import memorise as reference
from interpkern.reference.memorise import Fields
from interpkern.validation import Dimensions, choice, integer

COUNTS = ("two_logit", "one_logit")
CHUNK = 16
CHUNK_NUMBERS = 1 << 24


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class TableMLPs:
    """A batch of B models with logit = r . relu(W (E1[a] + E2[b]) + c) + c_out.

    The tensors are contiguous float32 on one device; NumPy arrays are accepted. Numbers may be NaN or infinite, as
    training that diverges leaves them.

    Raises:
        ShapeError, DTypeError or ValueError that names the field.

    Source:
        Newgas 2025, "Progress report on a Toy Model Of Memorization".

    Example:
        >>> models = TableMLPs.init(models=100, rows=32, cols=32, d_model=20, d_hidden=20)
        >>> models.logits().shape, models.parameters()
        (torch.Size([100, 32, 32]), 462)
    """

    E1: torch.Tensor
    """(B, R, D) embedding of the row token."""
    E2: torch.Tensor
    """(B, C, D) embedding of the column token."""
    W: torch.Tensor
    """(B, H, D) hidden weights."""
    c: torch.Tensor
    """(B, H) hidden bias."""
    r: torch.Tensor
    """(B, H) readout."""
    c_out: torch.Tensor
    """(B,) output bias."""
    embedding: str = "given"
    """How the embeddings came about: given, points, random, optimised, basis or trained, which alone is counted."""
    seed: int | None = None
    """The seed given to init, if these models came from there."""

    def __post_init__(self) -> None:
        checked = check_fields(Dimensions(), "", self.fields(), (torch.float32,), finite=False)
        for name, tensor in checked._asdict().items():
            object.__setattr__(self, name, tensor)
        choice("embedding", self.embedding, ("given", POINTS, *EMBEDDINGS))
        if self.seed is not None:
            check_seed(self.seed)

    @classmethod
    def init(
        cls,
        models: int,
        rows: int,
        cols: int,
        d_model: int | None,
        d_hidden: int,
        *,
        embedding: str = "random",
        seed: int = 0,
        device: str | torch.device = "cpu",
    ) -> "TableMLPs":
        """Draw new models, each from its own streams: W, c ~ U(+-1/sqrt(D)), r, c_out ~ U(+-1/sqrt(H)).

        Args:
            models: number of models, B.
            rows: number of row tokens, R.
            cols: number of column tokens, C.
            d_model: width of the embeddings, D; None takes R + C for a basis.
            d_hidden: number of hidden units, H.
            embedding: random (unit Gaussian rows), optimised (those moved towards orthogonality), basis or trained.
            seed: an integer from 0 to 2^64 - 1.
            device: where the models lie, and with them the training: cpu, cuda or cuda:0.

        Returns:
            TableMLPs on the device, the same on all; model i depends on the sizes, the embedding, the seed and i, not
            on `models`.

        Raises:
            ValueError or TypeError that names the argument.

        Example:
            >>> TableMLPs.init(2, 3, 4, None, 5, embedding="basis").d_model
            7
        """
        models = integer("models", models, 1, MAX_MODELS)
        rows, cols = integer("rows", rows, 1, MAX_SIZE), integer("cols", cols, 1, MAX_SIZE)
        d_model = initialisation.width(d_model, rows + cols, embedding)
        d_hidden, seed = integer("d_hidden", d_hidden, 1, MAX_SIZE), check_seed(seed)
        device = validation.device("device", device)
        tokens = torch.from_numpy(initialisation.token_embeddings(embedding, models, rows, cols, d_model, seed))
        drawn = initialisation.layers(models, d_model, d_hidden, seed)
        tensors = {name: torch.from_numpy(part) for name, part in drawn.items()}
        made = cls(E1=tokens[:, :rows], E2=tokens[:, rows:], **tensors, embedding=embedding, seed=seed)
        return made.to(device)

    @classmethod
    def of_points(
        cls, points: torch.Tensor | numpy.ndarray, d_hidden: int, *, models: int | None = None, seed: int = 0
    ) -> "TableMLPs":
        """Draw new models of dense inputs: logit = r . relu(W x + c) + c_out for each of N points x.

        Points are the rows of a table with one column: E1 holds them, and E2, one token, is 0. Labels are then
        tables (B, N, 1), as `random_tables(B, N, 1)` gives them.

        Shapes:
            points (B, N, D) float32, or (N, D) that every model gets.

        Args:
            points: the inputs, finite; the models lie on their device. They stay as they are in training and are not
                counted as parameters.
            d_hidden: number of hidden units, H.
            models: number of models, B; None takes as many as there are sets of points.
            seed: an integer from 0 to 2^64 - 1; W, c, r and c_out are those of `init`.

        Returns:
            TableMLPs with embedding "points", R = N and C = 1.

        Raises:
            ShapeError, DTypeError, ValueError or TypeError that names the argument.

        Source:
            Cover 1965, "Geometrical and statistical properties of systems of linear inequalities" (points in general
            position with random labels).

        Example:
            >>> models = TableMLPs.of_points(torch.randn(256, 10), 12, models=4)
            >>> memorise(models, random_tables(4, 256, 1), steps=100).accuracy.shape
            torch.Size([4])
        """
        letters = "B N D" if getattr(points, "ndim", 2) == 3 else "N D"
        inputs = Dimensions().tensor("points", points, letters, (torch.float32,))
        sets = len(inputs) if inputs.ndim == 3 else 1
        models = integer("models", sets if models is None else models, 1, MAX_MODELS)
        if inputs.ndim == 3 and models != sets:
            raise ValueError(f"models: expected {sets}, one for each set of points (or None), got {models}")
        d_hidden, seed = integer("d_hidden", d_hidden, 1, MAX_SIZE), check_seed(seed)
        drawn = initialisation.layers(models, inputs.shape[-1], d_hidden, seed)
        tensors = {name: torch.from_numpy(part).to(inputs.device) for name, part in drawn.items()}
        E1 = inputs.expand(models, *inputs.shape[-2:])
        return cls(E1=E1, E2=torch.zeros_like(E1[:, :1]), **tensors, embedding=POINTS, seed=seed)

    @property
    def rows(self) -> int:
        """R, the number of row tokens."""
        return self.E1.shape[1]

    @property
    def cols(self) -> int:
        """C, the number of column tokens."""
        return self.E2.shape[1]

    @property
    def d_model(self) -> int:
        """D, the width of the embeddings."""
        return self.W.shape[2]

    @property
    def d_hidden(self) -> int:
        """H, the number of hidden units."""
        return self.W.shape[1]

    def __len__(self) -> int:
        """B, the number of models."""
        return self.W.shape[0]

    def __repr__(self) -> str:
        sizes = f"rows={self.rows}, cols={self.cols}, d_model={self.d_model}, d_hidden={self.d_hidden}"
        return f"TableMLPs(models={len(self)}, {sizes}, embedding={self.embedding!r}, seed={self.seed})"

    def __getitem__(self, index: Any) -> "TableMLPs":
        """The models chosen by an int, a slice, a mask or indices; the batch dimension stays."""
        chosen = chosen_models(index, len(self)).to(self.W.device)
        tensors: dict[str, Any] = {name: part[chosen] for name, part in self.state_dict().items()}
        return replace(self, **tensors)

    def fields(self) -> Fields:
        """The six tensors."""
        return Fields(self.E1, self.E2, self.W, self.c, self.r, self.c_out)

    def finite(self) -> torch.Tensor:
        """(B,) bool, whether all numbers of a model are finite; training that diverges leaves NaN."""
        return torch.stack([part.reshape(len(self), -1).isfinite().all(1) for part in self.fields()]).all(0)

    def to(self, device: str | torch.device) -> "TableMLPs":
        """The models on another device."""
        tensors: dict[str, Any] = {name: part.to(device) for name, part in self.state_dict().items()}
        return replace(self, **tensors)

    def logits(self) -> torch.Tensor:
        """Logits of all facts, (B, R, C) float32, some models at a time so that memory is bounded."""
        numbers = self.rows * self.cols * (self.d_model + self.d_hidden)
        chunk = max(1, min(CHUNK, CHUNK_NUMBERS // numbers))
        chunks = zip(*(part.split(chunk) for part in self.fields()), strict=True)
        return torch.cat([reference.logits(Fields(*parts)) for parts in chunks])

    def parameters(self, count: str = "two_logit") -> int:
        """Parameters of one model: P2 = H (D + 3) + 2 with both logits, P1 = H (D + 2) + 1 with one.

        Trained embeddings add (R + C) D; others are not counted.
        """
        logits = 2 if choice("count", count, COUNTS) == "two_logit" else 1
        layers = self.d_hidden * (self.d_model + 1 + logits) + logits
        return layers + (self.rows + self.cols) * self.d_model * (self.embedding == "trained")

    def to_two_logit(self) -> "TwoLogitReadout":
        """The readout of the equivalent models with two logits, whose difference is this logit."""
        return TwoLogitReadout(
            V=torch.stack([-self.r / 2, self.r / 2], dim=1), c_out=torch.stack([-self.c_out / 2, self.c_out / 2], dim=1)
        )

    def to_module(self, index: int) -> TableMLP:
        """Model `index` as a PyTorch module with its own copy; only trained embeddings require a gradient."""
        one = self[integer("index", index, -len(self), len(self) - 1)]
        return modules.unstacked(one.state_dict(), trained_embeddings=self.embedding == "trained")

    @classmethod
    def from_modules(cls, table_mlps: Sequence[TableMLP]) -> "TableMLPs":
        """The batch of these modules, copied; embeddings count as trained where all of them require a gradient."""
        stacked = modules.stacked(table_mlps)
        trained = all(part.weight.requires_grad for module in table_mlps for part in (module.rows, module.cols))
        return cls(**stacked, embedding="trained" if trained else "given")

    def state_dict(self) -> dict[str, torch.Tensor]:
        """The six tensors by name; from_state_dict takes them back."""
        return self.fields()._asdict()

    @classmethod
    def from_state_dict(
        cls, state_dict: Mapping[str, torch.Tensor], *, embedding: str = "given", seed: int | None = None
    ) -> "TableMLPs":
        """Models from the six tensors by name."""
        if set(state_dict) != set(Fields._fields):
            raise ValueError(f"state_dict: expected the names {', '.join(Fields._fields)}, got {', '.join(state_dict)}")
        return cls(**dict(state_dict), embedding=embedding, seed=seed)


@dataclass(frozen=True, kw_only=True, eq=False)
class TwoLogitReadout:
    """The readout of B models with a logit for each class; E1, E2, W and c are those of the one-logit models."""

    V: torch.Tensor
    """(B, 2, H) float32, V[:, 1] - V[:, 0] = r."""
    c_out: torch.Tensor
    """(B, 2) float32, c_out[:, 1] - c_out[:, 0] = the one logit's c_out."""


def chosen_models(index: Any, models: int) -> torch.Tensor:
    """(n,) int64 numbers of the models that an int, a slice, a mask or indices choose."""
    try:
        chosen = numpy.arange(models)[index.cpu().numpy() if isinstance(index, torch.Tensor) else index]
    except IndexError as error:
        raise IndexError(f"index: cannot choose among {models} models ({error})") from None
    if numpy.ndim(chosen) > 1:
        raise IndexError(f"index: expected an integer, a slice, a mask or indices, got {index!r}")
    if numpy.size(chosen) == 0:
        raise ValueError("index: expected to choose at least one model, chose none")
    return torch.from_numpy(numpy.atleast_1d(chosen))
