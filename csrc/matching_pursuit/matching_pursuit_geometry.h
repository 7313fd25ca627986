// Launch geometry of the CUDA kernels as Python sees it.
#pragma once

#include <nanobind/nanobind.h>

#include "matching_pursuit/block_pursuit.h"

namespace interpkern {

inline nanobind::dict geometry_dict(const PursuitLayout& layout) {
  const char* const screens[] = {"correlations", "last products", "panels"};
  nanobind::dict found;
  found["screen"] = screens[int(layout.screen)];
  found["on_chip"] = layout.on_chip;
  found["shared_bytes"] = layout.shared_bytes;
  found["residual_in_shared"] = layout.residual_in_shared;
  found["support_in_shared"] = layout.support_in_shared;
  found["slots"] = layout.slots;
  found["workspace_bytes"] = layout.workspace_bytes;
  return found;
}

}  // namespace interpkern
