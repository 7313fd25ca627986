// Pursuit over the Gram.
#pragma once

#include "gram_sample.h"

namespace interpkern::INTERPKERN_ISA {
namespace {

// Takes turns with several samples, so that each one's row of the Gram arrives while the others are worked on.
struct GramGroup {
  static constexpr int SLOTS = 2;
  struct Member {
    int64_t sample, steps;  // picks made before its products were too rough
    float resolution;       // of its products
    float scale;            // from their sums
  };
  Samples samples;
  int16_t* products;          // (blocks, GROUP, BLOCK), so that a panel's are written close together
  Member *members, *waiting;  // (GROUP,) in this round; for the next one
  GramSample slots[SLOTS];
  int64_t count = 0, next = 0, waiting_count = 0;

  GramGroup(const Pursuit& p, Arena& arena)
      : samples(p, arena),
        products(arena.take<int16_t>(blocks_of(p.atoms) * GROUP * BLOCK)),
        members(arena.take<Member>(GROUP)),
        waiting(arena.take<Member>(GROUP)) {
    for (GramSample& slot : slots) slot.lay_out(p, arena);
  }

  void run(Queue& queue) {
    while (gather(queue)) {
      multiply(queue);
      // An omp sample's rows fill the cache: one at a time.
      const int used = samples.p.method == Method::omp ? 1 : SLOTS;
      for (GramSample& slot : slots) slot.busy = false;
      for (int i = 0; i < used; ++i) start(slots[i]);
      for (bool busy = true; busy && !stopped(queue);) {
        busy = false;
        for (int i = 0; i < used; ++i) {
          if (slots[i].busy) take_turn(slots[i], queue);
          busy |= slots[i].busy;
        }
      }
    }
  }

 private:
  // Those who wait, and new samples in the places left.
  bool gather(Queue& queue) {
    for (int64_t i = 0; i < waiting_count; ++i) members[i] = waiting[i];
    count = waiting_count;
    waiting_count = next = 0;
    int64_t first;
    for (int64_t fresh = take(queue, GROUP - count, first); fresh > 0; --fresh)
      members[count++] = {samples.p.row(first++), 0, 0, 0};
    return count > 0 && !stopped(queue);
  }

  void multiply(const Queue& queue) {
    const int64_t panels = blocks_of(samples.p.atoms) * BLOCK / PANEL;
    for (int64_t i = 0; i < count; ++i) {
      resume(slots[0], i);
      samples.pack(i, samples.residual(i));
      members[i].resolution = resolution_of(slots[0].left);
      members[i].scale = samples.rounded[i].unit * ATOM_STEP / members[i].resolution;
    }
    samples.tiles.multiply(count, panels, queue, [&](int64_t panel, int64_t i, int64_t lane, Int sums) {
      int16_t* to = products + panel * PANEL / BLOCK * GROUP * BLOCK + panel * PANEL % BLOCK;
      write_rounded(to + i * BLOCK + lane, to_float(sums) * broadcast(members[i].scale));
    });
  }

  void resume(GramSample& slot, int64_t i) {
    slot.load(members[i].sample, samples.residual(i));
    slot.begin();
    slot.repeat(members[i].steps);
  }

  void start(GramSample& slot) {
    slot.busy = next < count;
    if (!slot.busy) return;
    const int64_t i = next++;
    resume(slot, i);
    slot.rest_on_products(products + i * BLOCK, members[i].resolution, samples.rounded[i].error);
    slot.search();  // products just made tell
  }

  // Makes one pick and prepares the next one, which waits until the others' turns have brought its memory near.
  void take_turn(GramSample& slot, Queue& queue) {
    if (slot.wants_pick()) slot.pick();
    if (slot.wants_pick()) {
      slot.propagate();
      if (slot.search()) return;
      waiting[waiting_count++] = {slot.row, slot.steps, 0, 0};
    } else {
      slot.finish();
      add_done(queue, 1);
    }
    start(slot);
  }
};

}  // namespace
}  // namespace interpkern::INTERPKERN_ISA
