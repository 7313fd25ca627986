"""Claims: at most one of several processes works on a cell, and a process that dies gives its claim up."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

try:
    import fcntl
except ImportError:  # without locks, two processes may do a cell twice, and both get the same
    fcntl = None  # type: ignore[assignment]


@contextmanager
def claimed(path: Path) -> Iterator[bool]:
    """Hold the lock file `path` for the block, and say whether it was free.

    The operating system lets go of the lock of a process that is killed. The file is removed by its holder, so one that
    was opened before that and locked after it is nobody's: that is seen by its number, and tried again.
    """
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            free = _lock(descriptor)
            if free and not _is_still(descriptor, path):
                continue
            try:
                yield free
            finally:
                if free:
                    path.unlink(missing_ok=True)
            return
        finally:
            os.close(descriptor)


def _lock(descriptor: int) -> bool:
    if fcntl is None:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_still(descriptor: int, path: Path) -> bool:
    """Whether the path leads to the file that is open."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False
