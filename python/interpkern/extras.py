"""Packages that only some calls need: imported when those run, with words on how to install them."""

from importlib import import_module
from typing import Any

from interpkern.errors import MissingExtra


def need(module: str, extra: str, purpose: str) -> Any:
    """Import `module`, or say which extra of interpkern brings it."""
    try:
        return import_module(module)
    except ImportError as error:
        raise MissingExtra(f"{purpose} needs {module}: pip install 'interpkern[{extra}]' ({error})") from error
