// The Python module interpkern._cuda; imports without a GPU or a driver.
#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include "common/devices.h"

namespace nb = nanobind;

namespace interpkern {

void bind_memorise(nb::module_& module);

namespace {

std::vector<std::string> archs() {
  std::vector<std::string> names;
  for (const char* arch : {INTERPKERN_CUDA_ARCHS}) names.emplace_back(arch);
  return names;
}

std::vector<nb::dict> device_dicts() {
  std::vector<nb::dict> found;
  for (const Device& device : devices()) {
    nb::dict entry;
    entry["name"] = device.name;
    entry["compute_capability"] = std::to_string(device.major) + "." + std::to_string(device.minor);
    entry["memory_bytes"] = device.memory_bytes;
    found.push_back(entry);
  }
  return found;
}

}  // namespace
}  // namespace interpkern

NB_MODULE(_cuda, module) {
  module.doc() = "Kernels on NVIDIA GPUs.";
  module.def("archs", interpkern::archs, "Architectures that were compiled, as CMake names them.");
  module.def("compiler", [] { return INTERPKERN_CUDA_COMPILER; }, "Name and version of the compiler of the kernels.");
  module.def("devices", interpkern::device_dicts, "The GPUs the CUDA runtime sees; none without a driver.");
  interpkern::bind_memorise(module);
}
