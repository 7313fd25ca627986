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

}  // namespace
}  // namespace interpkern::INTERPKERN_ISA
