"""What causal tests ask of a TransformerLens bridge (3.9 to 4.x): its residuals, and runs that begin at a layer."""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import torch

from interpkern.errors import DTypeError, ShapeError
from interpkern.validation import Dimensions, integer

PARTS = ("blocks", "cfg", "unembed")


def checked_bridge(name: str, bridge: Any) -> Any:
    """The bridge, refused unless it has blocks and predicts tokens."""
    missing = [part for part in PARTS if not hasattr(bridge, part)]
    if missing or not callable(bridge):
        lacks = f" without {' and '.join(missing)}" if missing else ""
        raise DTypeError(
            f"{name}: expected a transformer_lens TransformerBridge of a model that predicts tokens, got"
            f" {type(bridge).__name__}{lacks}; make one with TransformerBridge.boot_transformers(folder)"
        )
    return bridge


def checked_layer(name: str, bridge: Any, layer: Any) -> int:
    """A layer of the bridge, counted from 0."""
    return integer(name, layer, 0, len(bridge.blocks) - 1)


def checked_tokens(name: str, bridge: Any, prompts: Any) -> torch.Tensor:
    """(P, S) int64 token ids on the bridge's device, inside its vocabulary and its context."""
    tokens = Dimensions().tensor(name, prompts, "P S", (torch.int64,))
    vocabulary = getattr(bridge.cfg, "d_vocab", None)
    low, high = int(tokens.min()), int(tokens.max())
    if low < 0 or (vocabulary and high >= vocabulary):
        raise ValueError(f"{name}: expected token ids from 0 to {(vocabulary or 0) - 1}, got {low} to {high}")
    longest = getattr(bridge.cfg, "n_ctx", None)
    if longest and tokens.shape[1] > longest:
        raise ShapeError(f"{name}: expected at most {longest} tokens, the model's context, got {tokens.shape[1]}")
    return tokens.to(device_of(bridge))


def device_of(bridge: Any) -> torch.device:
    """Where the bridge's weights are."""
    return next((weight.device for weight in bridge.parameters()), torch.device("cpu"))


def final_logits(bridge: Any, tokens: torch.Tensor, *, last_only: bool, past: Any = None) -> torch.Tensor:
    """(n, V) logits of the last position, after the positions in the cache `past`; `last_only` unembeds no other."""
    named = {} if past is None else {"past_key_values": past, "use_cache": True}
    with (
        _unembedding_the_last(bridge) if last_only else nullcontext(),
        naming_caches(bridge) if named else nullcontext(),
    ):
        logits = bridge(tokens, return_type="logits", **named)
    if not isinstance(logits, torch.Tensor) or logits.ndim != 3:
        raise ShapeError(f"bridge: expected a model that gives logits (batch, position, V), got {_shown(logits)}")
    return logits[:, -1]


@contextmanager
def _unembedding_the_last(bridge: Any) -> Iterator[None]:
    def last(module: object, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        return (inputs[0][:, -1:], *inputs[1:])

    handle = bridge.unembed.register_forward_pre_hook(last)
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def capturing(bridge: Any, layers: Sequence[int]) -> Iterator[dict[int, torch.Tensor]]:
    """A dictionary that a run fills with the residual (n, S, D) entering each of `layers`."""
    found: dict[int, torch.Tensor] = {}

    def keep(layer: int) -> Any:
        def hook(module: object, inputs: object, output: torch.Tensor) -> None:
            found[layer] = output.detach().clone()

        return hook

    with hooked([(bridge.blocks[layer].hook_in, keep(layer)) for layer in layers]):
        yield found


@contextmanager
def entering(bridge: Any, layer: int, residual: torch.Tensor) -> Iterator[None]:
    """Runs in which `residual` (n, S, D) enters `layer` whatever comes from below."""

    def replace(module: object, inputs: object, output: torch.Tensor) -> torch.Tensor:
        return residual

    with hooked([(bridge.blocks[layer].hook_in, replace)]):
        yield


@contextmanager
def hooked(hooks: Sequence[tuple[torch.nn.Module, Any]]) -> Iterator[None]:
    """Runs with a forward hook of torch on each of some modules."""
    handles = [module.register_forward_hook(hook) for module, hook in hooks]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def naming_caches(bridge: Any) -> Iterator[None]:
    """Runs in which attention finds a cache by either name: transformers 5.24 renamed it, and bridges did not."""

    def rename(
        module: object, inputs: tuple[Any, ...], named: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        if named.get("cache") is None or named.get("past_key_values") is not None:
            return inputs, named
        return inputs, named | {"past_key_values": named["cache"]}

    attentions = [block.attn for block in bridge.blocks if hasattr(block, "attn")]
    handles = [attention.register_forward_pre_hook(rename, with_kwargs=True) for attention in attentions]
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "`past_key_values` is deprecated", FutureWarning)
            yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def noting_outputs(bridge: Any, layers: int) -> Iterator[list[int | None]]:
    """A list that a run fills with how blocks give their residual: None for a tensor, n for a tuple."""
    sizes: list[int | None] = []

    def note(module: object, inputs: object, output: Any) -> None:
        sizes.append(len(output) if isinstance(output, tuple) else None)

    with hooked([(bridge.blocks[layer], note) for layer in range(layers)]):
        yield sizes


@contextmanager
def leaving_out(bridge: Any, sizes: Sequence[int | None]) -> Iterator[None]:
    """Runs in which the first blocks, one for each of `sizes`, pass on what enters them."""
    blocks = list(bridge.blocks)[: len(sizes)]
    try:
        for block, size in zip(blocks, sizes, strict=True):
            vars(block)["forward"] = _passing_on(size)
        yield
    finally:
        for block in blocks:
            vars(block).pop("forward", None)


def _passing_on(size: int | None) -> Any:
    def forward(*inputs: Any, **named: Any) -> Any:
        hidden = inputs[0] if inputs else named["hidden_states"]
        return hidden if size is None else (hidden, *[None] * (size - 1))

    return forward


def _shown(value: Any) -> str:
    return str(tuple(value.shape)) if isinstance(value, torch.Tensor) else type(value).__name__
