// The threads of a block as an algorithm sees them: phases with a barrier after each, and memory that they share. A
// kernel written against this runs as a block of a GPU or, thread by thread, on the CPU, where tests can see it.
#pragma once

#include <stdint.h>

#include "common/portable.h"
#include "common/tensor_core.h"

#if !defined(__CUDACC__)
#include <algorithm>
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

  // body(thread) where nothing that follows needs what another thread wrote.
  template <class Body>
  INTERPKERN_KERNEL void each(const Body& body) const {
    body(int(threadIdx.x));
  }

  INTERPKERN_KERNEL void wait() const { __syncthreads(); }

  // The same as run; whether body returned true in any thread.
  template <class Body>
  INTERPKERN_KERNEL bool any(const Body& body) const {
    return __syncthreads_or(body(int(threadIdx.x))) != 0;
  }

  // keep(warp, what `join` makes of body(thread) over the warp's threads) in one thread of each warp, then a barrier.
  template <class T, class Join, class Body, class Keep>
  INTERPKERN_KERNEL void warps(const Body& body, const Keep& keep) const {
    T value = body(int(threadIdx.x));
    INTERPKERN_UNROLL for (int distance = WARP / 2; distance > 0; distance /= 2) value =
        Join()(value, __shfl_xor_sync(~0u, value, distance));
    if (threadIdx.x % WARP == 0) keep(int(threadIdx.x / WARP), value);
    __syncthreads();
  }

  // A product of tiles in every warp for which active(warp) holds; operands(thread) are Operands.
  template <class Active, class Access>
  INTERPKERN_KERNEL void multiply_tiles(const Active& active, const Access& operands) const {
    if (active(int(threadIdx.x / WARP))) multiply_tile(operands(int(threadIdx.x)));
  }

  INTERPKERN_KERNEL int threads() const { return int(blockDim.x); }

  // What each thread has for itself from one phase to the next.
  template <class T>
  struct Private {
    T own;
    INTERPKERN_KERNEL explicit Private(const DeviceBlock&) {}
    INTERPKERN_KERNEL T& operator[](int) { return own; }
  };

  static INTERPKERN_KERNEL int64_t add(int64_t* counter, int64_t amount) {
    return int64_t(atomicAdd(reinterpret_cast<unsigned long long*>(counter), (unsigned long long)(amount)));
  }

  static INTERPKERN_KERNEL void raise(uint64_t* highest, uint64_t value) {
    atomicMax(reinterpret_cast<unsigned long long*>(highest), (unsigned long long)(value));
  }

  // Asks for memory that will be read soon, 16 bytes aligned: in pieces of a bulk copy where there is one, or by lines.
  INTERPKERN_KERNEL void fetch(const float* memory, int floats) const {
#if __CUDA_ARCH__ >= 900
    constexpr int PIECE = 4096;
    const int from = int(threadIdx.x) * PIECE;
    if (from >= floats) return;
    const int bytes = (floats - from < PIECE ? floats - from : PIECE) / 4 * 16;
    asm volatile("cp.async.bulk.prefetch.L2.global [%0], %1;" ::"l"(memory + from), "r"(bytes));
#else
    constexpr int LINE = 32;
    INTERPKERN_NO_UNROLL for (int at = int(threadIdx.x) * LINE; at < floats; at += int(blockDim.x) * LINE) {
      asm volatile("prefetch.global.L2 [%0];" ::"l"(memory + at));
    }
#endif
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
  void each(const Body& body) {
    run(body);
  }

  void wait() {}

  template <class Body>
  bool any(const Body& body) {
    shuffle();
    bool found = false;
    for (const int thread : order_) found |= body(thread);
    return found;
  }

  template <class T, class Join, class Body, class Keep>
  void warps(const Body& body, const Keep& keep) {
    std::vector<T> values(order_.size()), joined(WARP);
    run([&](int thread) { values[thread] = body(thread); });
    for (int first = 0; first < threads(); first += WARP) {
      T* const lanes = values.data() + first;
      for (int distance = WARP / 2; distance > 0; distance /= 2) {
        for (int lane = 0; lane < WARP; ++lane) joined[lane] = Join()(lanes[lane], lanes[lane ^ distance]);
        std::copy(joined.begin(), joined.end(), lanes);
      }
      keep(first / WARP, lanes[0]);
    }
  }

  template <class Active, class Access>
  void multiply_tiles(const Active& active, const Access& operands) {
    for (int first = 0; first < threads(); first += WARP) {
      if (!active(first / WARP)) continue;
      Operands lanes[WARP];
      for (int lane = 0; lane < WARP; ++lane) lanes[lane] = operands(first + lane);
      multiply_tile(lanes);
    }
  }

  int threads() const { return int(order_.size()); }

  template <class T>
  struct Private {
    std::vector<T> all;
    explicit Private(const HostBlock& block) : all(block.threads()) {}
    T& operator[](int thread) { return all[thread]; }
  };

  static int64_t add(int64_t* counter, int64_t amount) {
    const int64_t before = *counter;
    *counter += amount;
    return before;
  }

  static void raise(uint64_t* highest, uint64_t value) {
    if (value > *highest) *highest = value;
  }

  void fetch(const float*, int) const {}

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
