// What least squares on one sample's support keep, in memory that they are given; see block_fit.h.
#pragma once

#include "common/portable.h"
#include "matching_pursuit/nonnegative_system.h"

namespace interpkern {

struct ThisGpu {};

// A support's arrays in memory that it is given, 16 bytes aligned; the counts live in SampleState.
struct Support {
  double* products;  // (capacity + 2,) of the newest atom with those before, itself and the sample
  double* row;       // (capacity,) the newest row of the Cholesky factor
  double* inverse;   // (capacity (capacity + 1) / 2,) rows of the inverse factor, one behind the other
  double* along;     // (capacity,) the sample along the orthonormal directions
  double* solution;  // (capacity,)
  NonnegativeSystem<ThisGpu> system;
  float* coefficients;       // (capacity,) the solution, rounded
  float* base_coefficients;  // (capacity,) those of the last products
  float* changes;            // (capacity,) what has been added since
  int32_t* atoms;            // (capacity,)
  int32_t* slots;            // (capacity,) places of the atoms in the code

  // Returns the bytes; only counts where memory is null.
  INTERPKERN_PORTABLE int64_t lay_out(char* memory, int64_t capacity, bool nonnegative) {
    int64_t used = 0;
    const int64_t square = nonnegative ? capacity * capacity : 0, vector = nonnegative ? capacity : 0;
    const int64_t triangle = nonnegative ? 0 : capacity * (capacity + 1) / 2;
    if (capacity > 0) take(products, memory, used, capacity + 2);
    take(row, memory, used, nonnegative ? 0 : capacity);
    take(inverse, memory, used, triangle);
    take(along, memory, used, nonnegative ? 0 : capacity);
    take(solution, memory, used, capacity);
    system.capacity = capacity, system.solution = solution;
    take(system.normal, memory, used, square);
    take(system.factor, memory, used, square);
    take(system.target, memory, used, vector);
    take(system.trial, memory, used, vector);
    take(coefficients, memory, used, capacity);
    take(base_coefficients, memory, used, capacity);
    take(changes, memory, used, capacity);
    take(atoms, memory, used, capacity);
    take(slots, memory, used, capacity);
    take(system.passive, memory, used, vector);
    take(system.blocked, memory, used, vector);
    return used;
  }

  INTERPKERN_PORTABLE double& inverse_at(int64_t row, int64_t column) const {
    return inverse[row * (row + 1) / 2 + column];
  }

 private:
  template <class T>
  static INTERPKERN_PORTABLE void take(T*& part, char* memory, int64_t& used, int64_t count) {
    part = memory ? reinterpret_cast<T*>(memory + used) : nullptr;
    used += (count * int64_t(sizeof(T)) + 7) / 8 * 8;
  }
};

}  // namespace interpkern
