"""One model as a plain PyTorch module."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from interpkern.errors import DTypeError, ShapeError


class TableMLP(nn.Module):
    """A tiny MLP that gives the logit of a fact from its two tokens, a row and a column.

    Shapes:
        rows.weight (R, D), cols.weight (C, D), hidden.weight (H, D), readout.weight (1, H).

    Example:
        >>> TableMLP(rows=4, cols=5, d_model=3, d_hidden=2)(torch.tensor([0, 3]), torch.tensor([4, 4])).shape
        torch.Size([2])
    """

    def __init__(self, rows: int, cols: int, d_model: int, d_hidden: int) -> None:
        super().__init__()
        self.rows = nn.Embedding(rows, d_model)
        self.cols = nn.Embedding(cols, d_model)
        self.hidden = nn.Linear(d_model, d_hidden)
        self.readout = nn.Linear(d_hidden, 1)

    def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        """Logits of the facts (a, b); a and b are int64 tokens of shapes that broadcast."""
        hidden = torch.relu(self.hidden(self.rows(a) + self.cols(b)))
        return self.readout(hidden).squeeze(-1)


PARAMETERS = {
    "E1": "rows.weight",
    "E2": "cols.weight",
    "W": "hidden.weight",
    "c": "hidden.bias",
    "r": "readout.weight",
    "c_out": "readout.bias",
}
"""The module's parameter for each field; r and c_out have a first dimension of 1 there."""


def unstacked(tensors: dict[str, torch.Tensor], *, trained_embeddings: bool) -> TableMLP:
    """The module that holds the fields of a batch of one model, without drawing a random number."""
    _, rows, d_model = tensors["E1"].shape
    with torch.device("meta"):
        module = TableMLP(rows, tensors["E2"].shape[1], d_model, tensors["W"].shape[1])
    shapes = {name: part.shape for name, part in module.named_parameters()}
    parameters = {PARAMETERS[name]: part.reshape(shapes[PARAMETERS[name]]) for name, part in tensors.items()}
    module.load_state_dict(parameters, assign=True)
    module.rows.requires_grad_(trained_embeddings)
    module.cols.requires_grad_(trained_embeddings)
    return module


def stacked(modules: Sequence[TableMLP]) -> dict[str, Any]:
    """The fields of a batch of modules, copied."""
    states = []
    for index, module in enumerate(modules):
        if not isinstance(module, TableMLP):
            raise DTypeError(f"modules[{index}]: expected an interpkern TableMLP, got {type(module).__name__}")
        states.append(module.state_dict())
    if not states:
        raise ValueError("modules: expected at least one TableMLP, got none")
    for index, state in enumerate(states):
        for name, part in state.items():
            wanted, got = tuple(states[0][name].shape), tuple(part.shape)
            if got != wanted:
                raise ShapeError(f"modules[{index}].{name}: expected {wanted} to match modules[0], got {got}")
    fields = {field: torch.stack([state[name] for state in states]) for field, name in PARAMETERS.items()}
    return {**fields, "r": fields["r"].squeeze(1), "c_out": fields["c_out"].squeeze(1)}
