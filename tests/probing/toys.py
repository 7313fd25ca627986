"""Small random models with odd sizes that TransformerLens boots, and their prompts."""

from pathlib import Path
from typing import Any

import torch

WIDTH, LAYERS, VOCABULARY, PROMPTS, LENGTH = 15, 4, 37, 13, 7


def native_bridge(**changes: Any) -> Any:
    """A native bridge with weights large enough that its logits differ."""
    from transformer_lens.config import TransformerBridgeConfig
    from transformer_lens.model_bridge import TransformerBridge

    settings: dict[str, Any] = {
        "d_model": WIDTH,
        "d_head": 5,
        "n_heads": 3,
        "n_layers": LAYERS,
        "n_ctx": 11,
        "d_vocab": VOCABULARY,
        "d_mlp": 23,
        "act_fn": "gelu",
        "normalization_type": "LN",
        "seed": 0,
    }
    bridge = TransformerBridge.boot_native(TransformerBridgeConfig(**settings | changes))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in bridge.original_model.parameters():
            weight.add_(torch.randn(weight.shape, generator=generator) * 0.2)
    return bridge


def hugging_face_bridge(folder: Path) -> Any:
    """A bridge on a model that is on disk."""
    from transformer_lens.model_bridge import TransformerBridge

    return TransformerBridge.boot_transformers(str(folder), dtype=torch.float32, device="cpu")


def token_ids(seed: int = 0, *, prompts: int = PROMPTS, length: int = LENGTH) -> torch.Tensor:
    """(P, S) random prompts."""
    return torch.randint(0, VOCABULARY, (prompts, length), generator=torch.Generator().manual_seed(seed))


def answers(seed: int = 5, *, prompts: int = PROMPTS) -> torch.Tensor:
    """(P,) random tokens."""
    return token_ids(seed, prompts=prompts, length=1)[:, 0]


def normal(*shape: int, seed: int = 3) -> torch.Tensor:
    """Standard normal numbers."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def raw_logits(model: torch.nn.Module, block: torch.nn.Module, tokens: torch.Tensor, change: Any) -> torch.Tensor:
    """(P, V) logits of the last position by a plain hook of torch on a block's input."""

    def hook(module: object, inputs: tuple[Any, ...], named: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        if inputs:
            return (change(inputs[0].clone()), *inputs[1:]), named
        return inputs, named | {"hidden_states": change(named["hidden_states"].clone())}

    handle = block.register_forward_pre_hook(hook, with_kwargs=True)
    try:
        with torch.no_grad():
            found = model(tokens)
    finally:
        handle.remove()
    return getattr(found, "logits", found)[:, -1]
