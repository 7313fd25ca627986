// Launch geometry of the CUDA kernel as Python sees it.
#pragma once

#include <nanobind/nanobind.h>

#include "memorise/block_layout.h"

namespace interpkern {

inline MemoriseProblem shape_of(int64_t rows, int64_t columns, int64_t width, int64_t hidden, const bool* train) {
  MemoriseProblem p{};
  p.rows = rows, p.columns = columns, p.width = width, p.hidden = hidden;
  for (int field = 0; field < FIELDS; ++field) p.train[field] = train[field];
  return p;
}

inline nanobind::dict geometry_dict(const BlockLayout& layout) {
  nanobind::dict found;
  found["threads"] = layout.threads;
  found["shared_bytes"] = shared_bytes(layout);
  found["global_bytes"] = layout.global_floats * int64_t(sizeof(float));
  return found;
}

void bind_memorise_geometry(nanobind::module_& module);

}  // namespace interpkern
