// The threads of a block as an algorithm sees them: phases with a barrier after each, and memory that they share. A
// kernel written against this runs as a block of a GPU or, thread by thread, on the CPU, where tests can see it.
#pragma once

#include <stdint.h>

#include "common/portable.h"

#if !defined(__CUDACC__)
#include <numeric>
#include <utility>
#include <vector>
#endif

namespace interpkern {

#if defined(__CUDACC__)

struct DeviceBlock {
  // body(thread), then a barrier.
  template <class Body>
  INTERPKERN_KERNEL void run(const Body& body) const {
    body(int(threadIdx.x));
    __syncthreads();
  }

  // The same; whether body returned true in any thread.
  template <class Body>
  INTERPKERN_KERNEL bool any(const Body& body) const {
    return __syncthreads_or(body(int(threadIdx.x))) != 0;
  }

  INTERPKERN_KERNEL int threads() const { return int(blockDim.x); }

  static INTERPKERN_KERNEL int64_t add(int64_t* counter, int64_t amount) {
    return int64_t(atomicAdd(reinterpret_cast<unsigned long long*>(counter), (unsigned long long)(amount)));
  }
};

#else

// How the CPU steps through the threads of a phase; a right kernel gives the same bits in any order.
enum class ThreadOrder { FORWARD, BACKWARD, SHUFFLED };

class HostBlock {
 public:
  HostBlock(int threads, ThreadOrder order) : order_(threads), shuffled_(order == ThreadOrder::SHUFFLED) {
    std::iota(order_.begin(), order_.end(), 0);
    if (order == ThreadOrder::BACKWARD)
      for (int i = 0; i < threads; ++i) order_[i] = threads - 1 - i;
  }

  template <class Body>
  void run(const Body& body) {
    shuffle();
    for (const int thread : order_) body(thread);
  }

  template <class Body>
  bool any(const Body& body) {
    shuffle();
    bool found = false;
    for (const int thread : order_) found |= body(thread);
    return found;
  }

  int threads() const { return int(order_.size()); }

  static int64_t add(int64_t* counter, int64_t amount) {
    const int64_t before = *counter;
    *counter += amount;
    return before;
  }

 private:
  std::vector<int> order_;
  bool shuffled_;
  uint32_t state_ = 1;

  void shuffle() {
    if (!shuffled_) return;
    for (size_t i = order_.size(); i > 1; --i) {
      state_ = state_ * 1664525u + 1013904223u;
      std::swap(order_[i - 1], order_[(state_ >> 8) % i]);
    }
  }
};

#endif

}  // namespace interpkern
