// Rows of the Gram that one sample's correlations change by together, each with a weight of its own at every step.
#pragma once

#include "sample.h"

namespace interpkern::INTERPKERN_ISA {
namespace {

constexpr int STRIP = REGISTERS / 8;  // Shorts of correlations that are brought up to date at once
constexpr int64_t STRIP_ATOMS = STRIP * SHORTS;

// Keeps correlations up to date with the coefficients of their rows. Two and two rows lie interleaved, so that one
// instruction sums a pair; an odd last one stays where it is.
struct WeightedRows {
  int16_t* pairs;    // (pairs, stride) what `interleave_low` and `interleave_high` make of two rows
  int16_t* weights;  // (capacity,) of this step, 0 beyond the rows
  float* taken;      // (capacity,) how much of each coefficient has been taken off,
  float* left;       // (capacity,) but for this rest, less than a weight
  float rounding;    // of all that was taken off
  int64_t stride, size, capacity;
  const int16_t *first, *second;  // the last pair's rows in the Gram
  int shift;                      // a unit of the correlations is 2^shift of the weighted sum's

  void lay_out(int64_t room, int64_t columns, Arena& arena) {
    stride = 2 * (columns + STRIP_ATOMS);  // a power of two would bring strips of all pairs into the same cache sets
    pairs = arena.take<int16_t>((room + 1) / 2 * stride);
    capacity = padded(room);
    weights = arena.take<int16_t>(capacity);
    taken = arena.take<float>(capacity);
    left = arena.take<float>(capacity);
  }

  void clear() {
    size = 0;
    rounding = 0;
    for (int64_t i = 0; i < capacity; ++i) taken[i] = left[i] = 0;
  }

  // Adds a row of whose coefficient this much has been taken off. The pair that a second row fills has to be
  // interleaved, block by block, before it is summed.
  void add(const int16_t* row, float its_taken) {
    (size % 2 == 0 ? first : second) = row;
    taken[size++] = its_taken;
  }
  bool fills_pair() const { return size % 2 == 0; }

  Int pair_weights(int64_t i) const {
    int32_t both;
    __builtin_memcpy(&both, weights + 2 * i, sizeof both);
    return Int{} + both;
  }

  void interleave(int64_t block) {
    int16_t* to = pairs + (size / 2 - 1) * stride;
    for (int64_t at = block * BLOCK; at < (block + 1) * BLOCK; at += SHORTS) {
      const Short x = read_shorts(first + at), y = read_shorts(second + at);
      write_shorts(to + 2 * at, (Short)interleave_low(x, y));
      write_shorts(to + 2 * at + SHORTS, (Short)interleave_high(x, y));
    }
  }

  // Sets the weights that bring correlations, in units of `resolution`, up to date with the coefficients, which are 0
  // beyond the rows. Returns what they will be off by.
  float weigh(const float* coefficients, float resolution) {
    Vec sums{}, peaks{};
    for (int64_t i = 0; i < size; i += LANES) {
      const Vec now = read(coefficients + i), change = now - read(taken + i) + read(left + i);
      write(taken + i, now);
      write(left + i, change);
      sums += abs(change);
      peaks = max(peaks, abs(change));
    }
    const float sum = sum_lanes(sums), largest = largest_lane(peaks);
    // Neither a weight nor the sum of all, times the largest integer, may overflow.
    const float room = size < 64000 ? 64000 - float(size) : 0, by_sum = sum / room, by_largest = largest / 32000;
    const float least = (by_sum > by_largest ? by_sum : by_largest) * PRODUCT_STEP + resolution * 0x1p-24f;
    const bool fits = 2 * least <= resolution;  // otherwise all weights are 0
    shift = fits ? exponent_of(resolution / least) : 1;
    const float unit = resolution / PRODUCT_STEP / float(1 << shift), per_unit = fits ? 1 / unit : 0;
    Vec off{};
    for (int64_t i = 0; i < size; i += LANES) {
      const Vec change = read(left + i), weight = nearest(change * broadcast(per_unit));
      const Vec rest = fma(broadcast(-unit), weight, change);
      write_rounded(weights + i, -weight);
      write(left + i, rest);
      off += abs(rest);
    }
    rounding += 3 * ROUNDING * sum;
    return fits ? 1.03f * (sum_lanes(off) + rounding) : __builtin_inff();  // products are no larger
  }
};

// What the weighted rows change STRIP_ATOMS correlations by, from `at` on.
INTERPKERN_INLINE void sum_strip(const WeightedRows& rows, int64_t at, Short (&changes)[STRIP]) {
  Int sums[2 * STRIP], shift = Int{} + rows.shift;
  INTERPKERN_OPAQUE(shift);  // one instruction shifts by a vector, two by a number
  for (Int& sum : sums) sum = Int{} + (1 << (rows.shift - 1));
  const int64_t full = rows.size / 2;
  for (int64_t i = 0; i < full; ++i) {
    const Int weights = rows.pair_weights(i);
    const int16_t* from = rows.pairs + i * rows.stride + at * 2;
    INTERPKERN_OPAQUE_POINTER(from);
    for (int v = 0; v < 2 * STRIP; ++v) sums[v] = add_pair_products(sums[v], read_pairs(from + v * SHORTS), weights);
  }
  if (rows.size % 2 == 1) {
    const Int weight = rows.pair_weights(full);
    for (int v = 0; v < STRIP; ++v) {
      const Short x = read_shorts(rows.first + at + v * SHORTS);
      sums[2 * v] = add_pair_products(sums[2 * v], interleave_low(x, x), weight);
      sums[2 * v + 1] = add_pair_products(sums[2 * v + 1], interleave_high(x, x), weight);
    }
  }
  for (int v = 0; v < STRIP; ++v) changes[v] = narrow(sums[2 * v] >> shift, sums[2 * v + 1] >> shift);
}

// Brings correlations and peaks up to date by weighted rows, the last of which, `fresh`, is fetched ahead; by one turn,
// since the other rows need the way to the first cache too.
template <bool NONNEGATIVE>
inline void add_rows(int16_t* correlations, WeightedRows& rows, const int16_t* fresh, int64_t blocks, Short* peaks) {
  by_page_turns<1>(fresh, blocks, [&](int64_t block) {
    if (rows.fills_pair()) rows.interleave(block);
    Short peak{};
    for (int64_t at = block * BLOCK; at < (block + 1) * BLOCK; at += STRIP_ATOMS) {
      Short changes[STRIP];
      sum_strip(rows, at, changes);
      for (int v = 0; v < STRIP; ++v) {
        int16_t* c = correlations + at + v * SHORTS;
        const Short now = read_shorts(c) + changes[v];
        write_shorts(c, now);
        peak = max(peak, magnitude(now, NONNEGATIVE));
      }
    }
    peaks[block] = peak;
  });
}

}  // namespace
}  // namespace interpkern::INTERPKERN_ISA
