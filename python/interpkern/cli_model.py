"""The model that a command runs."""

import os
import re
import sys
from typing import Any

import torch

from interpkern import models
from interpkern.extras import need

MODEL_HELP = f"its folder, {', '.join(models.MODELS)}, or an owner/name of the Hugging Face hub"
HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")


def bridge_of(model: str) -> Any:
    """A TransformerLens bridge of a local folder, a model that `interpkern models get` knows, or one of the hub.

    Only the last one may use the network for the model itself.
    """
    source = _source_of(model)
    bridges = need("transformer_lens.model_bridge", "probe", "--model")
    return bridges.TransformerBridge.boot_transformers(source, dtype=torch.float32, device="cpu")


def _source_of(model: str) -> str:
    is_folder = os.path.isdir(model)
    if not is_folder and model not in models.MODELS:
        if not HUB_NAME.fullmatch(model):
            raise ValueError(f"model: {model} is no folder; expected {MODEL_HELP}")
        return model
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    if is_folder:
        return model
    return str(models.get(model, say=lambda line: print(line, file=sys.stderr, flush=True)))
