// `matching_pursuit` on the CPU: the threads, what they share, and the choice of instruction set.
#include <algorithm>
#include <atomic>
#include <cstdlib>

#include "common/memory.h"
#include "common/workers.h"
#include "matching_pursuit.h"
#include "matching_pursuit_simd.h"

namespace interpkern {

struct Queue {
  int64_t total, share;  // no thread takes more than its share at once
  std::atomic<int64_t> next{0};
  std::atomic<int64_t> done{0};
  std::atomic<bool> stop{false};
};

int64_t take(Queue& queue, int64_t most, int64_t& first) {
  if (most <= 0 || stopped(queue)) return 0;
  first = queue.next.fetch_add(std::min(most, queue.share), std::memory_order_relaxed);
  return std::clamp<int64_t>(queue.total - first, 0, std::min(most, queue.share));
}

void add_done(Queue& queue, int64_t count) {
  queue.done.fetch_add(count, std::memory_order_relaxed);
}

bool stopped(const Queue& queue) {
  return queue.stop.load(std::memory_order_relaxed);
}

namespace {

struct Kernels {
  int64_t (*pursuit_workspace_bytes)(const Pursuit&);
  int64_t (*changes_workspace_bytes)(const Pursuit&);
  void (*pursue)(const Pursuit&, Queue&, void*);
  void (*find_changes)(const Pursuit&, Queue&, void*);
  void (*multiply_atoms)(const Atoms&, int64_t, Queue&);
  void (*pack_panel)(const Atoms&, int64_t);
};

Kernels kernels_for(Isa isa) {
  switch (isa) {
#define INTERPKERN_CASE(name)              \
  case Isa::name:                          \
    return {name::pursuit_workspace_bytes, \
            name::changes_workspace_bytes, \
            name::pursue,                  \
            name::find_changes,            \
            name::multiply_atoms,          \
            name::pack_panel};
    INTERPKERN_FOR_EACH_ISA(INTERPKERN_CASE)
#undef INTERPKERN_CASE
  }
  std::abort();
}

// Runs work(queue, workspace) on every thread until the queue is empty.
template <class Work>
void share(int64_t total, int threads, int64_t workspace_bytes, const Report& report, const Work& work) {
  if (total == 0) return report(0, 0);
  const int count = int(std::min<int64_t>(threads, total));
  Queue queue{total, (total + count - 1) / count};
  const auto run = [&](int) {
    const auto workspace = allocate(workspace_bytes);
    work(queue, workspace.get());
  };
  const auto poll = [&] { report(queue.done.load(std::memory_order_relaxed), total); };
  run_workers(count, run, poll, [&] { queue.stop = true; });
  poll();
}

}  // namespace

void add_atoms_cpu(const Atoms& atoms, int64_t first, Isa isa, int threads, const Report& report) {
  const Kernels kernels = kernels_for(isa);
  for (int64_t panel = first / PANEL; panel * PANEL < atoms.count; ++panel) kernels.pack_panel(atoms, panel);
  if (!atoms.products) return;
  share((atoms.count + GROUP - 1) / GROUP, threads, 0, report,
        [&](Queue& queue, void*) { kernels.multiply_atoms(atoms, first, queue); });
}

void matching_pursuit_cpu(const Pursuit& pursuit, Isa isa, int threads, const Report& report) {
  const Kernels kernels = kernels_for(isa);
  share(pursuit.samples, threads, kernels.pursuit_workspace_bytes(pursuit), report,
        [&](Queue& queue, void* workspace) { kernels.pursue(pursuit, queue, workspace); });
}

void path_changes_cpu(const Pursuit& pursuit, Isa isa, int threads, const Report& report) {
  const Kernels kernels = kernels_for(isa);
  share(pursuit.samples, threads, kernels.changes_workspace_bytes(pursuit), report,
        [&](Queue& queue, void* workspace) { kernels.find_changes(pursuit, queue, workspace); });
}

}  // namespace interpkern
