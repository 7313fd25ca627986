"""`matching_pursuit` in Triton: cheap float32 numbers propose atoms, float64 dot products with the residual choose.

Where the Gram is at hand a program pursues one sample after the other, whose correlations pass through its registers a
tile at a time. Else every pick is a product of all residuals with all atoms, of which only the best of each block is
kept. Both choose by the same dot products among all atoms that the error of the cheap numbers leaves in doubt, so both
pick the same.
"""

import triton
import triton.language as tl
from interpkern.kernels.matching_pursuit_support import finish, refitted, residual_of, row_of

NONE = tl.constexpr(0x7FFFFFFF)
UNIT_ERROR = tl.constexpr(2.0**-24)
"""Of one rounding in float32."""
GRAM_ERROR = tl.constexpr(1.1e-5)
"""Of an element of the Gram: what a given one may be off by, and the roundings of its product with a coefficient."""
WIDE = tl.constexpr(1 / 64)
"""Error of the correlations, relative to the residual, from which they are made anew."""
SLOTS = tl.constexpr(16)
PART = tl.constexpr(128)


@triton.jit
def _size(correlation, NONNEGATIVE: tl.constexpr):
    """What a pick is compared by."""
    size = correlation
    if not NONNEGATIVE:
        size = tl.abs(correlation)
    return size


@triton.jit
def _better(index, atoms, d, width, r, best_index, best, NONNEGATIVE: tl.constexpr):
    """The better of the best so far and another atom, by its dot product with the residual; on ties the first."""
    value = tl.sum(row_of(atoms, index, d, width) * r, 0)
    size, best_size = _size(value, NONNEGATIVE), _size(best, NONNEGATIVE)
    wins = (size > best_size) | ((size == best_size) & (index < best_index) & (best_index < NONE))
    return tl.where(wins, index, best_index), tl.where(wins, value, best)


@triton.jit
def _leave_empty(indices, values, made, k):
    """Slots without a pick."""
    for start in range(made, k, PART):
        slot = start + tl.arange(0, PART)
        tl.store(indices + slot, -1, mask=slot < k)
        tl.store(values + slot, 0.0, mask=slot < k)


@triton.jit
def _correlate(r, r_memory, atoms, d, count, width, out):
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
def _subtract(c_row, gram, gram_stride, side, picks, changes, terms, TILE: tl.constexpr, NONNEGATIVE: tl.constexpr):
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
        size = tl.where(c == c, _size(c, NONNEGATIVE), float("-inf"))
        wins = size > largest
        second = tl.maximum(second, tl.where(wins, largest, size))
        largest, place = tl.where(wins, size, largest), tl.where(wins, m, place)
    return largest, place, second


@triton.jit
def _chosen(largest, place, second, bound, least, c_row, side, atoms, d, width, r,
            TILE: tl.constexpr, NONNEGATIVE: tl.constexpr, EXACT: tl.constexpr):  # fmt: skip
    """The atom with the largest dot product among those that may have it, and that product; NONE where it is small."""
    top = tl.max(largest, 0)
    lowest, best_index, best = top, tl.full([], NONE, tl.int32), tl.full([], 0.0, tl.float64)
    if EXACT:
        lowest = (top.to(tl.float64) - 2 * bound).to(tl.float32)
    if top.to(tl.float64) + bound > least:
        index = tl.min(tl.where(largest >= lowest, place, NONE), 0)
        while index < NONE:
            best_index, best = _better(index, atoms, d, width, r, best_index, best, NONNEGATIVE)
            lowest = tl.maximum(lowest, (_size(best, NONNEGATIVE) - bound).to(tl.float32))
            index = tl.min(tl.where((largest >= lowest) & (place > index), place, NONE), 0)
        if tl.max(second, 0) >= lowest:
            tl.debug_barrier()
            for start in range(0, side, TILE):
                m = start + tl.arange(0, TILE)
                size = _size(tl.load(c_row + m, mask=m < side, other=float("nan")), NONNEGATIVE)
                index = tl.min(tl.where(size >= lowest, m, NONE), 0)
                while index < NONE:
                    best_index, best = _better(index, atoms, d, width, r, best_index, best, NONNEGATIVE)
                    lowest = tl.maximum(lowest, (_size(best, NONNEGATIVE) - bound).to(tl.float32))
                    index = tl.min(tl.where((size >= lowest) & (m > index), m, NONE), 0)
    return tl.where(_size(best, NONNEGATIVE) > least, best_index, NONE), best


