// One sample in the making: its residual, its picks, and what its method keeps of them.
#pragma once

#include "screen.h"
#include "support.h"

namespace interpkern::INTERPKERN_ISA {
namespace {

// Hands out a thread's memory, aligned to a cache line; with no base it only counts.
struct Arena {
  char* base;
  int64_t used = 0;

  template <class T>
  T* take(int64_t count) {
    T* memory = base ? reinterpret_cast<T*>(base + used) : nullptr;
    used += (count * int64_t(sizeof(T)) + 63) / 64 * 64;
    return memory;
  }
};

inline int64_t smaller(int64_t a, int64_t b) {
  return a < b ? a : b;
}

struct Sample {
  const Pursuit* pursuit;
  int64_t row;       // of x
  float* residual;   // (padded_width,)
  float unit;        // power of two taken out of the sample
  float norm, left;  // of the sample; of the residual
  int64_t steps;
  int32_t* picks;  // (K,) in the output
  float* values;   // (K,) in the output; omp and the refit: scratch until the end
  bool ended;

  int64_t size;         // atoms in the support, whose coefficients follow
  float* coefficients;  // (padded capacity,), 0 beyond the support
  OrthogonalBasis basis;
  NonnegativeSystem<ThisIsa> system;

  static int64_t capacity(const Pursuit& p) {
    if (p.method == Method::mp) return 0;
    const int64_t distinct = smaller(p.picks, p.atoms.count);
    return p.nonnegative ? distinct : smaller(distinct, p.atoms.width);
  }

  void lay_out(const Pursuit& p, Arena& arena) {
    pursuit = &p;
    const int64_t room = capacity(p), width = p.atoms.padded_width;
    coefficients = arena.take<float>(padded(room));
    basis = {};
    system = {};
    if (p.nonnegative) {
      system = {room,
                arena.take<double>(room * room),
                arena.take<double>(room),
                arena.take<double>(room),
                arena.take<double>(room),
                arena.take<double>(room * room),
                arena.take<int32_t>(room),
                arena.take<bool>(room),
                0,
                0,
                0};
    } else {
      basis = {
          room, width, arena.take<float>(room * width), arena.take<float>(room * padded(room)), arena.take<float>(room),
          0};
    }
  }

  void load(int64_t sample, float* memory) {
    row = sample;
    residual = memory;
    unit = load_sample(*pursuit, row, residual);
  }

  void begin() {
    norm = left = interpkern::INTERPKERN_ISA::norm(residual, pursuit->atoms.padded_width);
    picks = pursuit->indices + row * pursuit->picks;
    values = pursuit->coefficients + row * pursuit->picks;
    steps = size = 0;
    ended = false;
    for (int64_t i = 0; i < padded(capacity(*pursuit)); ++i) coefficients[i] = 0;
    basis.size = system.size = system.free = system.factored = 0;
  }

  // A residual of this norm needs no more picks.
  float enough() const { return (pursuit->tol > LEVEL ? pursuit->tol : LEVEL) * norm; }

  bool wants_pick() const { return !ended && steps < pursuit->picks && left > enough(); }

  // Atoms that may not be picked again.
  Chosen chosen() const { return {picks, pursuit->method == Method::omp ? steps : 0}; }

  const float* atom(int64_t index) const { return pursuit->atoms.rows + index * pursuit->atoms.padded_width; }

  float correlation(int64_t index) const { return dot(atom(index), residual, pursuit->atoms.padded_width); }

  // Takes the picked atom's part out of the residual; without a pick, or when nothing is left of the atom, ends.
  void absorb(const Best& best) {
    ended = best.index < 0 || !(best.size > LEVEL * norm);
    if (ended) return;
    const int64_t width = pursuit->atoms.padded_width;
    if (pursuit->method == Method::omp) {
      ended = !extend_support(best.index);
      if (ended) return;
    } else {
      values[steps] = best.correlation;
      add_scaled(residual, -best.correlation, atom(best.index), width);
    }
    picks[steps++] = best.index;
    left = interpkern::INTERPKERN_ISA::norm(residual, width);
  }

  // Makes the picks of an earlier start again, with the same arithmetic.
  void repeat(int64_t made) {
    while (steps < made) {
      Best pick;
      pick.consider(picks[steps], correlation(picks[steps]), pursuit->nonnegative);
      absorb(pick);
    }
  }

  // Writes the sample's outputs.
  void finish() {
    if (pursuit->method == Method::mp_refit) refit();
    if (pursuit->method == Method::omp)
      for (int64_t i = 0; i < steps; ++i) values[i] = coefficients[i];
    if (pursuit->method != Method::mp) left = distance();
    for (int64_t i = 0; i < steps; ++i) values[i] *= unit;
    for (int64_t i = steps; i < pursuit->picks; ++i) picks[i] = -1, values[i] = 0;
    pursuit->residual_norm[row] = left * unit;
  }

 private:
  bool extend_support(int32_t index) {
    if (pursuit->nonnegative)
      extend_system(index);
    else if (!basis.extend(atom(index), residual, coefficients))
      return false;
    ++size;
    if (pursuit->nonnegative) solve_system();
    return true;
  }

  void extend_system(int32_t index) {
    const int64_t width = pursuit->atoms.padded_width, at = system.size++;
    picks[size] = index;
    for (int64_t i = 0; i <= at; ++i)
      system.normal[at * system.capacity + i] = system.normal[i * system.capacity + at] =
          dot_in_float64(atom(picks[i]), atom(index), width);
    load_sample(*pursuit, row, residual);
    system.target[at] = dot_in_float64(residual, atom(index), width);
    system.solution[at] = 0;
  }

  // The coefficients and the residual, which extend_system has set to the sample.
  void solve_system() {
    system.solve(LEVEL * norm);
    for (int64_t i = 0; i < size; ++i) {
      coefficients[i] = float(system.solution[i]);
      if (coefficients[i] != 0) add_scaled(residual, -coefficients[i], atom(picks[i]), pursuit->atoms.padded_width);
    }
  }

  // Of the sample from what its coefficients decode to; large coefficients that cancel leave more than the projection.
  float distance() {
    load_sample(*pursuit, row, residual);
    for (int64_t i = 0; i < steps; ++i) add_scaled(residual, -values[i], atom(picks[i]), pursuit->atoms.padded_width);
    return interpkern::INTERPKERN_ISA::norm(residual, pursuit->atoms.padded_width);
  }

  void refit() {
    const int64_t made = steps;
    steps = 0;
    for (int64_t i = 0; i < made; ++i)
      if (!Chosen{picks, steps}.has(picks[i])) picks[steps++] = picks[i];
    load_sample(*pursuit, row, residual);
    if (pursuit->nonnegative) {
      for (size = 0; size < steps; ++size) extend_system(picks[size]);
      solve_system();
      for (int64_t i = 0; i < steps; ++i) values[i] = coefficients[i];
    } else {
      refit_basis();
    }
  }

  // Atoms that depend on earlier ones keep coefficient 0.
  void refit_basis() {
    for (int64_t i = 0; i < steps; ++i) values[i] = basis.extend(atom(picks[i]), residual, coefficients) ? 1 : 0;
    for (int64_t i = 0, next = 0; i < steps; ++i)
      if (values[i] != 0) values[i] = coefficients[next++];
  }
};

}  // namespace
}  // namespace interpkern::INTERPKERN_ISA
