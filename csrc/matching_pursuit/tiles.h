// Products of a group of vectors with a panel of atoms: the tiled part, bounded by multiply-adds.
#pragma once

#include "matching_pursuit_simd.h"
#include "vectors.h"

namespace interpkern::INTERPKERN_ISA {
namespace {

constexpr int TILE_ROWS = REGISTERS / 4, TILE_VECS = 2, TILE_COLUMNS = TILE_VECS * LANES;
constexpr int64_t DEPTH = 128;  // products summed in a register before they join the total

// What a product of unit vectors may be off by: one chain of DEPTH sums, then one a segment; and that of `dot`.
inline float product_error(int64_t width) {
  return float(DEPTH + width / DEPTH + width / PANEL + 16) * ROUNDING;
}

constexpr int64_t LINE = 16;  // floats in a cache line

// Adds a tile's products to `out`; fetches from `ahead`, a cache line for every four of depth.
INTERPKERN_INLINE void add_tile(const float* rows, const float* panel, int64_t depth, const float* ahead, float* out) {
  Vec sums[TILE_ROWS][TILE_VECS]{};
  for (int64_t d = 0; d < depth; ++d) {
    Vec atoms[TILE_VECS];
    for (int v = 0; v < TILE_VECS; ++v) atoms[v] = read(panel + d * PANEL + v * LANES);
    if (d % 4 == 0) __builtin_prefetch(ahead + d / 4 * LINE, 0, 2);
    for (int row = 0; row < TILE_ROWS; ++row) {
      const Vec x = broadcast(rows[d * TILE_ROWS + row]);
      for (int v = 0; v < TILE_VECS; ++v) sums[row][v] = fma(x, atoms[v], sums[row][v]);
    }
  }
  for (int row = 0; row < TILE_ROWS; ++row)
    for (int v = 0; v < TILE_VECS; ++v) {
      float* total = out + row * PANEL + v * LANES;
      write(total, read(total) + sums[row][v]);
    }
}

constexpr int64_t padded_rows(int64_t count) {
  return (count + TILE_ROWS - 1) / TILE_ROWS * TILE_ROWS;
}

// Vectors packed tile by tile, (tiles, width, TILE_ROWS), with zeros to fill the last one.
inline void pack_rows(const float* const* rows, int64_t count, int64_t width, float* packed) {
  for (int64_t row = 0; row < padded_rows(count); ++row) {
    float* to = packed + row / TILE_ROWS * TILE_ROWS * width + row % TILE_ROWS;
    for (int64_t d = 0; d < width; ++d) to[d * TILE_ROWS] = row < count ? rows[row][d] : 0;
  }
}

// out (padded_rows(count), PANEL) from packed rows. The panel behind this one, which a full group of rows takes as many
// tiles to cover as it has pieces, is fetched meanwhile.
inline void multiply_panel(const float* packed, int64_t count, const float* panel, int64_t width, float* out) {
  for (int64_t i = 0; i < padded_rows(count) * PANEL; i += LANES) write(out + i, Vec{});
  for (int64_t from = 0; from < width; from += DEPTH) {
    const int64_t depth = from + DEPTH < width ? DEPTH : width - from;
    const float* ahead = panel + (width + from) * PANEL;
    for (int64_t row = 0; row < count; row += TILE_ROWS)
      for (int64_t column = 0; column < PANEL; column += TILE_COLUMNS, ahead += DEPTH / 4 * LINE)
        add_tile(packed + row * width + from * TILE_ROWS, panel + from * PANEL + column, depth, ahead,
                 out + row * PANEL + column);
  }
}

}  // namespace
}  // namespace interpkern::INTERPKERN_ISA
