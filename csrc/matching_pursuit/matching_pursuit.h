// The operation `matching_pursuit` as pure functions on pointers and sizes; see reference/matching_pursuit.py for what
// it computes. Every pick and coefficient comes from float32 dot products of the explicit residual, summed in one
// order. All other numbers (the Gram and the tiled products, both of 16 bits) only propose candidates, within bounds.
#pragma once

#include <stdint.h>

#include <functional>

#include "common/isa.h"

namespace interpkern {

constexpr int64_t PANEL = 32;               // atoms side by side in `panels`; also the partial sums of a dot product
constexpr int64_t BLOCK = 256;              // atoms whose largest correlation is kept as one; arrays are padded to it
constexpr float ATOM_STEP = 1.02f / 32700;  // value of one unit in `panels`; half-precision atoms reach 1.01
constexpr float PRODUCT_STEP = 1.03f / 32767;  // and in `products`

// How an ISA keeps the 16-bit numbers of PANEL atoms: in pairs, or their bytes apart.
struct PanelLayout {
  int64_t shape[3];
  int64_t bytes;  // of an element

  constexpr int64_t size() const { return shape[0] * shape[1] * shape[2] * bytes; }
};

// A dictionary as the kernels keep it. Room beyond `count` and `width` holds zeros, but for rows of expected atoms.
struct Atoms {
  int64_t count, width;  // M, D
  int64_t padded_width;  // a multiple of PANEL
  float* rows;           // (capacity, padded_width)
  void* panels;          // (capacity / PANEL, ...) in units of ATOM_STEP, as the ISA's PanelLayout says
  int16_t* products;     // (capacity, stride) Gram in units of PRODUCT_STEP, or null
  int64_t stride;
  float* rounding;  // the longest distance of an atom from the one in `panels`
};

enum class Dtype { float32, float16, bfloat16 };
enum class Method { mp, mp_refit, omp };

// What is asked of a pursuit, and where its codes go; Dictionary is the atoms as a backend keeps them.
template <class Dictionary>
struct PursuitOver {
  Dictionary atoms;
  const void* x;  // (N, D)
  Dtype dtype;
  int64_t samples, picks;  // N, K
  Method method;
  bool nonnegative;
  float tol;
  bool exact;

  int32_t* indices;      // (N, K) out
  float* coefficients;   // (N, K) out
  float* residual_norm;  // (N,) out
};

// For path_changes the codes are in: what was found with the atoms before `known`.
struct Pursuit : PursuitOver<Atoms> {
  const int64_t* at;           // (samples,) the rows to pursue, no row twice, or null: all
  int64_t known, first, last;  // the samples asked about
  bool* changed;               // (N,) in and out

  int64_t row(int64_t sample) const { return at ? at[sample] : sample; }
};

// For tests: products of float32 samples with the atoms as tiles make them.
struct TileProducts {
  int32_t* sums;          // (N, M) in units of the sample's times ATOM_STEP
  float *units, *errors;  // (N,) what a product may be off by
};

// Called about every 50 ms with (samples done, samples in all); what it throws ends the run.
using Report = std::function<void(int64_t, int64_t)>;

PanelLayout panel_layout(int64_t width, Isa isa);

// Fills panels and products for the rows first .. count - 1, and the columns that mirror them.
void add_atoms_cpu(const Atoms& atoms, int64_t first, Isa isa, int threads, const Report& report);

// The same in two steps. The first fills the products' rows alone, which no pursuit over the atoms before reads; so
// several atoms that may come are multiplied while the others pass by once, and those that come are admitted in order.
void expect_atoms_cpu(const Atoms& atoms, int64_t first, Isa isa, int threads, const Report& report);
void admit_last_atom_cpu(const Atoms& atoms, Isa isa);

// Writes indices, coefficients and residual_norm. A sample's result depends on the sample, the atoms and the ISA alone;
// with `exact` not even on whether there are products.
void matching_pursuit_cpu(const Pursuit& pursuit, Isa isa, int threads, const Report& report);

// Marks the samples from `first` to `last` whose path the atoms from `known` on would change, if they aren't marked
// yet. Products only make it faster.
void path_changes_cpu(const Pursuit& pursuit, Isa isa, int threads, const Report& report);

void tile_products_cpu(const Pursuit& pursuit, Isa isa, const TileProducts& out);

// Hands out samples or atoms to the threads, counts what is done, and carries the wish to stop.
struct Queue;
int64_t take(Queue& queue, int64_t most, int64_t& first);  // how many, from `first` on; 0 when none is left
void add_done(Queue& queue, int64_t count);
bool stopped(const Queue& queue);

}  // namespace interpkern
