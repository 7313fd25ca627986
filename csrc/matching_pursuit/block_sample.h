// One sample by a block: the dots that decide between what may be its next pick, and what its method makes of the pick.
#pragma once

#include "matching_pursuit/block_screen.h"

namespace interpkern {

template <class Block, Screen SCREEN, bool FITS>
class BlockSample : BlockScreen<Block, SCREEN, FITS> {
  using Base = BlockScreen<Block, SCREEN, FITS>;
  using Base::add_squares;
  using Base::atom;
  using Base::block;
  using Base::chosen;
  using Base::count;
  using Base::dots;
  using Base::extend;
  using Base::fetch;
  using Base::l;
  using Base::leave;
  using Base::listed;
  using Base::omp;
  using Base::p;
  using Base::peak;
  using Base::picks;
  using Base::propose;
  using Base::put_away;
  using Base::refit;
  using Base::residual;
  using Base::rest;
  using Base::s;
  using Base::solve;
  using Base::state;
  using Base::u;
  using Base::values;

 public:
  using Base::Base;

  // Makes up to `budget` picks.
  INTERPKERN_KERNEL void run(int budget) {
    if (state.phase == IDLE) return;
    fetch();
    if (state.phase == WAITING) rest();
    state.phase = READY;
    for (; state.phase == READY; --budget) {
      if (!wants_pick())
        finish();
      else if (SCREEN == Screen::PANELS && state.steps > state.steps_at_rest)
        state.phase = WAITING;
      else if (budget == 0)
        break;
      else if (propose())
        absorb();
      else
        state.phase = WAITING;
    }
    put_away();
  }

  // Pursues over the sample's own path and the atoms from `known` on: tells whether one of those enters it.
  INTERPKERN_KERNEL void replay(const Replayed& r) {
    if (state.phase == IDLE) return;
    fetch();
    const int32_t* const path = r.paths + s.origin.row * p.picks;
    int length = 0;
    while (length < p.picks && path[length] >= 0) ++length;
    const int fresh = int(p.atoms.count) - r.known;
    bool enters = false;
    while (wants_pick() && !enters) {
      block.run([&](int thread) {
        if (thread == 0) s.best = 0;
      });
      compare(length + fresh, [&](int i) { return i < length ? path[i] : r.known + i - length; });
      const uint64_t best = s.best;
      state.ended = best == 0 || !(size_of(best) > GPU_LEVEL * s.origin.norm);
      enters = !state.ended && index_of(best) >= r.known;
      if (!state.ended && !enters) take(index_of(best), correlation_of(best));
    }
    block.run([&](int thread) {
      if (thread == 0) r.changed[s.origin.row] = enters;
    });
    state.phase = IDLE;
    put_away();
  }

 private:
  INTERPKERN_KERNEL bool wants_pick() const {
    const float enough = (p.tol > GPU_LEVEL ? p.tol : GPU_LEVEL) * s.origin.norm;
    return !state.ended && state.steps < p.picks && state.left > enough;
  }

  // Decides between the candidates and makes the pick.
  INTERPKERN_KERNEL void absorb() {
    if (listed && count > 0) {
      if (SCREEN == Screen::PANELS) {
        compare(count * int(PANEL), [&](int i) { return s.candidates[i / int(PANEL)] * int(PANEL) + i % int(PANEL); });
      } else {
        const int only = p.exact ? -1 : lowest();
        if (!p.exact) count = 1;
        // Most likely the next row of the Gram that will be read.
        block.fetch(p.atoms.products + int64_t(p.exact ? s.candidates[0] : only) * p.atoms.side, int(l.columns));
        compare(count, [&](int i) { return p.exact ? s.candidates[i] : only; });
      }
      // The peak may have been that of an atom chosen before.
      listed = size_of(s.best) >= peak - state.bound;
    }
    if (!listed) {
      block.wait();  // until all threads have read s.best
      compare(int(p.atoms.count), [](int i) { return i; });
    }
    const uint64_t best = s.best;
    state.ended = best == 0 || !(size_of(best) > GPU_LEVEL * s.origin.norm);
    if (!state.ended) take(index_of(best), correlation_of(best));
  }

