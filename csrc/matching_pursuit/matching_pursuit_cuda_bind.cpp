// Python's side of `matching_pursuit` on a GPU.
#include "matching_pursuit/matching_pursuit_arguments.h"
#include "matching_pursuit/matching_pursuit_cuda.h"
#include "matching_pursuit/matching_pursuit_geometry.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace interpkern {
namespace {

using On = GpuPursuitArguments<nb::device::cuda>;

void matching_pursuit(On::Samples x, On::Rows rows, On::Products products, int64_t count, const std::string& method,
                      bool nonnegative, double tol, bool exact, On::Indices indices, On::Coefficients coefficients,
                      On::Norms residual_norm, On::Array<uint8_t, nb::ndim<1>> workspace, uintptr_t stream,
                      nb::object progress) {
  const GpuPursuit p =
      On::pursuit(x, rows, products, count, method, nonnegative, tol, exact, indices, coefficients, residual_norm);
  const Report report = reporting(progress);
  const int device = rows.device_id();
  const nb::gil_scoped_release no_gil;
  const PursuitLayout layout = plan_matching_pursuit_cuda(p, device);
  if (int64_t(workspace.size()) < layout.workspace_bytes) throw std::invalid_argument("workspace: too small");
  matching_pursuit_cuda(p, layout, workspace.data(), device, stream, report);
}

void path_changes(On::Samples x, On::Rows rows, On::Products products, int64_t count, const std::string& method,
                  bool nonnegative, double tol, bool exact, On::Indices indices, On::Coefficients coefficients,
                  On::Norms residual_norm, On::Paths paths, int32_t known, On::Changed changed,
                  On::Array<uint8_t, nb::ndim<1>> workspace, uintptr_t stream) {
  const GpuPursuit p =
      On::pursuit(x, rows, products, count, method, nonnegative, tol, exact, indices, coefficients, residual_norm);
  const nb::object silent = nb::none();
  const Report report = reporting(silent);
  const int device = rows.device_id();
  const nb::gil_scoped_release no_gil;
  const PursuitLayout layout = plan_matching_pursuit_cuda(p, device);
  if (int64_t(workspace.size()) < layout.workspace_bytes) throw std::invalid_argument("workspace: too small");
  path_changes_cuda(p, layout, {paths.data(), known, changed.data()}, workspace.data(), device, stream, report);
}

nb::dict plan(On::Samples x, On::Rows rows, On::Products products, int64_t count, const std::string& method,
              bool nonnegative, double tol, bool exact, On::Indices indices, On::Coefficients coefficients,
              On::Norms residual_norm) {
  const GpuPursuit p =
      On::pursuit(x, rows, products, count, method, nonnegative, tol, exact, indices, coefficients, residual_norm);
  return geometry_dict(plan_matching_pursuit_cuda(p, rows.device_id()));
}

}  // namespace

void bind_matching_pursuit(nb::module_& module) {
  module.def("matching_pursuit", matching_pursuit, nb::kw_only(), INTERPKERN_PURSUIT_NAMES, "workspace"_a, "stream"_a,
             "progress"_a.none(),
             "Pursue all samples on a stream; see interpkern.ops.matching_pursuit, which checks what comes here.");
  module.def("path_changes", path_changes, nb::kw_only(), INTERPKERN_PURSUIT_NAMES, "paths"_a, "known"_a, "changed"_a,
             "workspace"_a, "stream"_a,
             "Whether the atoms from `known` on enter each sample's path; indices to residual_norm are overwritten.");
  module.def("matching_pursuit_plan", plan, nb::kw_only(), INTERPKERN_PURSUIT_NAMES,
             "Form, memory and slots of a call on the device of its tensors.");
}

}  // namespace interpkern
