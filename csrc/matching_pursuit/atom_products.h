// Products between atoms, for the Gram: dots of rows, a few rows with a few at once.
#pragma once

#include "matching_pursuit_simd.h"
#include "vectors.h"

namespace interpkern::INTERPKERN_ISA {
namespace {

constexpr int SQUARE = REGISTERS == 32 ? 4 : 2;  // atoms on either side; the lanes of a sum lie along the width
constexpr int64_t CACHED = 16;                   // columns that stay in the first cache

// out (SQUARE, SQUARE), its rows GROUP apart: the dots of SQUARE rows of `a` with as many of `b`. With FETCH, those
// CACHED rows behind `b` are fetched meanwhile.
template <bool FETCH>
INTERPKERN_INLINE void multiply_square(const float* a, const float* b, int64_t width, float* out) {
  Vec sums[SQUARE][SQUARE]{};
  for (int64_t d = 0; d < width; d += LANES) {
    Vec columns[SQUARE];
    for (int j = 0; j < SQUARE; ++j) columns[j] = read(b + j * width + d);
    if (FETCH && d % LINE == 0)
      for (int j = 0; j < SQUARE; ++j) __builtin_prefetch(b + (CACHED + j) * width + d, 0, 2);
    for (int i = 0; i < SQUARE; ++i) {
      const Vec row = read(a + i * width + d);
      for (int j = 0; j < SQUARE; ++j) sums[i][j] = fma(row, columns[j], sums[i][j]);
    }
  }
  for (int i = 0; i < SQUARE; ++i)
    for (int j = 0; j < SQUARE; ++j) out[i * GROUP + j] = sum_lanes(sums[i][j]);
}

// out (GROUP, GROUP): the dots of `rows` atoms from `first` on with GROUP atoms from `column` on.
inline void multiply_atoms_at(const Atoms& atoms, int64_t first, int64_t rows, int64_t column, float* out) {
  const int64_t width = atoms.padded_width;
  const float *a = atoms.rows + first * width, *b = atoms.rows + column * width;
  for (int64_t from = 0; from < GROUP; from += CACHED) {
    for (int64_t j = from; j < from + CACHED; j += SQUARE) multiply_square<true>(a, b + j * width, width, out + j);
    for (int64_t i = SQUARE; i < rows; i += SQUARE)
      for (int64_t j = from; j < from + CACHED; j += SQUARE)
        multiply_square<false>(a + i * width, b + j * width, width, out + i * GROUP + j);
  }
}

// Rounds the dots that `multiply_atoms_at` made, those below the diagonal, to where they belong and, where `mirrored`,
// to their mirror.
inline void write_products(const Atoms& atoms, int64_t first, int64_t rows, int64_t column, const float* dots,
                           bool mirrored) {
  for (int64_t j = column; j < column + GROUP; ++j)
    for (int64_t i = j > first ? j : first; i < first + rows; ++i) {
      const int16_t rounded = int16_t(__builtin_rintf(dots[(i - first) * GROUP + j - column] / PRODUCT_STEP));
      atoms.products[i * atoms.stride + j] = rounded;
      if (mirrored) atoms.products[j * atoms.stride + i] = rounded;
    }
}

}  // namespace
}  // namespace interpkern::INTERPKERN_ISA
