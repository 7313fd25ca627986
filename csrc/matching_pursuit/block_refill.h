// How a slot gets a sample: as float32, its power of two taken out so that no square over- or underflows.
#pragma once

#include "matching_pursuit/block_sums.h"

namespace interpkern {

// Gives an idle slot the next sample.
template <class Block>
class BlockRefill : BlockSums<Block> {
  using Base = BlockSums<Block>;
  using Base::block;
  using Base::s;

 public:
  INTERPKERN_KERNEL BlockRefill(Block& block, PursuitScratch& scratch) : Base(block, scratch) {}

  INTERPKERN_KERNEL void run(const GpuPursuit& p, const PursuitLayout& l, const PursuitWorkspace& w, int slot) {
    if (w.states[slot].path.phase != IDLE) return;
    block.run([&](int thread) {
      if (thread == 0) s.count = Block::add(&w.queue->next, 1);
    });
    const int64_t row = s.count;
    if (row >= p.samples) return;
    const int64_t from = row * p.atoms.width;
    float* const residual = w.residuals + slot * l.width;
    const float most = this->largest([&](int thread) {
      float most = 0;
      for (int64_t d = thread; d < p.atoms.width; d += PURSUIT_THREADS)
        most = larger(most, fabsf(element(p, from + d)));
      return most;
    });
    uint32_t exponent = as_bits(most) >> 23;  // biased by 127
    exponent = exponent < 1 ? 1 : exponent > 253 ? 253 : exponent;
    const float inverse = as_float((254 - exponent) << 23);
    const float square = this->template sum<float>([&](int thread) {
      float sum = 0;
      for (int64_t d = thread; d < l.width; d += PURSUIT_THREADS) {
        const float x = d < p.atoms.width ? element(p, from + d) * inverse : 0.0f;
        residual[d] = x;
        sum = multiply_add(x, x, sum);
      }
      return sum;
    });
    block.run([&](int thread) {
      if (thread != 0) return;
      SampleState state{};
      state.origin = {row, as_float(exponent << 23), sqrtf(square)};
      state.path.left = state.origin.norm, state.path.last_index = -1, state.path.phase = WAITING;
      w.states[slot] = state;
      w.wanting[Block::add(&w.queue->wanting, 1)] = slot;
    });
  }
};

}  // namespace interpkern
