// What the CUDA runtime says of this machine's GPUs.
#pragma once

#include <stdint.h>

#include <string>
#include <vector>

namespace interpkern {

struct Device {
  std::string name;
  int major, minor;
  int64_t memory_bytes;
};

// Empty where there is no GPU or no driver.
std::vector<Device> devices();

}  // namespace interpkern
