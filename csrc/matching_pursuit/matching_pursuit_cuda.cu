// `matching_pursuit` on a GPU, in rounds: idle slots get samples, those that want them get products with all atoms, and
// all make picks; see block_sample.h.
#include "common/cuda_calls.h"
#include "common/launches.h"
#include "common/pinned.h"
#include "matching_pursuit/block_products.h"
#include "matching_pursuit/block_refill.h"
#include "matching_pursuit/block_sample.h"
#include "matching_pursuit/matching_pursuit_cuda.h"

namespace interpkern {
namespace {

// Blocks of PURSUIT_THREADS that have registers on one multiprocessor.
constexpr int resident(bool fits) {
  return fits ? 2 : 3;
}

__global__ void __launch_bounds__(PURSUIT_THREADS)
    refill_slots(const __grid_constant__ GpuPursuit pursuit, const __grid_constant__ PursuitLayout layout,
                 const __grid_constant__ PursuitWorkspace workspace) {
  __shared__ PursuitScratch scratch;
  DeviceBlock block;
  BlockRefill<DeviceBlock>(block, scratch).run(pursuit, layout, workspace, int(blockIdx.x));
}

template <bool PANELS, bool SPLIT>
__global__ void __launch_bounds__(PRODUCT_THREADS)
    multiply_atoms(const __grid_constant__ GpuPursuit pursuit, const __grid_constant__ PursuitLayout layout,
                   const __grid_constant__ PursuitWorkspace workspace) {
  __shared__ ProductScratch scratch;
  DeviceBlock block;
  // Blocks that run together share their atoms.
  const int row_tiles = int((layout.slots + TILE_SIDE - 1) / TILE_SIDE);
  BlockProducts<DeviceBlock, PANELS, SPLIT>(block, pursuit, layout, workspace, scratch, int(blockIdx.x) % row_tiles,
                                            int(blockIdx.x) / row_tiles)
      .run();
}

template <Screen SCREEN, bool FITS>
__global__ void __launch_bounds__(PURSUIT_THREADS, resident(FITS))
    pursue_samples(const __grid_constant__ GpuPursuit pursuit, const __grid_constant__ PursuitLayout layout,
                   const __grid_constant__ PursuitWorkspace workspace) {
  extern __shared__ uint4 shared[];
  DeviceBlock block;
  BlockSample<DeviceBlock, SCREEN, FITS>(block, pursuit, layout, workspace, *reinterpret_cast<PursuitScratch*>(shared),
                                         int(blockIdx.x))
      .run(PICKS_A_LAUNCH);
}

template <bool FITS>
__global__ void __launch_bounds__(PURSUIT_THREADS, resident(FITS))
    replay_samples(const __grid_constant__ GpuPursuit pursuit, const __grid_constant__ PursuitLayout layout,
                   const __grid_constant__ PursuitWorkspace workspace, const __grid_constant__ Replayed replayed) {
  extern __shared__ uint4 shared[];
  DeviceBlock block;
  BlockSample<DeviceBlock, Screen::PANELS, FITS>(block, pursuit, layout, workspace,
                                                 *reinterpret_cast<PursuitScratch*>(shared), int(blockIdx.x))
      .replay(replayed);
}

using Kernel = decltype(&refill_slots);

Kernel product_kernel(const GpuPursuit& p, const PursuitLayout& layout) {
  if (layout.screen == Screen::PANELS) return p.exact ? multiply_atoms<true, true> : multiply_atoms<true, false>;
  return p.exact ? multiply_atoms<false, true> : multiply_atoms<false, false>;
}

Kernel pursuit_kernel(const PursuitLayout& layout) {
  switch (layout.screen) {
    case Screen::CORRELATIONS:
      return layout.fits ? pursue_samples<Screen::CORRELATIONS, true> : pursue_samples<Screen::CORRELATIONS, false>;
    case Screen::LAST_PRODUCTS:
      return pursue_samples<Screen::LAST_PRODUCTS, true>;
    default:
      return layout.fits ? pursue_samples<Screen::PANELS, true> : pursue_samples<Screen::PANELS, false>;
  }
}

int64_t tiles(int64_t size) {
  return (size + TILE_SIDE - 1) / TILE_SIDE;
}

// Enqueues rounds until all samples are done; round(workspace, stream) is one, behind the refill of idle slots.
template <class Round>
void run_rounds(const GpuPursuit& p, const PursuitLayout& layout, void* memory, cudaStream_t stream,
                const Report& report, const Round& round) {
  refuse_capture(stream, "matching_pursuit");
  const PursuitWorkspace w = divide(layout, memory, nullptr);
  check_cuda(cudaMemsetAsync(memory, 0, zeroed_bytes(layout), stream), "cudaMemsetAsync");
  const Pinned<PursuitQueue> seen;
  Event start, end;
  for (int64_t rounds = 1; seen->finished < p.samples;) {
    start.record(stream);
    for (int64_t i = 0; i < rounds; ++i) {
      refill_slots<<<int(layout.slots), PURSUIT_THREADS, 0, stream>>>(p, layout, w);
      round(w, stream);
      check_cuda(cudaGetLastError(), "launch of matching_pursuit");
    }
    check_cuda(cudaMemcpyAsync(seen.get(), w.queue, sizeof(PursuitQueue), cudaMemcpyDeviceToHost, stream), "copy");
    end.record(stream);
    end.wait([&] { report(seen->finished, p.samples); });
    rounds = next_budget(rounds, end.milliseconds_since(start));
    report(seen->finished, p.samples);
  }
  report(p.samples, p.samples);
}

void empty_list(const PursuitWorkspace& w, cudaStream_t stream) {
  check_cuda(cudaMemsetAsync(&w.queue->wanting, 0, sizeof(int64_t), stream), "cudaMemsetAsync");
}

}  // namespace

PursuitLayout plan_matching_pursuit_cuda(const GpuPursuit& pursuit, int device) {
  const OnDevice on(device);
  return lay_out_pursuit(pursuit, device_limits(device));
}

void matching_pursuit_cuda(const GpuPursuit& p, const PursuitLayout& layout, void* memory, int device,
                           uintptr_t stream_handle, const Report& report) {
  const OnDevice on(device);
  const Kernel multiply = product_kernel(p, layout), pursue = pursuit_kernel(layout);
  const int bytes = int(layout.shared_bytes);
  const unsigned products = unsigned(tiles(layout.slots) * tiles(layout.columns));
  allow_shared_memory(pursue, device_limits(device));
  run_rounds(p, layout, memory, reinterpret_cast<cudaStream_t>(stream_handle), report,
             [&](const PursuitWorkspace& w, cudaStream_t stream) {
               multiply<<<products, PRODUCT_THREADS, 0, stream>>>(p, layout, w);
               empty_list(w, stream);
               pursue<<<int(layout.slots), PURSUIT_THREADS, bytes, stream>>>(p, layout, w);
             });
}

void path_changes_cuda(const GpuPursuit& p, const PursuitLayout& layout, const Replayed& replayed, void* memory,
                       int device, uintptr_t stream_handle, const Report& report) {
  const OnDevice on(device);
  const auto replay = layout.fits ? replay_samples<true> : replay_samples<false>;
  const int bytes = int(layout.shared_bytes);
  allow_shared_memory(replay, device_limits(device));
  run_rounds(p, layout, memory, reinterpret_cast<cudaStream_t>(stream_handle), report,
             [&](const PursuitWorkspace& w, cudaStream_t stream) {
               replay<<<int(layout.slots), PURSUIT_THREADS, bytes, stream>>>(p, layout, w, replayed);
               empty_list(w, stream);
             });
}

}  // namespace interpkern
