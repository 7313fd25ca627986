// A group of samples, and what the tiles make of them.
#pragma once

#if defined(__AMX_INT8__)
#include "byte_tiles.h"
#else
#include "tiles.h"
#endif

namespace interpkern::INTERPKERN_ISA {
namespace {

inline int64_t blocks_of(const Atoms& atoms) {
  return (atoms.count + BLOCK - 1) / BLOCK;
}

inline int64_t panels_of(const Atoms& atoms) {
  return (atoms.count + PANEL - 1) / PANEL;
}

// The group's samples as float32, and as they are multiplied with the atoms.
struct Samples {
  const Pursuit& p;
  float* x;          // (GROUP, padded_width)
  Rounded* rounded;  // (GROUP,)
  Tiles tiles;

  Samples(const Pursuit& pursuit, Arena& arena)
      : p(pursuit),
        x(arena.take<float>(GROUP * pursuit.atoms.padded_width)),
        rounded(arena.take<Rounded>(GROUP)),
        tiles(pursuit.atoms, arena) {}

  float* residual(int64_t i) const { return x + i * p.atoms.padded_width; }

  // Makes the residual the one to be multiplied at place `at`.
  void pack(int64_t at, const float* residual) { rounded[at] = tiles.pack(at, residual); }
};

}  // namespace
}  // namespace interpkern::INTERPKERN_ISA
