// The GPU's algorithm of `matching_pursuit`, run by the CPU: the same layout, rounds and passes, one thread after the
// other. It is for tests and is as slow as it sounds.
#include "matching_pursuit/matching_pursuit_emulated.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "common/poisoned.h"
#include "matching_pursuit/block_products.h"
#include "matching_pursuit/block_refill.h"
#include "matching_pursuit/block_sample.h"

namespace interpkern {
namespace {

struct Emulated {
  const GpuPursuit& p;
  const PursuitEmulation& how;
  PursuitLayout layout;
  Poisoned workspace;
  PursuitWorkspace w;
  uint32_t state = 1;  // of random signs

  Emulated(const GpuPursuit& pursuit, const PursuitEmulation& how)
      : p(pursuit), how(how), layout(with_slots(pursuit, how)), workspace(layout.workspace_bytes / 4) {
    std::memset(workspace.data(), 0, zeroed_bytes(layout));
    w = divide(layout, workspace.data(), nullptr);
  }

  static PursuitLayout with_slots(const GpuPursuit& pursuit, const PursuitEmulation& how) {
    PursuitLayout layout = lay_out_pursuit(pursuit, {1, how.shared_bytes_per_block});
    layout.slots = std::min(layout.slots, how.slots);
    divide(layout, nullptr, &layout.workspace_bytes);
    return layout;
  }

  void round() {
    multiply_new_samples();
    pursue();
  }

  void refill() {
    for (int slot = 0; slot < layout.slots; ++slot) {
      Poisoned shared(sizeof(PursuitScratch) / 4);
      HostBlock block(PURSUIT_THREADS, how.order);
      BlockRefill<HostBlock>(block, *shared.as<PursuitScratch>()).run(p, layout, w, slot);
    }
  }

  void multiply_new_samples() {
    refill();
    const bool panels = layout.screen == Screen::PANELS;
    panels ? (p.exact ? multiply<true, true>() : multiply<true, false>())
           : (p.exact ? multiply<false, true>() : multiply<false, false>());
    if (how.noise > 0)
      for (int64_t i = 0; i < w.queue->wanting; ++i) disturb(w.wanting[i]);
    w.queue->wanting = 0;
  }

  // As the worst of tensor cores might.
  void disturb(int slot) {
    const float most = how.noise * tile_error(p.atoms.width) * w.states[slot].path.left;
    for (int64_t i = 0; i < layout.screen_floats; ++i) {
      state = state * 1664525u + 1013904223u;
      w.screens[slot * layout.screen_floats + i] += state >> 31 ? most : -most;
    }
  }

  void pursue() {
    switch (layout.screen) {
      case Screen::CORRELATIONS:
        return layout.fits ? pursue<Screen::CORRELATIONS, true>() : pursue<Screen::CORRELATIONS, false>();
      case Screen::LAST_PRODUCTS:
        return pursue<Screen::LAST_PRODUCTS, true>();
      case Screen::PANELS:
        return layout.fits ? pursue<Screen::PANELS, true>() : pursue<Screen::PANELS, false>();
    }
  }

  template <bool PANELS, bool SPLIT>
  void multiply() {
    for (int atoms = 0; atoms * TILE_SIDE < layout.columns; ++atoms)
      for (int rows = 0; rows * TILE_SIDE < layout.slots; ++rows) {
        if (rows * TILE_SIDE >= w.queue->wanting) continue;
        Poisoned shared(sizeof(ProductScratch) / 4);
        HostBlock block(PRODUCT_THREADS, how.order);
        BlockProducts<HostBlock, PANELS, SPLIT>(block, p, layout, w, *shared.as<ProductScratch>(), rows, atoms).run();
      }
  }

  template <Screen SCREEN, bool FITS>
  void pursue() {
    for (int slot = 0; slot < layout.slots; ++slot) {
      Poisoned shared(layout.shared_bytes / 4);
      HostBlock block(PURSUIT_THREADS, how.order);
      BlockSample<HostBlock, SCREEN, FITS>(block, p, layout, w, *shared.as<PursuitScratch>(), slot).run(how.picks);
    }
  }

  template <bool FITS>
  void replay(const Replayed& replayed) {
    refill();
    for (int slot = 0; slot < layout.slots; ++slot) {
      Poisoned shared(layout.shared_bytes / 4);
      HostBlock block(PURSUIT_THREADS, how.order);
      BlockSample<HostBlock, Screen::PANELS, FITS>(block, p, layout, w, *shared.as<PursuitScratch>(), slot)
          .replay(replayed);
    }
    w.queue->wanting = 0;
  }
};

}  // namespace

PursuitWork matching_pursuit_emulated(const GpuPursuit& pursuit, const PursuitEmulation& how, const Report& report) {
  Emulated run(pursuit, how);
  PursuitWork work{};
  while (run.w.queue->finished < pursuit.samples) {
    run.round();
    ++work.rounds;
    report(run.w.queue->finished, pursuit.samples);
  }
  report(pursuit.samples, pursuit.samples);
  work.dots = run.w.queue->dots;
  return work;
}

void path_changes_emulated(const GpuPursuit& pursuit, const Replayed& replayed, const PursuitEmulation& how) {
  Emulated run(pursuit, how);
  while (run.w.queue->finished < pursuit.samples)
    run.layout.fits ? run.replay<true>(replayed) : run.replay<false>(replayed);
}

void products_emulated(const GpuPursuit& pursuit, const PursuitEmulation& how, float* screens) {
  Emulated run(pursuit, how);
  const int64_t size = run.layout.screen_floats;
  for (int64_t from = 0; from < pursuit.samples; from += run.layout.slots) {
    run.multiply_new_samples();
    for (int64_t slot = 0; slot < run.layout.slots; ++slot) {
      SampleState& state = run.w.states[slot];
      if (state.path.phase == IDLE) continue;
      std::copy_n(run.w.screens + slot * size, size, screens + state.origin.row * size);
      state.path.phase = IDLE;
    }
  }
}

}  // namespace interpkern
