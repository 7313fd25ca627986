// One sample on the Gram: what may be its next pick, from cheap numbers with a bound on their error.
#pragma once

#include "samples.h"
#include "weighted_rows.h"

namespace interpkern::INTERPKERN_ISA {
namespace {

// A sample whose correlations with all atoms are kept up to date through rows of the Gram.
struct GramSample : Sample {
  int16_t* correlations;  // (blocks * BLOCK,)
  float resolution;       // value of a unit of them
  Short* peaks;           // (blocks,) the largest in each lane
  WeightedRows rows;      // omp: those of the support
  float* at_rest;         // (padded capacity,) omp: the coefficients when products were last made
  int64_t steps_at_rest;  // picks made by then
  int64_t blocks;
  float base_bound, bound;  // how far the correlations may be from the dots: omp without its rows; in all
  bool busy;

  void lay_out(const Pursuit& p, Arena& arena) {
    Sample::lay_out(p, arena);
    blocks = blocks_of(p.atoms);
    correlations = arena.take<int16_t>(blocks * BLOCK);
    peaks = arena.take<Short>(blocks);
    const int64_t room = p.method == Method::omp ? capacity(p) : 0;
    at_rest = arena.take<float>(padded(room));
    rows.lay_out(room, blocks * BLOCK, arena);
  }

  // Takes over the residual's products with all atoms, in units of `unit`, each off by `error` at most; each block's
  // lie GROUP blocks behind those of the one before. The correlations stand for the coefficients as they are now.
  void rest_on_products(const int16_t* products, float unit, float error) {
    for (int64_t block = 0; block < blocks; ++block)
      __builtin_memcpy(correlations + block * BLOCK, products + block * GROUP * BLOCK, BLOCK * sizeof(int16_t));
    resolution = unit;
    rows.clear();
    base_bound = bound = error + 0.51f * unit;
    steps_at_rest = steps;
    if (pursuit->method == Method::omp) copy(at_rest, coefficients, padded(capacity(*pursuit)));
    find_peaks(correlations, blocks, pursuit->nonnegative, peaks);
  }

  // Makes the pick that `search` has prepared, by dots with the candidates that may be better than those before.
  void pick() {
    Best best;
    for (int i = 0; i < candidate_count; ++i)
      if (size_of(candidates[i]) * resolution + bound >= best.size)
        best.consider(candidates[i], correlation(candidates[i]), pursuit->nonnegative);
    if (best.index >= 0 && best.index != candidates[0]) begin_fetching(product_row(best.index), blocks);
    const float before = left;
    absorb(best);
    if (ended) return;
    if (pursuit->method == Method::omp)
      weigh_rows();
    else
      bound += __builtin_fabsf(best.correlation) * gram_error(pursuit->atoms.width) + 4 * ROUNDING * before +
               1.01f * resolution;  // half a unit of the factor, half a unit of its product
  }

  // Brings the correlations and peaks up to date with the last pick.
  void propagate() {
    const bool nonnegative = pursuit->nonnegative;
    const int16_t* fresh = product_row(picks[steps - 1]);
    if (pursuit->method == Method::omp) {
      (nonnegative ? add_rows<true> : add_rows<false>)(correlations, rows, fresh, blocks, peaks);
    } else {
      const float factor = values[steps - 1] * (PRODUCT_STEP * (1 << 15)) / resolution;
      (nonnegative ? subtract_row<true> : subtract_row<false>)(correlations, int16_t(__builtin_rintf(factor)), fresh,
                                                               blocks, peaks);
    }
    while (2 * (left + bound) <= resolution * CORRELATION_STEPS) refine();
  }

