// Long work on a GPU as launches of bounded duration, so that progress shows and Ctrl-C is heard.
#pragma once

#include <stdint.h>

namespace interpkern {

constexpr double LAUNCH_MILLISECONDS = 40;

// How much work the next launch gets after one of `budget` took so long; at most four times as much, at least a
// quarter.
inline int64_t next_budget(int64_t budget, double milliseconds) {
  const double ratio = milliseconds > 0 ? LAUNCH_MILLISECONDS / milliseconds : 4;
  const double wanted = double(budget) * (ratio > 4 ? 4 : ratio < 0.25 ? 0.25 : ratio);
  return wanted < 1 ? 1 : wanted > 1e15 ? int64_t(1e15) : int64_t(wanted);
}

}  // namespace interpkern
