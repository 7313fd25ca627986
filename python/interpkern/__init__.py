"""interpkern: compiled kernels for interpretability experiments."""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from interpkern.errors import BackendUnavailable, DTypeError, ShapeError

if TYPE_CHECKING:
    from interpkern import memorisation
    from interpkern.memorisation import memorise
    from interpkern.ops.gram import Gram
    from interpkern.ops.matching_pursuit import matching_pursuit
    from interpkern.ops.sparse_code import SparseCode

__version__ = version("interpkern")
__all__ = [
    "BackendUnavailable",
    "DTypeError",
    "Gram",
    "ShapeError",
    "SparseCode",
    "__version__",
    "matching_pursuit",
    "memorisation",
    "memorise",
]

_LAZY = {
    "Gram": ("interpkern.ops.gram", "Gram"),
    "SparseCode": ("interpkern.ops.sparse_code", "SparseCode"),
    "matching_pursuit": ("interpkern.ops.matching_pursuit", "matching_pursuit"),
    "memorisation": ("interpkern.memorisation", None),
    "memorise": ("interpkern.memorisation", "memorise"),
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
