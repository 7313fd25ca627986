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

constexpr int64_t SHORTS_IN_LINE = 2 * LINE;

// Goes through a row's blocks in turns with the row's pages of memory. The processor fetches ahead by itself what is
// read in order, but in each page apart: so it does in all of them at once.
struct PageTurn {
  static constexpr int64_t LENGTH = 4096 / (BLOCK * sizeof(int16_t));  // blocks in a page
  int64_t blocks, missing, pages;                                      // missing: from the first page
  int64_t page = 0, place = 0;

  PageTurn(const int16_t* row, int64_t its_blocks)
      : blocks(its_blocks),
        missing(int64_t(reinterpret_cast<uintptr_t>(row) / (BLOCK * sizeof(int16_t)) % LENGTH)),
        pages((missing + blocks + LENGTH - 1) / LENGTH) {}

  bool ended() const { return place >= LENGTH; }
  int64_t block() const { return page * LENGTH + place - missing; }
  bool has_block() const { return !ended() && 0 <= block() && block() < blocks; }  // rows may start and end in pages
  void next() {
    if (++page == pages) page = 0, ++place;
  }
};

// Has the processor begin to fetch each page of a row. (What only fetches must be inline, or GCC drops the call.)
INTERPKERN_INLINE void begin_fetching(const int16_t* row, int64_t blocks) {
  constexpr int64_t LINES = 2;  // which show it the direction
  for (PageTurn turn(row, blocks); turn.place == 0; turn.next()) {
    const int16_t* first = row + (turn.block() < 0 ? 0 : turn.block()) * BLOCK;
    for (int64_t line = 0; line < LINES; ++line) __builtin_prefetch(first + line * SHORTS_IN_LINE, 0, 2);
  }
}

INTERPKERN_INLINE void fetch_block(const int16_t* row, int64_t block) {
  for (int64_t i = 0; i < BLOCK; i += SHORTS_IN_LINE) __builtin_prefetch(row + block * BLOCK + i);
}

// Calls work(block) for all blocks by turns, and fetches what those AHEAD will take of the row.
template <int AHEAD, class Work>
INTERPKERN_INLINE void by_page_turns(const int16_t* row, int64_t blocks, const Work& work) {
  PageTurn ahead(row, blocks);
  for (int i = 0; i < AHEAD; ++i, ahead.next())
    if (ahead.has_block()) fetch_block(row, ahead.block());
  for (PageTurn turn(row, blocks); !turn.ended(); turn.next(), ahead.next()) {
    if (ahead.has_block()) fetch_block(row, ahead.block());
    if (turn.has_block()) work(turn.block());
  }
}

// correlations -= factor * row / 2^15
template <bool NONNEGATIVE>
inline void subtract_row(int16_t* correlations, int16_t factor, const int16_t* row, int64_t blocks, Short* peaks) {
  const Short f = Short{} + factor;
  by_page_turns<6>(row, blocks, [&](int64_t block) {
    const int64_t at = block * BLOCK;
    Short peak[2]{};
    for (int64_t i = 0; i < BLOCK; i += 2 * SHORTS)
      for (int half = 0; half < 2; ++half) {
        int16_t* c = correlations + at + i + half * SHORTS;
        const Short left = read_shorts(c) - multiply_rounded(f, read_shorts(row + at + i + half * SHORTS));
        write_shorts(c, left);
        peak[half] = max(peak[half], magnitude(left, NONNEGATIVE));
      }
    peaks[block] = max(peak[0], peak[1]);
  });
}

}  // namespace
}  // namespace interpkern::INTERPKERN_ISA
