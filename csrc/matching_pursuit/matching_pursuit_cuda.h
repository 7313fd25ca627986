// `matching_pursuit` on a GPU: what the module interpkern._cuda calls.
#pragma once

#include "matching_pursuit/block_pursuit.h"

namespace interpkern {

PursuitLayout plan_matching_pursuit_cuda(const GpuPursuit& pursuit, int device);

// Writes indices, coefficients and residual_norm on a stream of the device and returns when they are there; every
// pointer is the device's. A sample's result depends on the sample, the atoms and the architecture alone; with `exact`
// not even on whether there are products.
void matching_pursuit_cuda(const GpuPursuit& pursuit, const PursuitLayout& layout, void* workspace, int device,
                           uintptr_t stream, const Report& report);

}  // namespace interpkern
