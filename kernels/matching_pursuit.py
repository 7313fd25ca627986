"""`matching_pursuit` in Triton: cheap float32 numbers propose atoms, float64 dot products with the residual choose.

Where the Gram is at hand a program pursues one sample after the other, whose correlations pass through its registers a
tile at a time. Else every pick is a product of all residuals with all atoms, of which only the best of each block is
kept. Both choose by the same dot products among all atoms that the error of the cheap numbers leaves in doubt, so both
pick the same.
"""

import triton
import triton.language as tl
from interpkern.kernels.matching_pursuit_picks import (
    NONE,
    better,
    chosen,
    chosen_from_blocks,
    correlate,
    leave_empty,
    size_of,
    subtract,
)
from interpkern.kernels.matching_pursuit_support import finish, refitted, residual_of, row_of

UNIT_ERROR = tl.constexpr(2.0**-24)
"""Of one rounding in float32."""
GRAM_ERROR = tl.constexpr(1.1e-5)
"""Of an element of the Gram: what a given one may be off by, and the roundings of its product with a coefficient."""
WIDE = tl.constexpr(1 / 64)
"""Error of the correlations, relative to the residual, from which they are made anew."""


@triton.jit
def _absorbed(best_index, best, r, x_row, picks, coefficients, steps, unit, atoms, d, width, least,
              matrix, vector, slots, ORTHOGONAL: tl.constexpr, NONNEGATIVE: tl.constexpr, K: tl.constexpr):  # fmt: skip
    """Makes a pick: the residual without it, and whether it is no combination of the others; else nothing changes."""
    tl.debug_barrier()
    grown = tl.full([], True, tl.int1)
    tl.store(picks + steps, best_index)
    if ORTHOGONAL:
        grown = refitted(best_index, best, x_row, picks, steps, atoms, d, width, least, matrix, vector, slots,
                         NONNEGATIVE, K)  # fmt: skip
        if grown:
            r = residual_of(x_row, picks, steps + 1, vector, atoms, d, width)
    else:
        rounded = best.to(tl.float32).to(tl.float64)
        r -= rounded * row_of(atoms, best_index, d, width)
        tl.store(coefficients + steps, (rounded * unit).to(tl.float32))
    return r, grown


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
    d, slot = tl.arange(0, WIDTH), tl.arange(0, K)
    program = tl.program_id(0).to(tl.int64)
    matrix, vector = matrices + program * 2 * slots * slots, vectors + program * 6 * slots
    r_own, changes = r_memory + program * width, vector + slots
    sample = program
    while sample < rows:
        x_row, c_row = x + sample * width, correlations + sample * side
        picks, coefficients, unit = indices + sample * k, values + sample * k, tl.load(units + sample)
        r = row_of(x, sample, d, width)
        norm = tl.sqrt(tl.sum(r * r, 0))
        left, least, enough, bound = norm, level * norm, tol * norm, error * norm
        steps, terms = tl.full([], 0, tl.int32), tl.full([], 0, tl.int32)
        go = (left > enough) & (steps < k)
        while go:
            if EXACT:  # noqa: SIM102
                if bound > WIDE * left:
                    correlate(r, r_own, atoms, d, count, width, c_row)
                    if ORTHOGONAL:
                        for s in range(steps):
                            tl.store(c_row + tl.load(picks + s), float("nan"))
                        tl.debug_barrier()
                    bound, terms = 2 * UNIT_ERROR * left, tl.full([], 0, tl.int32)
            recent = picks + steps - terms
            largest, place, second = subtract(c_row, gram, gram_stride, side, recent, changes, terms, TILE, NONNEGATIVE)
            best_index, best = chosen(largest, place, second, bound, least, c_row, side, atoms, d, width, r,
                                      TILE, NONNEGATIVE, EXACT)  # fmt: skip
            go = best_index < NONE
            if go:
                r, go = _absorbed(best_index, best, r, x_row, picks, coefficients, steps, unit, atoms, d, width, least,
                                  matrix, vector, slots, ORTHOGONAL, NONNEGATIVE, K)  # fmt: skip
                moved = tl.abs(best)
                if ORTHOGONAL:
                    tl.store(c_row + best_index, float("nan"))
                    moved = tl.sum(tl.abs(tl.load(changes + slot, mask=slot <= steps, other=0.0)), 0)
                    terms = steps + 1
                else:
                    tl.store(changes, best.to(tl.float32).to(tl.float64))
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
        leave_empty(picks, coefficients, steps, k)
        tl.debug_barrier()
        sample += tl.num_programs(0)