  // Lists the atoms that may be the next pick, none when the residual is at rounding level. False when the correlations
  // have become too rough to tell, and have to be multiplied anew.
  bool search() {
    const int16_t peak = largest_peak(peaks, blocks);
    candidate_count = 0;
    if (peak * resolution + bound <= LEVEL * norm) return true;
    const float off = bound / resolution;
    const bool tells = peak > 2 * off && off <= MOST_ERROR;
    if (!(tells && collect(pursuit->exact ? int16_t(peak - 2 * off) : peak))) {
      // Multiplying anew means making all picks again; worth it if comparing all would have cost more since the last
      // time.
      if ((steps - steps_at_rest) * pursuit->atoms.count > steps * steps) return false;
      compare_all();
    }
    // The atoms before the row, since their dots come first.
    for (int i = 0; i < candidate_count && i < FETCHED; ++i)
      if (size_of(candidates[i]) >= peak - off)  // the first one's dot is likely to leave smaller ones out
        for (int64_t d = 0; d < pursuit->atoms.padded_width; d += LINE) __builtin_prefetch(atom(candidates[i]) + d);
    if (candidate_count > 0) begin_fetching(product_row(candidates[0]), blocks);
    return true;
  }

 private:
  static constexpr int MOST = 256, FETCHED = 4;
  int32_t candidates[MOST];
  int candidate_count;

  const int16_t* product_row(int64_t index) const { return pursuit->atoms.products + index * pursuit->atoms.stride; }

  float size_of(int64_t index) const { return magnitude(float(correlations[index]), pursuit->nonnegative); }

  // Doubles the correlations and halves their unit.
  void refine() {
    resolution /= 2;
    for (int64_t block = 0; block < blocks; ++block) peaks[block] += peaks[block];
    for (int64_t i = 0; i < blocks * BLOCK; i += SHORTS) {
      const Short x = read_shorts(correlations + i);
      write_shorts(correlations + i, x + x);
    }
  }

  void weigh_rows() {
    while (rows.size < size) {
      rows.add(product_row(picks[rows.size]), at_rest[rows.size]);
      if (rows.fills_pair() && rows.size < size)  // the last pair is interleaved as it is first summed
        for (int64_t block = 0; block < blocks; ++block) rows.interleave(block);
    }
    Vec moved{}, sizes{};
    for (int64_t i = 0; i < size; i += LANES) {
      moved += abs(read(coefficients + i) - read(at_rest + i));
      sizes += abs(read(coefficients + i));
    }
    base_bound += 0.51f * resolution;
    bound = base_bound + rows.weigh(coefficients, resolution) + sum_lanes(moved) * gram_error(pursuit->atoms.width) +
            4 * ROUNDING * (norm + sum_lanes(sizes));
    // Correlations that are further off may have left 16 bits, and tell nothing until products are made anew.
    if (!(bound <= MOST_ERROR * resolution)) base_bound = bound = __builtin_inff();
  }

  // Lists the atoms that reach `least`, the largest first; false when they are too many, or none may be picked.
  bool collect(int16_t least) {
    const Short threshold = Short{} + least;
    candidate_count = 0;
    for (int64_t block = 0; block < blocks; ++block) {
      if (lanes_at_least(peaks[block], threshold) == 0) continue;
      for (int64_t at = block * BLOCK; at < (block + 1) * BLOCK; at += SHORTS) {
        const Short sizes = magnitude(read_shorts(correlations + at), pursuit->nonnegative);
        for (uint32_t lanes = lanes_at_least(sizes, threshold); lanes != 0; lanes &= lanes - 1) {
          const int64_t index = at + __builtin_ctz(lanes);
          if (index >= pursuit->atoms.count || chosen().has(index)) continue;
          if (candidate_count == MOST) return false;
          candidates[candidate_count++] = int32_t(index);
          if (!pursuit->exact) return true;
        }
      }
    }
    if (candidate_count == 0) return false;
    bring_largest_forward();
    return true;
  }

  void bring_largest_forward() {
    int largest = 0;
    for (int i = 1; i < candidate_count; ++i)
      if (size_of(candidates[i]) > size_of(candidates[largest])) largest = i;
    const int32_t first = candidates[0];
    candidates[0] = candidates[largest];
    candidates[largest] = first;
  }

  // Lists the best atom by dots with all.
  void compare_all() {
    const Chosen taken = chosen();
    Best best;
    for (int64_t index = 0; index < pursuit->atoms.count; ++index)
      if (!taken.has(index)) best.consider(index, correlation(index), pursuit->nonnegative);
    candidates[0] = best.index;
    candidate_count = best.index >= 0;
  }
};

}  // namespace
}  // namespace interpkern::INTERPKERN_ISA
