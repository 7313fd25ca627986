// Launch geometry of `matching_pursuit` on a GPU, as plain functions that tests call on any machine.
#include <algorithm>

#include "matching_pursuit/block_bounds.h"
#include "matching_pursuit/block_sums.h"
#include "matching_pursuit/block_support.h"

namespace interpkern {
namespace {

int64_t up(int64_t size, int64_t multiple) {
  return (size + multiple - 1) / multiple * multiple;
}

int64_t capacity_of(const GpuPursuit& p) {
  if (p.method == Method::mp) return 0;
  const int64_t distinct = std::min(p.picks, p.atoms.count);
  return p.nonnegative ? distinct : std::min(distinct, p.atoms.width);
}

}  // namespace

PursuitLayout lay_out_pursuit(const GpuPursuit& p, const DeviceLimits& limits) {
  PursuitLayout l{};
  l.fits = p.method != Method::mp;
  l.columns = up(p.atoms.count, BLOCK);
  l.width = up(p.atoms.width, DEPTH);
  l.capacity = capacity_of(p);
  Support support;
  l.support_bytes = up(support.lay_out(nullptr, l.capacity, p.nonnegative), 16);
  l.screen_floats = p.atoms.products ? l.columns : l.columns / PANEL;

  int64_t room = limits.shared_bytes_per_block - int64_t(sizeof(PursuitScratch));
  const auto claim = [&](int64_t bytes) {
    if (bytes > room) return false;
    room -= bytes;
    l.shared_bytes += bytes;
    return true;
  };
  l.shared_bytes = sizeof(PursuitScratch);
  l.residual_in_shared = claim(l.width * int64_t(sizeof(float)));
  l.support_in_shared = claim(l.support_bytes);
  l.screen = !p.atoms.products         ? Screen::PANELS
             : p.method == Method::omp ? Screen::LAST_PRODUCTS
                                       : Screen::CORRELATIONS;
  if (l.screen == Screen::CORRELATIONS) {
    const int64_t floats = room / int64_t(sizeof(float));
    // A thread has the same ones to see to in either memory.
    l.on_chip = l.columns <= floats ? l.columns : floats / ONCE * ONCE;
    claim(l.on_chip * int64_t(sizeof(float)));
  }

  int64_t slot_bytes = 0;
  l.slots = 1;
  divide(l, nullptr, &slot_bytes);
  int64_t most = std::min(MOST_SLOTS, WORKSPACE / slot_bytes);
  if (l.screen == Screen::PANELS) most = std::min(most, CACHED / (l.width * int64_t(sizeof(float))));
  l.slots = std::clamp(most, int64_t(1), std::max<int64_t>(1, p.samples));
  divide(l, nullptr, &l.workspace_bytes);
  return l;
}

PursuitWorkspace divide(const PursuitLayout& l, void* memory, int64_t* bytes) {
  char* const base = static_cast<char*>(memory);
  int64_t used = 0;
  const auto take = [&](int64_t size) {
    char* const part = base ? base + used : nullptr;
    used += up(size, 256);
    return part;
  };
  PursuitWorkspace w{};
  w.queue = reinterpret_cast<PursuitQueue*>(take(sizeof(PursuitQueue)));
  w.states = reinterpret_cast<SampleState*>(take(l.slots * int64_t(sizeof(SampleState))));
  w.wanting = reinterpret_cast<int32_t*>(take(l.slots * int64_t(sizeof(int32_t))));
  w.residuals = reinterpret_cast<float*>(take(l.slots * l.width * int64_t(sizeof(float))));
  w.supports = take(l.slots * l.support_bytes);
  w.screens = reinterpret_cast<float*>(take(l.slots * l.screen_floats * int64_t(sizeof(float))));
  if (bytes) *bytes = used;
  return w;
}

int64_t zeroed_bytes(const PursuitLayout& l) {
  return up(sizeof(PursuitQueue), 256) + up(l.slots * int64_t(sizeof(SampleState)), 256);
}

}  // namespace interpkern
