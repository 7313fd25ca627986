#include "common/memory.h"

#include <cstdlib>
#include <new>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace interpkern {
namespace {

constexpr int64_t CACHE_LINE = 64, HUGE_PAGE = 2 << 20;

}  // namespace

void Free::operator()(void* memory) const {
  std::free(memory);
}

std::unique_ptr<void, Free> allocate(int64_t bytes) {
  const int64_t alignment = bytes >= HUGE_PAGE ? HUGE_PAGE : CACHE_LINE;
  const int64_t rounded = (bytes / alignment + 1) * alignment;
  std::unique_ptr<void, Free> memory(std::aligned_alloc(alignment, rounded));
  if (!memory) throw std::bad_alloc();
#if defined(__linux__)
  if (alignment == HUGE_PAGE) madvise(memory.get(), rounded, MADV_HUGEPAGE);
#endif
  return memory;
}

}  // namespace interpkern
