// Pursuit over the residuals, for dictionaries whose Gram would not fit.
#pragma once

#include "samples.h"

namespace interpkern::INTERPKERN_ISA {
namespace {

// Multiplies all residuals of the group with all atoms at every step, and keeps the peaks alone.
struct ResidualGroup {
  Samples samples;
  Sample* members;  // (GROUP,)
  Vec* peaks;       // (GROUP, blocks)
  int64_t blocks, *active;

  ResidualGroup(const Pursuit& p, Arena& arena)
      : samples(p, arena),
        members(arena.take<Sample>(GROUP)),
        peaks(arena.take<Vec>(GROUP * blocks_of(p.atoms))),
        blocks(blocks_of(p.atoms)),
        active(arena.take<int64_t>(GROUP)) {
    Sample counted;
    for (int64_t i = 0; i < GROUP; ++i) (members ? members[i] : counted).lay_out(p, arena);
  }

  void run(Queue& queue) {
    int64_t first;
    while (const int64_t count = take(queue, GROUP, first)) {
      if (!pursue(first, count, queue)) return;
      add_done(queue, count);
    }
  }

 private:
  bool pursue(int64_t first, int64_t count, const Queue& queue) {
    for (int64_t i = 0; i < count; ++i) {
      members[i].load(first + i, samples.residual(i));
      members[i].begin();
    }
    while (const int64_t pursued = gather(count)) {
      find_all_peaks(pursued, queue);
      if (stopped(queue)) return false;
      for (int64_t i = 0; i < pursued; ++i) members[active[i]].absorb(choose(members[active[i]], peaks + i * blocks));
    }
    for (int64_t i = 0; i < count; ++i) members[i].finish();
    return true;
  }

  int64_t gather(int64_t count) {
    int64_t pursued = 0;
    for (int64_t i = 0; i < count; ++i) {
      if (!members[i].wants_pick()) continue;
      active[pursued] = i;
      samples.rows[pursued++] = members[i].residual;
    }
    samples.pack(pursued);
    return pursued;
  }

  void find_all_peaks(int64_t pursued, const Queue& queue) {
    for (int64_t i = 0; i < pursued * blocks; ++i) peaks[i] = Vec{};
    for (int64_t panel = 0; panel < blocks * BLOCK / PANEL && !stopped(queue); ++panel) {
      const float* products = samples.multiply(pursued, panel);
      for (int64_t i = 0; i < pursued; ++i) {
        Vec& peak = peaks[i * blocks + panel * PANEL / BLOCK];
        for (int64_t v = 0; v < PANEL; v += LANES)
          peak = max(peak, magnitude(read(products + i * PANEL + v), samples.p.nonnegative));
      }
    }
  }

  Best choose(const Sample& sample, const Vec* its_peaks) const {
    const Atoms& atoms = samples.p.atoms;
    const float error = product_error(atoms.width) * sample.left;
    const Vec least = broadcast(largest_peak(its_peaks, blocks) - 2 * error);
    const Chosen taken = sample.chosen();
    Best best;
    for (int64_t block = 0; block < blocks; ++block) {
      if (!any_at_least(its_peaks[block], least)) continue;
      for (int64_t index = block * BLOCK; index < smaller((block + 1) * BLOCK, atoms.count); ++index)
        if (!taken.has(index)) best.consider(index, sample.correlation(index), samples.p.nonnegative);
    }
    return best;
  }
};

}  // namespace
}  // namespace interpkern::INTERPKERN_ISA
