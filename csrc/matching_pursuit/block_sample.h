// One sample by a block: what may be its next pick, the dots that decide, and what its method makes of the pick.
#pragma once

#include "common/block.h"
#include "matching_pursuit/block_bounds.h"
#include "matching_pursuit/block_pursuit.h"
#include "matching_pursuit/block_support.h"

namespace interpkern {

constexpr int PURSUIT_WARPS = PURSUIT_THREADS / WARP;
constexpr int ONCE = 4 * PURSUIT_THREADS;  // floats that all threads of a block read at once

// What the threads of a block share beside the arrays in shared memory, which follow.
struct alignas(16) PursuitScratch {
  uint64_t best;  // pick_key
  int64_t candidate_count, count;
  SampleOrigin origin;
  double sums[2][PURSUIT_WARPS];
  float peaks[PURSUIT_THREADS];
  int32_t candidates[MOST_CANDIDATES];  // atoms, or panels of them
};

struct Sum {
  template <class T>
  INTERPKERN_KERNEL T operator()(T a, T b) const {
    return a + b;
  }
};

struct Larger {
  INTERPKERN_KERNEL float operator()(float a, float b) const { return larger(a, b); }
};

INTERPKERN_KERNEL float element(const GpuPursuit& p, int64_t at) {
  if (p.dtype == Dtype::float32) return static_cast<const float*>(p.x)[at];
  const uint16_t bits = static_cast<const uint16_t*>(p.x)[at];
  return p.dtype == Dtype::float16 ? half_as_float(bits) : as_float(uint32_t(bits) << 16);
}

// What both kernels on samples do: sums over a block in one order.
template <class Block>
class BlockSums {
 public:
  INTERPKERN_KERNEL BlockSums(Block& block, PursuitScratch& scratch) : block(block), s(scratch) {}

  template <class T, class Body>
  INTERPKERN_KERNEL T sum(const Body& body) {
    double* const sums = s.sums[turn ^= 1];
    block.template warps<T, Sum>(body, [&](int warp, T value) { sums[warp] = value; });
    T total = 0;
    for (int warp = 0; warp < PURSUIT_WARPS; ++warp) total += T(sums[warp]);
    return total;
  }

  template <class Body>
  INTERPKERN_KERNEL float largest(const Body& body) {
    double* const sums = s.sums[turn ^= 1];
    block.template warps<float, Larger>(body, [&](int warp, float value) { sums[warp] = value; });
    float most = float(sums[0]);
    for (int warp = 1; warp < PURSUIT_WARPS; ++warp) most = larger(most, float(sums[warp]));
    return most;
  }

 protected:
  Block& block;
  PursuitScratch& s;

 private:
  int turn = 0;
};

// Gives an idle slot the next sample.
template <class Block>
class BlockRefill : BlockSums<Block> {
  using Base = BlockSums<Block>;
  using Base::block;
  using Base::s;

 public:
  INTERPKERN_KERNEL BlockRefill(Block& block, PursuitScratch& scratch) : Base(block, scratch) {}

  INTERPKERN_KERNEL void run(const GpuPursuit& p, const PursuitLayout& l, const PursuitWorkspace& w, int slot) {
    if (w.states[slot].path.phase != IDLE) return;
    block.run([&](int thread) {
      if (thread == 0) s.count = Block::add(&w.queue->next, 1);
    });
    const int64_t row = s.count;
    if (row >= p.samples) return;
    const int64_t from = row * p.atoms.width;
    float* const residual = w.residuals + slot * l.width;
    const float most = this->largest([&](int thread) {
      float most = 0;
      for (int64_t d = thread; d < p.atoms.width; d += PURSUIT_THREADS)
        most = larger(most, fabsf(element(p, from + d)));
      return most;
    });
    uint32_t exponent = as_bits(most) >> 23;  // biased by 127
    exponent = exponent < 1 ? 1 : exponent > 253 ? 253 : exponent;
    const float inverse = as_float((254 - exponent) << 23);
    const float square = this->template sum<float>([&](int thread) {
      float sum = 0;
      for (int64_t d = thread; d < l.width; d += PURSUIT_THREADS) {
        const float x = d < p.atoms.width ? element(p, from + d) * inverse : 0.0f;
        residual[d] = x;
        sum = multiply_add(x, x, sum);
      }
      return sum;
    });
    block.run([&](int thread) {
      if (thread != 0) return;
      SampleState state{};
      state.origin = {row, as_float(exponent << 23), sqrtf(square)};
      state.path.left = state.origin.norm, state.path.last_index = -1, state.path.phase = WAITING;
      w.states[slot] = state;
      w.wanting[Block::add(&w.queue->wanting, 1)] = slot;
    });
  }
};

template <class Block, Screen SCREEN, bool FITS>
class BlockSample : BlockSums<Block> {
  using Base = BlockSums<Block>;
  using Base::block;
  using Base::s;

