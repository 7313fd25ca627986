// One sample on the Gram: what may be its next pick, from cheap numbers with a bound on their error.
#pragma once

#include "samples.h"

namespace interpkern::INTERPKERN_ISA {
namespace {

// A sample whose correlations with all atoms are kept up to date through rows of the Gram.
struct GramSample : Sample {
  int16_t* correlations;  // (blocks * BLOCK,) as of `base_coefficients`; mp: as of now
  float resolution;       // value of a unit of them
  Vec* peaks;             // (blocks,)
  float* base_coefficients;
  WeightedRows rows;  // omp: those of the support, weighted by what the coefficients have changed by since
  float* changes;
  int64_t blocks;
  float base_bound, bound;  // how far the correlations behind the peaks may be from the dots
  int64_t steps_at_rest;    // picks made by then
  bool busy;

  void lay_out(const Pursuit& p, Arena& arena) {
    Sample::lay_out(p, arena);
    blocks = blocks_of(p.atoms);
    correlations = arena.take<int16_t>(blocks * BLOCK);
    peaks = arena.take<Vec>(blocks);
    const int64_t room = p.method == Method::omp ? capacity(p) : 0, pairs = (room + 1) / 2, columns = blocks * BLOCK;
    base_coefficients = arena.take<float>(room);
    changes = arena.take<float>(room);
    rows = {};
    rows.pairs = arena.take<int16_t>(pairs * columns * 2);
    rows.weights = arena.take<int32_t>(pairs);
    rows.columns = columns;
  }

  // Takes over the residual's products with all atoms, in units of `unit`, each off by `error` at most; each block's
  // lie GROUP blocks behind those of the one before. The correlations stand for the coefficients as they are now.
  void rest_on_products(const int16_t* products, float unit, float error) {
    for (int64_t block = 0; block < blocks; ++block)
      __builtin_memcpy(correlations + block * BLOCK, products + block * GROUP * BLOCK, BLOCK * sizeof(int16_t));
    resolution = unit;
    rows.clear(unit);
    base_bound = bound = error + 0.51f * unit;
    steps_at_rest = steps;
    if (pursuit->method == Method::omp)
      for (int64_t i = 0; i < size; ++i) base_coefficients[i] = coefficients[i];
    find_peaks(correlations, resolution, blocks, pursuit->nonnegative, peaks);
  }

  // Makes the pick that `search` has prepared.
  void pick() {
    Best best;
    for (int i = 0; i < candidate_count; ++i)
      best.consider(candidates[i], correlation(candidates[i]), pursuit->nonnegative);
    const float before = left;
    absorb(best);
    if (ended) return;
    if (pursuit->method == Method::omp)
      weigh_rows();
    else
      bound += __builtin_fabsf(best.correlation) * gram_error(pursuit->atoms.width) + 4 * ROUNDING * before +
               1.01f * resolution;  // half a unit of the factor, half a unit of its product
  }

  // Brings the peaks up to date with the last pick; fetches what `other` will need meanwhile.
  void propagate(const GramSample& other) {
    const bool nonnegative = pursuit->nonnegative;
    const int16_t* fresh = product_row(picks[steps - 1]);
    if (pursuit->method == Method::omp)
      return (nonnegative ? sum_rows<true> : sum_rows<false>)(correlations, rows, fresh, blocks, peaks);
    const int16_t* next = other.busy && other.candidate_count > 0 ? product_row(other.candidates[0]) : nullptr;
    const float factor = values[steps - 1] * (PRODUCT_STEP * (1 << 15)) / resolution;
    (nonnegative ? subtract_row<true> : subtract_row<false>)(correlations, resolution, int16_t(__builtin_rintf(factor)),
                                                             fresh, blocks, peaks, next);
    while (2 * (left + bound) <= resolution * CORRELATION_STEPS) refine();
  }

  // Lists the atoms that may be the next pick, none when the residual is at rounding level. False when the correlations
  // have become too rough to tell, and have to be multiplied anew.
  bool search() {
    const float peak = largest_peak(peaks, blocks);
    candidate_count = 0;
    if (peak + bound <= LEVEL * norm) return true;
    const bool tells = peak > 2 * bound && bound <= MOST_ERROR * resolution;
    if (!(tells && collect(pursuit->exact ? peak - 2 * bound : peak))) {
      // Multiplying anew means making all picks again; worth it if comparing all would have cost more since the last
      // time.
      if ((steps - steps_at_rest) * pursuit->atoms.count > steps * steps) return false;
      compare_all();
    }
    for (int i = 0; i < candidate_count && i < FETCHED; ++i)
      for (int64_t d = 0; d < pursuit->atoms.padded_width; d += LINE) __builtin_prefetch(atom(candidates[i]) + d);
    return true;
  }

 private:
  static constexpr int MOST = 256, FETCHED = 4;
  int32_t candidates[MOST];
  int candidate_count;

  const int16_t* product_row(int64_t index) const { return pursuit->atoms.products + index * pursuit->atoms.stride; }

  // Doubles the correlations and halves their unit.
  void refine() {
    resolution /= 2;
    rows.clear(resolution);
    for (int64_t i = 0; i < blocks * BLOCK; ++i) correlations[i] = int16_t(2 * correlations[i]);
  }

  void weigh_rows() {
    while (rows.size < size) {
      if (rows.size >= steps_at_rest) base_coefficients[rows.size] = 0;
      rows.add(product_row(picks[rows.size]));
      if (rows.fills_pair() && rows.size < size)  // the last pair is interleaved as it is first summed
        for (int64_t block = 0; block < blocks; ++block) rows.interleave(block);
    }
    float moved = 0, sum = norm;
    for (int64_t i = 0; i < size; ++i) {
      changes[i] = coefficients[i] - base_coefficients[i];
      moved += __builtin_fabsf(changes[i]);
      sum += __builtin_fabsf(coefficients[i]);
    }
    bound =
        base_bound + rows.weigh(changes, resolution) + moved * gram_error(pursuit->atoms.width) + 4 * ROUNDING * sum;
  }

  // Lists the atoms that reach `least`; false when they are too many, or none may be picked.
  bool collect(float least) {
    const Vec threshold = broadcast(least);
    float values[BLOCK];
    candidate_count = 0;
    for (int64_t block = 0; block < blocks; ++block) {
      if (!any_at_least(peaks[block], threshold)) continue;
      block_correlations(block, values);
      for (int64_t i = 0; i < BLOCK; i += LANES) {
        if (!any_at_least(magnitude(read(values + i), pursuit->nonnegative), threshold)) continue;
        for (int64_t lane = i; lane < i + LANES; ++lane) {
          const int64_t index = block * BLOCK + lane;
          if (!(magnitude(values[lane], pursuit->nonnegative) >= least) || index >= pursuit->atoms.count) continue;
          if (chosen().has(index)) continue;
          if (candidate_count == MOST) return false;
          candidates[candidate_count++] = int32_t(index);
          if (!pursuit->exact) return true;
        }
      }
    }
    return candidate_count > 0;
  }

  void block_correlations(int64_t block, float* out) const {
    const Vec scale = broadcast(rows.scale);
    for (int64_t at = 0; at < BLOCK; at += STRIP_ATOMS) {
      Int sums[STRIP];
      sum_strip(correlations, rows, block * BLOCK + at, sums);
      for (int v = 0; v < STRIP; ++v) write(out + at + v * LANES, to_float(sums[v]) * scale);
    }
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
