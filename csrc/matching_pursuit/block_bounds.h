// What decides a pick on a GPU: keys that order correlations, and how far cheap numbers may be from the dots.
#pragma once

#include <stdint.h>

#include "common/portable.h"

namespace interpkern {

constexpr float GPU_ROUNDING = 1.0f / (1 << 23);  // rounding error relative to what is rounded, or twice that
constexpr float GPU_LEVEL = 8 * GPU_ROUNDING;     // where a sample stops: this share of its norm
constexpr double DEPENDENT = 1e-11;  // square of the distance of an atom from a support that it is taken to lie in
constexpr int DEPTH = 32;            // of a slice of a product

// Orders by size, then the lowest index; the last bit is the correlation's sign. 0 is nothing.
INTERPKERN_PORTABLE uint64_t pick_key(float correlation, int64_t index, bool nonnegative) {
  const uint32_t bits = as_bits(correlation), size = bits & 0x7fffffffu, negative = bits >> 31;
  if (size == 0 || (nonnegative && negative)) return 0;
  return uint64_t(size) << 32 | uint64_t(0x7fffffffu - uint32_t(index)) << 1 | negative;
}

INTERPKERN_PORTABLE int64_t index_of(uint64_t key) {
  return 0x7fffffff - int64_t(uint32_t(key) >> 1);
}

INTERPKERN_PORTABLE float correlation_of(uint64_t key) {
  return as_float(uint32_t(key >> 32) | uint32_t(key) << 31);
}

// Of a dot of unit vectors as a warp sums it: a chain of width / 128 multiply-adds, then seven additions.
INTERPKERN_PORTABLE float gpu_dot_error(int64_t width) {
  return float(width / 128 + 8) * GPU_ROUNDING;
}

// Of a product of unit vectors as tiles make it. Each is split into two float16 numbers, which leave 2^-24 of it, and
// the product of the smaller halves, 2^-24, is left out. In a slice of DEPTH the tensor core makes six sums of 16
// terms, each of which it may cut off 24 bits below the largest, and the sums: twelve roundings. Slices are added in
// float32.
INTERPKERN_PORTABLE float tile_error(int64_t width) {
  return float(6 * 12 + width / DEPTH + 4) * GPU_ROUNDING;
}

// The same from single float16 numbers: four times the standard deviation, or all there can be.
INTERPKERN_PORTABLE float fast_tile_error(int64_t width) {
  const float likely = 4.0f / sqrtf(float(width));
  return (likely < 1 ? likely : 1.0f) * 1.1f / (1 << 11) + tile_error(width);
}

// Of an element of the Gram: what a given one may be off by, and a float32's rounding.
INTERPKERN_PORTABLE float gpu_gram_error() {
  return 1.1e-5f;
}

}  // namespace interpkern
