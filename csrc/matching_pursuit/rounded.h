// Vectors rounded to 16-bit integers, of which a core multiplies and adds almost twice as many as of floats, and more
// by the tile; what rounding took away bounds the error of every product.
#pragma once

#include "vectors.h"

namespace interpkern::INTERPKERN_ISA {
namespace {

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

}  // namespace
}  // namespace interpkern::INTERPKERN_ISA
