// Workspace of the kernels' threads.
#pragma once

#include <stdint.h>

#include <memory>

namespace interpkern {

struct Free {
  void operator()(void* memory) const;
};

// Memory aligned to a cache line, in huge pages where the system has them. Throws std::bad_alloc.
std::unique_ptr<void, Free> allocate(int64_t bytes);

}  // namespace interpkern
