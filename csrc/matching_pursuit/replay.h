// Whether new atoms change the path of a sample that was pursued without them.
#pragma once

#include "sample.h"

namespace interpkern::INTERPKERN_ISA {
namespace {

// Pursues over a sample's own picks and the atoms from `known` on.
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
    const int32_t* path = p.path + row * p.picks;
    int64_t length = 0;
    while (length < p.picks && path[length] >= 0) ++length;
    while (sample.wants_pick()) {
      const Best best = choose(path, length);
      if (best.index >= p.known) return best.size > LEVEL * sample.norm;
      sample.absorb(best);
    }
    return false;
  }

 private:
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
