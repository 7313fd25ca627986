// Least squares on a sample's support, by a block, in float64 from dot products of the atoms themselves: an inverse
// Cholesky factor that grows by a row an atom, or Lawson and Hanson's active set.
#pragma once

#include "matching_pursuit/block_bounds.h"
#include "matching_pursuit/block_slot.h"

namespace interpkern {

template <class Block, Screen SCREEN, bool FITS>
class BlockFit : protected BlockSlot<Block, SCREEN, FITS> {
 protected:
  using Base = BlockSlot<Block, SCREEN, FITS>;
  using Base::atom;
  using Base::Base;
  using Base::block;
  using Base::l;
  using Base::p;
  using Base::picks;
  using Base::residual;
  using Base::s;
  using Base::state;
  using Base::u;

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
        u.system.size = state.size, u.system.free = state.free, u.system.factored = s.factored;
        u.system.solve(GPU_LEVEL * s.origin.norm);
        s.free = int32_t(u.system.free), s.factored = int32_t(u.system.factored);
      });
    if (p.nonnegative) state.free = s.free;
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
    INTERPKERN_NO_UNROLL for (int64_t i = 0; i < state.steps; ++i) extend(picks()[i], i);
    solve();
    leave();
  }
};

}  // namespace interpkern
