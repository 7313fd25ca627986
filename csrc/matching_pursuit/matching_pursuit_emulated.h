// The GPU's algorithm of `matching_pursuit` on the CPU, for tests.
#pragma once

#include "common/block.h"
#include "matching_pursuit/block_pursuit.h"

namespace interpkern {

struct PursuitEmulation {
  int64_t shared_bytes_per_block;
  int64_t slots;  // at most
  int picks;      // of a sample in one launch
  ThreadOrder order;
  float noise;  // what products are made worse by, as a share of what they may be off by
};

struct PursuitWork {
  int64_t rounds;
  int64_t dots;  // of an atom with a residual
};

PursuitWork matching_pursuit_emulated(const GpuPursuit& pursuit, const PursuitEmulation& how, const Report& report);

void path_changes_emulated(const GpuPursuit& pursuit, const Replayed& replayed, const PursuitEmulation& how);

// Writes the products of the samples, divided by their powers of two, with all atoms to screens (N, M rounded up to
// BLOCK); the largest of each PANEL atoms, (N, M / PANEL rounded up), where there is no Gram.
void products_emulated(const GpuPursuit& pursuit, const PursuitEmulation& how, float* screens);

}  // namespace interpkern
