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

inline float largest_peak(const Vec* peaks, int64_t count) {
  Vec largest{};
  for (int64_t i = 0; i < count; ++i) largest = max(largest, peaks[i]);
  return largest_lane(largest);
}

// The larger ones of a vector's two halves, as floats.
INTERPKERN_INLINE Vec peak_of(Short x, float resolution) {
  int16_t halves[SHORTS];
  write_shorts(halves, x);
  return max(widen(halves), widen(halves + LANES)) * broadcast(resolution);
}

// Peaks of correlations that lie in memory.
inline void find_peaks(const int16_t* correlations, float resolution, int64_t blocks, bool nonnegative, Vec* peaks) {
  for (int64_t block = 0; block < blocks; ++block) {
    Short peak{};
    for (int64_t i = 0; i < BLOCK; i += SHORTS)
      peak = max(peak, magnitude(read_shorts(correlations + block * BLOCK + i), nonnegative));
    peaks[block] = peak_of(peak, resolution);
  }
}

INTERPKERN_INLINE void fetch_block(const int16_t* row, int64_t block) {
  constexpr int64_t LINE = 32;
  if (row)
    for (int64_t i = 0; i < BLOCK; i += LINE) __builtin_prefetch(row + block * BLOCK + i, 0, 2);
}

// correlations -= factor * row / 2^15; `next` is a row to fetch meanwhile.
template <bool NONNEGATIVE>
inline void subtract_row(int16_t* correlations, float resolution, int16_t factor, const int16_t* row, int64_t blocks,
                         Vec* peaks, const int16_t* next) {
  const Short f = Short{} + factor;
  for (int64_t block = 0; block < blocks; ++block) {
    const int64_t at = block * BLOCK;
    fetch_block(next, block);
    Short peak[2]{};
    for (int64_t i = 0; i < BLOCK; i += 2 * SHORTS)
      for (int half = 0; half < 2; ++half) {
        int16_t* c = correlations + at + i + half * SHORTS;
        const Short left = read_shorts(c) - multiply_rounded(f, read_shorts(row + at + i + half * SHORTS));
        write_shorts(c, left);
        peak[half] = max(peak[half], magnitude(left, NONNEGATIVE));
      }
    peaks[block] = peak_of(max(peak[0], peak[1]), resolution);
  }
}

// Rows of the Gram and 16-bit weights for them, to be summed with a weight for the correlations they change. Two and
// two lie interleaved, so that one instruction sums a pair; an odd last one stays where it is.
struct WeightedRows {
  int16_t* pairs;    // (pairs, columns, 2)
  int32_t* weights;  // (pairs,) the second row's in the high half
  int64_t columns, size;
  int32_t base_weight;            // of the correlations
  float scale;                    // value of a unit of the sum
  const int16_t *first, *second;  // the last pair's rows in the Gram

  // The pair that a second row fills has to be interleaved, block by block, before it is summed.
  void add(const int16_t* row) { (size++ % 2 == 0 ? first : second) = row; }
  bool fills_pair() const { return size % 2 == 0; }

  void interleave(int64_t block) {
    int32_t* to = reinterpret_cast<int32_t*>(pairs + (size / 2 - 1) * columns * 2) + block * BLOCK;
    const int16_t *low = first + block * BLOCK, *high = second + block * BLOCK;
    for (int64_t i = 0; i < BLOCK; ++i) to[i] = pair(low[i], high[i]);
  }

  // The correlations alone.
  void clear(float resolution) {
    size = 0;
    base_weight = 1;
    scale = resolution;
  }

  // Takes the rows times these values off the correlations; returns what the sum may be off by, from rounding weights.
  float weigh(const float* values, float resolution) {
    const float base = resolution / PRODUCT_STEP;  // times 16-bit integers, as the values are
    float sum = base, largest = base;
    for (int64_t i = 0; i < size; ++i) {
      const float value = __builtin_fabsf(values[i]);
      sum += value;
      largest = value > largest ? value : largest;
    }
    // Neither a weight nor the sum of all, times the largest integer, may overflow.
    const float by_sum = (65000.0f - float(size)) / sum, by_largest = 32000.0f / largest;
    base_weight = int32_t((by_sum < by_largest ? by_sum : by_largest) * base);
    const float unit = float(base_weight) / base;
    float off = 0;
    for (int64_t i = 0; i < size; i += 2) {
      const float second = i + 1 < size ? values[i + 1] * unit : 0;
      const float low = __builtin_rintf(values[i] * unit), high = __builtin_rintf(second);
      weights[i / 2] = pair(-int32_t(low), -int32_t(high));
      off += __builtin_fabsf(values[i] * unit - low) + __builtin_fabsf(second - high);
    }
    if (base_weight == 0) return __builtin_inff();
    scale = PRODUCT_STEP / unit;
    return 1.03f * off / unit;  // products are no larger
  }
};

constexpr int STRIP = REGISTERS / 2;  // vectors summed at once
constexpr int64_t STRIP_ATOMS = STRIP * LANES;

// sums[0 .. STRIP_ATOMS) of correlations and rows, weighted, at the atoms from `at` on
INTERPKERN_INLINE void sum_strip(const int16_t* correlations, const WeightedRows& rows, int64_t at,
                                 Int (&sums)[STRIP]) {
  const Int base_weight = Int{} + rows.base_weight;
  for (int v = 0; v < STRIP; ++v)
    sums[v] = add_pair_products(Int{}, read_alone(correlations + at + v * LANES), base_weight);
  const int64_t full = rows.size / 2;
  for (int64_t pair = 0; pair < full; ++pair) {
    const Int weights = Int{} + rows.weights[pair];
    const int16_t* from = rows.pairs + (pair * rows.columns + at) * 2;
    INTERPKERN_OPAQUE_POINTER(from);
    for (int v = 0; v < STRIP; ++v) sums[v] = add_pair_products(sums[v], read_pairs(from + v * 2 * LANES), weights);
  }
  if (rows.size % 2 == 1) {
    const Int weight = Int{} + rows.weights[full];
    for (int v = 0; v < STRIP; ++v)
      sums[v] = add_pair_products(sums[v], read_alone(rows.first + at + v * LANES), weight);
  }
}

// Peaks of the weighted sums, which are never stored. The last row, `fresh`, is fetched ahead.
template <bool NONNEGATIVE>
inline void sum_rows(const int16_t* correlations, WeightedRows& rows, const int16_t* fresh, int64_t blocks,
                     Vec* peaks) {
  constexpr int64_t AHEAD = 4;
  const Vec scale = broadcast(rows.scale);
  for (int64_t block = 0; block < AHEAD && block < blocks; ++block) fetch_block(fresh, block);
  for (int64_t block = 0; block < blocks; ++block) {
    if (block + AHEAD < blocks) fetch_block(fresh, block + AHEAD);
    if (rows.fills_pair()) rows.interleave(block);
    Int peak[4]{};
    for (int64_t at = block * BLOCK; at < (block + 1) * BLOCK; at += STRIP_ATOMS) {
      Int sums[STRIP];
      sum_strip(correlations, rows, at, sums);
      for (int v = 0; v < STRIP; ++v) peak[v % 4] = max(peak[v % 4], magnitude(sums[v], NONNEGATIVE));
    }
    peaks[block] = to_float(max(max(peak[0], peak[1]), max(peak[2], peak[3]))) * scale;
  }
}

}  // namespace
}  // namespace interpkern::INTERPKERN_ISA
