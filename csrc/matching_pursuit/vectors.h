// Arithmetic on vectors padded to PANEL floats, summed in one order for every width of register.
#pragma once

#include "common/simd.h"
#include "matching_pursuit.h"

namespace interpkern::INTERPKERN_ISA {
namespace {

constexpr int PARTS = PANEL / LANES;
constexpr int64_t LINE = 16;  // floats in a cache line

// To whole vectors.
constexpr int64_t padded(int64_t size) {
  return (size + LANES - 1) / LANES * LANES;
}

INTERPKERN_INLINE float sum_parts(Vec (&parts)[PARTS]) {
  for (int half = PARTS / 2; half > 0; half /= 2)
    for (int i = 0; i < half; ++i) parts[i] += parts[i + half];
  return sum_lanes(parts[0]);
}

inline float dot(const float* a, const float* b, int64_t size) {
  Vec parts[PARTS]{};
  for (int64_t i = 0; i < size; i += PANEL)
    for (int part = 0; part < PARTS; ++part)
      parts[part] = fma(read(a + i + part * LANES), read(b + i + part * LANES), parts[part]);
  return sum_parts(parts);
}

inline double dot_in_float64(const float* a, const float* b, int64_t size) {
  double parts[PANEL]{};
  for (int64_t i = 0; i < size; i += PANEL)
    for (int64_t part = 0; part < PANEL; ++part) parts[part] += double(a[i + part]) * b[i + part];
  for (int64_t half = PANEL / 2; half > 0; half /= 2)
    for (int64_t part = 0; part < half; ++part) parts[part] += parts[part + half];
  return parts[0];
}

// y += factor * x
inline void add_scaled(float* y, float factor, const float* x, int64_t size) {
  const Vec f = broadcast(factor);
  for (int64_t i = 0; i < size; i += LANES) write(y + i, fma(f, read(x + i), read(y + i)));
}

inline void copy(float* to, const float* from, int64_t size) {
  for (int64_t i = 0; i < size; i += LANES) write(to + i, read(from + i));
}

inline float norm(const float* x, int64_t size) {
  return __builtin_sqrtf(dot(x, x, size));
}

inline float square(float x) {
  return x * x;
}

// Two 16-bit integers as one of 32, the first in the low half.
inline int32_t pair(int32_t low, int32_t high) {
  return int32_t(uint32_t(high) << 16 | (uint32_t(low) & 0xffff));
}

// Rounding errors relative to the norms of what is multiplied, per element of an order of summation.
constexpr float ROUNDING = 1.0f / (1 << 23);

// Where a sample stops: this share of its norm.
constexpr float LEVEL = 8 * ROUNDING;

inline float exact_float32(uint32_t bits) {
  float x;
  __builtin_memcpy(&x, &bits, sizeof x);
  return x;
}

// The power of two that a positive normal number starts with.
inline int exponent_of(float x) {
  uint32_t bits;
  __builtin_memcpy(&bits, &x, sizeof bits);
  return int(bits >> 23) - 127;
}

inline float from_half(uint16_t half) {
  const float magnitude = exact_float32(uint32_t(half & 0x7fff) << 13) * 0x1p112f;
  return half & 0x8000 ? -magnitude : magnitude;
}

// One sample as float32, its power of two taken out so that no square over- or underflows; returns that power.
inline float load_sample(const Pursuit& p, int64_t sample, float* x) {
  const int64_t width = p.atoms.width, at = sample * width;
  if (p.dtype == Dtype::float32)
    for (int64_t d = 0; d < width; ++d) x[d] = static_cast<const float*>(p.x)[at + d];
  else if (p.dtype == Dtype::float16)
    for (int64_t d = 0; d < width; ++d) x[d] = from_half(static_cast<const uint16_t*>(p.x)[at + d]);
  else
    for (int64_t d = 0; d < width; ++d) x[d] = exact_float32(uint32_t(static_cast<const uint16_t*>(p.x)[at + d]) << 16);
  for (int64_t d = width; d < p.atoms.padded_width; ++d) x[d] = 0;

  Vec largest_lanes{};
  for (int64_t d = 0; d < p.atoms.padded_width; d += LANES) largest_lanes = max(largest_lanes, abs(read(x + d)));
  const float largest = largest_lane(largest_lanes);
  uint32_t bits;
  __builtin_memcpy(&bits, &largest, sizeof bits);
  uint32_t exponent = bits >> 23;  // biased by 127
  exponent = exponent < 1 ? 1 : exponent > 253 ? 253 : exponent;
  const float inverse = exact_float32((254 - exponent) << 23);
  for (int64_t d = 0; d < width; ++d) x[d] *= inverse;
  return exact_float32(exponent << 23);
}

}  // namespace
}  // namespace interpkern::INTERPKERN_ISA
