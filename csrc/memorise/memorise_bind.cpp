// Python's side of `memorise` on the CPU, and of the GPU's algorithm as tests run it there.
#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>

#include <string>

#include "memorise/memorise_arguments.h"
#include "memorise/memorise_emulated.h"
#include "memorise/memorise_geometry.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace interpkern {
namespace {

using On = MemoriseArguments<nb::device::cpu>;

void memorise(On::Parts weights, On::Parts first, On::Parts second, On::Steps step, On::Tables tables, On::Hyper hyper,
              double readout_lr_scale, On::PerModel schedule, std::array<bool, FIELDS> train, int64_t steps,
              bool stop_when_solved, double margin, On::LoggedSteps logged_steps, On::Losses loss, On::Steps correct,
              int threads, const std::string& isa, nb::object progress) {
  const MemoriseProblem problem = On::problem(weights, first, second, step, tables, hyper, readout_lr_scale, schedule,
                                              train, steps, stop_when_solved, margin, logged_steps, loss, correct);
  const nb::gil_scoped_release no_gil;
  memorise_cpu(problem, isa_called(isa), threads, poll_of(progress));
}

int64_t emulate(On::Parts weights, On::Parts first, On::Parts second, On::Steps step, On::Tables tables,
                On::Hyper hyper, double readout_lr_scale, On::PerModel schedule, std::array<bool, FIELDS> train,
                int64_t steps, bool stop_when_solved, double margin, On::LoggedSteps logged_steps, On::Losses loss,
                On::Steps correct, On::Array<const int32_t, nb::ndim<1>> order, int blocks, int64_t shared_bytes,
                int64_t budget, int thread_order, nb::object progress) {
  const MemoriseProblem problem = On::problem(weights, first, second, step, tables, hyper, readout_lr_scale, schedule,
                                              train, steps, stop_when_solved, margin, logged_steps, loss, correct);
  const nb::gil_scoped_release no_gil;
  return memorise_emulated(problem, {blocks, shared_bytes, budget, ThreadOrder(thread_order)}, order.data(),
                           poll_of(progress));
}

}  // namespace

void bind_memorise(nb::module_& module) {
  module.def("memorise", memorise, nb::kw_only(), INTERPKERN_MEMORISE_NAMES, "threads"_a, "isa"_a, "progress"_a.none(),
             "Train all models in place; see interpkern.ops.memorise, which checks what comes here.");
  module.def("_memorise_as_on_a_gpu", emulate, nb::kw_only(), INTERPKERN_MEMORISE_NAMES, "order"_a, "blocks"_a,
             "shared_bytes"_a, "budget"_a, "thread_order"_a, "progress"_a.none(),
             "The same by the CUDA kernel's algorithm, its threads one after the other (thread_order: 0 forward, 1 "
             "backward, 2 shuffled); returns the number of launches.");
  bind_memorise_geometry(module);
}

}  // namespace interpkern
