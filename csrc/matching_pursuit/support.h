// Least squares on the atoms of one sample's support, grown an atom at a time; the non-negative ones are in
// nonnegative_system.h.
#pragma once

#include "nonnegative_system.h"
#include "vectors.h"

namespace interpkern::INTERPKERN_ISA {
namespace {

struct ThisIsa {};

// Unconstrained: orthonormal directions q_t, each a sum of atoms, q_t = sum_s inverse[t][s] d_s.
struct OrthogonalBasis {
  int64_t capacity, width;  // padded width
  float* directions;        // (capacity, width)
  float* inverse;           // (capacity, padded capacity), 0 behind each one's own atom
  float* shares;            // (capacity,) of the atom that comes in, along each direction
  int64_t size;

  // Takes the part of a unit atom outside the basis into it and out of the residual, and brings the coefficients
  // (padded capacity, 0 beyond the basis) up to date; false if nothing is left of the atom.
  bool extend(const float* atom, float* residual, float* coefficients) {
    if (size == capacity) return false;
    float* fresh = directions + size * width;
    copy(fresh, atom, width);
    for (int64_t s = 0; s < size; ++s) shares[s] = 0;
    float left = project_out(fresh);
    if (left < 0.7f) left = project_out(fresh);  // twice is enough (Kahan, Parlett)
    if (!(left > LEVEL)) return false;
    const float scale = 1 / left, along = scale * dot(fresh, residual, width);
    for (int64_t i = 0; i < width; i += LANES) {
      const Vec direction = read(fresh + i) * broadcast(scale);
      write(fresh + i, direction);
      write(residual + i, fma(broadcast(-along), direction, read(residual + i)));
    }
    invert(scale);
    add_scaled(coefficients, along, inverse + size * padded(capacity), padded(size + 1));
    ++size;
    return true;
  }

 private:
  // The fresh direction as a sum of atoms.
  void invert(float scale) {
    const int64_t stride = padded(capacity);
    float* fresh = inverse + size * stride;
    for (int64_t i = 0; i < padded(size + 1); i += LANES) {
      Vec sum{};
      for (int64_t s = i; s < size; ++s) sum = fma(broadcast(-shares[s]), read(inverse + s * stride + i), sum);
      write(fresh + i, sum * broadcast(scale));
    }
    fresh[size] = scale;
  }

  // A few directions at a time, which the first cache keeps until their part is taken out. Returns what is left.
  float project_out(float* fresh) {
    constexpr int64_t TOGETHER = 8;
    for (int64_t first = 0; first < size; first += TOGETHER) {
      const int64_t end = first + TOGETHER < size ? first + TOGETHER : size;
      float found[TOGETHER];
      for (int64_t s = first; s < end; ++s) shares[s] += found[s - first] = dot(directions + s * width, fresh, width);
      for (int64_t i = 0; i < width; i += PANEL) {
        Vec left[PARTS];
        for (int part = 0; part < PARTS; ++part) left[part] = read(fresh + i + part * LANES);
        for (int64_t s = first; s < end; ++s)
          for (int part = 0; part < PARTS; ++part)
            left[part] = fma(broadcast(-found[s - first]), read(directions + s * width + i + part * LANES), left[part]);
        for (int part = 0; part < PARTS; ++part) write(fresh + i + part * LANES, left[part]);
      }
    }
    return norm(fresh, width);
  }
};

}  // namespace
}  // namespace interpkern::INTERPKERN_ISA
