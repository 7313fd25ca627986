"""How compiled functions are called."""

import pytest
import torch

from interpkern import native
from interpkern.itda import ITDA
from tests.itda.problems import activations
from tests.ops.problems import problem, train


def test_no_code_that_can_be_interrupted_runs_while_arguments_are_passed(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []

    def interrupted(tensor: torch.Tensor, **settings: object) -> None:
        asked.append(tensor)
        raise KeyboardInterrupt

    monkeypatch.setattr(torch.Tensor, "__dlpack__", interrupted)
    train(*problem(3, 4, 4, 4, 4))
    ITDA(k=4, threshold=0.5, threads=1).fit(activations(300, 16))
    assert not asked


def test_tensors_in_lists_are_lent_too() -> None:
    rows = torch.arange(6.0).view(2, 3)
    lent = native.call(lambda **given: given, one=rows, some=[rows, rows], rest=[1], name="x")
    assert (lent["rest"], lent["name"]) == ([1], "x")
    for capsule in (lent["one"], *lent["some"]):
        assert torch.from_dlpack(capsule).data_ptr() == rows.data_ptr()
