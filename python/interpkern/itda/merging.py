"""Two dictionaries that were built apart, as one."""

import hashlib

import torch

from interpkern.errors import DTypeError
from interpkern.itda.construction import Construction, Counts, Digest
from interpkern.itda.devices import same
from interpkern.itda.dictionary import ITDA
from interpkern.itda.rows import Rows

SAME = ("k", "method", "relative", "nonnegative")


def merge(a: ITDA, b: ITDA) -> ITDA:
    """Add to a's atoms those of b that the growing dictionary leaves more of than the threshold.

    A cheap way to build from shards: each is fitted alone, with the same mean given as `centre`, and the results are
    merged two by two. Only atoms are tested, so the result is close to, and not the same as, that of one fit.

    Args:
        a, b: fitted dictionaries of one mean and of the same k, method, threshold, relative and nonnegative.

    Returns:
        A new ITDA with the settings of a; birth_step counts b's rows behind a's.

    Raises:
        DTypeError or ValueError that names what differs.

    Example:
        >>> parts = [ITDA(k=4, centre=False).fit(torch.randn(100, 8)) for _ in range(2)]
        >>> len(merge(*parts)) >= len(parts[0])
        True
    """
    _check(a, b)
    ours, theirs = a._built, b.to(a.mean.device)._built
    counts = Counts(
        rows_seen=ours.counts.rows_seen + theirs.counts.rows_seen,
        skipped=ours.counts.skipped + theirs.counts.skipped,
        batch_rows=max(ours.counts.batch_rows, theirs.counts.batch_rows),
    )
    merged = Construction(
        a.settings,
        ours.mean,
        a._pursuit,
        threshold=ours.threshold,
        atoms=ours.atoms.first(len(a)),
        digest=Digest(hashlib.sha256((a.data["sha256"] + b.data["sha256"]).encode()).hexdigest()),
        counts=counts,
    )
    records = theirs.atoms.records
    norm = torch.from_numpy(records["source_norm"].copy()).float().to(a.mean.device)
    rows = Rows(
        theirs.atoms.values * norm[:, None],
        theirs.atoms.labels,
        torch.from_numpy(records["token_id"].copy()),
        torch.from_numpy(records["birth_step"] + ours.counts.rows_seen),
    )
    merged.admission.test(rows)
    return a._with(merged)


def _check(a: ITDA, b: ITDA) -> None:
    for name, value in {"a": a, "b": b}.items():
        if not isinstance(value, ITDA):
            raise DTypeError(f"{name}: expected a fitted ITDA, got {type(value).__name__}")
    ours, theirs = ({name: getattr(d.settings, name) for name in SAME} | {"threshold": d.threshold} for d in (a, b))
    for name, wanted in ours.items():
        if theirs[name] != wanted:
            raise ValueError(f"b: expected {name}={wanted!r} as a has, got {theirs[name]!r}; build both alike")
    if not same(a.mean, b.mean):
        raise ValueError("b: expected the mean of a; build both with one vector as centre, or centre=False")
