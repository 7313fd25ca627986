// Least squares on the atoms of one sample's support, grown an atom at a time; the non-negative ones are in
// nonnegative_system.h.
#pragma once

#include "nonnegative_system.h"
#include "vectors.h"

namespace interpkern::INTERPKERN_ISA {
namespace {

struct ThisIsa {};

// Unconstrained: orthonormal directions q_t, with d_t = sum_s R[s][t] q_s.
struct OrthogonalBasis {
  int64_t capacity, width;  // padded width
  float* directions;        // (capacity, width)
  float* triangle;          // (capacity, padded capacity), a column each: what is above the diagonal
  float* diagonal;          // (capacity,) inverse
  float* along;             // (capacity,) the sample along each direction
  int64_t size;

  static constexpr int64_t padded(int64_t size) { return (size + LANES - 1) / LANES * LANES; }

  // Takes the part of `atom` outside the basis into it and out of the residual; false if nothing is left of it.
  bool extend(const float* atom, float* residual) {
    if (size == capacity) return false;
    float* fresh = directions + size * width;
    float* column = triangle + size * padded(capacity);
    copy(fresh, atom, width);
    for (int64_t s = 0; s < padded(size); ++s) column[s] = 0;
    float before = norm(fresh, width), left = project_out(fresh, column);
    if (left < 0.7f * before) left = project_out(fresh, column);  // twice is enough (Kahan, Parlett)
    if (!(left > LEVEL)) return false;
    diagonal[size] = 1 / left;
    for (int64_t i = 0; i < width; i += LANES) write(fresh + i, read(fresh + i) * broadcast(diagonal[size]));
    along[size] = dot(fresh, residual, width);
    add_scaled(residual, -along[size], fresh, width);
    ++size;
    return true;
  }

  // Coefficients of the atoms, from those along the directions.
  void coefficients(float* out) const {
    for (int64_t t = 0; t < size; ++t) out[t] = along[t];
    for (int64_t t = size - 1; t >= 0; --t) {
      const float* column = triangle + t * padded(capacity);
      out[t] *= diagonal[t];
      const Vec factor = broadcast(-out[t]);
      for (int64_t s = 0; s < t; s += LANES) write(out + s, fma(factor, read(column + s), read(out + s)));
    }
  }

 private:
  // A few directions at a time, which the first cache keeps until their part is taken out.
  float project_out(float* fresh, float* column) const {
    constexpr int64_t TOGETHER = 8;
    for (int64_t first = 0; first < size; first += TOGETHER) {
      const int64_t end = first + TOGETHER < size ? first + TOGETHER : size;
      float shares[TOGETHER];
      for (int64_t s = first; s < end; ++s) column[s] += shares[s - first] = dot(directions + s * width, fresh, width);
      for (int64_t i = 0; i < width; i += PANEL) {
        Vec left[PARTS];
        for (int part = 0; part < PARTS; ++part) left[part] = read(fresh + i + part * LANES);
        for (int64_t s = first; s < end; ++s)
          for (int part = 0; part < PARTS; ++part)
            left[part] =
                fma(broadcast(-shares[s - first]), read(directions + s * width + i + part * LANES), left[part]);
        for (int part = 0; part < PARTS; ++part) write(fresh + i + part * LANES, left[part]);
      }
    }
    return norm(fresh, width);
  }
};

}  // namespace
}  // namespace interpkern::INTERPKERN_ISA
