"""Products of samples with atoms in float32 on tensor cores: all of them, or the best of each block of atoms."""

import triton
import triton.language as tl

NONE = tl.constexpr(0x7FFFFFFF)


@triton.jit
def _tile_products(x, atoms, row, atom, rows, count, width, one,
                   PRECISION: tl.constexpr, DEPTH: tl.constexpr):  # fmt: skip
    """(rows, atoms) float32 products; the same bits wherever in a tile, or in the batch, a row or an atom stands.

    `width` is that to which both are padded. Tensor cores round sums down, so they make those of DEPTH numbers, and
    these are added up in float32; `one` is 1, which the compiler does not know: it would let them add up all.
    """
    sums = tl.zeros([row.shape[0], atom.shape[0]], tl.float32)
    for start in range(0, width, DEPTH):
        d = start + tl.arange(0, DEPTH)
        left = tl.load(x + row.to(tl.int64)[:, None] * width + d, mask=(row < rows)[:, None] & (d < width), other=0.0)
        right = tl.load(
            atoms + atom.to(tl.int64)[:, None] * width + d, mask=(atom < count)[:, None] & (d < width), other=0.0
        )
        sums += one * tl.dot(left, tl.trans(right), input_precision=PRECISION)
    return sums


@triton.jit(do_not_specialize=["rows", "count"])
def products(x, atoms, out, rows, count, width, out_stride, one,
             PRECISION: tl.constexpr, ROWS: tl.constexpr, ATOMS: tl.constexpr, DEPTH: tl.constexpr):  # fmt: skip
    """out (rows, out_stride) = x times the atoms, NaN where there is no atom."""
    row, atom = tl.program_id(0) * ROWS + tl.arange(0, ROWS), tl.program_id(1) * ATOMS + tl.arange(0, ATOMS)
    sums = _tile_products(x, atoms, row, atom, rows, count, width, one, PRECISION, DEPTH)
    place = row.to(tl.int64)[:, None] * out_stride + atom
    sums = tl.where((atom < count)[None, :], sums, float("nan"))
    tl.store(out + place, sums, mask=(row < rows)[:, None] & (atom < out_stride))


@triton.jit(do_not_specialize=["rows", "count", "blocks"])
def peaks(x, atoms, top, place_of_top, second, rows, count, width, blocks, one,
          NONNEGATIVE: tl.constexpr, PRECISION: tl.constexpr,
          ROWS: tl.constexpr, ATOMS: tl.constexpr, DEPTH: tl.constexpr):  # fmt: skip
    """Of each row and block of ATOMS atoms: the largest product, which atom's it is, and the second largest."""
    row, block = tl.program_id(0) * ROWS + tl.arange(0, ROWS), tl.program_id(1)
    atom = block * ATOMS + tl.arange(0, ATOMS)
    sums = _tile_products(x, atoms, row, atom, rows, count, width, one, PRECISION, DEPTH)
    if not NONNEGATIVE:
        sums = tl.abs(sums)
    sums = tl.where((atom < count)[None, :], sums, -1.0)
    best = tl.max(sums, 1)
    index = tl.min(tl.where(sums == best[:, None], atom[None, :], NONE), 1)
    rest = tl.max(tl.where(atom[None, :] == index[:, None], -1.0, sums), 1)
    to, live = row.to(tl.int64) * blocks + block, row < rows
    tl.store(top + to, best, mask=live)
    tl.store(place_of_top + to, index, mask=live)
    tl.store(second + to, rest, mask=live)
