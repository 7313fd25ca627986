"""Progress of long work: a tqdm bar on a terminal, a caller's function, or nothing."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tqdm import tqdm

from interpkern.errors import DTypeError

Progress = Callable[[int, int], object]


@contextmanager
def reporting(progress: Progress | bool | None, description: str, unit: str) -> Iterator[Progress | None]:
    """Give a function of (done, total): the caller's, a bar's, or None. None shows a bar on a terminal, True always."""
    if callable(progress):
        yield progress
        return
    if not isinstance(progress, (bool, type(None))):
        raise DTypeError(f"progress: expected a function of (done, total), True, False or None, got {progress!r}")
    if progress is False or (progress is None and not sys.stderr.isatty()):
        yield None
        return
    with tqdm(desc=description, unit=unit, unit_scale=True) as bar:

        def update(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        yield update
