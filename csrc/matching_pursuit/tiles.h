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

INTERPKERN_INLINE void add_tile(const float* const* rows, int64_t from, int64_t to, const float* panel, float* out) {
  Vec sums[TILE_ROWS][TILE_VECS]{};
  for (int64_t d = from; d < to; ++d) {
    Vec atoms[TILE_VECS];
    for (int v = 0; v < TILE_VECS; ++v) atoms[v] = read(panel + d * PANEL + v * LANES);
    for (int row = 0; row < TILE_ROWS; ++row) {
      const Vec x = broadcast(rows[row][d]);
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

// out (padded_rows(count), PANEL); `rows` has padded_rows(count) pointers.
inline void multiply_panel(const float* const* rows, int64_t count, const float* panel, int64_t width, float* out) {
  for (int64_t i = 0; i < padded_rows(count) * PANEL; i += LANES) write(out + i, Vec{});
  for (int64_t from = 0; from < width; from += DEPTH) {
    const int64_t to = from + DEPTH < width ? from + DEPTH : width;
    for (int64_t row = 0; row < count; row += TILE_ROWS)
      for (int64_t column = 0; column < PANEL; column += TILE_COLUMNS)
        add_tile(rows + row, from, to, panel + column, out + row * PANEL + column);
  }
}

// Points `padded` at count rows `stride` floats apart, and at the last one again to fill the tile.
inline void point_rows(const float* first, int64_t stride, int64_t count, const float** padded) {
  for (int64_t row = 0; row < padded_rows(count); ++row)
    padded[row] = first + (row < count ? row : count - 1) * stride;
}

}  // namespace
}  // namespace interpkern::INTERPKERN_ISA
