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

INTERPKERN_INLINE void fetch_block(const int16_t* row, int64_t block) {
  constexpr int64_t LINE = 32;
  if (row)
    for (int64_t i = 0; i < BLOCK; i += LINE) __builtin_prefetch(row + block * BLOCK + i, 0, 2);
}

// correlations += factor * row; `next` is a row to fetch meanwhile.
template <bool NONNEGATIVE>
inline void add_row(float* correlations, float factor, const int16_t* row, int64_t blocks, Vec* peaks,
                    const int16_t* next) {
  const Vec f = broadcast(factor);
  for (int64_t block = 0; block < blocks; ++block) {
    const int64_t at = block * BLOCK;
    fetch_block(next, block);
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

// Rows of the Gram, two and two interleaved, and 16-bit weights for them: the sum of a pair is one instruction.
struct WeightedRows {
  int16_t* pairs;    // (pairs, columns, 2)
  int32_t* weights;  // (pairs,) the second row's in the high half
  int64_t columns, size;
  float scale;  // value of a unit of weight times a unit of the Gram

  // Copies a block of `row` to place `at`, the second of a pair next to the first.
  void place(int64_t at, const int16_t* row, int64_t block) {
    int32_t* pair = reinterpret_cast<int32_t*>(pairs + at / 2 * columns * 2) + block * BLOCK;
    const int16_t* from = row + block * BLOCK;
    if (at % 2 == 0)
      for (int64_t i = 0; i < BLOCK; ++i) pair[i] = uint16_t(from[i]);
    else
      for (int64_t i = 0; i < BLOCK; ++i) pair[i] |= int32_t(uint32_t(uint16_t(from[i])) << 16);
  }

  // Rounds the values, and returns what the sum over rows of unit products may be off by.
  float weigh(const float* values) {
    float sum = 0, largest = 0;
    for (int64_t i = 0; i < size; ++i) {
      const float value = __builtin_fabsf(values[i]);
      sum += value;
      largest = value > largest ? value : largest;
    }
    if (sum == 0) {
      for (int64_t pair = 0; 2 * pair < size; ++pair) weights[pair] = 0;
      return scale = 0;
    }
    // Neither a weight nor the sum of all, times the largest product, may overflow.
    const float by_sum = (65000.0f - float(size)) / sum, by_largest = 32000.0f / largest;
    const float unit = by_sum < by_largest ? by_sum : by_largest;
    for (int64_t pair = 0; 2 * pair < size; ++pair) {
      const int32_t low = int32_t(__builtin_rintf(values[2 * pair] * unit));
      const int32_t high = 2 * pair + 1 < size ? int32_t(__builtin_rintf(values[2 * pair + 1] * unit)) : 0;
      weights[pair] = int32_t(uint32_t(high) << 16 | (uint32_t(low) & 0xffff));
    }
    scale = PRODUCT_STEP / unit;
    return float(size) * 0.52f / unit;  // half a unit of weight, times products of up to 1.03
  }
};

constexpr int STRIP = REGISTERS / 2;  // vectors summed at once
constexpr int64_t STRIP_ATOMS = STRIP * LANES;

// out[0 .. STRIP_ATOMS) = base - weighted sum of the rows, at the atoms from `at` on
INTERPKERN_INLINE void sum_strip(const float* base, const WeightedRows& rows, int64_t at, Vec (&out)[STRIP]) {
  Int sums[STRIP]{};
  for (int64_t pair = 0; 2 * pair < rows.size; ++pair) {
    const Int weights = Int{} + rows.weights[pair];
    const int16_t* from = rows.pairs + (pair * rows.columns + at) * 2;
    INTERPKERN_OPAQUE_POINTER(from);
    for (int v = 0; v < STRIP; ++v) sums[v] += multiply_pairs(from + v * 2 * LANES, weights);
  }
  const Vec scale = broadcast(-rows.scale);
  for (int v = 0; v < STRIP; ++v) out[v] = fma(scale, to_float(sums[v]), read(base + at + v * LANES));
}

// Peaks of base - weighted sum of the rows, which is never stored. The last row comes from `fresh`, fetched ahead.
template <bool NONNEGATIVE>
inline void sum_rows(const float* base, WeightedRows& rows, const int16_t* fresh, int64_t blocks, Vec* peaks) {
  constexpr int64_t AHEAD = 4;
  for (int64_t block = 0; block < AHEAD && block < blocks; ++block) fetch_block(fresh, block);
  for (int64_t block = 0; block < blocks; ++block) {
    if (block + AHEAD < blocks) fetch_block(fresh, block + AHEAD);
    rows.place(rows.size - 1, fresh, block);
    Vec peak{};
    for (int64_t at = block * BLOCK; at < (block + 1) * BLOCK; at += STRIP_ATOMS) {
      Vec sums[STRIP];
      sum_strip(base, rows, at, sums);
      for (int v = 0; v < STRIP; ++v) peak = max(peak, magnitude(sums[v], NONNEGATIVE));
    }
    peaks[block] = peak;
  }
}

}  // namespace
}  // namespace interpkern::INTERPKERN_ISA
