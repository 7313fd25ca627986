// What may be a sample's next pick, from cheap numbers with a bound on how far they are from the dots.
#pragma once

#include "matching_pursuit/block_fit.h"

namespace interpkern {

template <class Block, Screen SCREEN, bool FITS>
class BlockScreen : protected BlockFit<Block, SCREEN, FITS> {
 protected:
  using Base = BlockFit<Block, SCREEN, FITS>;
  using Base::Base;
  using Base::block;
  using Base::chip;
  using Base::chosen;
  using Base::l;
  using Base::omp;
  using Base::p;
  using Base::s;
  using Base::screen;
  using Base::state;
  using Base::u;

  float peak = 0;

  // Whether `count` candidates, atoms or panels, are to be compared; else all atoms.
  bool listed = false;
  int count = 0;

  INTERPKERN_KERNEL float magnitude(float c) const { return p.nonnegative ? c : fabsf(c); }

  // What screens is the residual's products with all atoms, just made.
  INTERPKERN_KERNEL void rest() {
    const float error = p.exact ? tile_error(p.atoms.width) : fast_tile_error(p.atoms.width);
    state.base_bound = 1.03f * (error * state.left + 2 * gpu_dot_error(p.atoms.width) * s.origin.norm);
    state.bound = state.base_bound;
    state.steps_at_rest = state.steps;
    state.last_index = -1;
    if (omp())
      block.run([&](int thread) {
        INTERPKERN_NO_UNROLL for (int i = thread; i < state.size; i += PURSUIT_THREADS) {
          u.base_coefficients[i] = u.coefficients[i];
          u.changes[i] = 0;
        }
      });
  }

  // Lists what may be the next pick; false where the screen is too rough to tell and has to be made anew.
  INTERPKERN_KERNEL bool propose() {
    if (SCREEN == Screen::LAST_PRODUCTS) weigh_rows();
    peak = this->largest([&](int thread) {
      if (thread == 0) s.best = 0, s.candidate_count = 0;
      return s.peaks[thread] = SCREEN == Screen::PANELS ? panels_peak(thread) : correlations_peak(thread);
    });
    state.last_index = -1;
    listed = true, count = 0;
    if (peak + state.bound <= GPU_LEVEL * s.origin.norm) return true;  // none is worth a pick
    if (SCREEN == Screen::PANELS || peak > 2 * state.bound) {
      collect(p.exact || SCREEN == Screen::PANELS ? peak - 2 * state.bound : peak);
      count = int(s.candidate_count);
      if (count > 0 && count <= MOST_CANDIDATES) return true;
    }
    listed = false;
    return state.steps == state.steps_at_rest;
  }

  INTERPKERN_KERNEL void collect(float least) {
    block.run([&](int thread) {
      if (SCREEN == Screen::LAST_PRODUCTS) {  // a sum of rows each: shared out again
        INTERPKERN_NO_UNROLL for (int other = 0; other < PURSUIT_THREADS; ++other) {
          if (s.peaks[other] >= least) list_atoms(other * 4 + thread * ONCE, ONCE * PURSUIT_THREADS, least);
        }
      } else if (s.peaks[thread] >= least) {
        SCREEN == Screen::PANELS ? list_panels(thread, least) : list_atoms(thread * 4, ONCE, least);
      }
    });
  }

  INTERPKERN_KERNEL void list_panels(int thread, float least) {
    INTERPKERN_NO_UNROLL for (int at = thread; at < int(l.screen_floats); at += PURSUIT_THREADS) {
      if (screen[at] >= least) list(at);
    }
  }

  INTERPKERN_KERNEL void list_atoms(int from, int stride, float least) {
    INTERPKERN_NO_UNROLL for (int e = from; e < int(l.columns); e += stride) {
      const Quad quad = correlations(e);
      INTERPKERN_UNROLL for (int i = 0; i < 4; ++i) {
        if (magnitude(quad.v[i]) >= least && e + i < int(p.atoms.count) && !chosen(e + i)) list(e + i);
      }
    }
  }

  INTERPKERN_KERNEL void list(int candidate) {
    const int64_t place = Block::add(&s.candidate_count, 1);
    if (place < MOST_CANDIDATES) s.candidates[place] = candidate;
  }

  INTERPKERN_KERNEL float panels_peak(int thread) const {
    float most = 0;
    INTERPKERN_NO_UNROLL for (int at = thread; at < int(l.screen_floats); at += PURSUIT_THREADS) most =
        larger(most, screen[at]);
    return most;
  }

  // Also takes the last pick out of the correlations that are kept up to date.
  INTERPKERN_KERNEL float correlations_peak(int thread) {
    const int columns = int(l.columns), on_chip = int(l.on_chip);
    float most[4] = {0, 0, 0, 0};
    if (SCREEN == Screen::CORRELATIONS && state.last_index >= 0) {
      const float* const row = p.atoms.products + state.last_index * p.atoms.side;
      subtract(chip, row, thread * 4, on_chip, most);
      subtract(screen, row, on_chip + thread * 4, columns, most);
    } else {
      INTERPKERN_NO_UNROLL for (int e = thread * 4; e < columns; e += ONCE) {
        const Quad c = correlations(e);
        INTERPKERN_UNROLL for (int i = 0; i < 4; ++i) most[i] = larger(most[i], magnitude(c.v[i]));
      }
    }
    return larger(larger(most[0], most[1]), larger(most[2], most[3]));
  }

  INTERPKERN_KERNEL void subtract(float* correlations, const float* row, int from, int to, float (&most)[4]) const {
    INTERPKERN_UNROLL_BY_4 for (int e = from; e < to; e += ONCE) {
      Quad c = read_quad(correlations + e);
      const Quad g = read_quad(row + e);
      INTERPKERN_UNROLL for (int i = 0; i < 4; ++i) {
        c.v[i] = multiply_add(-state.last, g.v[i], c.v[i]);
        most[i] = larger(most[i], magnitude(c.v[i]));
      }
      write_quad(correlations + e, c);
    }
  }

  // Of four atoms as the screen has them.
  INTERPKERN_KERNEL Quad correlations(int e) const {
    if (SCREEN == Screen::CORRELATIONS && e < int(l.on_chip)) return read_quad(chip + e);
    Quad c = read_quad(screen + e);
    if (SCREEN == Screen::LAST_PRODUCTS) {
      INTERPKERN_UNROLL_BY_4 for (int i = 0; i < state.size; ++i) {
        const Quad g = read_quad(p.atoms.products + u.atoms[i] * p.atoms.side + e);
        INTERPKERN_UNROLL for (int j = 0; j < 4; ++j) c.v[j] = multiply_add(-u.changes[i], g.v[j], c.v[j]);
      }
    }
    return c;
  }

  INTERPKERN_KERNEL void weigh_rows() {
    block.run([&](int thread) {
      INTERPKERN_NO_UNROLL for (int i = thread; i < state.size; i += PURSUIT_THREADS) u.changes[i] =
          u.coefficients[i] - (i < state.steps_at_rest ? u.base_coefficients[i] : 0.0f);
    });
    float moved = 0, sum = s.origin.norm;
    INTERPKERN_NO_UNROLL for (int i = 0; i < state.size; ++i) moved += fabsf(u.changes[i]),
        sum += fabsf(u.coefficients[i]);
    state.bound = state.base_bound + moved * gpu_gram_error() + float(state.size + 4) * GPU_ROUNDING * (sum + moved);
  }
};

}  // namespace interpkern
