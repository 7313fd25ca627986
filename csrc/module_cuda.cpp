// The Python module interpkern._cuda; imports without a GPU or a driver.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <stdexcept>

#include "common/devices.h"
#include "common/roof_cuda.h"

namespace nb = nanobind;

namespace interpkern {

void bind_matching_pursuit(nb::module_& module);
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

using Numbers = nb::ndarray<float, nb::device::cuda, nb::c_contig, nb::ndim<1>>;

int64_t roof_threads(int device) {
  const RoofLaunch launch = roof_launch(device);
  return int64_t(launch.blocks) * launch.threads;
}

double fma_loop(Numbers out, int64_t iterations, uintptr_t stream) {
  const int device = out.device_id();
  if (int64_t(out.size()) < roof_threads(device)) throw std::invalid_argument("out: too small");
  fma_loop_cuda(out.data(), iterations, device, stream);
  return double(roof_threads(device)) * roof_launch(device).flops_each * double(iterations);
}

}  // namespace
}  // namespace interpkern

NB_MODULE(_cuda, module) {
  module.doc() = "Kernels on NVIDIA GPUs.";
  module.def("archs", interpkern::archs, "Architectures that were compiled, as CMake names them.");
  module.def("compiler", [] { return INTERPKERN_CUDA_COMPILER; }, "Name and version of the compiler of the kernels.");
  module.def("devices", interpkern::device_dicts, "The GPUs the CUDA runtime sees; none without a driver.");
  module.def("roof_threads", interpkern::roof_threads, nb::arg("device"), "Numbers that fma_loop writes.");
  module.def("fma_loop", interpkern::fma_loop, nb::arg("out"), nb::arg("iterations"), nb::arg("stream"),
             "Enqueue a loop of multiply-adds that fills the GPU; returns its floating-point operations.");
  interpkern::bind_memorise(module);
  interpkern::bind_matching_pursuit(module);
}
