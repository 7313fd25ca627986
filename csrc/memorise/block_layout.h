// Where a block keeps one model: sizes padded to whole tiles, the arrays and their places, and how many threads it has.
#pragma once

#include <stdint.h>

#include "common/device_limits.h"
#include "common/portable.h"
#include "memorise/memorise.h"

namespace interpkern {

constexpr int TILE = 4;  // one side of a register tile
#define INTERPKERN_FOR_TILE(i) INTERPKERN_UNROLL for (int i = 0; i < TILE; ++i)
constexpr int MAX_THREADS = 512;

// What a block holds, most often read first: that is the order in which arrays get shared memory.
enum BlockArray {
  TOKENS,         // (R + C, D) E1, then E2
  ACTIVATIONS,    // (R + C, H) A = E1 W^T + c, then N = -E2 W^T
  ERRORS,         // (R, C) dloss/dlogit; the sign bit is set where the fact is 1
  SUMS,           // (R + C, H) SA, then SB
  WEIGHTS,        // (H, D)
  READOUTS,       // (H,)
  BIASES,         // (H,)
  READOUT_PARTS,  // (D / 4, H) terms of r's gradient
  BIAS_PARTS,     // (R / 4, H) terms of SA's sum over the rows
  FIRST_WEIGHTS,  // Adam's moments
  SECOND_WEIGHTS,
  FIRST_READOUTS,
  SECOND_READOUTS,
  FIRST_BIASES,
  SECOND_BIASES,
  TOKEN_GRADIENTS,
  FIRST_TOKENS,
  SECOND_TOKENS,
  BLOCK_ARRAYS
};

struct BlockLayout {
  int rows, columns, width, hidden;                        // as they are
  int row_tiles, column_tiles, width_tiles, hidden_tiles;  // of TILE
  int width_stride, hidden_stride, column_stride, tokens;  // floats from one row to the next; rows of TOKENS
  bool train[FIELDS];
  int64_t offset[BLOCK_ARRAYS];  // in floats, from the start of the memory it is in
  bool in_shared[BLOCK_ARRAYS];
  int threads;
  int64_t shared_floats, global_floats;  // of one block, without its Scratch
};

// Sizes, threads and places of a problem's models; what does not fit into shared memory goes to global memory.
BlockLayout lay_out_block(const MemoriseProblem& problem, const DeviceLimits& limits);

// Bytes of shared memory that a block asks for.
int64_t shared_bytes(const BlockLayout& layout);

inline bool all_in_shared(const BlockLayout& layout) {
  return layout.global_floats == 0;
}

}  // namespace interpkern