 public:
  INTERPKERN_KERNEL BlockSample(Block& block, const GpuPursuit& pursuit, const PursuitLayout& layout,
                                const PursuitWorkspace& workspace, PursuitScratch& scratch, int slot)
      : Base(block, scratch), p(pursuit), l(layout), w(workspace), slot(slot), state(w.states[slot].path) {
    float* shared = reinterpret_cast<float*>(&scratch + 1);
    const auto place = [&](float* global, bool in_shared, int64_t floats) {
      float* const at = in_shared ? shared : global;
      if (in_shared) shared += floats;
      return at;
    };
    residual = place(w.residuals + slot * l.width, l.residual_in_shared, l.width);
    if (FITS) {
      char* const own = w.supports + slot * l.support_bytes;
      support_memory = place(reinterpret_cast<float*>(own), l.support_in_shared, l.support_bytes / 4);
      u.lay_out(reinterpret_cast<char*>(support_memory), l.capacity, p.nonnegative);
    }
    screen = w.screens + slot * l.screen_floats;
    chip = shared;
  }

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
  const GpuPursuit& p;
  const PursuitLayout& l;
  const PursuitWorkspace& w;
  const int slot;
  SamplePath state;                                            // the same in all threads
  float *residual, *support_memory = nullptr, *screen, *chip;  // chip: the screen's first part in shared memory
  Support u;
  float peak = 0;

  // Whether `count` candidates, atoms or panels, are to be compared; else all atoms.
  bool listed = false;
  int count = 0;
  uint32_t dots = 0;

  INTERPKERN_KERNEL bool omp() const {
    return SCREEN == Screen::LAST_PRODUCTS || (SCREEN == Screen::PANELS && FITS && p.method == Method::omp);
  }
  INTERPKERN_KERNEL const float* atom(int64_t index) const { return p.atoms.rows + index * p.atoms.stride; }
  INTERPKERN_KERNEL int32_t* picks() const { return p.indices + s.origin.row * p.picks; }
  INTERPKERN_KERNEL float* values() const { return p.coefficients + s.origin.row * p.picks; }
  INTERPKERN_KERNEL float magnitude(float c) const { return p.nonnegative ? c : fabsf(c); }

  INTERPKERN_KERNEL bool wants_pick() const {
    const float enough = (p.tol > GPU_LEVEL ? p.tol : GPU_LEVEL) * s.origin.norm;
    return !state.ended && state.steps < p.picks && state.left > enough;
  }

  INTERPKERN_KERNEL void copy(int thread, const float* from, float* to, int64_t floats) const {
    INTERPKERN_NO_UNROLL for (int i = thread * 4; i < floats; i += ONCE) write_quad(to + i, read_quad(from + i));
  }

  INTERPKERN_KERNEL void fetch() {
    block.run([&](int thread) {
      if (thread == 0) s.origin = w.states[slot].origin;
      if (l.residual_in_shared) copy(thread, w.residuals + slot * l.width, residual, l.width);
      if (FITS && l.support_in_shared)
        copy(thread, reinterpret_cast<const float*>(w.supports + slot * l.support_bytes), support_memory,
             l.support_bytes / 4);
      if (SCREEN == Screen::CORRELATIONS) copy(thread, screen, chip, l.on_chip);
    });
  }

