// CUDA's runtime with errors as exceptions, and a wait that listens for Ctrl-C.
#pragma once

#include <cuda_runtime.h>

#include <functional>

#include "common/device_limits.h"

namespace interpkern {

// Throws std::runtime_error that says what failed and why.
void check_cuda(cudaError_t error, const char* what);

// Makes a device current, and the one before again at the end.
class OnDevice {
 public:
  explicit OnDevice(int device);
  ~OnDevice();
  OnDevice(const OnDevice&) = delete;
  OnDevice& operator=(const OnDevice&) = delete;

 private:
  int before_ = 0;
};

DeviceLimits device_limits(int device);

// Lets launches on the current device take as much shared memory as a block may have. Always as much: the limit is the
// kernel's, and another thread may be about to launch it.
template <class Function>
void allow_shared_memory(Function* kernel, const DeviceLimits& limits) {
  check_cuda(
      cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, int(limits.shared_bytes_per_block)),
      "shared memory");
}

class Event {
 public:
  Event() { check_cuda(cudaEventCreate(&event_), "cudaEventCreate"); }
  ~Event() { cudaEventDestroy(event_); }
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;

  void record(cudaStream_t stream) { check_cuda(cudaEventRecord(event_, stream), "cudaEventRecord"); }
  double milliseconds_since(const Event& start) const;
  // Waits until what was recorded is done, with a poll every 50 ms. When poll throws, waits on and throws then.
  void wait(const std::function<void()>& poll) const;

 private:
  cudaEvent_t event_ = nullptr;
};

// Throws where a CUDA graph is being captured: work that the host waits for cannot be part of one.
void refuse_capture(cudaStream_t stream, const char* operation);

}  // namespace interpkern
