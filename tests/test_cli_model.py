"""What `--model` may be."""

import os
from pathlib import Path

import pytest
from transformer_lens.model_bridge import TransformerBridge

from interpkern import models
from interpkern.cli_model import bridge_of


@pytest.fixture
def booted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """What TransformerLens was asked for, from now on; it may have the network unless told otherwise."""
    sources: list[str] = []
    monkeypatch.setattr(TransformerBridge, "boot_transformers", lambda source, **settings: sources.append(source))
    monkeypatch.setattr(models, "get", lambda name, say: tmp_path / name)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    return sources


def test_local_models_need_no_network(booted, tmp_path: Path) -> None:
    bridge_of(str(tmp_path))
    bridge_of("smollm2")
    assert booted == [str(tmp_path), str(tmp_path / "smollm2")]
    assert os.environ.pop("HF_HUB_OFFLINE") == "1"


def test_a_name_of_the_hub_is_passed_on(booted) -> None:
    bridge_of("EleutherAI/pythia-14m")
    assert booted == ["EleutherAI/pythia-14m"]
    assert "HF_HUB_OFFLINE" not in os.environ


@pytest.mark.parametrize("model", ["gpt", "a/b/c", "a b/c", "/nowhere/model", ""])
def test_anything_else_is_refused(booted, model: str) -> None:
    with pytest.raises(ValueError, match=r"model: .* is no folder; expected"):
        bridge_of(model)
    assert not booted
