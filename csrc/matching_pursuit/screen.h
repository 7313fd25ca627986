// Which atoms may have the largest correlation with the residual: bounds from cheap numbers, the choice from dots.
#pragma once

#include "tiles.h"

namespace interpkern::INTERPKERN_ISA {
namespace {

// Error of one product of the 16-bit Gram: half a unit, and that of the float it was rounded from.
inline float gram_error(int64_t width) {
  return PRODUCT_STEP / 2 + product_error(width);
}

// What a pick is compared by.
INTERPKERN_INLINE Vec magnitude(Vec correlation, bool nonnegative) {
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
    if (value_size > size || (value_size == size && atom < index)) index = int32_t(atom), correlation = value, size = value_size;
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

inline float largest_peak(const Vec* peaks, int64_t blocks) {
  Vec largest{};
  for (int64_t block = 0; block < blocks; ++block) largest = max(largest, peaks[block]);
  return largest_lane(largest);
}

// Peaks of correlations that lie in memory.
inline void find_peaks(const float* correlations, int64_t blocks, bool nonnegative, Vec* peaks) {
  for (int64_t block = 0; block < blocks; ++block) {
    Vec peak{};
    for (int64_t i = 0; i < BLOCK; i += LANES)
      peak = max(peak, magnitude(read(correlations + block * BLOCK + i), nonnegative));
    peaks[block] = peak;
  }
}

// correlations += factor * row; `next` is a row to fetch meanwhile.
template <bool NONNEGATIVE>
inline void add_row(float* correlations, float factor, const int16_t* row, int64_t blocks, Vec* peaks,
                    const int16_t* next) {
  const Vec f = broadcast(factor);
  for (int64_t block = 0; block < blocks; ++block) {
    const int64_t at = block * BLOCK;
    if (next)
      for (int64_t i = 0; i < BLOCK; i += 32) __builtin_prefetch(next + at + i, 0, 2);
    Vec peak[2]{};
    for (int64_t i = 0; i < BLOCK; i += 2 * LANES)
      for (int half = 0; half < 2; ++half) {
        float* c = correlations + at + i + half * LANES;
        const Vec sum = fma(f, widen(row + at + i + half * LANES), read(c));
        write(c, sum);
        peak[half] = max(peak[half], magnitude(sum, NONNEGATIVE));
      }
    peaks[block] = max(peak[0], peak[1]);
  }
}

// A row of the Gram and what it is multiplied by.
struct Term {
  const int16_t* row;
  float factor;
};

constexpr int STRIP = REGISTERS / 2;  // vectors summed at once
constexpr int64_t STRIP_ATOMS = STRIP * LANES;

// out[0 .. STRIP_ATOMS) = base + sum of the terms, at the atoms from `at` on
INTERPKERN_INLINE void sum_strip(const float* base, const Term* terms, int64_t count, int64_t at, Vec (&out)[STRIP]) {
  for (int v = 0; v < STRIP; ++v) out[v] = read(base + at + v * LANES);
  for (int64_t t = 0; t < count; ++t) {
    const Vec factor = broadcast(terms[t].factor);
    const int16_t* row = terms[t].row + at;
    for (int v = 0; v < STRIP; ++v) out[v] = fma(factor, widen(row + v * LANES), out[v]);
  }
}

// Peaks of base + sum of the terms, which are never stored; the last term's row is fetched ahead.
template <bool NONNEGATIVE>
inline void sum_rows(const float* base, const Term* terms, int64_t count, int64_t blocks, Vec* peaks) {
  constexpr int64_t AHEAD = 4 * BLOCK;
  const int16_t* fresh = terms[count - 1].row;
  const int64_t end = blocks * BLOCK;
  for (int64_t at = 0; at < (AHEAD < end ? AHEAD : end); at += 32) __builtin_prefetch(fresh + at, 0, 2);
  for (int64_t block = 0; block < blocks; ++block) {
    const int64_t ahead = block * BLOCK + AHEAD;
    if (ahead < end)
      for (int64_t i = 0; i < BLOCK; i += 32) __builtin_prefetch(fresh + ahead + i, 0, 2);
    Vec peak{};
    for (int64_t at = block * BLOCK; at < (block + 1) * BLOCK; at += STRIP_ATOMS) {
      Vec sums[STRIP];
      sum_strip(base, terms, count, at, sums);
      for (int v = 0; v < STRIP; ++v) peak = max(peak, magnitude(sums[v], NONNEGATIVE));
    }
    peaks[block] = peak;
  }
}

}  // namespace
}  // namespace interpkern::INTERPKERN_ISA