  INTERPKERN_KERNEL void put_away() {
    const bool products = state.phase == READY, goes_on = state.phase != IDLE;
    block.run([&](int thread) {
      if (goes_on && l.residual_in_shared) copy(thread, residual, w.residuals + slot * l.width, l.width);
      if (FITS && goes_on && l.support_in_shared)
        copy(thread, support_memory, reinterpret_cast<float*>(w.supports + slot * l.support_bytes),
             l.support_bytes / 4);
      if (SCREEN == Screen::CORRELATIONS && products) copy(thread, chip, screen, l.on_chip);
      if (thread != 0) return;
      w.states[slot].path = state;
      if (state.phase == WAITING) w.wanting[Block::add(&w.queue->wanting, 1)] = slot;
      if (state.phase == IDLE) Block::add(&w.queue->finished, 1);
      Block::add(&w.queue->dots, int64_t(dots));
    });
  }

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

  INTERPKERN_KERNEL bool chosen(int64_t index) const {
    if (!omp()) return false;
    INTERPKERN_NO_UNROLL for (int i = 0; i < state.size; ++i) if (u.atoms[i] == index) return true;
    return false;
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

  static INTERPKERN_KERNEL float add_squares(const Quad& quad, float sum) {
    INTERPKERN_UNROLL for (int i = 0; i < 4; ++i) sum = multiply_add(quad.v[i], quad.v[i], sum);
    return sum;
  }

  // Adds an atom to the support; false where it lies in the span of those before.
  INTERPKERN_KERNEL bool extend(int64_t index, int64_t place) {
    const int64_t size = state.size;
    if (size == l.capacity) return false;
    multiply_support(index);
    if (p.nonnegative) {
      block.run([&](int thread) {
        INTERPKERN_NO_UNROLL for (int64_t i = thread; i <= size; i += PURSUIT_THREADS)
            u.system.normal[size * l.capacity + i] = u.system.normal[i * l.capacity + size] = u.products[i];
        if (thread == 0) u.system.target[size] = u.products[size + 1], u.solution[size] = 0;
      });
    } else if (!extend_factor()) {
      return false;
    }
    block.run([&](int thread) {
      if (thread == 0) picks()[place] = u.atoms[size] = int32_t(index), u.slots[size] = int32_t(place);
    });
    ++state.size;
    return true;
  }

  // Fills u.products, a warp each.
  INTERPKERN_KERNEL void multiply_support(int64_t index) {
    const int size = state.size;
    const float* const fresh = atom(index);
    INTERPKERN_NO_UNROLL for (int first = 0; first < size + 2; first += PURSUIT_WARPS) {
      block.template warps<double, Sum>(
          [&](int thread) {
            const int i = first + thread / WARP, lane = thread % WARP;
            if (i > size) return i == size + 1 ? product_part_with_sample(fresh, lane) : 0.0;
            return product_part(fresh, i < size ? atom(u.atoms[i]) : fresh, lane);
          },
          [&](int warp, double sum) {
            if (first + warp < size + 2) u.products[first + warp] = sum;
          });
    }
  }

  INTERPKERN_KERNEL double product_part(const float* a, const float* b, int lane) const {
    double sum = 0;
    INTERPKERN_UNROLL_BY_2 for (int d = lane * 4; d < int(p.atoms.stride); d += WARP * 4) {
      const Quad x = read_quad(a + d), y = read_quad(b + d);
      INTERPKERN_UNROLL for (int i = 0; i < 4; ++i) sum = multiply_add(double(x.v[i]), double(y.v[i]), sum);
    }
    return sum;
  }

  INTERPKERN_KERNEL double product_part_with_sample(const float* a, int lane) const {
    const int64_t from = s.origin.row * p.atoms.width;
    const double inverse = 1 / double(s.origin.unit);
    double sum = 0;
    INTERPKERN_UNROLL_BY_2 for (int d = lane; d < int(p.atoms.width); d += WARP) {
      sum = multiply_add(double(a[d]), double(element(p, from + d)) * inverse, sum);
    }
    return sum;
  }

  INTERPKERN_KERNEL bool extend_factor() {
    const int64_t size = state.size;
    block.run([&](int thread) {
      INTERPKERN_NO_UNROLL for (int64_t i = thread; i < size; i += PURSUIT_THREADS) {
        double sum = 0;
        INTERPKERN_NO_UNROLL for (int64_t j = 0; j <= i; ++j) sum =
            multiply_add(u.inverse_at(i, j), u.products[j], sum);
        u.row[i] = sum;
      }
    });
    double square = u.products[size], target = u.products[size + 1];
    INTERPKERN_NO_UNROLL for (int64_t i = 0; i < size; ++i) {
      square = multiply_add(-u.row[i], u.row[i], square);
      target = multiply_add(-u.row[i], u.along[i], target);
    }
    if (!(square > DEPENDENT)) {
      block.wait();  // the next atom's products take the place of what has been read
      return false;
    }
    const double inverse = 1 / sqrt(square), along = target * inverse;
    block.run([&](int thread) {
      INTERPKERN_NO_UNROLL for (int64_t i = thread; i <= size; i += PURSUIT_THREADS) {
        double sum = i == size ? -1 : 0;
        INTERPKERN_NO_UNROLL for (int64_t j = i; j < size; ++j) sum = multiply_add(u.row[j], u.inverse_at(j, i), sum);
        u.inverse_at(size, i) = -sum * inverse;
        u.solution[i] = multiply_add(-sum * inverse, along, i == size ? 0 : u.solution[i]);
        if (i == size) u.along[i] = along;
      }
    });
    return true;
  }

  // The support's coefficients.
  INTERPKERN_KERNEL void solve() {
    if (p.nonnegative)
      block.run([&](int thread) {
        if (thread != 0) return;
        u.system.size = state.size, u.system.free = state.free;
        u.system.solve(GPU_LEVEL * s.origin.norm);
        s.count = u.system.free;
      });
    if (p.nonnegative) state.free = int32_t(s.count);
    block.run([&](int thread) {
      INTERPKERN_NO_UNROLL for (int i = thread; i < state.size; i += PURSUIT_THREADS) u.coefficients[i] =
          float(u.solution[i]);
    });
  }

  // The residual that the coefficients leave.
  INTERPKERN_KERNEL void leave() {
    const int width = int(p.atoms.width);
    const int64_t from = s.origin.row * width;
    const float inverse = 1 / s.origin.unit;
    state.left = sqrtf(this->template sum<float>([&](int thread) {
      float sum = 0;
      INTERPKERN_NO_UNROLL for (int d = thread * 4; d < int(p.atoms.stride); d += ONCE) {
        Quad r;
        INTERPKERN_UNROLL for (int i = 0; i < 4; ++i) {
          r.v[i] = d + i < width ? element(p, from + d + i) * inverse : 0.0f;
        }
        INTERPKERN_UNROLL_BY_4 for (int j = 0; j < state.size; ++j) {
          const Quad a = read_quad(atom(u.atoms[j]) + d);
          const float c = u.coefficients[j];
          INTERPKERN_UNROLL for (int i = 0; i < 4; ++i) r.v[i] = multiply_add(-c, a.v[i], r.v[i]);
        }
        sum = add_squares(r, sum);
        write_quad(residual + d, r);
      }
      return sum;
    }));
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

  // Least squares on the distinct picks of mp.
  INTERPKERN_KERNEL void refit() {
    block.run([&](int thread) {
      if (thread != 0) return;
      int64_t kept = 0;
      INTERPKERN_NO_UNROLL for (int64_t i = 0; i < state.steps; ++i) {
        bool fresh = true;
        INTERPKERN_NO_UNROLL for (int64_t j = 0; j < kept && fresh; ++j) fresh = picks()[j] != picks()[i];
        if (fresh) picks()[kept++] = picks()[i];
      }
      s.count = kept;
    });
    state.steps = int32_t(s.count);
    block.wait();  // solve writes there too
    INTERPKERN_NO_UNROLL for (int64_t i = 0; i < state.steps; ++i) extend(picks()[i], i);
    solve();
    leave();
  }
};

}  // namespace interpkern
