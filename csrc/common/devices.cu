#include <cuda_runtime.h>

#include "common/devices.h"

namespace interpkern {

std::vector<Device> devices() {
  int count = 0;
  if (cudaGetDeviceCount(&count) != cudaSuccess) {
    cudaGetLastError();  // leave no error behind for others
    return {};
  }
  std::vector<Device> found;
  for (int index = 0; index < count; ++index) {
    cudaDeviceProp properties;
    if (cudaGetDeviceProperties(&properties, index) != cudaSuccess) continue;
    found.push_back({properties.name, properties.major, properties.minor, int64_t(properties.totalGlobalMem)});
  }
  return found;
}

}  // namespace interpkern
