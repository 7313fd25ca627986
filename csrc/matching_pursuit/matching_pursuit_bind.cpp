// Python's side of `matching_pursuit`. The caller has validated everything; sizes are read off the arrays.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>

#include <optional>
#include <stdexcept>
#include <string>

#include "matching_pursuit.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace interpkern {
namespace {

template <class T, class... Shape>
using Array = nb::ndarray<T, nb::device::cpu, nb::c_contig, Shape...>;
using Rows = Array<float, nb::ndim<2>>;
using Panels = Array<int16_t, nb::ndim<4>>;
using Scalar = Array<float, nb::shape<1>>;
using Products = std::optional<Array<int16_t, nb::ndim<2>>>;
using Samples = nb::ndarray<nb::ro, nb::device::cpu, nb::c_contig, nb::ndim<2>>;

Atoms view(const Rows& rows, const Scalar& rounding, const Panels& panels, const Products& products, int64_t count,
           int64_t width) {
  Atoms atoms{};
  atoms.count = count, atoms.width = width, atoms.padded_width = rows.shape(1);
  atoms.rows = rows.data(), atoms.panels = panels.data(), atoms.rounding = rounding.data();
  if (products) atoms.products = products->data(), atoms.stride = products->shape(1);
  return atoms;
}

Dtype dtype_of(const Samples& x) {
  const nb::dlpack::dtype dtype = x.dtype();
  if (dtype == nb::dtype<float>()) return Dtype::float32;
  if (dtype.bits == 16 && dtype.code == uint8_t(nb::dlpack::dtype_code::Float)) return Dtype::float16;
  if (dtype.bits == 16 && dtype.code == uint8_t(nb::dlpack::dtype_code::Bfloat)) return Dtype::bfloat16;
  throw std::invalid_argument("x: expected float32, float16 or bfloat16");
}

Method method_called(const std::string& name) {
  if (name == "mp") return Method::mp;
  if (name == "mp_refit") return Method::mp_refit;
  if (name == "omp") return Method::omp;
  throw std::invalid_argument("method: expected mp, mp_refit or omp, got " + name);
}

// Holds on to `progress` by reference.
Report reporting(const nb::object& progress) {
  return [&progress](int64_t done, int64_t total) {
    const nb::gil_scoped_acquire gil;
    if (PyErr_CheckSignals() != 0) throw nb::python_error();
    if (!progress.is_none()) progress(done, total);
  };
}

void add_atoms(Rows rows, Scalar rounding, Panels panels, Products products, int64_t first, int64_t count, int threads,
               const std::string& isa) {
  const Atoms atoms =
      view(rows, rounding, panels, products, count, 2 * panels.shape(1));  // an odd one is padded with zeros
  const nb::object silent = nb::none();
  const Report report = reporting(silent);
  const nb::gil_scoped_release no_gil;
  add_atoms_cpu(atoms, first, isa_called(isa), threads, report);
}

void matching_pursuit(Samples x, Rows rows, Scalar rounding, Panels panels, Products products, int64_t count,
                      const std::string& method, bool nonnegative, double tol, bool exact,
                      Array<int32_t, nb::ndim<2>> indices, Rows coefficients, Array<float, nb::ndim<1>> residual_norm,
                      int threads, const std::string& isa, nb::object progress) {
  Pursuit p{};
  p.atoms = view(rows, rounding, panels, products, count, x.shape(1));
  p.x = x.data(), p.dtype = dtype_of(x);
  p.samples = x.shape(0), p.picks = indices.shape(1);
  p.method = method_called(method), p.nonnegative = nonnegative, p.tol = float(tol), p.exact = exact;
  p.indices = indices.data(), p.coefficients = coefficients.data(), p.residual_norm = residual_norm.data();
  const Report report = reporting(progress);
  const nb::gil_scoped_release no_gil;
  matching_pursuit_cpu(p, isa_called(isa), threads, report);
}

void path_changes(Samples x, Rows rows, Scalar rounding, Panels panels, Products products, int64_t count,
                  const std::string& method, bool nonnegative, double tol, Array<int32_t, nb::ndim<2>> indices,
                  Rows coefficients, Array<float, nb::ndim<1>> residual_norm, int64_t known,
                  Array<bool, nb::ndim<1>> changed, int threads, const std::string& isa) {
  Pursuit p{};
  p.atoms = view(rows, rounding, panels, products, count, x.shape(1));
  p.x = x.data(), p.dtype = dtype_of(x);
  p.samples = x.shape(0), p.picks = indices.shape(1);
  p.method = method_called(method), p.nonnegative = nonnegative, p.tol = float(tol);
  p.indices = indices.data(), p.coefficients = coefficients.data(), p.residual_norm = residual_norm.data();
  p.known = known, p.changed = changed.data();
  const nb::object silent = nb::none();
  const Report report = reporting(silent);
  const nb::gil_scoped_release no_gil;
  path_changes_cpu(p, isa_called(isa), threads, report);
}

}  // namespace

void bind_matching_pursuit(nb::module_& module) {
  module.attr("PANEL") = PANEL;
  module.attr("BLOCK") = BLOCK;
  module.attr("PRODUCT_STEP") = PRODUCT_STEP;
  module.def("add_atoms", add_atoms, nb::kw_only(), "rows"_a, "rounding"_a, "panels"_a, "products"_a.none(), "first"_a,
             "count"_a, "threads"_a, "isa"_a, "Prepare the atoms from `first` on; see interpkern.ops.gram.");
  module.def("matching_pursuit", matching_pursuit, nb::kw_only(), "x"_a, "rows"_a, "rounding"_a, "panels"_a,
             "products"_a.none(), "count"_a, "method"_a, "nonnegative"_a, "tol"_a, "exact"_a, "indices"_a,
             "coefficients"_a, "residual_norm"_a, "threads"_a, "isa"_a, "progress"_a.none(),
             "Pursue all samples; see interpkern.ops.matching_pursuit, which checks what comes here.");
  module.def("path_changes", path_changes, nb::kw_only(), "x"_a, "rows"_a, "rounding"_a, "panels"_a,
             "products"_a.none(), "count"_a, "method"_a, "nonnegative"_a, "tol"_a, "indices"_a, "coefficients"_a,
             "residual_norm"_a, "known"_a, "changed"_a, "threads"_a, "isa"_a,
             "Whether the atoms from `known` on change each sample's path; see interpkern.ops.matching_pursuit.");
}

}  // namespace interpkern
