// `memorise` on a GPU: one block a model, whole training runs in few launches; see block_training.h.
#include <algorithm>

#include "common/cuda_calls.h"
#include "common/launches.h"
#include "common/pinned.h"
#include "memorise/block_training.h"
#include "memorise/memorise_cuda.h"

namespace interpkern {
namespace {

// RESIDENT blocks of THREADS, or more of fewer, have registers on one multiprocessor.
template <bool ALL_SHARED, int THREADS, int RESIDENT>
__global__ void __launch_bounds__(THREADS, RESIDENT)
    train_blocks(const __grid_constant__ MemoriseProblem problem, const __grid_constant__ BlockLayout layout,
                 const __grid_constant__ BlockLaunch launch, float* global) {
  extern __shared__ float4 shared[];
  DeviceBlock block;
  BlockTraining<DeviceBlock, ALL_SHARED>(block, problem, layout, launch, reinterpret_cast<float*>(shared),
                                         global + blockIdx.x * layout.global_floats, blockIdx.x)
      .run();
}

constexpr int FEW_THREADS = 128, SOME_THREADS = 192;

using Kernel = decltype(&train_blocks<true, MAX_THREADS, 1>);

Kernel kernel_for(const BlockLayout& layout) {
  if (!all_in_shared(layout)) return train_blocks<false, MAX_THREADS, 1>;
  if (layout.threads <= FEW_THREADS) return train_blocks<true, FEW_THREADS, 5>;
  return layout.threads <= SOME_THREADS ? train_blocks<true, SOME_THREADS, 3> : train_blocks<true, MAX_THREADS, 1>;
}

// The workspace: counters, then one number a model, one a block, and the blocks' arrays.
int64_t counter_bytes(const MemoriseProblem& problem, int blocks) {
  const int64_t numbers = int64_t(sizeof(BlockQueue) / sizeof(int64_t)) + problem.models + blocks;
  return (numbers * int64_t(sizeof(int64_t)) + 255) / 256 * 256;
}

// Updates in a first launch that is short on any GPU.
int64_t first_budget(const MemoriseProblem& p) {
  const double work = double(p.rows + p.columns) * p.width * p.hidden + double(p.rows) * p.columns * p.hidden;
  return std::max<int64_t>(1, int64_t(5e7 / work));
}

}  // namespace

CudaPlan plan_memorise_cuda(const MemoriseProblem& problem, int device) {
  const OnDevice on(device);
  CudaPlan plan{};
  const DeviceLimits limits = device_limits(device);
  plan.layout = lay_out_block(problem, limits);
  const Kernel kernel = kernel_for(plan.layout);
  const int bytes = int(shared_bytes(plan.layout));
  allow_shared_memory(kernel, limits);
  check_cuda(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&plan.blocks_per_multiprocessor, kernel, plan.layout.threads,
                                                           bytes),
             "occupancy");
  plan.blocks =
      int(std::min<int64_t>(problem.models, int64_t(limits.multiprocessors) * plan.blocks_per_multiprocessor));
  plan.workspace_bytes =
      counter_bytes(problem, plan.blocks) + plan.blocks * plan.layout.global_floats * int64_t(sizeof(float));
  return plan;
}

void memorise_cuda(const MemoriseProblem& problem, const CudaPlan& plan, const int32_t* order, void* workspace,
                   int device, uintptr_t stream_handle, const Poll& poll) {
  const OnDevice on(device);
  const auto stream = reinterpret_cast<cudaStream_t>(stream_handle);
  refuse_capture(stream, "memorise");
  const int64_t counters = counter_bytes(problem, plan.blocks), total = problem.models * problem.steps;
  auto* const queue = static_cast<BlockQueue*>(workspace);
  auto* const done = reinterpret_cast<int64_t*>(queue + 1);
  auto* const global = reinterpret_cast<float*>(static_cast<char*>(workspace) + counters);
  check_cuda(cudaMemsetAsync(workspace, 0, counters, stream), "cudaMemsetAsync");
  BlockLaunch launch{queue, order, done, done + problem.models, first_budget(problem)};
  const Kernel kernel = kernel_for(plan.layout);
  const Pinned<BlockQueue> seen;
  Event start, end;
  do {
    start.record(stream);
    kernel<<<plan.blocks, plan.layout.threads, shared_bytes(plan.layout), stream>>>(problem, plan.layout, launch,
                                                                                    global);
    check_cuda(cudaGetLastError(), "launch of memorise");
    check_cuda(cudaMemcpyAsync(seen.get(), queue, sizeof(BlockQueue), cudaMemcpyDeviceToHost, stream), "copy");
    end.record(stream);
    end.wait([&] { poll(seen->model_steps, total); });
    launch.budget = next_budget(launch.budget, end.milliseconds_since(start));
    poll(seen->model_steps, total);
  } while (seen->finished < problem.models);
}

}  // namespace interpkern
