// Launch geometry of `memorise` on a GPU, as plain functions that tests call on any machine.
#include "memorise/block_layout.h"

#include "memorise/block_training.h"

namespace interpkern {
namespace {

int tiles(int64_t n) {
  return int((n + TILE - 1) / TILE);
}

// An odd number of quads, so that eight neighbouring rows lie in different banks.
int odd_stride(int quads) {
  return (quads | 1) * TILE;
}

int64_t array_floats(const BlockLayout& l, int array) {
  const int64_t hidden = l.hidden_tiles * TILE, weights = hidden * l.width_stride;
  const int64_t tokens = int64_t(l.tokens) * l.width_stride;
  const bool trains_tokens = l.train[E1] || l.train[E2];
  switch (array) {
    case TOKENS:
      return tokens;
    case ACTIVATIONS:
    case SUMS:
      return int64_t(l.tokens) * l.hidden_stride;
    case ERRORS:
      return int64_t(l.row_tiles) * TILE * l.column_stride;
    case WEIGHTS:
      return weights;
    case READOUT_PARTS:
      return l.width_tiles * hidden;
    case BIAS_PARTS:
      return l.row_tiles * hidden;
    case FIRST_WEIGHTS:
    case SECOND_WEIGHTS:
      return l.train[W] ? weights : 0;
    case TOKEN_GRADIENTS:
    case FIRST_TOKENS:
    case SECOND_TOKENS:
      return trains_tokens ? tokens : 0;
    default:
      return hidden;
  }
}

// A thread for every tile of the pass that has the most, in equal rounds where those are more than a block can have.
int threads_for(const BlockLayout& l) {
  const int64_t tokens = l.row_tiles + l.column_tiles;
  const int64_t passes[] = {tokens * l.hidden_tiles, int64_t(l.row_tiles) * l.column_tiles,
                            int64_t(l.hidden_tiles) * l.width_tiles};
  int64_t most = 1;
  for (const int64_t pass : passes) most = pass > most ? pass : most;
  const int64_t rounds = (most + MAX_THREADS - 1) / MAX_THREADS, each = (most + rounds - 1) / rounds;
  return int((each + WARP - 1) / WARP * WARP);
}

}  // namespace

BlockLayout lay_out_block(const MemoriseProblem& p, const DeviceLimits& limits) {
  BlockLayout l{};
  l.rows = int(p.rows), l.columns = int(p.columns), l.width = int(p.width), l.hidden = int(p.hidden);
  l.row_tiles = tiles(p.rows), l.column_tiles = tiles(p.columns);
  l.width_tiles = tiles(p.width), l.hidden_tiles = tiles(p.hidden);
  l.width_stride = odd_stride(l.width_tiles), l.hidden_stride = odd_stride(l.hidden_tiles);
  l.column_stride = odd_stride(l.column_tiles), l.tokens = (l.row_tiles + l.column_tiles) * TILE;
  for (int field = 0; field < FIELDS; ++field) l.train[field] = p.train[field];
  l.threads = threads_for(l);
  const int64_t room = limits.shared_bytes_per_block / int64_t(sizeof(float)) - scratch_floats(l.threads);
  for (int array = 0; array < BLOCK_ARRAYS; ++array) {
    const int64_t size = array_floats(l, array);
    l.in_shared[array] = l.shared_floats + size <= room;
    int64_t& used = l.in_shared[array] ? l.shared_floats : l.global_floats;
    l.offset[array] = used;
    used += size;
  }
  return l;
}

int64_t shared_bytes(const BlockLayout& layout) {
  return (scratch_floats(layout.threads) + layout.shared_floats) * int64_t(sizeof(float));
}

}  // namespace interpkern
