// The fp32 roof of a GPU.
#pragma once

#include <stdint.h>

namespace interpkern {

struct RoofLaunch {
  int blocks, threads;
  double flops_each;  // of one thread in one iteration
};

RoofLaunch roof_launch(int device);

// Enqueues the loop; `out` has a number for each thread.
void fma_loop_cuda(float* out, int64_t iterations, int device, uintptr_t stream);

}  // namespace interpkern
