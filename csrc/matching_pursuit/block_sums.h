// What the threads of a block share, sums over them in one order, and samples as they are given.
#pragma once

#include "common/block.h"
#include "matching_pursuit/block_pursuit.h"

namespace interpkern {

constexpr int PURSUIT_WARPS = PURSUIT_THREADS / WARP;
constexpr int ONCE = 4 * PURSUIT_THREADS;  // floats that all threads of a block read at once

// What the threads of a block share beside the arrays in shared memory, which follow.
struct alignas(16) PursuitScratch {
  uint64_t best;  // pick_key
  int64_t candidate_count, count;
  int32_t free, factored;  // of the non-negative system
  SampleOrigin origin;
  double sums[2][PURSUIT_WARPS];
  float peaks[PURSUIT_THREADS];
  int32_t candidates[MOST_CANDIDATES];  // atoms, or panels of them
};

struct Sum {
  template <class T>
  INTERPKERN_KERNEL T operator()(T a, T b) const {
    return a + b;
  }
};

struct Larger {
  INTERPKERN_KERNEL float operator()(float a, float b) const { return larger(a, b); }
};

INTERPKERN_KERNEL float element(const GpuPursuit& p, int64_t at) {
  if (p.dtype == Dtype::float32) return static_cast<const float*>(p.x)[at];
  const uint16_t bits = static_cast<const uint16_t*>(p.x)[at];
  return p.dtype == Dtype::float16 ? half_as_float(bits) : as_float(uint32_t(bits) << 16);
}

// What both kernels on samples do: sums over a block in one order.
template <class Block>
class BlockSums {
 public:
  INTERPKERN_KERNEL BlockSums(Block& block, PursuitScratch& scratch) : block(block), s(scratch) {}

  template <class T, class Body>
  INTERPKERN_KERNEL T sum(const Body& body) {
    double* const sums = s.sums[turn ^= 1];
    block.template warps<T, Sum>(body, [&](int warp, T value) { sums[warp] = value; });
    T total = 0;
    for (int warp = 0; warp < PURSUIT_WARPS; ++warp) total += T(sums[warp]);
    return total;
  }

  template <class Body>
  INTERPKERN_KERNEL float largest(const Body& body) {
    double* const sums = s.sums[turn ^= 1];
    block.template warps<float, Larger>(body, [&](int warp, float value) { sums[warp] = value; });
    float most = float(sums[0]);
    for (int warp = 1; warp < PURSUIT_WARPS; ++warp) most = larger(most, float(sums[warp]));
    return most;
  }

 protected:
  Block& block;
  PursuitScratch& s;

 private:
  int turn = 0;
};

}  // namespace interpkern