@triton.jit(do_not_specialize=["rows", "count", "k", "slots"])
def pursue_on_gram(
    x, units, correlations, atoms, gram, indices, values, residual_norm, matrices, vectors, r_memory,
    limits, rows, count, width, k, slots, side, gram_stride,
    ORTHOGONAL: tl.constexpr, NONNEGATIVE: tl.constexpr, EXACT: tl.constexpr,
    TILE: tl.constexpr, WIDTH: tl.constexpr, K: tl.constexpr,
):  # fmt: skip
    """mp or omp of this program's samples, each from its first pick to its last.

    `x` are scaled samples and `units` what they were divided by; `limits` are relative to their norms: the residual at
    which to stop, that and the correlation at rounding level, and the error of the correlations. `matrices`, `vectors`
    and `r_memory` are each program's own.
    """
    tol, level, error = tl.load(limits), tl.load(limits + 1), tl.load(limits + 2)
    d = tl.arange(0, WIDTH)
    program = tl.program_id(0).to(tl.int64)
    matrix, vector = matrices + program * 2 * slots * slots, vectors + program * 6 * slots
    r_own, changes = r_memory + program * width, vector + slots
    sample = program
    while sample < rows:
        x_row, c_row = x + sample * width, correlations + sample * side
        picks, coefficients, unit = indices + sample * k, values + sample * k, tl.load(units + sample)
        r = row_of(x, sample, d, width)
        norm = tl.sqrt(tl.sum(r * r, 0))
        left, least, enough = norm, level * norm, tol * norm
        bound = error * norm
        steps, terms = tl.full([], 0, tl.int32), tl.full([], 0, tl.int32)
        go = (left > enough) & (steps < k)
        while go:
            if EXACT:  # noqa: SIM102
                if bound > WIDE * left:
                    _correlate(r, r_own, atoms, d, count, width, c_row)
                    if ORTHOGONAL:
                        for s in range(steps):
                            tl.store(c_row + tl.load(picks + s), float("nan"))
                        tl.debug_barrier()
                    bound, terms = 2 * UNIT_ERROR * left, tl.full([], 0, tl.int32)
            recent = picks + steps - terms
            largest, place, second = _subtract(
                c_row, gram, gram_stride, side, recent, changes, terms, TILE, NONNEGATIVE
            )
            best_index, best = _chosen(largest, place, second, bound, least, c_row, side, atoms, d, width, r,
                                       TILE, NONNEGATIVE, EXACT)  # fmt: skip
            go = best_index < NONE
            if go:
                tl.store(picks + steps, best_index)
                moved = tl.abs(best)
                if ORTHOGONAL:
                    go = refitted(best_index, best, x_row, picks, steps, atoms, d, width, least, matrix, vector, slots,
                                  NONNEGATIVE, K)  # fmt: skip
                    if go:
                        r = residual_of(x_row, picks, steps + 1, vector, atoms, d, width)
                        slot = tl.arange(0, K)
                        moved = tl.sum(tl.abs(tl.load(changes + slot, mask=slot <= steps, other=0.0)), 0)
                        tl.store(c_row + best_index, float("nan"))
                        terms = steps + 1
                else:
                    rounded = best.to(tl.float32)
                    r -= rounded.to(tl.float64) * row_of(atoms, best_index, d, width)
                    tl.store(coefficients + steps, (rounded.to(tl.float64) * unit).to(tl.float32))
                    tl.debug_barrier()
                    tl.store(changes, rounded.to(tl.float64))
                    terms = tl.full([], 1, tl.int32)
                tl.debug_barrier()
                if go:
                    bound += UNIT_ERROR * terms * (norm + moved) + GRAM_ERROR * moved
                    steps += 1
                    left = tl.sqrt(tl.sum(r * r, 0))
                    go = (left > enough) & (steps < k)
        if ORTHOGONAL:
            left = finish(x_row, picks, coefficients, steps, vector, atoms, d, width, unit, K)
        tl.store(residual_norm + sample, (left * unit).to(tl.float32))
        _leave_empty(picks, coefficients, steps, k)
        tl.debug_barrier()
        sample += tl.num_programs(0)


