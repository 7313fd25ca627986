// Pursuit over the residuals, for dictionaries whose Gram would not fit.
#pragma once

#include "samples.h"

namespace interpkern::INTERPKERN_ISA {
namespace {

// Multiplies all residuals of the group with all atoms at every step, and keeps the peaks alone.
struct ResidualGroup {
  Samples samples;
  Sample* members;  // (GROUP,)
  Vec* peaks;       // (GROUP, panels)
  int64_t panels, *active;

  ResidualGroup(const Pursuit& p, Arena& arena)
      : samples(p, arena),
        members(arena.take<Sample>(GROUP)),
        peaks(arena.take<Vec>(GROUP * panels_of(p.atoms))),
        panels(panels_of(p.atoms)),
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
      members[i].load(samples.p.row(first + i), samples.residual(i));
      members[i].begin();
    }
    while (const int64_t pursued = gather(count)) {
      find_all_peaks(pursued, queue);
      if (stopped(queue)) return false;
      for (int64_t i = 0; i < pursued; ++i) members[active[i]].absorb(choose(members[active[i]], i));
    }
    for (int64_t i = 0; i < count; ++i) members[i].finish();
    return true;
  }

  int64_t gather(int64_t count) {
    int64_t pursued = 0;
    for (int64_t i = 0; i < count; ++i) {
      if (!members[i].wants_pick()) continue;
      samples.pack(pursued, members[i].residual);
      active[pursued++] = i;
    }
    return pursued;
  }

  void find_all_peaks(int64_t pursued, const Queue& queue) {
    samples.tiles.multiply(pursued, panels, queue, [&](int64_t panel, int64_t i, int64_t lane, Int sums) {
      const Vec products = to_float(sums) * broadcast(samples.rounded[i].unit * ATOM_STEP);
      Vec& peak = peaks[i * panels + panel];
      peak = max(lane == 0 ? Vec{} : peak, magnitude(products, samples.p.nonnegative));
    });
  }

  // Of the sample that was multiplied at place `at`.
  Best choose(const Sample& sample, int64_t at) const {
    const float error = samples.rounded[at].error;
    const float least = largest_peak(peaks + at * panels, panels) - 2 * error;
    Best best;
    consider_panels(sample, peaks + at * panels, least, __builtin_inff(), best);
    // The peak may be an atom's that was chosen before.
    if (best.size - error < least) consider_panels(sample, peaks + at * panels, best.size - error, least, best);
    return best;
  }

  // Those whose peak is at least `from` and less than `to`.
  void consider_panels(const Sample& sample, const Vec* its_peaks, float from, float to, Best& best) const {
    const Chosen taken = sample.chosen();
    for (int64_t panel = 0; panel < panels; ++panel) {
      if (!any_at_least(its_peaks[panel], broadcast(from)) || any_at_least(its_peaks[panel], broadcast(to))) continue;
      for (int64_t index = panel * PANEL; index < smaller((panel + 1) * PANEL, samples.p.atoms.count); ++index)
        if (!taken.has(index)) best.consider(index, sample.correlation(index), samples.p.nonnegative);
    }
  }
};

}  // namespace
}  // namespace interpkern::INTERPKERN_ISA
