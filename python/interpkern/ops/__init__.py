"""The compiled operations: each checks its arguments, chooses a backend, calls it and wraps what comes back."""

from interpkern.backends import Backend
from interpkern.ops import matching_pursuit_backends, memorise_backends

BACKENDS: dict[str, tuple[Backend, ...]] = {
    "memorise": memorise_backends.BACKENDS,
    "matching_pursuit": matching_pursuit_backends.BACKENDS,
}
"""Every operation with its backends, in the order in which "auto" tries them."""
