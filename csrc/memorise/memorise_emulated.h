// The GPU's algorithm of `memorise` on the CPU, for tests.
#pragma once

#include "common/block.h"
#include "memorise/block_layout.h"

namespace interpkern {

struct Emulation {
  int blocks;
  int64_t shared_bytes_per_block;
  int64_t budget;  // updates that a block makes in one launch
  ThreadOrder order;
};

// Returns how many launches it took.
int64_t memorise_emulated(const MemoriseProblem& problem, const Emulation& how, const int32_t* order, const Poll& poll);

}  // namespace interpkern
