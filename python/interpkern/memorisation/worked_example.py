"""The worked example of the origin: a 3 x 3 table that is the sum of two rectangles."""

import torch

from interpkern.memorisation.models import TableMLPs


def worked_example() -> tuple[TableMLPs, torch.Tensor]:
    """Give the model and its table: logits H_0 + H_1 equal [[1,1,1],[0,1,0],[1,0,1]] exactly.

    With boolean weights on a basis and c = -1, a hidden unit is 1 where its row and its column are both marked: an AND,
    a combinatorial rectangle. H_0 has rows (1,0,1) and columns (1,0,1), H_1 rows (1,1,0) and columns (0,1,0).

    Returns:
        One TableMLPs, and its (1, 3, 3) uint8 table.

    Source:
        Newgas 2025, "Progress report on a Toy Model Of Memorization".

    Example:
        >>> model, table = worked_example()
        >>> torch.equal(model.logits(), table.float())
        True
    """
    tokens = torch.eye(6)[None]
    model = TableMLPs(
        E1=tokens[:, :3],
        E2=tokens[:, 3:],
        W=torch.tensor([[[1.0, 0, 1, 1, 0, 1], [1, 1, 0, 0, 1, 0]]]),
        c=torch.tensor([[-1.0, -1.0]]),
        r=torch.tensor([[1.0, 1.0]]),
        c_out=torch.zeros(1),
        embedding="basis",
    )
    return model, torch.tensor([[[1, 1, 1], [0, 1, 0], [1, 0, 1]]], dtype=torch.uint8)
