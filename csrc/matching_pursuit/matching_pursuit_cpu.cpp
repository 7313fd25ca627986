// `matching_pursuit` on the CPU: the threads, what they share, and the choice of instruction set.
#include "matching_pursuit.h"

#include <atomic>
#include <cstdlib>

#include "common/memory.h"
#include "common/workers.h"
#include "matching_pursuit_simd.h"

namespace interpkern {

struct Stop {
  std::atomic<bool> wanted{false};
};

bool stopped(const Stop& stop) {
  return stop.wanted.load(std::memory_order_relaxed);
}

namespace {

struct Kernels {
  int64_t (*pursuit_workspace_bytes)(const Pursuit&);
  void (*pursue_group)(const Pursuit&, int64_t, int64_t, const Stop&, void*);
  int64_t (*changes_workspace_bytes)(const Pursuit&);
  void (*find_changes)(const Pursuit&, int64_t, int64_t, const Stop&, void*);
  void (*pack_panel)(const Atoms&, int64_t);
  void (*multiply_atoms)(const Atoms&, int64_t, int64_t, int64_t);
};

Kernels kernels_for(Isa isa) {
  switch (isa) {
#define INTERPKERN_CASE(name)                                                                              \
  case Isa::name:                                                                                          \
    return {name::pursuit_workspace_bytes, name::pursue_group, name::changes_workspace_bytes,              \
            name::find_changes,            name::pack_panel,   name::multiply_atoms};
    INTERPKERN_FOR_EACH_ISA(INTERPKERN_CASE)
#undef INTERPKERN_CASE
  }
  std::abort();
}

// Cuts `total` items into groups that threads take as they come; work(first, count, stop, workspace) does one.
template <class Work>
void in_groups(int64_t total, int threads, int64_t workspace_bytes, const Report& report, const Work& work) {
  const int64_t share = (total + threads - 1) / threads;
  const int64_t group = share < 1 ? 1 : share < GROUP ? share : GROUP;
  const int64_t groups = (total + group - 1) / group;
  std::atomic<int64_t> next{0}, done{0};
  Stop stop;
  const auto run = [&](int) {
    const auto workspace = allocate(workspace_bytes);
    for (int64_t i; (i = next++) < groups && !stopped(stop);) {
      const int64_t first = i * group, count = first + group < total ? group : total - first;
      work(first, count, stop, workspace.get());
      done += count;
    }
  };
  const auto poll = [&] { report(done.load(std::memory_order_relaxed), total); };
  if (groups > 0) run_workers(int(groups < threads ? groups : threads), run, poll, [&] { stop.wanted = true; });
  poll();
}

}  // namespace

void add_atoms_cpu(const Atoms& atoms, int64_t first, Isa isa, int threads, const Report& report) {
  const Kernels kernels = kernels_for(isa);
  for (int64_t panel = first / PANEL; panel * PANEL < atoms.count; ++panel) kernels.pack_panel(atoms, panel);
  if (!atoms.products) return;
  const auto work = [&](int64_t from, int64_t count, const Stop&, void*) {
    kernels.multiply_atoms(atoms, first, first + from, count);
  };
  in_groups(atoms.count - first, threads, 1, report, work);
}

void matching_pursuit_cpu(const Pursuit& pursuit, Isa isa, int threads, const Report& report) {
  const Kernels kernels = kernels_for(isa);
  const auto work = [&](int64_t first, int64_t count, const Stop& stop, void* workspace) {
    kernels.pursue_group(pursuit, first, count, stop, workspace);
  };
  in_groups(pursuit.samples, threads, kernels.pursuit_workspace_bytes(pursuit), report, work);
}

void path_changes_cpu(const Pursuit& pursuit, Isa isa, int threads, const Report& report) {
  const Kernels kernels = kernels_for(isa);
  const auto work = [&](int64_t first, int64_t count, const Stop& stop, void* workspace) {
    kernels.find_changes(pursuit, first, count, stop, workspace);
  };
  in_groups(pursuit.samples, threads, kernels.changes_workspace_bytes(pursuit), report, work);
}

}  // namespace interpkern
