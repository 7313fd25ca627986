// Products of a group of vectors with a panel of atoms in tiles of vector registers, bounded by multiply-adds.
#pragma once

#include "rounded.h"
#include "sample.h"

namespace interpkern::INTERPKERN_ISA {
namespace {

constexpr int TILE_ROWS = REGISTERS / 4, TILE_VECS = 2, TILE_COLUMNS = TILE_VECS * LANES;
constexpr int64_t DEPTH = 128;  // pairs summed in a register before they join the total

constexpr int64_t padded_rows(int64_t count) {
  return (count + TILE_ROWS - 1) / TILE_ROWS * TILE_ROWS;
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

constexpr PanelLayout layout_of(int64_t width) {
  return {{pairs_of(width), PANEL, 2}, sizeof(int16_t)};
}

// Number d of an atom in its panel.
inline void put(void* panel, int64_t width, int64_t atom, int64_t d, int16_t number) {
  (void)width;
  static_cast<int16_t*>(panel)[(d / 2 * PANEL + atom) * 2 + d % 2] = number;
}

// A group's vectors, and their products with one panel after the other.
struct Tiles {
  const Atoms& atoms;
  int64_t pairs;
  int32_t* packed;    // (GROUP / TILE_ROWS, pairs, TILE_ROWS)
  int32_t* products;  // (GROUP, PANEL)

  Tiles(const Atoms& dictionary, Arena& arena)
      : atoms(dictionary),
        pairs(pairs_of(atoms.width)),
        packed(arena.take<int32_t>(GROUP * pairs)),
        products(arena.take<int32_t>(GROUP * PANEL)) {}

  Rounded pack(int64_t at, const float* vector) {
    int32_t* tile = packed + at / TILE_ROWS * TILE_ROWS * pairs;
    if (at % TILE_ROWS == 0)
      for (int64_t i = 0; i < TILE_ROWS * pairs; ++i) tile[i] = 0;  // the last one may not fill
    return round_vector(vector, atoms, TILE_ROWS, tile + at % TILE_ROWS);
  }

  // Calls take(panel, place, lane, sums) for every vector with every LANES atoms of the panels, in units of the
  // vector's times ATOM_STEP.
  template <class Take>
  void multiply(int64_t count, int64_t panels, const Queue& queue, const Take& take) {
    for (int64_t panel = 0; panel < panels && !stopped(queue); ++panel) {
      multiply_panel(packed, count, static_cast<const int16_t*>(atoms.panels) + panel * PANEL * pairs * 2, pairs,
                     products);
      for (int64_t at = 0; at < count; ++at)
        for (int64_t lane = 0; lane < PANEL; lane += LANES) {
          Int sums;
          __builtin_memcpy(&sums, products + at * PANEL + lane, sizeof sums);
          take(panel, at, lane, sums);
        }
    }
  }
};

}  // namespace
}  // namespace interpkern::INTERPKERN_ISA
