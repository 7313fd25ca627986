"""Least squares of one sample on its support, in float64, with a barrier between the threads that share a number.

The inverse of the Cholesky factor grows by a row an atom. Non-negative: that of the atoms whose coefficients are above
0, by Lawson and Hanson's active set; it is grown anew where an atom leaves.
"""

import triton
import triton.language as tl

DEPENDENT = tl.constexpr(1e-11)
"""Square of what is left of an atom without those before it, at which it counts as a combination of them."""
SLOTS = tl.constexpr(16)
"""Atoms of the support that are worked on together."""
PART = tl.constexpr(128)
"""Numbers of each that are."""


@triton.jit
def row_of(rows, index, d, width):
    """(WIDTH,) float64 numbers of one row, which is padded to `width` with zeros."""
    return tl.load(rows + index.to(tl.int64) * width + d, mask=d < width, other=0.0).to(tl.float64)


@triton.jit
def _support_dots(support, size, fresh, atoms, width, out):
    """out[s] = the dot product of atom `fresh` with the s-th of the support."""
    for start in range(0, size, SLOTS):
        s = start + tl.arange(0, SLOTS)
        live = s < size
        rows = tl.load(support + s, mask=live, other=0).to(tl.int64) * width
        sums = tl.zeros([SLOTS, PART], tl.float64)
        for part in range(0, width, PART):
            d = part + tl.arange(0, PART)
            there = live[:, None] & (d < width)
            tile = tl.load(atoms + rows[:, None] + d, mask=there, other=0.0).to(tl.float64)
            sums += tile * row_of(atoms, fresh, d, width)[None, :]
        tl.store(out + s, tl.sum(sums, 1), mask=live)
    tl.debug_barrier()


@triton.jit
def _times(matrix, k, vector, size, out, LOWER: tl.constexpr):
    """out = matrix (size, size) times a (K,) vector; returns the squared norm."""
    slot = tl.arange(0, vector.shape[0])
    total = tl.zeros([], tl.float64)
    for start in range(0, size, SLOTS):
        s = start + tl.arange(0, SLOTS)
        there = (s < size)[:, None] & (slot < size)
        if LOWER:
            there = there & (slot <= s[:, None])
        product = tl.sum(tl.load(matrix + s[:, None] * k + slot, mask=there, other=0.0) * vector[None, :], 1)
        total += tl.sum(product * product, 0)
        tl.store(out + s, product, mask=s < size)
    tl.debug_barrier()
    return total


@triton.jit
def _transposed_times(lower, k, vector, size, K: tl.constexpr):
    """(K,) the transpose of a lower triangle times a vector in memory."""
    slot = tl.arange(0, K)
    sums = tl.zeros([K], tl.float64)
    for start in range(0, size, SLOTS):
        s = start + tl.arange(0, SLOTS)
        there = (s < size)[:, None] & (slot <= s[:, None])
        tile = tl.load(lower + s[:, None] * k + slot, mask=there, other=0.0)
        sums += tl.sum(tile * tl.load(vector + s, mask=s < size, other=0.0)[:, None], 0)
    return sums


@triton.jit
def _grow_inverse(inverse, k, product, square, size, shares):
    """Adds a row to the inverse of the factor, for an atom of this squared norm and these products with the others.

    Returns the row and whether something is left of the atom; if not, the row is of no use.
    """
    K: tl.constexpr = product.shape[0]
    slot = tl.arange(0, K)
    left = square - _times(inverse, k, product, size, shares, True)
    sums = _transposed_times(inverse, k, shares, size, K)
    row = tl.where(slot < size, -sums, tl.where(slot == size, 1.0, 0.0)) / tl.sqrt(tl.maximum(left, DEPENDENT))
    tl.store(inverse + size * k + slot, row, mask=slot <= size)
    tl.debug_barrier()
    return row, left > DEPENDENT


@triton.jit
def _grow_passive(normal, inverse, k, order, free, slot_of_atom, shares, K: tl.constexpr):
    """The same for an unknown of the normal equations, behind the `free` ones in `order`; returns their number."""
    at = tl.arange(0, K)
    places = tl.load(order + at, mask=at < free, other=0.0).to(tl.int32)
    product = tl.load(normal + slot_of_atom * k + places, mask=at < free, other=0.0)
    square = tl.load(normal + slot_of_atom * k + slot_of_atom)
    _, is_new = _grow_inverse(inverse, k, product, square, free, shares)
    tl.store(order + free, slot_of_atom.to(tl.float64))
    tl.debug_barrier()
    return tl.where(is_new, free + 1, free)


@triton.jit
def _solved(inverse, k, order, free, target, shares, out, K: tl.constexpr):
    """(K,) the solution over the unknowns in `order`, by slot; 0 elsewhere."""
    at = tl.arange(0, K)
    places = tl.load(order + at, mask=at < free, other=0.0).to(tl.int32)
    wanted = tl.load(target + places, mask=at < free, other=0.0)
    _times(inverse, k, wanted, free, shares, True)
    solution = _transposed_times(inverse, k, shares, free, K)
    tl.store(out + at, tl.zeros([K], tl.float64), mask=at < k)
    tl.debug_barrier()
    tl.store(out + places, solution, mask=at < free)
    tl.debug_barrier()
    by_slot = tl.load(out + at, mask=at < k, other=0.0)
    tl.debug_barrier()
    return by_slot