@triton.jit(do_not_specialize=["steps", "count", "blocks", "k", "slots"])
def pick_from_peaks(
    x, units, residuals, rounded_residuals, made, top, place_of_top, second, atoms,
    indices, values, residual_norm, matrices, vectors, limits,
    steps, count, width, blocks, k, slots,
    ORTHOGONAL: tl.constexpr, NONNEGATIVE: tl.constexpr, EXACT: tl.constexpr, LAST: tl.constexpr,
    BLOCKS: tl.constexpr, ATOMS: tl.constexpr, WIDTH: tl.constexpr, K: tl.constexpr,
):  # fmt: skip
    """One pick of each sample that goes on, from the best products of each block of atoms; `made` counts its picks.

    LAST writes the outputs instead. `limits` are those of `pursue_on_gram`, the last relative to the residual.
    """
    d, slot, b = tl.arange(0, WIDTH), tl.arange(0, K), tl.arange(0, BLOCKS)
    sample = tl.program_id(0).to(tl.int64)
    x_row, picks, coefficients = x + sample * width, indices + sample * k, values + sample * k
    matrix, vector = matrices + sample * 2 * slots * slots, vectors + sample * 6 * slots
    r_own, unit = residuals + sample * width, tl.load(units + sample)
    whole = row_of(x, sample, d, width)
    r = tl.load(r_own + d, mask=d < width, other=0.0)
    norm, left = tl.sqrt(tl.sum(whole * whole, 0)), tl.sqrt(tl.sum(r * r, 0))
    if LAST:
        size = tl.load(made + sample)
        if ORTHOGONAL:
            left = finish(x_row, picks, coefficients, size, vector, atoms, d, width, unit, K)
        tl.store(residual_norm + sample, (left * unit).to(tl.float32))
        _leave_empty(picks, coefficients, size, k)
    else:
        least, bound = tl.load(limits + 1) * norm, tl.load(limits + 2) * left
        peak = tl.load(top + sample * blocks + b, mask=b < blocks, other=float("-inf"))
        highest = tl.max(peak, 0)
        lowest = highest
        if EXACT:
            lowest = (highest.to(tl.float64) - 2 * bound).to(tl.float32)
        taken = tl.full([K], -1, tl.int32)
        if ORTHOGONAL:
            taken = tl.load(picks + slot, mask=slot < steps, other=-1)
        goes_on = (tl.load(made + sample) == steps) & (left > tl.load(limits) * norm)
        best_index, best = tl.full([], NONE, tl.int32), tl.full([], 0.0, tl.float64)
        if goes_on & (highest.to(tl.float64) + bound > least):
            block = tl.min(tl.where(peak >= lowest, b, NONE), 0)
            while block < NONE:
                first = tl.load(place_of_top + sample * blocks + block)
                end = first + 1
                is_taken = tl.sum(tl.where(taken == first, 1, 0), 0) > 0
                if is_taken | (tl.load(second + sample * blocks + block) >= lowest):
                    first, end = block * ATOMS, tl.minimum(block * ATOMS + ATOMS, count)
                index = first
                while index < end:
                    if tl.sum(tl.where(taken == index, 1, 0), 0) == 0:
                        best_index, best = _better(index, atoms, d, width, r, best_index, best, NONNEGATIVE)
                    index += 1
                block = tl.min(tl.where((peak >= lowest) & (b > block), b, NONE), 0)
        if (best_index < NONE) & (_size(best, NONNEGATIVE) > least):
            tl.debug_barrier()
            grown = tl.full([], True, tl.int1)
            if ORTHOGONAL:
                tl.store(picks + steps, best_index)
                grown = refitted(best_index, best, x_row, picks, steps, atoms, d, width, least,
                                 matrix, vector, slots, NONNEGATIVE, K)  # fmt: skip
                if grown:
                    r = residual_of(x_row, picks, steps + 1, vector, atoms, d, width)
            else:
                tl.store(picks + steps, best_index)
                rounded = best.to(tl.float32)
                r -= rounded.to(tl.float64) * row_of(atoms, best_index, d, width)
                tl.store(coefficients + steps, (rounded.to(tl.float64) * unit).to(tl.float32))
            if grown:
                tl.store(r_own + d, r, mask=d < width)
                tl.store(rounded_residuals + sample * width + d, r.to(tl.float32), mask=d < width)
                tl.store(made + sample, steps + 1)


