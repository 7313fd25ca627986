// `memorise` on a GPU: what the module interpkern._cuda calls.
#pragma once

#include "memorise/block_layout.h"

namespace interpkern {

// How a problem runs on a device.
struct CudaPlan {
  BlockLayout layout;
  int blocks, blocks_per_multiprocessor;
  int64_t workspace_bytes;
};

CudaPlan plan_memorise_cuda(const MemoriseProblem& problem, int device);

// Trains all models on a stream of the device and returns when they are done; every pointer is the device's. The result
// of each model is a function of its own inputs and the architecture alone.
void memorise_cuda(const MemoriseProblem& problem, const CudaPlan& plan, const int32_t* order, void* workspace,
                   int device, uintptr_t stream, const Poll& poll);

}  // namespace interpkern
