// A group of samples, and what the tiles make of them.
#pragma once

#include "sample.h"
#include "tiles.h"

namespace interpkern::INTERPKERN_ISA {
namespace {

inline int64_t blocks_of(const Atoms& atoms) {
  return (atoms.count + BLOCK - 1) / BLOCK;
}

inline int64_t panels_of(const Atoms& atoms) {
  return (atoms.count + PANEL - 1) / PANEL;
}

// The group's samples as float32, and their products with panels of atoms.
struct Samples {
  const Pursuit& p;
  int64_t pairs;
  float* x;           // (GROUP, padded_width)
  int32_t* packed;    // (GROUP, pairs)
  Rounded* rounded;   // (GROUP,)
  int32_t* products;  // (GROUP, PANEL)

  Samples(const Pursuit& pursuit, Arena& arena)
      : p(pursuit),
        pairs(pairs_of(pursuit.atoms.width)),
        x(arena.take<float>(GROUP * pursuit.atoms.padded_width)),
        packed(arena.take<int32_t>(GROUP * pairs)),
        rounded(arena.take<Rounded>(GROUP)),
        products(arena.take<int32_t>(GROUP * PANEL)) {}

  float* residual(int64_t i) const { return x + i * p.atoms.padded_width; }

  // Makes the residual the one to be multiplied at place `at`.
  void pack(int64_t at, const float* residual) {
    int32_t* tile = packed + at / TILE_ROWS * TILE_ROWS * pairs;
    if (at % TILE_ROWS == 0)
      for (int64_t i = 0; i < TILE_ROWS * pairs; ++i) tile[i] = 0;  // the last one may not fill
    rounded[at] = round_vector(residual, p.atoms, TILE_ROWS, tile + at % TILE_ROWS);
  }

  void multiply(int64_t count, int64_t panel) {
    multiply_panel(packed, count, p.atoms.panels + panel * PANEL * pairs * 2, pairs, products);
  }

  // Of the vector at place `at` with LANES atoms of the panel that was multiplied last.
  Vec product(int64_t at, int64_t lane) const {
    Int units;
    __builtin_memcpy(&units, products + at * PANEL + lane, sizeof units);
    return to_float(units) * broadcast(rounded[at].unit * ATOM_STEP);
  }
};

}  // namespace
}  // namespace interpkern::INTERPKERN_ISA