  static INTERPKERN_KERNEL float size_of(uint64_t key) { return as_float(uint32_t(key >> 32)); }

  INTERPKERN_KERNEL int lowest() const {
    int32_t least = s.candidates[0];
    INTERPKERN_NO_UNROLL for (int i = 1; i < count; ++i) least = s.candidates[i] < least ? s.candidates[i] : least;
    return least;
  }

  // Dots of the residual with atoms, a warp each; the best one is left in s.best.
  template <class Index>
  INTERPKERN_KERNEL void compare(int candidates, const Index& index) {
    dots += candidates;
    INTERPKERN_NO_UNROLL for (int first = 0; first < candidates; first += PURSUIT_WARPS) {
      const auto own = [&](int warp) { return first + warp < candidates ? index(first + warp) : -1; };
      block.template warps<float, Sum>(
          [&](int thread) {
            const int at = own(thread / WARP);
            return at >= 0 && at < p.atoms.count ? dot_part(atom(at), thread % WARP) : 0.0f;
          },
          [&](int warp, float c) {
            const int at = own(warp);
            if (at >= 0 && at < p.atoms.count && !chosen(at)) Block::raise(&s.best, pick_key(c, at, p.nonnegative));
          });
    }
  }

  // A lane's part of an atom's dot with the residual.
  INTERPKERN_KERNEL float dot_part(const float* atom, int lane) const {
    float sums[4] = {0, 0, 0, 0};
    INTERPKERN_UNROLL_BY_4 for (int d = lane * 4; d < int(p.atoms.stride); d += WARP * 4) {
      const Quad a = read_quad(atom + d), r = read_quad(residual + d);
      INTERPKERN_UNROLL for (int i = 0; i < 4; ++i) sums[i] = multiply_add(a.v[i], r.v[i], sums[i]);
    }
    return (sums[0] + sums[1]) + (sums[2] + sums[3]);
  }

  INTERPKERN_KERNEL void take(int64_t index, float c) {
    if (omp()) {
      state.ended = !extend(index, state.steps);
      if (state.ended) return;
      solve();
      leave();
    } else {
      state.bound += fabsf(c) * gpu_gram_error() + 4 * GPU_ROUNDING * state.left;
      const float* const picked = atom(index);
      state.left = sqrtf(this->template sum<float>([&](int thread) {
        if (thread == 0) picks()[state.steps] = int32_t(index), values()[state.steps] = c;
        float sum = 0;
        INTERPKERN_NO_UNROLL for (int d = thread * 4; d < int(p.atoms.stride); d += ONCE) {
          const Quad a = read_quad(picked + d);
          Quad r = read_quad(residual + d);
          INTERPKERN_UNROLL for (int i = 0; i < 4; ++i) r.v[i] = multiply_add(-c, a.v[i], r.v[i]);
          sum = add_squares(r, sum);
          write_quad(residual + d, r);
        }
        return sum;
      }));
      state.last_index = int32_t(index), state.last = c;
    }
    ++state.steps;
  }

  // Writes the sample's outputs.
  INTERPKERN_KERNEL void finish() {
    state.phase = IDLE;
    if (FITS && !omp()) refit();
    const int64_t slots = state.steps;
    if (FITS) {
      block.run([&](int thread) {
        INTERPKERN_NO_UNROLL for (int64_t i = thread; i < slots; i += PURSUIT_THREADS) values()[i] = 0;
      });
      block.run([&](int thread) {
        INTERPKERN_NO_UNROLL for (int i = thread; i < state.size; i += PURSUIT_THREADS) values()[u.slots[i]] =
            u.coefficients[i];
      });
    }
    block.run([&](int thread) {
      INTERPKERN_NO_UNROLL for (int64_t i = thread; i < p.picks; i += PURSUIT_THREADS) {
        if (i >= slots) picks()[i] = -1;
        values()[i] = i < slots ? values()[i] * s.origin.unit : 0.0f;
      }
      if (thread == 0) p.residual_norm[s.origin.row] = state.left * s.origin.unit;
    });
  }
};

}  // namespace interpkern
