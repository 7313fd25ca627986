// Products of a group of vectors with a panel of atoms, all rounded to 16 bits: the tiled part, bounded by
// multiply-adds, of which a core does almost twice as many on pairs of 16-bit integers as on floats.
#pragma once

#include "matching_pursuit_simd.h"
#include "vectors.h"

namespace interpkern::INTERPKERN_ISA {
namespace {

constexpr int TILE_ROWS = REGISTERS / 4, TILE_VECS = 2, TILE_COLUMNS = TILE_VECS * LANES;
constexpr int64_t DEPTH = 128;  // pairs summed in a register before they join the total
constexpr int64_t LINE = 16;    // 32-bit numbers in a cache line

// A sum of products must not pass 2^31, and is at most the product of the norms: 32,500 of an atom in units of
// ATOM_STEP, 65,000 of what it is multiplied with.
constexpr float LARGEST_NORM = 65000, LARGEST_ELEMENT = 32700;

// A vector in 16-bit integers, two in an int32_t.
struct Rounded {
  float unit;   // value of 1
  float error;  // what a product with an atom may be off by, also from `dot`
};

constexpr int64_t pairs_of(int64_t width) {
  return (width + 1) / 2;
}

constexpr int64_t padded_rows(int64_t count) {
  return (count + TILE_ROWS - 1) / TILE_ROWS * TILE_ROWS;
}

// How far a float32 dot product of unit vectors, in any of the orders used here, may be from the exact one.
inline float dot_error(int64_t width) {
  return float(width / LANES + 16) * ROUNDING;
}

// Rounds x (padded) into every stride-th of `packed`.
inline Rounded round_vector(const float* x, const Atoms& atoms, int64_t stride, int32_t* packed) {
  const int64_t width = atoms.padded_width;
  Vec largest_lanes{};
  for (int64_t d = 0; d < width; d += LANES) largest_lanes = max(largest_lanes, abs(read(x + d)));
  const float largest = largest_lane(largest_lanes), length = norm(x, width);
  const float by_norm = length / LARGEST_NORM, by_element = largest / LARGEST_ELEMENT;
  const float unit = by_norm > by_element ? by_norm : by_element, scale = unit > 0 ? 1 / unit : 0;
  float off = 0;
  for (int64_t p = 0; p < pairs_of(atoms.width); ++p) {
    const float low = __builtin_rintf(x[2 * p] * scale), high = __builtin_rintf(x[2 * p + 1] * scale);
    packed[p * stride] = pair(int32_t(low), int32_t(high));
    off += square(x[2 * p] - low * unit) + square(x[2 * p + 1] - high * unit);
  }
  // Both vectors are off, by no more than these lengths; the atoms' own are 1.01 at most.
  const float error = 1.02f * (__builtin_sqrtf(off) + atoms.rounding[0] * length);
  return {unit, error + 2 * dot_error(width) * length};
}

// Adds a tile's products to `out`; fetches from `ahead`, a cache line for every four of depth.
INTERPKERN_INLINE void add_tile(const int32_t* rows, const int16_t* panel, int64_t depth, const int16_t* ahead,
                                int32_t* out) {
  Int sums[TILE_ROWS][TILE_VECS]{};
  for (int64_t d = 0; d < depth; ++d) {
    Int atoms[TILE_VECS];
    for (int v = 0; v < TILE_VECS; ++v) atoms[v] = read_pairs(panel + (d * PANEL + v * LANES) * 2);
    if (d % 4 == 0) __builtin_prefetch(ahead + d / 4 * LINE * 2, 0, 2);
    for (int row = 0; row < TILE_ROWS; ++row) {
      const Int x = Int{} + rows[d * TILE_ROWS + row];
      for (int v = 0; v < TILE_VECS; ++v) sums[row][v] = add_pair_products(sums[row][v], atoms[v], x);
    }
  }
  for (int row = 0; row < TILE_ROWS; ++row)
    for (int v = 0; v < TILE_VECS; ++v) {
      Int total;
      int32_t* to = out + row * PANEL + v * LANES;
      __builtin_memcpy(&total, to, sizeof total);
      total += sums[row][v];
      __builtin_memcpy(to, &total, sizeof total);
    }
}

// out (padded_rows(count), PANEL), in units of the row's times ATOM_STEP, from rows packed tile by tile,
// (tiles, pairs, TILE_ROWS). The panel behind this one, which a full group of rows takes as many tiles to cover as it
// has pieces, is fetched meanwhile.
inline void multiply_panel(const int32_t* packed, int64_t count, const int16_t* panel, int64_t pairs, int32_t* out) {
  for (int64_t i = 0; i < padded_rows(count) * PANEL; ++i) out[i] = 0;
  for (int64_t from = 0; from < pairs; from += DEPTH) {
    const int64_t depth = from + DEPTH < pairs ? DEPTH : pairs - from;
    const int16_t* ahead = panel + (pairs + from) * PANEL * 2;
    for (int64_t row = 0; row < count; row += TILE_ROWS)
      for (int64_t column = 0; column < PANEL; column += TILE_COLUMNS, ahead += DEPTH / 4 * LINE * 2)
        add_tile(packed + row * pairs + from * TILE_ROWS, panel + (from * PANEL + column) * 2, depth, ahead,
                 out + row * PANEL + column);
  }
}

}  // namespace
}  // namespace interpkern::INTERPKERN_ISA
