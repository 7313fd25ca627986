// The GPU's algorithm of `memorise`, run by the CPU: the same passes, layout, queue and launches, one thread after the
// other. It is for tests and is as slow as it sounds.
#include "memorise/memorise_emulated.h"

#include <vector>

#include "common/poisoned.h"
#include "memorise/block_training.h"

namespace interpkern {
namespace {

template <bool ALL_SHARED>
void launch_block(const MemoriseProblem& problem, const BlockLayout& layout, const BlockLaunch& launch, int slot,
                  ThreadOrder order) {
  Poisoned shared(shared_bytes(layout) / int64_t(sizeof(float))), global(layout.global_floats);
  HostBlock block(layout.threads, order);
  BlockTraining<HostBlock, ALL_SHARED>(block, problem, layout, launch, shared.data(), global.data(), slot).run();
}

}  // namespace

int64_t memorise_emulated(const MemoriseProblem& problem, const Emulation& how, const int32_t* order,
                          const Poll& poll) {
  const BlockLayout layout = lay_out_block(problem, {how.blocks, how.shared_bytes_per_block});
  BlockQueue queue{};
  std::vector<int64_t> done(problem.models), current(how.blocks);
  const BlockLaunch launch{&queue, order, done.data(), current.data(), how.budget};
  int64_t launches = 0;
  for (; queue.finished < problem.models; ++launches) {
    for (int slot = 0; slot < how.blocks; ++slot)
      (all_in_shared(layout) ? launch_block<true> : launch_block<false>)(problem, layout, launch, slot, how.order);
    poll(queue.model_steps, problem.models * problem.steps);
  }
  return launches;
}

}  // namespace interpkern
