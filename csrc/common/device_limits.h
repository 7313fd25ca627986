// What a launch may ask of a GPU.
#pragma once

#include <stdint.h>

namespace interpkern {

struct DeviceLimits {
  int multiprocessors;
  int64_t shared_bytes_per_block;
};

}  // namespace interpkern
