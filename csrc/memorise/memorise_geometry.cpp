#include "memorise/memorise_geometry.h"

#include <nanobind/stl/array.h>

#include <array>

namespace nb = nanobind;
using namespace nb::literals;

namespace interpkern {
namespace {

nb::dict geometry(int64_t rows, int64_t columns, int64_t width, int64_t hidden, std::array<bool, FIELDS> train,
                  int64_t shared_bytes_per_block) {
  return geometry_dict(
      lay_out_block(shape_of(rows, columns, width, hidden, train.data()), {1, shared_bytes_per_block}));
}

}  // namespace

void bind_memorise_geometry(nb::module_& module) {
  module.def("_memorise_geometry", geometry, nb::kw_only(), "rows"_a, "columns"_a, "width"_a, "hidden"_a, "train"_a,
             "shared_bytes_per_block"_a,
             "Threads, shared memory and global workspace of one block of the CUDA kernel for a shape.");
}

}  // namespace interpkern
