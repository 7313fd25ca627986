// Least squares on the atoms of one sample's support, grown an atom at a time.
#pragma once

#include "vectors.h"

namespace interpkern::INTERPKERN_ISA {
namespace {

// Unconstrained: orthonormal directions q_t, with d_t = sum_s R[s][t] q_s.
struct OrthogonalBasis {
  int64_t capacity, width;  // padded width
  float* directions;        // (capacity, width)
  float* triangle;          // (capacity, capacity), column t at triangle + t * capacity
  float* along;             // (capacity,) the sample along each direction
  float* shares;            // (capacity,)
  int64_t size;

  // Takes the part of `atom` outside the basis into it and out of the residual; false if nothing is left of it.
  bool extend(const float* atom, float* residual) {
    if (size == capacity) return false;
    float* fresh = directions + size * width;
    float* column = triangle + size * capacity;
    copy(fresh, atom, width);
    for (int64_t s = 0; s < size; ++s) column[s] = 0;
    float before = norm(fresh, width), left = project_out(fresh, column);
    if (left < 0.7f * before) left = project_out(fresh, column);  // twice is enough (Kahan, Parlett)
    if (!(left > LEVEL)) return false;
    const Vec inverse = broadcast(1 / left);
    for (int64_t i = 0; i < width; i += LANES) write(fresh + i, read(fresh + i) * inverse);
    column[size] = left;
    along[size] = dot(fresh, residual, width);
    add_scaled(residual, -along[size], fresh, width);
    ++size;
    return true;
  }

  // Coefficients of the atoms, from those along the directions.
  void coefficients(float* out) const {
    for (int64_t t = 0; t < size; ++t) out[t] = along[t];
    for (int64_t t = size - 1; t >= 0; --t) {
      const float* column = triangle + t * capacity;
      out[t] /= column[t];
      for (int64_t s = 0; s < t; ++s) out[s] -= column[s] * out[t];
    }
  }

 private:
  float project_out(float* fresh, float* column) const {
    for (int64_t s = 0; s < size; ++s) column[s] += shares[s] = dot(directions + s * width, fresh, width);
    for (int64_t i = 0; i < width; i += PANEL) {
      Vec left[PARTS];
      for (int part = 0; part < PARTS; ++part) left[part] = read(fresh + i + part * LANES);
      for (int64_t s = 0; s < size; ++s)
        for (int part = 0; part < PARTS; ++part)
          left[part] = fma(broadcast(-shares[s]), read(directions + s * width + i + part * LANES), left[part]);
      for (int part = 0; part < PARTS; ++part) write(fresh + i + part * LANES, left[part]);
    }
    return norm(fresh, width);
  }
};

// Non-negative: Lawson and Hanson's active set on the normal equations, warm from the support before.
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

  void solve(double gain) {
    for (int64_t i = 0; i < size; ++i) blocked[i] = false;
    for (int64_t round = 0; round < 3 * size + 3; ++round) {
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
  int64_t steepest(double gain) const {
    int64_t best = -1;
    for (int64_t i = 0; i < size; ++i) {
      if (is_free(i) || blocked[i]) continue;
      double slope = target[i];
      for (int64_t f = 0; f < free; ++f) slope -= normal[i * capacity + passive[f]] * solution[passive[f]];
      if (slope > gain) gain = slope, best = i;
    }
    return best;
  }

  bool is_free(int64_t i) const {
    for (int64_t f = 0; f < free; ++f)
      if (passive[f] == i) return true;
    return false;
  }

  void insert(int32_t i) {
    int64_t at = free++;
    for (; at > 0 && passive[at - 1] > i; --at) passive[at] = passive[at - 1];
    passive[at] = i;
  }

  void remove(int32_t i) {
    int64_t kept = 0;
    for (int64_t f = 0; f < free; ++f)
      if (passive[f] != i) passive[kept++] = passive[f];
    free = kept;
  }

  // Moves to the least-squares solution over the passive set, dropping what would turn negative; false if singular.
  bool settle() {
    while (free > 0) {
      if (!factorise()) return false;
      double step = 1;
      int64_t hit = -1;  // what turns zero first
      for (int64_t f = 0; f < free; ++f) {
        const double old = solution[passive[f]];
        if (trial[f] <= 0 && old <= step * (old - trial[f])) step = old / (old - trial[f]), hit = f;
      }
      for (int64_t f = 0; f < free; ++f) solution[passive[f]] += step * (trial[f] - solution[passive[f]]);
      if (hit < 0) return true;
      solution[passive[hit]] = 0;
      remove(passive[hit]);
    }
    return true;
  }

  bool factorise() {
    for (int64_t i = 0; i < free; ++i) {
      double* row = factor + i * capacity;
      for (int64_t j = 0; j <= i; ++j) {
        const double* other = factor + j * capacity;
        double sum = normal[int64_t(passive[i]) * capacity + passive[j]];
        for (int64_t s = 0; s < j; ++s) sum -= row[s] * other[s];
        if (i == j && !(sum > 1e-11)) return false;
        row[j] = i == j ? __builtin_sqrt(sum) : sum / other[j];
      }
      double value = target[passive[i]];
      for (int64_t s = 0; s < i; ++s) value -= row[s] * trial[s];
      trial[i] = value / row[i];
    }
    for (int64_t i = free - 1; i >= 0; --i) {
      trial[i] /= factor[i * capacity + i];
      for (int64_t s = 0; s < i; ++s) trial[s] -= factor[i * capacity + s] * trial[i];
    }
    return true;
  }
};

}  // namespace
}  // namespace interpkern::INTERPKERN_ISA
