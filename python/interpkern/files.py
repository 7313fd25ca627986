"""Files that appear whole or not at all, and the record of where a result came from."""

import os
import platform
import secrets
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, BinaryIO

import numpy
import torch

from interpkern.errors import DTypeError


def write_atomically(path: Path, content: bytes | Callable[[BinaryIO], object]) -> None:
    """Write bytes, or let a function write them: to a temporary file beside `path`, synced, then renamed to it."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}.tmp")
    try:
        with temporary.open("xb") as file:
            if callable(content):
                content(file)
            else:
                file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync_directory(path.parent)


def _sync_directory(directory: Path) -> None:
    """Make a rename last; Windows has no descriptor for a directory."""
    if os.name == "posix":
        descriptor = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def as_path(name: str, value: Any) -> Path:
    """`value` as a path."""
    if not isinstance(value, (str, os.PathLike)) or not os.fspath(value):
        raise DTypeError(f"{name}: expected a path, got {value!r}")
    return Path(value)


def claim_directory(target: Path, ours: tuple[str, ...], is_ours: Callable[[], bool], name: str = "directory") -> None:
    """Make a directory, or refuse one that holds more than `ours`, whole or half written, unless it is ours already."""
    if target.exists() and not target.is_dir():
        raise ValueError(f"{name}: {target} is a file; expected a new or empty directory")
    target.mkdir(parents=True, exist_ok=True)
    half_written = tuple(f".{one}." for one in ours)
    names = sorted(path.name for path in target.iterdir())
    foreign = [name for name in names if name not in ours and not name.startswith(half_written)]
    if foreign and not is_ours():
        shown = ", ".join(foreign[:3])
        raise ValueError(f"{name}: {target} holds other files ({shown}); expected a new or empty directory")


def provenance() -> dict[str, Any]:
    """What ran, where and when: versions, platform, time."""
    return {
        "interpkern": version("interpkern"),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": numpy.__version__,
        "platform": platform.platform(),
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
    }