@triton.jit(do_not_specialize=["rows", "k", "slots"])
def refit(
    x, units, atoms, path, indices, values, residual_norm, matrices, vectors, limits,
    rows, width, k, slots,
    NONNEGATIVE: tl.constexpr, WIDTH: tl.constexpr, K: tl.constexpr,
):  # fmt: skip
    """Least squares on the distinct atoms of each path, in the order in which they are first there."""
    d, slot = tl.arange(0, WIDTH), tl.arange(0, K)
    program = tl.program_id(0).to(tl.int64)
    matrix, vector = matrices + program * 2 * slots * slots, vectors + program * 6 * slots
    sample = program
    while sample < rows:
        x_row, picks, unit = x + sample * width, indices + sample * k, tl.load(units + sample)
        r = row_of(x, sample, d, width)
        least = tl.load(limits + 1) * tl.sqrt(tl.sum(r * r, 0))
        size, seen = tl.full([], 0, tl.int32), tl.full([K], -1, tl.int32)
        for step in range(k):
            index = tl.load(path + sample * k + step)
            is_new = tl.sum(tl.where(seen == index, 1, 0), 0) == 0
            if (index >= 0) & is_new:
                tl.store(picks + size, index)
                value = tl.sum(row_of(atoms, index, d, width) * r, 0)
                refitted(index, value, x_row, picks, size, atoms, d, width, least,
                         matrix, vector, slots, NONNEGATIVE, K)  # fmt: skip
                seen = tl.where(slot == size, index, seen)
                size += 1
                r = residual_of(x_row, picks, size, vector, atoms, d, width)
        left = finish(x_row, picks, values + sample * k, size, vector, atoms, d, width, unit, K)
        tl.store(residual_norm + sample, (left * unit).to(tl.float32))
        _leave_empty(picks, values + sample * k, size, k)
        tl.debug_barrier()
        sample += tl.num_programs(0)


@triton.jit(do_not_specialize=["rows", "known", "count", "k", "slots"])
def path_changes(
    x, atoms, paths, changed, matrices, vectors, limits, rows, known, count, width, k, slots,
    ORTHOGONAL: tl.constexpr, IN_ORDER: tl.constexpr, NONNEGATIVE: tl.constexpr, WIDTH: tl.constexpr, K: tl.constexpr,
):  # fmt: skip
    """Whether an atom from `known` on enters a sample's path, when it is pursued over those and its own picks alone.

    IN_ORDER, a path lists its picks step by step; else each of them once, and all may be picked at any step.
    """
    tol, level = tl.load(limits), tl.load(limits + 1)
    d, slot = tl.arange(0, WIDTH), tl.arange(0, K)
    program = tl.program_id(0).to(tl.int64)
    matrix, vector = matrices + program * 2 * slots * slots, vectors + program * 6 * slots
    sample = program
    while sample < rows:
        x_row, path = x + sample * width, paths + sample * k
        r = row_of(x, sample, d, width)
        norm = tl.sqrt(tl.sum(r * r, 0))
        least, enough = level * norm, tol * norm
        length = k
        if not IN_ORDER:
            length = tl.sum(tl.where(tl.load(path + slot, mask=slot < k, other=-1) >= 0, 1, 0), 0)
        steps, enters = tl.full([], 0, tl.int32), tl.full([], False, tl.int1)
        go = (norm > enough) & (steps < k)
        while go:
            best_index, best = tl.full([], NONE, tl.int32), tl.full([], 0.0, tl.float64)
            first, end = steps * 0, length
            if IN_ORDER:
                first, end = steps, steps + 1
            for own in range(first, end):
                index = tl.load(path + own)
                if index >= 0:
                    best_index, best = _better(index, atoms, d, width, r, best_index, best, NONNEGATIVE)
            for fresh in range(count - known):
                best_index, best = _better(known + fresh, atoms, d, width, r, best_index, best, NONNEGATIVE)
            picked = (best_index < NONE) & (_size(best, NONNEGATIVE) > least)
            enters, go = picked & (best_index >= known), picked & (best_index < known)
            if go:
                if ORTHOGONAL:
                    go = refitted(best_index, best, x_row, path, steps, atoms, d, width, least, matrix, vector, slots,
                                  NONNEGATIVE, K)  # fmt: skip
                    r = residual_of(x_row, path, steps + 1, vector, atoms, d, width)
                else:
                    r -= best.to(tl.float32).to(tl.float64) * row_of(atoms, best_index, d, width)
                steps += 1
                go = go & (tl.sqrt(tl.sum(r * r, 0)) > enough) & (steps < k)
        tl.store(changed + sample, enters.to(tl.int8))
        tl.debug_barrier()
        sample += tl.num_programs(0)
