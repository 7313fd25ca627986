"""interpkern: compiled kernels for interpretability experiments."""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from interpkern.errors import BackendUnavailable, DTypeError, ShapeError

if TYPE_CHECKING:
    from interpkern import activations, data, itda, memorisation, models, probing
    from interpkern.activations import Activations
    from interpkern.itda import ITDA, CrosscoderITDA
    from interpkern.memorisation import memorise
    from interpkern.ops.gram import Gram
    from interpkern.ops.matching_pursuit import matching_pursuit
    from interpkern.ops.sparse_code import SparseCode

__version__ = version("interpkern")
__all__ = [
    "ITDA",
    "Activations",
    "BackendUnavailable",
    "CrosscoderITDA",
    "DTypeError",
    "Gram",
    "ShapeError",
    "SparseCode",
    "__version__",
    "activations",
    "data",
    "itda",
    "matching_pursuit",
    "memorisation",
    "memorise",
    "models",
    "probing",
]

_LAZY = {
    "Activations": ("interpkern.activations", "Activations"),
    "CrosscoderITDA": ("interpkern.itda", "CrosscoderITDA"),
    "ITDA": ("interpkern.itda", "ITDA"),
    "Gram": ("interpkern.ops.gram", "Gram"),
    "SparseCode": ("interpkern.ops.sparse_code", "SparseCode"),
    "activations": ("interpkern.activations", None),
    "data": ("interpkern.data", None),
    "itda": ("interpkern.itda", None),
    "matching_pursuit": ("interpkern.ops.matching_pursuit", "matching_pursuit"),
    "memorisation": ("interpkern.memorisation", None),
    "memorise": ("interpkern.memorisation", "memorise"),
    "models": ("interpkern.models", None),
    "probing": ("interpkern.probing", None),
}
"""What needs torch, by name: its module and its name there; imported when first used, so that the CLI starts fast."""


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'interpkern' has no attribute {name!r}")
    source, attribute = _LAZY[name]
    module = import_module(source)
    value = globals()[name] = getattr(module, attribute) if attribute else module
    return value


def __dir__() -> list[str]:
    return __all__
