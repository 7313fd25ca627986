#include <chrono>
#include <exception>
#include <stdexcept>
#include <string>
#include <thread>

#include "common/cuda_calls.h"

namespace interpkern {

void check_cuda(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return;
  cudaGetLastError();  // leave no error behind for others
  throw std::runtime_error(std::string(what) + ": " + cudaGetErrorName(error) + ", " + cudaGetErrorString(error));
}

OnDevice::OnDevice(int device) {
  check_cuda(cudaGetDevice(&before_), "cudaGetDevice");
  check_cuda(cudaSetDevice(device), "cudaSetDevice");
}

OnDevice::~OnDevice() {
  cudaSetDevice(before_);
}

DeviceLimits device_limits(int device) {
  const auto attribute = [device](cudaDeviceAttr which) {
    int value = 0;
    check_cuda(cudaDeviceGetAttribute(&value, which, device), "cudaDeviceGetAttribute");
    return value;
  };
  return {attribute(cudaDevAttrMultiProcessorCount), attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin)};
}

double Event::milliseconds_since(const Event& start) const {
  float milliseconds = 0;
  check_cuda(cudaEventElapsedTime(&milliseconds, start.event_, event_), "cudaEventElapsedTime");
  return milliseconds;
}

void Event::wait(const std::function<void()>& poll) const {
  using clock = std::chrono::steady_clock;
  const auto every = std::chrono::milliseconds(50);
  auto next_poll = clock::now() + every;
  auto nap = std::chrono::microseconds(20);
  std::exception_ptr failure;
  for (;;) {
    const cudaError_t state = cudaEventQuery(event_);
    if (state == cudaSuccess) break;
    if (state != cudaErrorNotReady) check_cuda(state, "the kernel");
    std::this_thread::sleep_for(nap);
    if (nap < std::chrono::milliseconds(1)) nap *= 2;
    if (failure || clock::now() < next_poll) continue;
    next_poll = clock::now() + every;
    try {
      poll();
    } catch (...) {
      failure = std::current_exception();
    }
  }
  cudaGetLastError();  // cudaErrorNotReady would stay
  if (failure) std::rethrow_exception(failure);
}

void refuse_capture(cudaStream_t stream, const char* operation) {
  cudaStreamCaptureStatus status;
  check_cuda(cudaStreamIsCapturing(stream, &status), "cudaStreamIsCapturing");
  if (status != cudaStreamCaptureStatusNone)
    throw std::runtime_error(std::string(operation) + " waits for the GPU and cannot be captured in a CUDA graph");
}

}  // namespace interpkern
