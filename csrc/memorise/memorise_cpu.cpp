// `memorise` on the CPU: the queue of models, the threads, and the choice of instruction set.
#include <atomic>
#include <cstdlib>

#include "common/memory.h"
#include "common/workers.h"
#include "memorise.h"
#include "memorise_simd.h"

namespace interpkern {

struct ModelQueue {
  int64_t models;
  std::atomic<int64_t> next{0};
  std::atomic<int64_t> done{0};
  std::atomic<bool> stop{false};
};

int64_t next_model(ModelQueue& queue) {
  const int64_t model = queue.next.fetch_add(1, std::memory_order_relaxed);
  return model < queue.models ? model : -1;
}

bool stopped(const ModelQueue& queue) {
  return queue.stop.load(std::memory_order_relaxed);
}

void add_progress(ModelQueue& queue, int64_t model_steps) {
  queue.done.fetch_add(model_steps, std::memory_order_relaxed);
}

namespace {

struct Kernel {
  int lanes;
  int64_t workspace_bytes;
  void (*train_models)(const MemoriseProblem&, ModelQueue&, void*);
};

Kernel kernel_for(Isa isa, const MemoriseProblem& problem) {
  switch (isa) {
#define INTERPKERN_CASE(name) \
  case Isa::name:             \
    return {name::lanes(), name::workspace_bytes(problem), name::train_models};
    INTERPKERN_FOR_EACH_ISA(INTERPKERN_CASE)
#undef INTERPKERN_CASE
  }
  std::abort();
}

}  // namespace

void memorise_cpu(const MemoriseProblem& problem, Isa isa, int threads, const Poll& poll) {
  const Kernel kernel = kernel_for(isa, problem);
  const int64_t groups = (problem.models + kernel.lanes - 1) / kernel.lanes;
  ModelQueue queue{problem.models};
  const auto work = [&](int) {
    const auto workspace = allocate(kernel.workspace_bytes);
    kernel.train_models(problem, queue, workspace.get());
  };
  const auto report = [&] { poll(queue.done.load(std::memory_order_relaxed), problem.models * problem.steps); };
  run_workers(int(groups < threads ? groups : threads), work, report, [&] { queue.stop = true; });
  report();
}

}  // namespace interpkern
