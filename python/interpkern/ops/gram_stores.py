"""How the atoms of a Gram are kept: in the CPU kernels' panels, or in float32 on a GPU."""

import math
import mmap
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy
import torch
from numpy.typing import DTypeLike

from interpkern import native
from interpkern.reference.matching_pursuit import Prepared

ALIGNED, ROOM = 16, 256
"""On a GPU, rows are padded to a multiple of 16 numbers, and there is room for a multiple of 256 of them."""
CACHE_LINE = 64
"""Bytes; a vector that lies across two lines is read at half the rate."""
HUGE_PAGE = 1 << 21
"""Bytes; every row of the Gram that is read would otherwise be some address translations away."""
NUMBERS = 1 << 24
"""Of the atoms, taken to float64 at a time."""


@dataclass(frozen=True)
class Store:
    """One way to keep atoms in buffers with room for more; what is beyond the atoms, and beyond rows that are
    expected, is zero."""

    allocate: Callable[[int, int, int, torch.device], Prepared]
    """Makes buffers for a number of atoms and the side of their products, 0 for none, a width, and a device."""
    add: Callable[[Prepared, int, int, int], None]
    """Prepares what stands in `rows` from one atom to another, on some threads."""
    move: Callable[[Prepared, Prepared, int], None]
    """Copies a number of atoms from smaller buffers to larger ones."""
    take_products: Callable[[Prepared, torch.Tensor], Prepared]
    """Keeps (M, M) products that the caller has."""
    expect: Callable[[Prepared, int, int, int], None] | None = None
    """Multiplies what stands in `rows` from one atom to another with all before, unseen by calls over those before."""
    admit: Callable[[Prepared, int], None] | None = None
    """Makes an atom of the first one expected, with which there are so many."""


def store_for(device: torch.device) -> Store:
    """That of a device; atoms alone where there are no kernels for it."""
    if device.type == "cuda":
        return ON_GPU
    return PLAIN if device.type != "cpu" or isinstance(native.load("_cpu"), str) else panels_for(native.isa())


def panels_for(isa: str) -> Store:
    """That of the CPU kernels on an instruction set, which decides how panels are laid out."""
    return Store(
        allocate=partial(_panels, isa),
        add=partial(_in_panels, "add_atoms", isa),
        move=_move_panels,
        take_products=_round_products,
        expect=partial(_in_panels, "expect_atoms", isa),
        admit=partial(_admit_to_panels, isa),
    )


def _plain(atoms: int, side: int, width: int, device: torch.device) -> Prepared:
    return Prepared(torch.zeros(atoms, width, device=device), None, None, None)


def _move_rows(new: Prepared, old: Prepared, filled: int) -> None:
    new.rows[:filled] = old.rows[:filled]


def _panels(isa: str, atoms: int, side: int, width: int, device: torch.device) -> Prepared:
    module = native.load("_cpu")
    shape, dtype = module.panel_layout(width=width, isa=isa)
    room, padded = _up(max(atoms, 1), module.BLOCK), _up(width, module.PANEL)
    return Prepared(
        rows=zeros((room, padded), numpy.float32),
        rounding=torch.zeros(1),
        panels=zeros((room // module.PANEL, *shape), dtype),
        products=zeros((_up(side, module.BLOCK),) * 2, numpy.int16) if side else None,
    )


def _in_panels(step: str, isa: str, buffers: Prepared, first: int, count: int, threads: int) -> None:
    take = getattr(native.load("_cpu"), step)
    native.call(take, **buffers._asdict(), first=first, count=count, threads=threads, isa=isa)


def _admit_to_panels(isa: str, buffers: Prepared, count: int) -> None:
    native.call(native.load("_cpu").admit_last_atom, **buffers._asdict(), count=count, isa=isa)


def _move_panels(new: Prepared, old: Prepared, filled: int) -> None:
    _move_rows(new, old, filled)
    if new.rounding is not None and old.rounding is not None:
        new.rounding[:] = old.rounding
    if new.panels is not None and old.panels is not None:
        panels = -(-filled // native.load("_cpu").PANEL)
        new.panels[:panels] = old.panels[:panels]
    _move_products(new, old, filled)


def _move_products(new: Prepared, old: Prepared, filled: int) -> None:
    if new.products is not None and old.products is not None:
        new.products[:filled, :filled] = old.products[:filled, :filled]


def _round_products(buffers: Prepared, products: torch.Tensor) -> Prepared:
    side = len(buffers.rows)
    kept = zeros((side, side), numpy.int16)
    for own, given in zip(kept.split(1024), products.split(1024), strict=False):
        own[: len(given), : len(products)] = (given / native.load("_cpu").PRODUCT_STEP).round_()
    return buffers._replace(products=kept)


def _on_gpu(atoms: int, side: int, width: int, device: torch.device) -> Prepared:
    side = _up(side, ROOM)
    return Prepared(
        rows=torch.zeros(_up(max(atoms, 1), ROOM), _up(width, ALIGNED), device=device),
        rounding=None,
        panels=None,
        products=torch.zeros(side, side, device=device) if side else None,
    )


def _add_on_gpu(buffers: Prepared, first: int, count: int, threads: int) -> None:
    """Products in float64, rounded once: the same however the atoms came, and whatever PyTorch allows its GEMMs."""
    if buffers.products is None:
        return
    fresh = buffers.rows[first:count].double()
    size = max(1, NUMBERS // buffers.rows.shape[1])
    for start in range(0, count, size):
        stop = min(count, start + size)
        products = fresh @ buffers.rows[start:stop].double().mT
        buffers.products[first:count, start:stop] = products
        buffers.products[start:stop, first:count] = products.mT


def _move_on_gpu(new: Prepared, old: Prepared, filled: int) -> None:
    _move_rows(new, old, filled)
    _move_products(new, old, filled)


def _copy_products(buffers: Prepared, products: torch.Tensor) -> Prepared:
    side = len(buffers.rows)
    kept = torch.zeros(side, side, device=products.device)
    kept[: len(products), : len(products)] = products
    return buffers._replace(products=kept)


def _nothing(*arguments: Any) -> None:
    pass


PLAIN = Store(_plain, _nothing, _move_rows, lambda buffers, products: buffers)
ON_GPU = Store(_on_gpu, _add_on_gpu, _move_on_gpu, _copy_products)


def _up(size: int, multiple: int) -> int:
    return -(-size // multiple) * multiple


def zeros(shape: tuple[int, ...], dtype: DTypeLike) -> torch.Tensor:
    """Zeros that take no memory until they are written to, as torch.zeros would, from a cache line or huge page on."""
    size = math.prod(shape) * numpy.dtype(dtype).itemsize
    large = size >= HUGE_PAGE
    alignment = HUGE_PAGE if large else CACHE_LINE
    room = _pages(size + alignment) if large else numpy.zeros(size + alignment, numpy.uint8)
    first = -room.ctypes.data % alignment
    return torch.from_numpy(room[first : first + size].view(dtype).reshape(shape))


def _pages(size: int) -> numpy.ndarray[Any, numpy.dtype[numpy.uint8]]:
    """Zeros in huge pages where the system has them, never in memory that was used before, whose pages are small."""
    if sys.platform != "linux":
        return numpy.zeros(size, numpy.uint8)
    pages = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    with suppress(OSError):
        pages.madvise(mmap.MADV_HUGEPAGE)
    return numpy.frombuffer(pages, numpy.uint8)