@triton.jit
def _nonnegative(normal, inverse, k, target, order, shares, scratch, solution, size, gain):
    """(K,) non-negative least squares, from the solution without the last unknown, whose inverse is at hand."""
    K: tl.constexpr = solution.shape[0]
    i = tl.arange(0, K)
    passive, blocked = tl.where(solution > 0, 1, 0), tl.zeros([K], tl.int32)
    free = tl.sum(passive, 0)
    rounds = tl.full([], 0, tl.int32)
    go = tl.full([], True, tl.int1)
    while go:
        _times(normal, k, solution, size, scratch, False)
        slope = tl.load(target + i, mask=i < size, other=0.0) - tl.load(scratch + i, mask=i < size, other=0.0)
        slope = tl.where((i < size) & (passive == 0) & (blocked == 0), slope, 0.0)
        steepest = tl.max(slope, 0)
        go = (steepest > gain) & (rounds < 3 * size + 3)
        rounds += 1
        if go:
            best = tl.min(tl.where(slope == steepest, i, K), 0)
            grown = _grow_passive(normal, inverse, k, order, free, best, shares, K)
            settling = grown > free
            passive = tl.where((i == best) & settling, 1, passive)
            free = grown
            while settling:
                trial = _solved(inverse, k, order, free, target, shares, scratch, K)
                falls = (passive > 0) & ~(trial > 0)
                drop = tl.where(falls, solution - trial, 1.0)
                share = tl.where(falls, solution / tl.where(drop > 0, drop, 1.0), 2.0)
                step = tl.min(share, 0)
                hit = tl.min(tl.where(falls & (share == step), i, K), 0)
                solution = tl.where(passive > 0, solution + tl.minimum(step, 1.0) * (trial - solution), 0.0)
                settling = hit < K
                if settling:
                    solution, passive = tl.where(i == hit, 0.0, solution), tl.where(i == hit, 0, passive)
                    free = tl.full([], 0, tl.int32)
                    for slot in range(size):
                        if tl.sum(tl.where(i == slot, passive, 0), 0) > 0:
                            free = _grow_passive(normal, inverse, k, order, free, best * 0 + slot, shares, K)
            blocked = tl.where((i == best) & (passive == 0), 1, blocked)
    return solution


@triton.jit
def refitted(fresh, value, x_row, support, size, atoms, d, width, gain, matrices, vectors, k,
             NONNEGATIVE: tl.constexpr, K: tl.constexpr):  # fmt: skip
    """Least squares on the support with one atom more, whose dot product with the residual is `value`.

    The coefficients lie in the first of the `vectors`, and what they change by comes to the second. Returns whether the
    atom is no combination of the others; if it is one, nothing changes.
    """
    slot = tl.arange(0, K)
    coefficients, changes, dots, shares = vectors, vectors + k, vectors + 2 * k, vectors + 3 * k
    target, order, inverse, normal = vectors + 4 * k, vectors + 5 * k, matrices, matrices + k * k
    _support_dots(support, size, fresh, atoms, width, dots)
    atom = row_of(atoms, fresh, d, width)
    square = tl.sum(atom * atom, 0)
    old = tl.load(coefficients + slot, mask=slot < size, other=0.0)
    product = tl.load(dots + slot, mask=slot < size, other=0.0)
    grown = tl.full([], True, tl.int1)
    if NONNEGATIVE:
        product = tl.where(slot == size, square, product)
        tl.store(normal + size * k + slot, product, mask=slot <= size)
        tl.store(normal + slot * k + size, product, mask=slot <= size)
        tl.store(target + size, tl.sum(atom * tl.load(x_row + d, mask=d < width, other=0.0).to(tl.float64), 0))
        tl.debug_barrier()
        change = _nonnegative(normal, inverse, k, target, order, shares, dots, old, size + 1, gain) - old
    else:
        row, grown = _grow_inverse(inverse, k, product, square, size, shares)
        change = tl.where(grown, row * (value * tl.sum(tl.where(slot == size, row, 0.0), 0)), 0.0)
        tl.store(inverse + size * k + slot, tl.where(grown, row, 0.0), mask=slot <= size)
        tl.debug_barrier()
    tl.store(coefficients + slot, old + change, mask=slot <= size)
    tl.store(changes + slot, change, mask=slot <= size)
    tl.debug_barrier()
    return grown


@triton.jit
def residual_of(x_row, support, size, coefficients, atoms, d, width):
    """(WIDTH,) float64 x less the sum of the support's atoms."""
    r = tl.load(x_row + d, mask=d < width, other=0.0).to(tl.float64)
    for s in range(size):
        r -= tl.load(coefficients + s) * row_of(atoms, tl.load(support + s), d, width)
    return r


@triton.jit
def finish(x_row, support, values, size, vectors, atoms, d, width, unit, K: tl.constexpr):
    """Writes a fit's coefficients, rounded, and returns the norm of what they leave."""
    slot = tl.arange(0, K)
    rounded = tl.load(vectors + slot, mask=slot < size, other=0.0).to(tl.float32)
    tl.debug_barrier()
    tl.store(vectors + slot, rounded.to(tl.float64), mask=slot < size)
    tl.store(values + slot, (rounded.to(tl.float64) * unit).to(tl.float32), mask=slot < size)
    tl.debug_barrier()
    r = residual_of(x_row, support, size, vectors, atoms, d, width)
    return tl.sqrt(tl.sum(r * r, 0))
