// A loop of fused multiply-adds on every multiprocessor: the GPU's roof in fp32, to compare kernels with.
#include "common/cuda_calls.h"
#include "common/roof_cuda.h"

namespace interpkern {
namespace {

constexpr int CHAINS = 16, ROOF_THREADS = 256, BLOCKS_EACH = 8;

__global__ void multiply_adds(float* out, int64_t iterations) {
  float sums[CHAINS];
  const float x = 1.0f + 1e-7f * float(threadIdx.x);
#pragma unroll
  for (int i = 0; i < CHAINS; ++i) sums[i] = float(i);
  for (int64_t n = 0; n < iterations; ++n) {
#pragma unroll
    for (int i = 0; i < CHAINS; ++i) sums[i] = __fmaf_rn(sums[i], x, 1e-7f);
  }
  float total = 0;
#pragma unroll
  for (int i = 0; i < CHAINS; ++i) total += sums[i];
  out[blockIdx.x * blockDim.x + threadIdx.x] = total;
}

}  // namespace

RoofLaunch roof_launch(int device) {
  int processors = 0;
  check_cuda(cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, device), "cudaDeviceGetAttribute");
  return {processors * BLOCKS_EACH, ROOF_THREADS, 2.0 * CHAINS};
}

void fma_loop_cuda(float* out, int64_t iterations, int device, uintptr_t stream) {
  const OnDevice on(device);
  const RoofLaunch launch = roof_launch(device);
  multiply_adds<<<launch.blocks, launch.threads, 0, reinterpret_cast<cudaStream_t>(stream)>>>(out, iterations);
  check_cuda(cudaGetLastError(), "launch of the multiply-adds");
}

}  // namespace interpkern
