// Which atoms may have the largest correlation with the residual: bounds from cheap numbers, the choice from dots.
#pragma once

#include "rounded.h"

namespace interpkern::INTERPKERN_ISA {
namespace {

// Error of one product of the 16-bit Gram: half a unit, and those of the float it was rounded from and of `dot`.
inline float gram_error(int64_t width) {
  return PRODUCT_STEP / 2 + 2 * dot_error(width);
}

// A sample's correlations are kept in 16-bit integers, whose unit is its residual's norm over this. None is larger than
// 1.01 of that norm, and none may leave 16 bits, its error included.
constexpr float CORRELATION_STEPS = 30700, MOST_ERROR = 512;

inline float resolution_of(float residual_norm) {
  return residual_norm > 0 ? residual_norm / CORRELATION_STEPS : 1;
}

// What a pick is compared by.
template <class Number>
INTERPKERN_INLINE Number magnitude(Number correlation, bool nonnegative) {
  return nonnegative ? correlation : abs(correlation);
}
INTERPKERN_INLINE float magnitude(float correlation, bool nonnegative) {
  return nonnegative ? correlation : __builtin_fabsf(correlation);
}

// The atom with the largest correlation among those considered; the lowest index on ties.
struct Best {
  int32_t index = -1;
  float correlation = 0, size = 0;

  void consider(int64_t atom, float value, bool nonnegative) {
    const float value_size = magnitude(value, nonnegative);
    if (value_size > size || (value_size == size && atom < index))
      index = int32_t(atom), correlation = value, size = value_size;
  }
};

struct Chosen {
  const int32_t* indices;
  int64_t count;  // 0 where an atom may be picked again

  bool has(int64_t atom) const {
    for (int64_t i = 0; i < count; ++i)
      if (indices[i] == atom) return true;
    return false;
  }
};

template <class Lanes>
inline auto largest_peak(const Lanes* peaks, int64_t count) {
  Lanes largest{};
  for (int64_t i = 0; i < count; ++i) largest = max(largest, peaks[i]);
  return largest_lane(largest);
}

// Peaks of correlations that lie in memory.
inline void find_peaks(const int16_t* correlations, int64_t blocks, bool nonnegative, Short* peaks) {
  for (int64_t block = 0; block < blocks; ++block) {
    Short peak{};
    for (int64_t i = 0; i < BLOCK; i += SHORTS)
      peak = max(peak, magnitude(read_shorts(correlations + block * BLOCK + i), nonnegative));
    peaks[block] = peak;
  }
}

// Fetches into the first cache (LOCALITY 3) or the second (2).
template <int LOCALITY>
INTERPKERN_INLINE void fetch_block(const int16_t* row, int64_t block) {
  constexpr int64_t LINE = 32;
  if (row)
    for (int64_t i = 0; i < BLOCK; i += LINE) __builtin_prefetch(row + block * BLOCK + i, 0, LOCALITY);
}

// correlations -= factor * row / 2^15; `next` is a row to fetch meanwhile.
template <bool NONNEGATIVE>
inline void subtract_row(int16_t* correlations, int16_t factor, const int16_t* row, int64_t blocks, Short* peaks,
                         const int16_t* next) {
  const Short f = Short{} + factor;
  for (int64_t block = 0; block < blocks; ++block) {
    const int64_t at = block * BLOCK;
    fetch_block<2>(next, block);
    Short peak[2]{};
    for (int64_t i = 0; i < BLOCK; i += 2 * SHORTS)
      for (int half = 0; half < 2; ++half) {
        int16_t* c = correlations + at + i + half * SHORTS;
        const Short left = read_shorts(c) - multiply_rounded(f, read_shorts(row + at + i + half * SHORTS));
        write_shorts(c, left);
        peak[half] = max(peak[half], magnitude(left, NONNEGATIVE));
      }
    peaks[block] = max(peak[0], peak[1]);
  }
}

}  // namespace
}  // namespace interpkern::INTERPKERN_ISA
