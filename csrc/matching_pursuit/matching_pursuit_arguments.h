// What the bind files of `matching_pursuit` share. The caller has validated everything; sizes are read off the arrays.
#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>

#include <optional>
#include <stdexcept>
#include <string>

#include "matching_pursuit/block_pursuit.h"
#include "matching_pursuit/matching_pursuit.h"

namespace interpkern {

inline Dtype dtype_of(const nanobind::dlpack::dtype& dtype) {
  if (dtype == nanobind::dtype<float>()) return Dtype::float32;
  if (dtype.bits == 16 && dtype.code == uint8_t(nanobind::dlpack::dtype_code::Float)) return Dtype::float16;
  if (dtype.bits == 16 && dtype.code == uint8_t(nanobind::dlpack::dtype_code::Bfloat)) return Dtype::bfloat16;
  throw std::invalid_argument("x: expected float32, float16 or bfloat16");
}

inline Method method_called(const std::string& name) {
  if (name == "mp") return Method::mp;
  if (name == "mp_refit") return Method::mp_refit;
  if (name == "omp") return Method::omp;
  throw std::invalid_argument("method: expected mp, mp_refit or omp, got " + name);
}

// Holds on to `progress` by reference.
inline Report reporting(const nanobind::object& progress) {
  return [&progress](int64_t done, int64_t total) {
    const nanobind::gil_scoped_acquire gil;
    if (PyErr_CheckSignals() != 0) throw nanobind::python_error();
    if (!progress.is_none()) progress(done, total);
  };
}

// Fills in all but the atoms; without indices there is no room for codes.
template <class Dictionary, class Samples, class Indices, class Coefficients, class Norms>
void describe(PursuitOver<Dictionary>& p, Samples& x, const std::string& method, bool nonnegative, double tol,
              bool exact, Indices& indices, Coefficients& coefficients, Norms& residual_norm) {
  p.x = x.data(), p.dtype = dtype_of(x.dtype());
  p.samples = x.shape(0), p.picks = indices.is_valid() ? indices.shape(1) : 0;
  p.method = method_called(method), p.nonnegative = nonnegative, p.tol = float(tol), p.exact = exact;
  if (p.picks > 0)
    p.indices = indices.data(), p.coefficients = coefficients.data(), p.residual_norm = residual_norm.data();
}

// Arrays of the GPU's form, on a GPU or, for its emulation, on the CPU.
template <class Device>
struct GpuPursuitArguments {
  template <class T, class... Shape>
  using Array = nanobind::ndarray<T, Device, nanobind::c_contig, Shape...>;
  using Rows = Array<const float, nanobind::ndim<2>>;
  using Products = std::optional<Rows>;
  using Samples = nanobind::ndarray<nanobind::ro, Device, nanobind::c_contig, nanobind::ndim<2>>;
  using Indices = Array<int32_t, nanobind::ndim<2>>;
  using Coefficients = Array<float, nanobind::ndim<2>>;
  using Norms = Array<float, nanobind::ndim<1>>;
  using Paths = Array<const int32_t, nanobind::ndim<2>>;
  using Changed = Array<bool, nanobind::ndim<1>>;

  static GpuPursuit pursuit(Samples& x, Rows& rows, Products& products, int64_t count, const std::string& method,
                            bool nonnegative, double tol, bool exact, Indices& indices, Coefficients& coefficients,
                            Norms& residual_norm) {
    GpuPursuit p{};
    p.atoms.count = count, p.atoms.width = x.shape(1), p.atoms.stride = rows.shape(1), p.atoms.rows = rows.data();
    if (products) p.atoms.products = products->data(), p.atoms.side = products->shape(1);
    const int64_t room = (count + BLOCK - 1) / BLOCK * BLOCK;
    if (p.atoms.stride % 4 != 0 || p.atoms.stride < p.atoms.width || int64_t(rows.shape(0)) < room)
      throw std::invalid_argument("rows: expected (room, padded D), whole BLOCKs and quads");
    if (products && (p.atoms.side < room || int64_t(products->shape(0)) < count))
      throw std::invalid_argument("products: expected (side, side), whole BLOCKs");
    describe(p, x, method, nonnegative, tol, exact, indices, coefficients, residual_norm);
    return p;
  }
};

}  // namespace interpkern

// The names of pursuit()'s arguments, in their order.
#define INTERPKERN_PURSUIT_NAMES                                                                                 \
  "x"_a, "rows"_a, "products"_a.none(), "count"_a, "method"_a, "nonnegative"_a, "tol"_a, "exact"_a, "indices"_a, \
      "coefficients"_a, "residual_norm"_a
