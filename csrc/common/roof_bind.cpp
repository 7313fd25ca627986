#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>

#include "common/roof.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace interpkern {
namespace {

int64_t fma_loop(const std::string& isa, int64_t iterations) {
  const nb::gil_scoped_release no_gil;
  switch (isa_called(isa)) {
#define INTERPKERN_CASE(name) \
  case Isa::name:             \
    return name::fma_loop(iterations);
    INTERPKERN_FOR_EACH_ISA(INTERPKERN_CASE)
#undef INTERPKERN_CASE
  }
  return 0;
}

}  // namespace

void bind_roof(nb::module_& module) {
  module.def("fma_loop", fma_loop, "isa"_a, "iterations"_a,
             "Keep one core's multiply-add pipes full; returns the FLOPs done, for the caller to time.");
}

}  // namespace interpkern
