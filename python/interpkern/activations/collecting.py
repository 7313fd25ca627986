"""Activations of a model on texts, streamed to a folder of shards; a killed run goes on where it was."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from interpkern.activations.bridges import check_hook, evaluating, hook_layer, padded
from interpkern.activations.manifest import (
    MANIFEST,
    Manifest,
    checked_shard,
    shard_name,
    write_shard,
    write_vocabulary,
)
from interpkern.activations.rows import Rows
from interpkern.activations.source import Activations
from interpkern.activations.tokenising import (
    Text,
    checked_texts,
    texts_sha256,
    token_ids,
    tokenizer_sha256,
    weights_sha256,
    words,
)
from interpkern.files import as_path, provenance
from interpkern.progress import Progress, reporting
from interpkern.validation import choice, integer

DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16, "float32": torch.float32}


def collect(
    bridge: Any,
    texts: Iterable[Text],
    hook: str,
    out_dir: str | Path,
    *,
    max_tokens: int = 128,
    batch_size: int = 8,
    texts_per_shard: int = 256,
    dtype: str = "float16",
    model_name: str | None = None,
    notes: str = "",
    progress: Progress | bool | None = None,
) -> Activations:
    """Write what `hook` of a TransformerLens bridge gives on every token of `texts` to a folder, and open it.

    The same call goes on with a folder that a killed run left, and ends with the same shards, byte for byte.

    Args:
        bridge: a transformer_lens TransformerBridge (3.9 to 4.x).
        texts: strings, or lists of token ids; a label's prompt id is the number of its text.
        hook: a hook point that gives (batch, position, D), such as "blocks.15.hook_resid_pre"; later layers don't run.
        out_dir: folder for the shards, new or of the same run.
        max_tokens: tokens of a text that are kept, with the one that the model wants in front; at most its context.
        batch_size: texts in one forward pass.
        texts_per_shard: texts in one file; what a kill can lose.
        dtype: float16, bfloat16 or float32, as stored.
        model_name: name in the manifest; by default the bridge's own.
        notes: what the manifest should say besides, such as where the texts come from.
        progress: a function of (done, total) texts; True or False for a bar or none; by default a bar on a terminal.

    Returns:
        Activations: (N, D) rows in the order of texts and positions, without padding.

    Raises:
        DTypeError: texts or hook of another type.
        ValueError: an unknown hook, an activation that is not finite or too large for `dtype`, a folder of another
            run, a damaged shard; each is named.

    Example:
        >>> bridge = TransformerBridge.boot_transformers(str(ik.models.get("minilm")))  # doctest: +SKIP
        >>> collect(bridge, ["A text.", "Another."], "blocks.3.hook_resid_pre", "minilm")  # doctest: +SKIP
        Activations(8 x 384 of minilm-0.1.0 at blocks.3.hook_resid_pre)
    """
    checked = checked_texts(texts)
    check_hook(bridge, hook)
    kept = DTYPES[choice("dtype", dtype, tuple(DTYPES))]
    settings = {
        "model": model_name or Path(str(getattr(bridge.cfg, "model_name", None) or "unknown")).name,
        "weights_sha256": weights_sha256(bridge, hook_layer(hook)),
        "hook": hook,
        "tokenizer_sha256": tokenizer_sha256(getattr(bridge, "tokenizer", None)),
        "texts_sha256": texts_sha256(checked),
        "texts": len(checked),
        "max_tokens": integer("max_tokens", max_tokens, 1),
        "batch_size": integer("batch_size", batch_size, 1),
        "texts_per_shard": integer("texts_per_shard", texts_per_shard, 1),
        "dtype": dtype,
    }
    folder = as_path("out_dir", out_dir)
    manifest = _begun(folder, settings, notes)
    if manifest.complete and all((folder / shard.file).exists() for shard in manifest.shards):
        return Activations(folder)
    with reporting(progress, "collect", "text") as report:
        _fill(bridge, checked, kept, folder, manifest, report)
    return Activations(folder)


def _begun(folder: Path, settings: Mapping[str, Any], notes: str) -> Manifest:
    """The manifest of a run with these settings: the one in the folder, or a new one written there."""
    if (folder / MANIFEST).exists():
        manifest = Manifest.read(folder)
        for name, value in settings.items():
            if manifest.settings.get(name) != value:
                raise ValueError(
                    f"out_dir: {folder} holds another run, with {name} {manifest.settings.get(name)!r} instead of "
                    f"{value!r}; choose another folder or delete it"
                )
        return manifest
    folder.mkdir(parents=True, exist_ok=True)
    for left in folder.glob(f".{MANIFEST}.*.tmp"):  # of a run that was killed before it began
        left.unlink()
    if any(folder.iterdir()):
        raise ValueError(f"out_dir: {folder} holds files and no {MANIFEST}; choose an empty folder")
    manifest = Manifest(settings=settings, provenance=provenance() | {"notes": notes})
    manifest.write(folder)
    return manifest


def _fill(
    bridge: Any, texts: list[Text], dtype: torch.dtype, folder: Path, manifest: Manifest, report: Progress | None
) -> None:
    """Write the shards that are missing, then the words of all tokens, then that nothing is missing."""
    size = manifest.settings["texts_per_shard"]
    done = {shard.file: shard for shard in manifest.shards}
    seen: set[int] = set()
    with evaluating(bridge):
        for number, start in enumerate(range(0, len(texts), size)):
            ids = [_ids(bridge, texts, n, manifest.settings) for n in range(start, min(start + size, len(texts)))]
            seen.update(token for text in ids for token in text)
            known = done.get(shard_name(number))
            if known and (folder / known.file).exists():
                checked_shard(folder, known)
            else:
                rows = _run(bridge, ids, start, dtype, manifest.settings)
                shard = write_shard(folder, number, rows.activations, rows.labels, rows.tokens)
                done[shard.file] = shard
                shards = tuple(done[name] for name in sorted(done))
                manifest = replace(manifest, shards=shards, width=rows.activations.shape[1])
                manifest.write(folder)
            if report:
                report(min(start + size, len(texts)), len(texts))
    write_vocabulary(folder, words(getattr(bridge, "tokenizer", None), seen))
    replace(manifest, complete=True).write(folder)


def _ids(bridge: Any, texts: list[Text], number: int, settings: Mapping[str, Any]) -> list[int]:
    """The token ids of a text, as many as are kept."""
    most = min(settings["max_tokens"], getattr(bridge.cfg, "n_ctx", None) or settings["max_tokens"])
    ids = token_ids(bridge, texts[number], most)
    size = getattr(bridge.cfg, "d_vocab", None)
    if not ids or (size and max(ids) >= size):
        what = f"token id {max(ids)} of a vocabulary of {size}" if ids else "no tokens"
        raise ValueError(f"texts: text {number} has {what}; leave it out")
    return ids


def _run(bridge: Any, ids: Sequence[list[int]], first: int, dtype: torch.dtype, settings: Mapping[str, Any]) -> Rows:
    """The rows of some texts, the first of which has number `first`."""
    size = settings["batch_size"]
    found = [_forward(bridge, ids[start : start + size], settings["hook"]) for start in range(0, len(ids), size)]
    exact = torch.cat(found)
    labels = torch.tensor([(first + n, position) for n, text in enumerate(ids) for position in range(len(text))])
    activations = exact.to(dtype)
    _check_finite(exact, activations, labels)
    return Rows(activations, labels, torch.tensor([token for text in ids for token in text]))


def _forward(bridge: Any, ids: Sequence[list[int]], hook: str) -> torch.Tensor:
    """(n, D) activations of a batch of texts on the CPU, padding left out."""
    tokens, mask = padded(ids, bridge.cfg.device)
    _, cache = bridge.run_with_cache(tokens, names_filter=hook, stop_at_layer=_stop(bridge, hook), attention_mask=mask)
    if hook not in cache:
        raise ValueError(f"hook: {hook!r} is never reached in this model; choose another")
    values = cache[hook]
    if values.ndim != 3 or values.shape[:2] != tokens.shape:
        raise ValueError(f"hook: {hook!r} gives {tuple(values.shape)}, expected (batch, position, D)")
    return torch.as_tensor(values[mask.bool().to(values.device)]).cpu()


def _stop(bridge: Any, hook: str) -> int | None:
    """The layer before which the model may stop: one after the hook's own."""
    layer = hook_layer(hook)
    return layer + 1 if layer is not None and layer + 1 < bridge.cfg.n_layers else None


def _check_finite(exact: torch.Tensor, stored: torch.Tensor, labels: torch.Tensor) -> None:
    bad = ~torch.isfinite(stored).all(dim=1)
    if not bool(bad.any()):
        return
    prompt, position = labels[bad][0].tolist()
    where = f"at prompt {prompt}, position {position}, and {int(bad.sum()) - 1} more rows"
    if bool(torch.isfinite(exact).all()):
        largest = float(exact.abs().max())
        raise ValueError(f"dtype: {largest:g} is too large for {stored.dtype}, {where}; choose bfloat16 or float32")
    raise ValueError(f"bridge: the model gave NaN or infinity {where}; load it in float32, or leave the text out")
