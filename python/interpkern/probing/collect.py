"""What a model holds at numbers: one prompt a number, the residual at its last token, at all layers in one pass."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from interpkern.activations.bridges import evaluating
from interpkern.activations.tokenising import tokenizer_sha256, weights_sha256
from interpkern.errors import DTypeError
from interpkern.files import provenance
from interpkern.probing.number_sets import NumberActivations
from interpkern.progress import Progress, reporting
from interpkern.validation import boolean, choice, integer

HOOKS = ("resid_pre", "resid_mid", "resid_post", "attn_out", "mlp_out")


@dataclass(frozen=True)
class NumberPrompt:
    """A number behind a prefix, as tokens."""

    number: int
    tokens: tuple[int, ...]
    position: int
    """Of the last token of the number."""
    token_count: int
    """Tokens that the number takes."""


def number_prompts(bridge: Any, numbers: Iterable[int], prefix: str) -> list[NumberPrompt]:
    """The prompt `prefix` + number of each number, with what the model wants in front (BOS, [CLS]).

    Raises:
        ValueError: a model without a tokenizer that knows where in a text its tokens stand.
    """
    tokenizer = getattr(bridge, "tokenizer", None)
    if tokenizer is None or not getattr(tokenizer, "is_fast", False):
        raise ValueError(
            "bridge: this model has no fast tokenizer, which says where a number's tokens stand; give arrays"
        )
    return [_prompt(bridge, tokenizer, integer("numbers", number, 0), prefix) for number in numbers]


def _prompt(bridge: Any, tokenizer: Any, number: int, prefix: str) -> NumberPrompt:
    text = f"{prefix}{number}"
    plain = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    ids, offsets = list(plain["input_ids"]), plain["offset_mapping"]
    whole = [int(token) for token in bridge.to_tokens(text)[0].tolist()]
    start = next((at for at in range(len(whole)) if whole[at : at + len(ids)] == ids), None)
    of_number = [place for place, (_, end) in enumerate(offsets) if end > len(prefix)]
    if start is None or not of_number:
        raise ValueError(f"prefix: the tokens of {text!r} can't be matched to its characters; try another prefix")
    return NumberPrompt(number, tuple(whole), start + of_number[-1], len(of_number))


def spaced(prefix: Any) -> str:
    """A prefix that does not run into the number behind it.

    Example:
        >>> spaced("The number"), spaced("n = "), spaced("")
        ('The number ', 'n = ', '')
    """
    if not isinstance(prefix, str):
        raise DTypeError(f"prefix: expected a text, got {prefix!r}")
    if prefix[-1:].isdigit():
        raise ValueError(
            f"prefix: {prefix!r} ends in a digit, which would be read as one of the number's; end it otherwise"
        )
    return f"{prefix} " if prefix[-1:].isalpha() else prefix


def single_token_numbers(bridge: Any, numbers: Iterable[int], *, prefix: str = "The number ") -> list[int]:
    """Those of `numbers` that the tokenizer keeps whole behind `prefix`.

    Example:
        >>> len(single_token_numbers(bridge, range(1, 361), prefix=""))  # doctest: +SKIP
        352
    """
    return [prompt.number for prompt in number_prompts(bridge, numbers, prefix) if prompt.token_count == 1]


def number_activations(
    bridge: Any,
    numbers: Sequence[int],
    *,
    layers: Sequence[int] | None = None,
    prefix: str = "The number ",
    hook: str = "resid_pre",
    single_token: bool = False,
    batch_size: int = 32,
    model_name: str | None = None,
    progress: Progress | bool | None = None,
) -> NumberActivations:
    """Collect the activation at the last token of each number, behind one prefix.

    Numbers at position 0 are in an attention sink, where all tokens look alike: give a prefix where the model puts no
    token of its own in front. Where the tokenizer splits numbers into digits, the last token is the last digit, and
    the row holds the number only as far as attention has brought it there. `log_probe` says both.

    Args:
        bridge: a transformer_lens TransformerBridge (3.9 to 4.x).
        numbers: different non-negative integers.
        layers: of which activations are kept; by default all. With resid_pre, the number of layers itself stands for
            what leaves the last one.
        prefix: text in front of the number; a space is put behind a last letter.
        hook: resid_pre (the input of a block), resid_mid, resid_post, attn_out or mlp_out.
        single_token: leave out the numbers that the tokenizer splits.
        batch_size: prompts in one forward pass; all prompts of a pass have the same length, so there is no padding.
        model_name: name in the result; by default the bridge's own.
        progress: a function of (done, total) numbers; True or False for a bar or none; by default a bar on a terminal.

    Returns:
        NumberActivations: float32, rows in the order of `numbers`.

    Raises:
        ValueError: a layer or hook that this model lacks, a number that comes twice, a model without fast tokenizer.

    Example:
        >>> bridge = TransformerBridge.boot_transformers(str(ik.models.get("smollm2")))  # doctest: +SKIP
        >>> number_activations(bridge, range(1, 361), layers=(1, 20)).save("numbers.safetensors")  # doctest: +SKIP
    """
    _check_bridge(bridge)
    wanted = _whole_numbers(numbers)
    names = hook_names(bridge, layers, hook)
    prefix = spaced(prefix)
    prompts = number_prompts(bridge, wanted, prefix)
    if boolean("single_token", single_token):
        prompts = [prompt for prompt in prompts if prompt.token_count == 1]
    if not prompts:
        raise ValueError("single_token: the tokenizer splits all of these numbers; choose others or leave it out")
    with reporting(progress, "collect", "number") as report:
        rows = _run(bridge, prompts, names, integer("batch_size", batch_size, 1), report)
    origin = {
        "model": model_name or Path(str(getattr(bridge.cfg, "model_name", None) or "unknown")).name,
        "layers_of_model": int(bridge.cfg.n_layers),
        "hook": hook,
        "prefix": prefix,
        "weights_sha256": weights_sha256(bridge, None),
        "tokenizer_sha256": tokenizer_sha256(bridge.tokenizer),
        "provenance": provenance(),
    }
    return NumberActivations(
        torch.tensor([prompt.number for prompt in prompts]),
        rows,
        torch.tensor([prompt.position for prompt in prompts]),
        torch.tensor([prompt.token_count for prompt in prompts]),
        origin,
    )


def _check_bridge(bridge: Any) -> None:
    if not hasattr(bridge, "hook_dict") or not hasattr(bridge, "run_with_cache"):
        raise DTypeError(
            f"bridge: expected a transformer_lens TransformerBridge, got {type(bridge).__name__}; "
            "make one with TransformerBridge.boot_transformers(folder)"
        )


def _whole_numbers(numbers: Iterable[int]) -> list[int]:
    values = numbers.tolist() if hasattr(numbers, "tolist") else list(numbers)
    found = [integer("numbers", value, 0) for value in values]
    if len(set(found)) != len(found) or not found:
        raise ValueError(f"numbers: expected different integers, got {len(found)} with {len(set(found))} different")
    return found


def hook_names(bridge: Any, layers: Sequence[int] | None, hook: str) -> dict[int, str]:
    """The hook point of each layer; of resid_pre, one more, behind the last layer."""
    choice("hook", hook, HOOKS)
    count = int(bridge.cfg.n_layers)
    last = count if hook == "resid_pre" else count - 1
    wanted = range(last + 1) if layers is None else [integer("layers", layer, 0, last) for layer in layers]
    names = {
        layer: f"blocks.{layer}.hook_{hook}" if layer < count else f"blocks.{count - 1}.hook_resid_post"
        for layer in sorted(set(wanted))
    }
    missing = [name for name in names.values() if name not in bridge.hook_dict]
    if missing:
        raise ValueError(f"hook: this model has no {missing[0]}; choose another of {', '.join(HOOKS)}")
    return names


def _run(
    bridge: Any, prompts: Sequence[NumberPrompt], names: Mapping[int, str], size: int, report: Progress | None
) -> dict[int, torch.Tensor]:
    """{layer: (N, D)} float32 on the CPU."""
    by_length: dict[int, list[int]] = defaultdict(list)
    for place, prompt in enumerate(prompts):
        by_length[len(prompt.tokens)].append(place)
    batches = [places[at : at + size] for places in by_length.values() for at in range(0, len(places), size)]
    rows: dict[int, torch.Tensor] = {}
    done = 0
    with evaluating(bridge):
        for places in batches:
            for layer, values in _forward(bridge, [prompts[place] for place in places], names).items():
                rows.setdefault(layer, torch.empty(len(prompts), values.shape[1]))[places] = values
            done += len(places)
            if report:
                report(done, len(prompts))
    return rows


def _forward(bridge: Any, prompts: Sequence[NumberPrompt], names: Mapping[int, str]) -> dict[int, torch.Tensor]:
    """{layer: (n, D)} of prompts of one length; layers behind the last that is kept don't run."""
    tokens = torch.tensor([prompt.tokens for prompt in prompts], device=bridge.cfg.device)
    at = torch.tensor([prompt.position for prompt in prompts])
    stop = max(names) + 1 if max(names) + 1 < bridge.cfg.n_layers else None
    _, cache = bridge.run_with_cache(tokens, names_filter=list(names.values()), stop_at_layer=stop)
    found = {layer: cache[name].float().cpu()[torch.arange(len(prompts)), at] for layer, name in names.items()}
    for layer, values in found.items():
        if not bool(torch.isfinite(values).all()):
            raise ValueError(f"bridge: the model gave NaN or infinity at layer {layer}; load it in float32")
    return found
