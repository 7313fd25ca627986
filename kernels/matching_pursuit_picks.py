"""What a step of `matching_pursuit` picks: cheap float32 numbers leave atoms in doubt, float64 dot products choose."""

import triton
import triton.language as tl
from interpkern.kernels.matching_pursuit_support import row_of

NONE = tl.constexpr(0x7FFFFFFF)
SLOTS = tl.constexpr(16)
PART = tl.constexpr(128)


@triton.jit
def size_of(correlation, NONNEGATIVE: tl.constexpr):
    """What a pick is compared by."""
    size = correlation
    if not NONNEGATIVE:
        size = tl.abs(correlation)
    return size


@triton.jit
def better(index, atoms, d, width, r, best_index, best, NONNEGATIVE: tl.constexpr):
    """The better of the best so far and another atom, by its dot product with the residual; on ties the first."""
    value = tl.sum(row_of(atoms, index, d, width) * r, 0)
    size, best_size = size_of(value, NONNEGATIVE), size_of(best, NONNEGATIVE)
    wins = (size > best_size) | ((size == best_size) & (index < best_index) & (best_index < NONE))
    return tl.where(wins, index, best_index), tl.where(wins, value, best)


@triton.jit
def leave_empty(indices, values, made, k):
    """Slots without a pick."""
    for start in range(made, k, PART):
        slot = start + tl.arange(0, PART)
        tl.store(indices + slot, -1, mask=slot < k)
        tl.store(values + slot, 0.0, mask=slot < k)


@triton.jit
def correlate(r, r_memory, atoms, d, count, width, out):
    """out[m] = float32 of the residual's dot product with each atom."""
    tl.store(r_memory + d, r, mask=d < width)
    tl.debug_barrier()
    for start in range(0, count, SLOTS):
        m = start + tl.arange(0, SLOTS)
        sums = tl.zeros([SLOTS, PART], tl.float64)
        for part in range(0, width, PART):
            p = part + tl.arange(0, PART)
            there = (m < count)[:, None] & (p < width)
            tile = tl.load(atoms + m.to(tl.int64)[:, None] * width + p, mask=there, other=0.0).to(tl.float64)
            sums += tile * tl.load(r_memory + p, mask=p < width, other=0.0)[None, :]
        tl.store(out + m, tl.sum(sums, 1).to(tl.float32), mask=m < count)
    tl.debug_barrier()


@triton.jit
def subtract(c_row, gram, gram_stride, side, picks, changes, terms, TILE: tl.constexpr, NONNEGATIVE: tl.constexpr):
    """Takes `terms` rows of the Gram, times `changes`, off the correlations.

    Returns, for each lane of a tile, its largest, which atom's that is, and its second largest.
    """
    lane = tl.arange(0, TILE)
    largest, second = tl.full([TILE], float("-inf"), tl.float32), tl.full([TILE], float("-inf"), tl.float32)
    place = tl.full([TILE], NONE, tl.int32)
    for start in range(0, side, TILE):
        m = start + lane
        c = tl.load(c_row + m, mask=m < side, other=float("nan"))
        if terms > 0:
            for s in range(terms):
                change = tl.load(changes + s).to(tl.float32)
                if change != 0:
                    row = gram + tl.load(picks + s).to(tl.int64) * gram_stride
                    c -= change * tl.load(row + m, mask=m < side, other=0.0)
            tl.store(c_row + m, c, mask=m < side)
        size = tl.where(c == c, size_of(c, NONNEGATIVE), float("-inf"))
        wins = size > largest
        second = tl.maximum(second, tl.where(wins, largest, size))
        largest, place = tl.where(wins, size, largest), tl.where(wins, m, place)
    return largest, place, second


@triton.jit
def chosen(largest, place, second, bound, least, c_row, side, atoms, d, width, r,
            TILE: tl.constexpr, NONNEGATIVE: tl.constexpr, EXACT: tl.constexpr):  # fmt: skip
    """The atom with the largest dot product among those that may have it, and that product; NONE where it is small."""
    top = tl.max(largest, 0)
    lowest, best_index, best = top, tl.full([], NONE, tl.int32), tl.full([], 0.0, tl.float64)
    if EXACT:
        lowest = (top.to(tl.float64) - 2 * bound).to(tl.float32)
    if top.to(tl.float64) + bound > least:
        index = tl.min(tl.where(largest >= lowest, place, NONE), 0)
        while index < NONE:
            best_index, best = better(index, atoms, d, width, r, best_index, best, NONNEGATIVE)
            lowest = tl.maximum(lowest, (size_of(best, NONNEGATIVE) - bound).to(tl.float32))
            index = tl.min(tl.where((largest >= lowest) & (place > index), place, NONE), 0)
        if tl.max(second, 0) >= lowest:
            tl.debug_barrier()
            for start in range(0, side, TILE):
                m = start + tl.arange(0, TILE)
                size = size_of(tl.load(c_row + m, mask=m < side, other=float("nan")), NONNEGATIVE)
                index = tl.min(tl.where(size >= lowest, m, NONE), 0)
                while index < NONE:
                    best_index, best = better(index, atoms, d, width, r, best_index, best, NONNEGATIVE)
                    lowest = tl.maximum(lowest, (size_of(best, NONNEGATIVE) - bound).to(tl.float32))
                    index = tl.min(tl.where((size >= lowest) & (m > index), m, NONE), 0)
    return tl.where(size_of(best, NONNEGATIVE) > least, best_index, NONE), best


@triton.jit
def chosen_from_blocks(
    top, places, seconds, bound, least, taken, blocks, count, atoms, d, width, r,
    BLOCKS: tl.constexpr, ATOMS: tl.constexpr, NONNEGATIVE: tl.constexpr, EXACT: tl.constexpr,
):  # fmt: skip
    """The same from the best and the second best product of each block of atoms, but for atoms that are `taken`."""
    b = tl.arange(0, BLOCKS)
    peak = tl.load(top + b, mask=b < blocks, other=float("-inf"))
    highest = tl.max(peak, 0)
    lowest, best_index, best = highest, tl.full([], NONE, tl.int32), tl.full([], 0.0, tl.float64)
    if EXACT:
        lowest = (highest.to(tl.float64) - 2 * bound).to(tl.float32)
    if highest.to(tl.float64) + bound > least:
        block = tl.min(tl.where(peak >= lowest, b, NONE), 0)
        while block < NONE:
            index = tl.load(places + block)
            end = index + 1
            is_taken = tl.sum(tl.where(taken == index, 1, 0), 0) > 0
            if is_taken | (tl.load(seconds + block) >= lowest):
                index, end = block * ATOMS, tl.minimum(block * ATOMS + ATOMS, count)
            while index < end:
                if tl.sum(tl.where(taken == index, 1, 0), 0) == 0:
                    best_index, best = better(index, atoms, d, width, r, best_index, best, NONNEGATIVE)
                index += 1
            block = tl.min(tl.where((peak >= lowest) & (b > block), b, NONE), 0)
    return tl.where(size_of(best, NONNEGATIVE) > least, best_index, NONE), best
