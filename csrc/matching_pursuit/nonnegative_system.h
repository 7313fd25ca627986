// Non-negative least squares on the atoms of one sample's support, with one source for the CPU and the GPU.
#pragma once

#include <math.h>
#include <stdint.h>

#include "common/portable.h"

namespace interpkern {

// Lawson and Hanson's active set on the normal equations, warm from the support before: an unknown that comes last, as
// a new one does, adds a row to the Cholesky factor. USER keeps apart what is compiled for different machines.
template <class User>
struct NonnegativeSystem {
  int64_t capacity;
  double* normal;    // (capacity, capacity) products of the atoms
  double* target;    // (capacity,) products with the sample
  double* solution;  // (capacity,) >= 0
  double* trial;     // (capacity,)
  double* factor;    // (capacity, capacity) Cholesky factor over the passive set
  int32_t* passive;  // (capacity,) which unknowns are free, ascending
  bool* blocked;     // (capacity,) dependent on others
  int64_t size, free;
  int64_t factored;  // rows of the factor that are of the passive set as it is

  INTERPKERN_BOTH void solve(double gain) {
    INTERPKERN_NO_UNROLL for (int64_t i = 0; i < size; ++i) blocked[i] = false;
    INTERPKERN_NO_UNROLL for (int64_t round = 0; round < 3 * size + 3; ++round) {
      const int64_t best = steepest(gain);
      if (best < 0) return;
      insert(int32_t(best));
      if (!settle()) {
        remove(int32_t(best));
        solution[best] = 0;
      }
      blocked[best] = !is_free(best);
    }
  }

 private:
  INTERPKERN_BOTH int64_t steepest(double gain) const {
    int64_t best = -1;
    INTERPKERN_NO_UNROLL for (int64_t i = 0; i < size; ++i) {
      if (is_free(i) || blocked[i]) continue;
      double slope = target[i];
      INTERPKERN_NO_UNROLL for (int64_t f = 0; f < free; ++f) slope -=
          normal[i * capacity + passive[f]] * solution[passive[f]];
      if (slope > gain) gain = slope, best = i;
    }
    return best;
  }

  INTERPKERN_BOTH bool is_free(int64_t i) const {
    INTERPKERN_NO_UNROLL for (int64_t f = 0; f < free; ++f) if (passive[f] == i) return true;
    return false;
  }

  INTERPKERN_BOTH void insert(int32_t i) {
    int64_t at = free++;
    INTERPKERN_NO_UNROLL for (; at > 0 && passive[at - 1] > i; --at) passive[at] = passive[at - 1];
    passive[at] = i;
    keep_rows(at);
  }

  INTERPKERN_BOTH void remove(int32_t i) {
    int64_t kept = 0;
    INTERPKERN_NO_UNROLL for (int64_t f = 0; f < free; ++f) {
      if (passive[f] == i)
        keep_rows(f);
      else
        passive[kept++] = passive[f];
    }
    free = kept;
  }

  INTERPKERN_BOTH void keep_rows(int64_t most) { factored = factored < most ? factored : most; }

  // Moves to the least-squares solution over the passive set, dropping what would turn negative; false if singular.
  INTERPKERN_BOTH bool settle() {
    while (free > 0) {
      if (!factorise()) return false;
      substitute();
      double step = 1;
      int64_t hit = -1;  // what turns zero first
      INTERPKERN_NO_UNROLL for (int64_t f = 0; f < free; ++f) {
        const double old = solution[passive[f]];
        if (trial[f] <= 0 && old <= step * (old - trial[f])) step = old / (old - trial[f]), hit = f;
      }
      INTERPKERN_NO_UNROLL for (int64_t f = 0; f < free; ++f) solution[passive[f]] +=
          step * (trial[f] - solution[passive[f]]);
      if (hit < 0) return true;
      solution[passive[hit]] = 0;
      remove(passive[hit]);
    }
    return true;
  }

  // Factorises the rows that are not yet; false if singular.
  INTERPKERN_BOTH bool factorise() {
    INTERPKERN_NO_UNROLL for (; factored < free; ++factored) {
      double* row = factor + factored * capacity;
      INTERPKERN_NO_UNROLL for (int64_t j = 0; j <= factored; ++j) {
        const double* other = factor + j * capacity;
        double sum = normal[int64_t(passive[factored]) * capacity + passive[j]];
        INTERPKERN_NO_UNROLL for (int64_t s = 0; s < j; ++s) sum -= row[s] * other[s];
        if (j == factored && !(sum > 1e-11)) return false;
        row[j] = j == factored ? sqrt(sum) : sum / other[j];
      }
    }
    return true;
  }

  // The least-squares solution over the passive set.
  INTERPKERN_BOTH void substitute() {
    INTERPKERN_NO_UNROLL for (int64_t i = 0; i < free; ++i) {
      const double* row = factor + i * capacity;
      double value = target[passive[i]];
      INTERPKERN_NO_UNROLL for (int64_t s = 0; s < i; ++s) value -= row[s] * trial[s];
      trial[i] = value / row[i];
    }
    INTERPKERN_NO_UNROLL for (int64_t i = free - 1; i >= 0; --i) {
      trial[i] /= factor[i * capacity + i];
      INTERPKERN_NO_UNROLL for (int64_t s = 0; s < i; ++s) trial[s] -= factor[i * capacity + s] * trial[i];
    }
  }
};

}  // namespace interpkern