@triton.jit(do_not_specialize=["steps", "count", "blocks", "k", "slots"])
def pick_from_peaks(
    x, units, residuals, rounded_residuals, made, top, place_of_top, second, atoms, indices, values, matrices, vectors,
    limits, steps, count, width, blocks, k, slots,
    ORTHOGONAL: tl.constexpr, NONNEGATIVE: tl.constexpr, EXACT: tl.constexpr,
    BLOCKS: tl.constexpr, ATOMS: tl.constexpr, WIDTH: tl.constexpr, K: tl.constexpr,
):  # fmt: skip
    """One pick of each sample that goes on, from the best products of each block of atoms; `made` counts its picks.

    `limits` are those of `pursue_on_gram`, the last relative to the residual.
    """
    d, slot = tl.arange(0, WIDTH), tl.arange(0, K)
    sample = tl.program_id(0).to(tl.int64)
    x_row, picks, coefficients = x + sample * width, indices + sample * k, values + sample * k
    matrix, vector = matrices + sample * 2 * slots * slots, vectors + sample * 6 * slots
    whole, r = row_of(x, sample, d, width), row_of(residuals, sample, d, width)
    norm, left = tl.sqrt(tl.sum(whole * whole, 0)), tl.sqrt(tl.sum(r * r, 0))
    if (tl.load(made + sample) == steps) & (left > tl.load(limits) * norm):
        least, bound, at = tl.load(limits + 1) * norm, tl.load(limits + 2) * left, sample * blocks
        taken = tl.full([K], -1, tl.int32)
        if ORTHOGONAL:
            taken = tl.load(picks + slot, mask=slot < steps, other=-1)
        best_index, best = chosen_from_blocks(top + at, place_of_top + at, second + at, bound, least, taken, blocks,
                                              count, atoms, d, width, r, BLOCKS, ATOMS, NONNEGATIVE, EXACT)  # fmt: skip
        if best_index < NONE:
            unit = tl.load(units + sample)
            r, grown = _absorbed(best_index, best, r, x_row, picks, coefficients, steps, unit, atoms, d, width, least,
                                 matrix, vector, slots, ORTHOGONAL, NONNEGATIVE, K)  # fmt: skip
            if grown:
                tl.store(residuals + sample * width + d, r, mask=d < width)
                tl.store(rounded_residuals + sample * width + d, r.to(tl.float32), mask=d < width)
                tl.store(made + sample, steps + 1)


@triton.jit(do_not_specialize=["k", "slots"])
def finish_codes(
    x, units, residuals, made, atoms, indices, values, residual_norm, vectors, width, k, slots,
    ORTHOGONAL: tl.constexpr, WIDTH: tl.constexpr, K: tl.constexpr,
):  # fmt: skip
    """What is left to write once all picks are made."""
    d, sample = tl.arange(0, WIDTH), tl.program_id(0).to(tl.int64)
    picks, coefficients, unit = indices + sample * k, values + sample * k, tl.load(units + sample)
    r, size = row_of(residuals, sample, d, width), tl.load(made + sample)
    left = tl.sqrt(tl.sum(r * r, 0))
    if ORTHOGONAL:
        vector = vectors + sample * 6 * slots
        left = finish(x + sample * width, picks, coefficients, size, vector, atoms, d, width, unit, K)
    tl.store(residual_norm + sample, (left * unit).to(tl.float32))
    leave_empty(picks, coefficients, size, k)


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
        leave_empty(picks, values + sample * k, size, k)
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
                    best_index, best = better(index, atoms, d, width, r, best_index, best, NONNEGATIVE)
            for fresh in range(count - known):
                best_index, best = better(known + fresh, atoms, d, width, r, best_index, best, NONNEGATIVE)
            picked = (best_index < NONE) & (size_of(best, NONNEGATIVE) > least)
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
