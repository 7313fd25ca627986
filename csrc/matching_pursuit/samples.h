// A group of samples, and what the tiles make of them.
#pragma once

#include "sample.h"
#include "tiles.h"

namespace interpkern::INTERPKERN_ISA {
namespace {

inline int64_t blocks_of(const Atoms& atoms) {
  return (atoms.count + BLOCK - 1) / BLOCK;
}

// The group's samples as float32, and what the tiles make of them.
struct Samples {
  const Pursuit& p;
  float* x;            // (GROUP, padded_width)
  const float** rows;  // (GROUP,) those to multiply
  float* packed;       // (GROUP, width)
  float* products;     // (GROUP, PANEL)

  Samples(const Pursuit& pursuit, Arena& arena)
      : p(pursuit),
        x(arena.take<float>(GROUP * pursuit.atoms.padded_width)),
        rows(arena.take<const float*>(GROUP)),
        packed(arena.take<float>(GROUP * pursuit.atoms.width)),
        products(arena.take<float>(GROUP * PANEL)) {}

  float* residual(int64_t i) const { return x + i * p.atoms.padded_width; }

  void pack(int64_t count) { pack_rows(rows, count, p.atoms.width, packed); }

  // The packed rows times a panel of atoms, (count, PANEL).
  const float* multiply(int64_t count, int64_t panel) {
    const Atoms& atoms = p.atoms;
    multiply_panel(packed, count, atoms.panels + panel * PANEL * atoms.width, atoms.width, products);
    return products;
  }
};

}  // namespace
}  // namespace interpkern::INTERPKERN_ISA
