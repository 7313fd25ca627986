// Python's side of `memorise` on a GPU.
#include <nanobind/nanobind.h>

#include <stdexcept>

#include "memorise/memorise_arguments.h"
#include "memorise/memorise_cuda.h"
#include "memorise/memorise_geometry.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace interpkern {
namespace {

using On = MemoriseArguments<nb::device::cuda>;

void memorise(On::Parts weights, On::Parts first, On::Parts second, On::Steps step, On::Tables tables, On::Hyper hyper,
              double readout_lr_scale, On::PerModel schedule, std::array<bool, FIELDS> train, int64_t steps,
              bool stop_when_solved, double margin, On::LoggedSteps logged_steps, On::Losses loss, On::Steps correct,
              On::Array<const int32_t, nb::ndim<1>> order, On::Array<uint8_t, nb::ndim<1>> workspace, uintptr_t stream,
              nb::object progress) {
  const MemoriseProblem problem = On::problem(weights, first, second, step, tables, hyper, readout_lr_scale, schedule,
                                              train, steps, stop_when_solved, margin, logged_steps, loss, correct);
  const int device = tables.device_id();
  const nb::gil_scoped_release no_gil;
  const CudaPlan plan = plan_memorise_cuda(problem, device);
  if (int64_t(workspace.size()) < plan.workspace_bytes) throw std::invalid_argument("workspace: too small");
  memorise_cuda(problem, plan, order.data(), workspace.data(), device, stream, poll_of(progress));
}

nb::dict plan(int64_t models, int64_t rows, int64_t columns, int64_t width, int64_t hidden,
              std::array<bool, FIELDS> train, int device) {
  MemoriseProblem problem = shape_of(rows, columns, width, hidden, train.data());
  problem.models = models;
  const CudaPlan found = plan_memorise_cuda(problem, device);
  nb::dict entry = geometry_dict(found.layout);
  entry["blocks"] = found.blocks;
  entry["blocks_per_multiprocessor"] = found.blocks_per_multiprocessor;
  entry["workspace_bytes"] = found.workspace_bytes;
  return entry;
}

}  // namespace

void bind_memorise(nb::module_& module) {
  module.def("memorise", memorise, nb::kw_only(), INTERPKERN_MEMORISE_NAMES, "order"_a, "workspace"_a, "stream"_a,
             "progress"_a.none(),
             "Train all models in place on a stream; see interpkern.ops.memorise, which checks what comes here.");
  module.def("memorise_plan", plan, nb::kw_only(), "models"_a, "rows"_a, "columns"_a, "width"_a, "hidden"_a, "train"_a,
             "device"_a, "Launch geometry and workspace of a problem on a device.");
}

}  // namespace interpkern
