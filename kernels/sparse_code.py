"""Decoding of sparse codes in Triton, and its gradients; every sum has one owner and one order."""

import triton
import triton.language as tl


@triton.jit(do_not_specialize=["k"])
def decode(indices, coefficients, atoms, out, width, k, WIDTH: tl.constexpr, SUM: tl.constexpr):
    """out[n] = the sum of a sample's atoms, times their coefficients; a part of WIDTH numbers a program."""
    sample, d = tl.program_id(0).to(tl.int64), tl.program_id(1) * WIDTH + tl.arange(0, WIDTH)
    sums = tl.zeros([WIDTH], SUM)
    for slot in range(k):
        index = tl.load(indices + sample * k + slot)
        if index >= 0:
            row = tl.load(atoms + index.to(tl.int64) * width + d, mask=d < width, other=0.0)
            sums += tl.load(coefficients + sample * k + slot).to(SUM) * row.to(SUM)
    tl.store(out + sample * width + d, sums, mask=d < width)


@triton.jit(do_not_specialize=["k"])
def dots(indices, atoms, gradient, out, width, k, WIDTH: tl.constexpr, SUM: tl.constexpr):
    """out[n, slot] = the product of the slot's atom with the gradient of its sample."""
    place, d = tl.program_id(0).to(tl.int64), tl.arange(0, WIDTH)
    index = tl.load(indices + place)
    sums = tl.zeros([WIDTH], SUM)
    if index >= 0:
        for start in range(0, width, WIDTH):
            there = start + d < width
            row = tl.load(atoms + index.to(tl.int64) * width + start + d, mask=there, other=0.0)
            sums += row.to(SUM) * tl.load(gradient + place // k * width + start + d, mask=there, other=0.0).to(SUM)
    tl.store(out + place, tl.sum(sums, 0))


@triton.jit
def segment_sums(rows, sources, weights, starts, out, width, WIDTH: tl.constexpr, SUM: tl.constexpr):
    """out[s] = the sum of rows[sources[i]] weights[i] over the i of segment s, one after the other."""
    segment, d = tl.program_id(0).to(tl.int64), tl.program_id(1) * WIDTH + tl.arange(0, WIDTH)
    sums = tl.zeros([WIDTH], SUM)
    for i in range(tl.load(starts + segment), tl.load(starts + segment + 1)):
        row = tl.load(rows + tl.load(sources + i) * width + d, mask=d < width, other=0.0)
        sums += tl.load(weights + i).to(SUM) * row.to(SUM)
    tl.store(out + segment * width + d, sums, mask=d < width)
