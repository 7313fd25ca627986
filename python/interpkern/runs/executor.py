"""Working through the cells of a sweep, beside other processes that may do the same."""

import time
from collections.abc import Callable, Sequence

from interpkern.progress import Progress
from interpkern.runs.cells import Cell, Result
from interpkern.runs.packing import Damaged
from interpkern.runs.store import Store

SECONDS_BETWEEN_LOOKS = 0.2
Compute = Callable[[Cell, Progress], Result]
"""Makes a cell's result, and reports (done, total) in any unit on the way."""


def run_cells(
    store: Store,
    cells: Sequence[Cell],
    compute: Compute,
    *,
    cost: Callable[[Cell], int] = lambda cell: 1,
    say: Callable[[str], object] = lambda line: None,
    progress: Progress | None = None,
) -> list[Result]:
    """Give the result of every cell: read where it is there, made where it is not.

    Several processes may do this on one directory at once, and any of them may be killed at any time: what is lost is
    the cell that it was working on. A file that is damaged is named and made anew.

    Args:
        store: the directory.
        cells: what is wanted; cells that come first are made first.
        compute: makes one.
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
    done = dict(zip([cell.name for cell in cells], [readable(store, cell, say) for cell in cells], strict=True))
    left = [cell for cell in cells if done[cell.name] is None]
    costs = {cell.name: cost(cell) for cell in left}

    def report(share: float = 0.0, name: str = "") -> None:
        if progress:
            made = sum(each for cell, each in costs.items() if done[cell] is not None)
            progress(int(made + share * costs.get(name, 0)), sum(costs.values()))

    report()
    while left:
        took = 0
        for cell in left:
            with store.claim(cell) as free:
                if done[cell.name] is None:
                    done[cell.name] = readable(store, cell, say if free else lambda line: None)
                if free and done[cell.name] is None:
                    made = compute(cell, lambda now, of, name=cell.name: report(now / max(of, 1), name))  # type: ignore[misc]
                    store.write(cell, made)
                    done[cell.name] = readable(store, cell, say)
                    took += 1
            report()
        left = [cell for cell in left if done[cell.name] is None]
        if left and not took:
            time.sleep(SECONDS_BETWEEN_LOOKS)
    store.tidy()
    return [result for result in (done[cell.name] for cell in cells) if result is not None]


def readable(store: Store, cell: Cell, say: Callable[[str], object]) -> Result | None:
    """The cell's result; None where there is none, and where it is damaged, which is said."""
    try:
        return store.read(cell)
    except Damaged as damage:
        say(f"{damage}; it is made anew")
        return None
