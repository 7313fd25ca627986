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

// Writes whether the atoms from `known` on would change each sample's path. The pursuit has no products, and its
// outputs are overwritten.
void path_changes_cuda(const GpuPursuit& pursuit, const PursuitLayout& layout, const Replayed& replayed,
                       void* workspace, int device, uintptr_t stream, const Report& report);

}  // namespace interpkern
