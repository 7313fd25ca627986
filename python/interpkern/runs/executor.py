"""Working through the cells of a sweep, beside other threads and processes that may do the same."""

import threading
import time
from collections.abc import Callable, Sequence

from interpkern.progress import Progress
from interpkern.runs.cells import Cell, Result
from interpkern.runs.packing import Damaged
from interpkern.runs.store import Store

SECONDS_BETWEEN_LOOKS = 0.2
Compute = Callable[[Cell, Progress], Result]
"""Makes a cell's result, and reports (done, total) in any unit on the way."""
Say = Callable[[str], object]


def run_cells(
    store: Store,
    cells: Sequence[Cell],
    compute: Compute | Sequence[Compute],
    *,
    cost: Callable[[Cell], int] = lambda cell: 1,
    say: Say = lambda line: None,
    progress: Progress | None = None,
) -> list[Result]:
    """Give the result of every cell: read where it is there, made where it is not.

    Several processes may do this on one directory at once, and any of them may be killed at any time: what is lost is
    the cell that it was working on. A file that is damaged is named and made anew.

    Args:
        store: the directory.
        cells: what is wanted; cells that come first are made first.
        compute: makes one; of several, each works on a cell of its own, in a thread of its own.
        cost: of a cell, in the unit of progress.
        say: prints a line about a damaged file.
        progress: gets (cost done, cost of what was not there at the start), and moves within a cell too.

    Returns:
        Results in the order of the cells.

    Example:
        >>> cells = [Cell("square", {"x": x}) for x in range(3)]
        >>> compute = lambda cell, progress: Result(pandas.DataFrame({"y": [cell.spec["x"] ** 2]}), {})
        >>> [result.table.y[0] for result in run_cells(Store("/tmp/example-runs"), cells, compute)]
        [0, 1, 4]
    """
    work = _Work(store, cells, cost, say, progress)
    if callable(compute):
        work.through(compute)
    else:
        _side_by_side(work, compute)
    store.tidy()
    return [result for result in (work.done[cell.name] for cell in cells) if result is not None]


class _Stopped(Exception):
    """Another thread failed, or somebody pressed Ctrl-C."""


class _Work:
    """The cells of one call, and what has become of them."""

    def __init__(
        self, store: Store, cells: Sequence[Cell], cost: Callable[[Cell], int], say: Say, progress: Progress | None
    ) -> None:
        self.store, self.cells, self.progress = store, cells, progress
        self.say = _once(say)
        self.done = {cell.name: readable(store, cell, self.say) for cell in cells}
        self.costs = {cell.name: cost(cell) for cell in self._left()}
        self.shares: dict[str, float] = {}
        """Of the cells in hand, how much is done."""
        self.stop = threading.Event()
        self.lock = threading.Lock()
        self.report()

    def _left(self) -> list[Cell]:
        return [cell for cell in self.cells if self.done[cell.name] is None]

    def report(self) -> None:
        """Say how far it is."""
        if self.stop.is_set():
            raise _Stopped
        with self.lock:
            if self.progress:
                made = sum(each for name, each in self.costs.items() if self.done[name] is not None)
                in_hand = (self.costs[name] * share for name, share in dict(self.shares).items() if not self.done[name])
                self.progress(int(made + sum(in_hand)), sum(self.costs.values()))

    def through(self, compute: Compute) -> None:
        """Make whatever nobody else is making, until every cell is there."""
        while left := self._left():
            took = 0
            for cell in left:
                with self.store.claim(cell) as free:
                    if self.done[cell.name] is None:
                        self.done[cell.name] = readable(self.store, cell, self.say if free else lambda line: None)
                    if free and self.done[cell.name] is None:
                        self._make(cell, compute)
                        took += 1
                self.report()
            if not took and self._left():
                time.sleep(SECONDS_BETWEEN_LOOKS)

    def _make(self, cell: Cell, compute: Compute) -> None:
        def within(now: int, of: int) -> None:
            self.shares[cell.name] = now / max(of, 1)
            self.report()

        try:
            self.store.write(cell, compute(cell, within))
            self.done[cell.name] = readable(self.store, cell, self.say)
        finally:
            self.shares.pop(cell.name, None)


def _side_by_side(work: _Work, computes: Sequence[Compute]) -> None:
    """One thread for each; where one fails, or at Ctrl-C, the others leave the cell that they are working on.

    Not a pool, which does not wait for a thread that it was interrupted in starting.
    """
    failures: list[BaseException] = []

    def worker(compute: Compute) -> None:
        try:
            work.through(compute)
        except _Stopped:
            return
        except BaseException as failure:
            failures.append(failure)

    threads = [threading.Thread(target=worker, args=(compute,)) for compute in computes]
    try:
        for thread in threads:
            thread.start()
        while not failures and any(thread.is_alive() for thread in threads):
            time.sleep(SECONDS_BETWEEN_LOOKS)
    finally:
        work.stop.set()
        for thread in threads:
            if thread.is_alive():
                thread.join()
    if failures:
        raise failures[0]


def _once(say: Say) -> Say:
    """Say every line once: a damaged file is looked at again when it is claimed."""
    said: set[str] = set()

    def say_new(line: str) -> None:
        if line not in said:
            said.add(line)
            say(line)

    return say_new


def readable(store: Store, cell: Cell, say: Say) -> Result | None:
    """The cell's result; None where there is none, and where it is damaged, which is said."""
    try:
        return store.read(cell)
    except Damaged as damage:
        say(f"{damage}; it is made anew")
        return None
