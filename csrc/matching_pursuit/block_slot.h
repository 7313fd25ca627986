// A slot's arrays and state, in the hands of a block.
#pragma once

#include "matching_pursuit/block_sums.h"
#include "matching_pursuit/block_support.h"

namespace interpkern {

template <class Block, Screen SCREEN, bool FITS>
class BlockSlot : protected BlockSums<Block> {
 public:
  INTERPKERN_KERNEL BlockSlot(Block& block, const GpuPursuit& pursuit, const PursuitLayout& layout,
                              const PursuitWorkspace& workspace, PursuitScratch& scratch, int slot)
      : BlockSums<Block>(block, scratch), p(pursuit), l(layout), w(workspace), slot(slot), state(w.states[slot].path) {
    float* shared = reinterpret_cast<float*>(&scratch + 1);
    const auto place = [&](float* global, bool in_shared, int64_t floats) {
      float* const at = in_shared ? shared : global;
      if (in_shared) shared += floats;
      return at;
    };
    residual = place(w.residuals + slot * l.width, l.residual_in_shared, l.width);
    if (FITS) {
      char* const own = w.supports + slot * l.support_bytes;
      support_memory = place(reinterpret_cast<float*>(own), l.support_in_shared, l.support_bytes / 4);
      u.lay_out(reinterpret_cast<char*>(support_memory), l.capacity, p.nonnegative);
    }
    screen = w.screens + slot * l.screen_floats;
    chip = shared;
  }

 protected:
  using BlockSums<Block>::block;
  using BlockSums<Block>::s;

  const GpuPursuit& p;
  const PursuitLayout& l;
  const PursuitWorkspace& w;
  const int slot;
  SamplePath state;                                            // the same in all threads
  float *residual, *support_memory = nullptr, *screen, *chip;  // chip: the screen's first part in shared memory
  Support u;
  uint32_t dots = 0;  // of an atom with the residual

  INTERPKERN_KERNEL bool omp() const {
    return SCREEN == Screen::LAST_PRODUCTS || (SCREEN == Screen::PANELS && FITS && p.method == Method::omp);
  }
  INTERPKERN_KERNEL const float* atom(int64_t index) const { return p.atoms.rows + index * p.atoms.stride; }
  INTERPKERN_KERNEL int32_t* picks() const { return p.indices + s.origin.row * p.picks; }
  INTERPKERN_KERNEL float* values() const { return p.coefficients + s.origin.row * p.picks; }

  INTERPKERN_KERNEL bool chosen(int64_t index) const {
    if (!omp()) return false;
    INTERPKERN_NO_UNROLL for (int i = 0; i < state.size; ++i) if (u.atoms[i] == index) return true;
    return false;
  }

  INTERPKERN_KERNEL void copy(int thread, const float* from, float* to, int64_t floats) const {
    INTERPKERN_NO_UNROLL for (int i = thread * 4; i < floats; i += ONCE) write_quad(to + i, read_quad(from + i));
  }

  INTERPKERN_KERNEL void fetch() {
    block.run([&](int thread) {
      if (thread == 0) s.origin = w.states[slot].origin, s.factored = w.states[slot].factored;
      if (l.residual_in_shared) copy(thread, w.residuals + slot * l.width, residual, l.width);
      if (FITS && l.support_in_shared)
        copy(thread, reinterpret_cast<const float*>(w.supports + slot * l.support_bytes), support_memory,
             l.support_bytes / 4);
      if (SCREEN == Screen::CORRELATIONS) copy(thread, screen, chip, l.on_chip);
    });
  }

  INTERPKERN_KERNEL void put_away() {
    const bool products = state.phase == READY, goes_on = state.phase != IDLE;
    block.run([&](int thread) {
      if (goes_on && l.residual_in_shared) copy(thread, residual, w.residuals + slot * l.width, l.width);
      if (FITS && goes_on && l.support_in_shared)
        copy(thread, support_memory, reinterpret_cast<float*>(w.supports + slot * l.support_bytes),
             l.support_bytes / 4);
      if (SCREEN == Screen::CORRELATIONS && products) copy(thread, chip, screen, l.on_chip);
      if (thread != 0) return;
      w.states[slot].path = state, w.states[slot].factored = s.factored;
      if (state.phase == WAITING) w.wanting[Block::add(&w.queue->wanting, 1)] = slot;
      if (state.phase == IDLE) Block::add(&w.queue->finished, 1);
      Block::add(&w.queue->dots, int64_t(dots));
    });
  }
};

}  // namespace interpkern
