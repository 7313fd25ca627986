// Whether new atoms change the path of a sample that was pursued without them.
#pragma once

#include "sample.h"

namespace interpkern::INTERPKERN_ISA {
namespace {

// Pursues over a sample's own picks and the atoms from `known` on, unless cheap numbers tell that those never win.
struct Replay {
  const Pursuit& p;
  Sample sample;
  float *residual, *values;
  int32_t* picks;

  Replay(const Pursuit& pursuit, Arena& arena)
      : p(pursuit),
        residual(arena.take<float>(p.atoms.padded_width)),
        values(arena.take<float>(p.picks)),
        picks(arena.take<int32_t>(p.picks)) {
    sample.lay_out(p, arena);
  }

  // Whether one of the atoms from `known` on is picked.
  bool changes(int64_t row) {
    sample.load(row, residual);
    sample.begin();
    sample.picks = picks, sample.values = values;
    const int32_t* path = p.indices + row * p.picks;
    int64_t length = 0;
    while (length < p.picks && path[length] >= 0) ++length;
    if (p.method == Method::mp && p.atoms.products && !may_change(path, length)) return false;
    while (sample.wants_pick()) {
      const Best best = choose(path, length);
      if (best.index >= p.known) return best.size > LEVEL * sample.norm;
      sample.absorb(best);
    }
    return false;
  }

 private:
  bool may_change(const int32_t* path, int64_t length) const {
    const bool ended = length < p.picks && p.residual_norm[sample.row] / sample.unit <= sample.enough();
    for (int64_t atom = p.known; atom < p.atoms.count; ++atom)
      if (may_win(atom, path, length, ended)) return true;
    return false;
  }

  // mp's coefficients are the correlations that an atom had to beat, step by step.
  bool may_win(int64_t atom, const int32_t* path, int64_t length, bool ended) const {
    const float* coefficients = p.coefficients + sample.row * p.picks;
    const int16_t* products = p.atoms.products + atom * p.atoms.stride;
    const float at_level = LEVEL * sample.norm, rounding = 4 * ROUNDING * sample.norm;
    float correlation = sample.correlation(atom), bound = 2 * dot_error(p.atoms.width) * sample.norm;
    for (int64_t step = 0; step < length; ++step) {
      const float value = coefficients[step] / sample.unit, size = __builtin_fabsf(value);
      if (magnitude(correlation, p.nonnegative) + bound >= size) return true;
      correlation -= value * PRODUCT_STEP * products[path[step]];
      bound += size * gram_error(p.atoms.width) + rounding;
    }
    return length < p.picks && !ended && magnitude(correlation, p.nonnegative) + bound > at_level;
  }

  // mp's and omp's paths list the picks in order, the refit's only once each.
  Best choose(const int32_t* path, int64_t length) const {
    const bool in_order = p.method != Method::mp_refit;
    const int64_t from = in_order ? smaller(sample.steps, length) : 0;
    const int64_t to = in_order ? smaller(sample.steps + 1, length) : length;
    Best best;
    for (int64_t i = from; i < to; ++i) best.consider(path[i], sample.correlation(path[i]), p.nonnegative);
    for (int64_t i = p.known; i < p.atoms.count; ++i) best.consider(i, sample.correlation(i), p.nonnegative);
    return best;
  }
};

}  // namespace
}  // namespace interpkern::INTERPKERN_ISA
