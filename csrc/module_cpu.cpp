// The Python module interpkern._cpu.
#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <string>
#include <vector>

#include "common/isa.h"
#include "common/launches.h"

namespace nb = nanobind;

namespace interpkern {

void bind_matching_pursuit(nb::module_& module);
void bind_memorise(nb::module_& module);
void bind_roof(nb::module_& module);

}  // namespace interpkern

NB_MODULE(_cpu, module) {
  module.doc() = "Kernels on the CPU.";
  module.def(
      "isas",
      [] {
        std::vector<std::string> names;
        for (const interpkern::IsaName& known : interpkern::ISAS)
          if (interpkern::is_supported(known.isa)) names.emplace_back(known.name);
        return names;
      },
      "Instruction sets that were compiled and that this machine has, narrowest first.");
  module.def("_next_budget", interpkern::next_budget, nanobind::arg("budget"), nanobind::arg("milliseconds"),
             "How much work a GPU's next launch gets after one of `budget` took so long.");
  interpkern::bind_roof(module);
  interpkern::bind_memorise(module);
  interpkern::bind_matching_pursuit(module);
}
