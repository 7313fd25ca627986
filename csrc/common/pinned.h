// Memory of the host that a GPU writes to.
#pragma once

#include "common/cuda_calls.h"

namespace interpkern {

// One T, set to T{} at first.
template <class T>
class Pinned {
 public:
  Pinned() {
    check_cuda(cudaMallocHost(&memory_, sizeof(T)), "cudaMallocHost");
    *memory_ = T{};
  }
  ~Pinned() { cudaFreeHost(memory_); }
  Pinned(const Pinned&) = delete;
  Pinned& operator=(const Pinned&) = delete;

  T* get() const { return memory_; }
  T* operator->() const { return memory_; }

 private:
  T* memory_ = nullptr;
};

}  // namespace interpkern
