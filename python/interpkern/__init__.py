"""interpkern: compiled kernels for interpretability experiments."""

from importlib.metadata import version

from interpkern import memorisation
from interpkern.errors import BackendUnavailable, DTypeError, ShapeError
from interpkern.memorisation import memorise

__version__ = version("interpkern")
__all__ = ["BackendUnavailable", "DTypeError", "ShapeError", "__version__", "memorisation", "memorise"]
