// Python's side of `matching_pursuit` on the CPU, and of the GPU's algorithm as tests run it there.
#include "matching_pursuit/block_bounds.h"
#include "matching_pursuit/matching_pursuit_arguments.h"
#include "matching_pursuit/matching_pursuit_emulated.h"
#include "matching_pursuit/matching_pursuit_geometry.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace interpkern {
namespace {

template <class T, class... Shape>
using Array = nb::ndarray<T, nb::device::cpu, nb::c_contig, Shape...>;
using Rows = Array<float, nb::ndim<2>>;
using Panels = nb::ndarray<nb::device::cpu, nb::c_contig, nb::ndim<4>>;
using Scalar = Array<float, nb::shape<1>>;
using Products = std::optional<Array<int16_t, nb::ndim<2>>>;
using At = Array<const int64_t, nb::ndim<1>>;
using Samples = nb::ndarray<nb::ro, nb::device::cpu, nb::c_contig, nb::ndim<2>>;

Atoms view(const Rows& rows, const Scalar& rounding, const Panels& panels, const Products& products, int64_t count,
           int64_t width, Isa isa) {
  const PanelLayout layout = panel_layout(width, isa);
  bool fits = int64_t(panels.itemsize()) == layout.bytes;
  for (int i = 0; i < 3; ++i) fits &= int64_t(panels.shape(i + 1)) == layout.shape[i];
  if (!fits) throw std::invalid_argument("gram: made when INTERPKERN_ISA was another; make it anew");
  Atoms atoms{};
  atoms.count = count, atoms.width = width, atoms.padded_width = rows.shape(1);
  atoms.rows = rows.data(), atoms.panels = panels.data(), atoms.rounding = rounding.data();
  if (products) atoms.products = products->data(), atoms.stride = products->shape(1);
  return atoms;
}

// Atoms from which the width is not known: zeros fill the room.
Atoms view_room(const Rows& rows, const Scalar& rounding, const Panels& panels, const Products& products, int64_t count,
                Isa isa) {
  const size_t room = panels.nbytes() / (panels.shape(0) * PANEL * sizeof(int16_t));
  return view(rows, rounding, panels, products, count, std::min(room, rows.shape(1)), isa);
}

template <auto add>
void add_atoms(Rows rows, Scalar rounding, Panels panels, Products products, int64_t first, int64_t count, int threads,
               const std::string& isa) {
  const Isa with = isa_called(isa);
  const Atoms atoms = view_room(rows, rounding, panels, products, count, with);
  const nb::object silent = nb::none();
  const Report report = reporting(silent);
  const nb::gil_scoped_release no_gil;
  add(atoms, first, with, threads, report);
}

void admit_last_atom(Rows rows, Scalar rounding, Panels panels, Products products, int64_t count,
                     const std::string& isa) {
  const Isa with = isa_called(isa);
  admit_last_atom_cpu(view_room(rows, rounding, panels, products, count, with), with);
}

void matching_pursuit(Samples x, Rows rows, Scalar rounding, Panels panels, Products products, int64_t count,
                      const std::string& method, bool nonnegative, double tol, bool exact,
                      Array<int32_t, nb::ndim<2>> indices, Rows coefficients, Array<float, nb::ndim<1>> residual_norm,
                      std::optional<At> at, int threads, const std::string& isa, nb::object progress) {
  const Isa with = isa_called(isa);
  Pursuit p{};
  p.atoms = view(rows, rounding, panels, products, count, x.shape(1), with);
  describe(p, x, method, nonnegative, tol, exact, indices, coefficients, residual_norm);
  if (at) {
    for (size_t i = 0; i < at->size(); ++i)
      if ((*at)(i) < 0 || (*at)(i) >= p.samples) throw std::invalid_argument("at: expected numbers of rows of x");
    p.at = at->data(), p.samples = int64_t(at->size());
  }
  const Report report = reporting(progress);
  const nb::gil_scoped_release no_gil;
  matching_pursuit_cpu(p, with, threads, report);
}

void path_changes(Samples x, Rows rows, Scalar rounding, Panels panels, Products products, int64_t count,
                  const std::string& method, bool nonnegative, double tol, Array<int32_t, nb::ndim<2>> indices,
                  Rows coefficients, Array<float, nb::ndim<1>> residual_norm, int64_t known, int64_t first,
                  int64_t last, Array<bool, nb::ndim<1>> changed, int threads, const std::string& isa) {
  const Isa with = isa_called(isa);
  Pursuit p{};
  p.atoms = view(rows, rounding, panels, products, count, x.shape(1), with);
  describe(p, x, method, nonnegative, tol, true, indices, coefficients, residual_norm);
  if (!(0 <= first && first <= last && last <= p.samples && int64_t(changed.size()) == p.samples))
    throw std::invalid_argument("first, last, changed: expected rows of x, and a mark for each");
  p.known = known, p.first = first, p.last = last, p.changed = changed.data();
  const nb::object silent = nb::none();
  const Report report = reporting(silent);
  const nb::gil_scoped_release no_gil;
  path_changes_cpu(p, with, threads, report);
}

void tile_products(Samples x, Rows rows, Scalar rounding, Panels panels, Products products, int64_t count,
                   Array<int32_t, nb::ndim<2>> sums, Array<float, nb::ndim<1>> units, Array<float, nb::ndim<1>> errors,
                   const std::string& isa) {
  const Isa with = isa_called(isa);
  Pursuit p{};
  p.atoms = view(rows, rounding, panels, products, count, x.shape(1), with);
  p.x = x.data(), p.dtype = dtype_of(x.dtype()), p.samples = x.shape(0);
  tile_products_cpu(p, with, {sums.data(), units.data(), errors.data()});
}

using Emulated = GpuPursuitArguments<nb::device::cpu>;

nb::tuple emulate(Emulated::Samples x, Emulated::Rows rows, Emulated::Products products, int64_t count,
                  const std::string& method, bool nonnegative, double tol, bool exact, Emulated::Indices indices,
                  Emulated::Coefficients coefficients, Emulated::Norms residual_norm, int64_t shared_bytes,
                  int64_t slots, int picks, int thread_order, float noise, nb::object progress) {
  const GpuPursuit p = Emulated::pursuit(x, rows, products, count, method, nonnegative, tol, exact, indices,
                                         coefficients, residual_norm);
  const Report report = reporting(progress);
  PursuitWork work;
  {
    const nb::gil_scoped_release no_gil;
    work = matching_pursuit_emulated(p, {shared_bytes, slots, picks, ThreadOrder(thread_order), noise}, report);
  }
  return nb::make_tuple(work.rounds, work.dots);
}

void replay(Emulated::Samples x, Emulated::Rows rows, Emulated::Products products, int64_t count,
            const std::string& method, bool nonnegative, double tol, bool exact, Emulated::Indices indices,
            Emulated::Coefficients coefficients, Emulated::Norms residual_norm, Emulated::Paths paths, int32_t known,
            Emulated::Changed changed, int64_t shared_bytes, int64_t slots, int picks, int thread_order) {
  const GpuPursuit p = Emulated::pursuit(x, rows, products, count, method, nonnegative, tol, exact, indices,
                                         coefficients, residual_norm);
  const nb::gil_scoped_release no_gil;
  path_changes_emulated(p, {paths.data(), known, changed.data()},
                        {shared_bytes, slots, picks, ThreadOrder(thread_order), 0});
}

void multiply(Emulated::Samples x, Emulated::Rows rows, Emulated::Products products, int64_t count, bool nonnegative,
              bool exact, Emulated::Coefficients screens, int64_t slots, int thread_order) {
  Emulated::Indices indices;
  Emulated::Coefficients coefficients;
  Emulated::Norms norms;
  GpuPursuit p = Emulated::pursuit(x, rows, products, count, "mp", nonnegative, 0, exact, indices, coefficients, norms);
  products_emulated(p, {1 << 18, slots, 1, ThreadOrder(thread_order), 0}, screens.data());
}

nb::dict geometry(int64_t samples, int64_t width, int64_t atoms, int64_t k, const std::string& method, bool nonnegative,
                  bool products, int64_t shared_bytes_per_block) {
  const float some = 0;
  GpuPursuit p{};
  p.samples = samples, p.picks = k, p.method = method_called(method), p.nonnegative = nonnegative;
  p.atoms.count = atoms, p.atoms.width = width, p.atoms.products = products ? &some : nullptr;
  return geometry_dict(lay_out_pursuit(p, {1, shared_bytes_per_block}));
}

nb::tuple layout(int64_t width, const std::string& isa) {
  const PanelLayout found = panel_layout(width, isa_called(isa));
  return nb::make_tuple(nb::make_tuple(found.shape[0], found.shape[1], found.shape[2]),
                        found.bytes == 1 ? "int8" : "int16");
}

nb::tuple key(float correlation, int64_t index, bool nonnegative) {
  const uint64_t key = pick_key(correlation, index, nonnegative);
  return nb::make_tuple(key, index_of(key), correlation_of(key));
}

}  // namespace

void bind_matching_pursuit(nb::module_& module) {
  module.attr("PANEL") = PANEL;
  module.attr("BLOCK") = BLOCK;
  module.attr("ATOM_STEP") = ATOM_STEP;
  module.attr("PRODUCT_STEP") = PRODUCT_STEP;
  module.def("add_atoms", add_atoms<add_atoms_cpu>, nb::kw_only(), "rows"_a, "rounding"_a, "panels"_a,
             "products"_a.none(), "first"_a, "count"_a, "threads"_a, "isa"_a,
             "Prepare the atoms from `first` on; see interpkern.ops.gram.");
  module.def("expect_atoms", add_atoms<expect_atoms_cpu>, nb::kw_only(), "rows"_a, "rounding"_a, "panels"_a,
             "products"_a.none(), "first"_a, "count"_a, "threads"_a, "isa"_a,
             "Multiply atoms that may come; see interpkern.ops.gram.");
  module.def("admit_last_atom", admit_last_atom, nb::kw_only(), "rows"_a, "rounding"_a, "panels"_a, "products"_a.none(),
             "count"_a, "isa"_a, "Take in the next expected atom; see interpkern.ops.gram.");
  module.def("panel_layout", layout, nb::kw_only(), "width"_a, "isa"_a,
             "Shape and dtype in which an instruction set keeps the 16-bit numbers of PANEL atoms.");
  module.def("matching_pursuit", matching_pursuit, nb::kw_only(), "x"_a, "rows"_a, "rounding"_a, "panels"_a,
             "products"_a.none(), "count"_a, "method"_a, "nonnegative"_a, "tol"_a, "exact"_a, "indices"_a,
             "coefficients"_a, "residual_norm"_a, "at"_a.none(), "threads"_a, "isa"_a, "progress"_a.none(),
             "Pursue all samples, or those `at` some rows; see interpkern.ops.matching_pursuit, which checks what "
             "comes here.");
  module.def("path_changes", path_changes, nb::kw_only(), "x"_a, "rows"_a, "rounding"_a, "panels"_a,
             "products"_a.none(), "count"_a, "method"_a, "nonnegative"_a, "tol"_a, "indices"_a, "coefficients"_a,
             "residual_norm"_a, "known"_a, "first"_a, "last"_a, "changed"_a, "threads"_a, "isa"_a,
             "Mark samples whose path the atoms from `known` on change; see interpkern.ops.matching_pursuit.");
  module.def("_tile_products", tile_products, nb::kw_only(), "x"_a, "rows"_a, "rounding"_a, "panels"_a,
             "products"_a.none(), "count"_a, "sums"_a, "units"_a, "errors"_a, "isa"_a,
             "Products of samples with atoms as an instruction set's tiles make them; writes the last three arrays.");
  module.def("_matching_pursuit_as_on_a_gpu", emulate, nb::kw_only(), INTERPKERN_PURSUIT_NAMES, "shared_bytes"_a,
             "slots"_a, "picks"_a, "thread_order"_a, "noise"_a, "progress"_a.none(),
             "The same by the CUDA kernels' algorithm, their threads one after the other (thread_order: 0 forward, 1 "
             "backward, 2 shuffled); returns the numbers of rounds and of dots.");
  module.def("_path_changes_as_on_a_gpu", replay, nb::kw_only(), INTERPKERN_PURSUIT_NAMES, "paths"_a, "known"_a,
             "changed"_a, "shared_bytes"_a, "slots"_a, "picks"_a, "thread_order"_a,
             "Whether the atoms from `known` on enter each sample's path, by the CUDA kernels' algorithm.");
  module.def("_products_as_on_a_gpu", multiply, nb::kw_only(), "x"_a, "rows"_a, "products"_a.none(), "count"_a,
             "nonnegative"_a, "exact"_a, "screens"_a, "slots"_a, "thread_order"_a,
             "Products of samples with atoms as tensor cores make them; where products is None, the largest of each "
             "PANEL.");
  module.def(
      "_tile_error", [](int64_t width, bool exact) { return exact ? tile_error(width) : fast_tile_error(width); },
      "width"_a, "exact"_a, "What a product of unit vectors as a GPU makes it may be off by.");
  module.def("_matching_pursuit_geometry", geometry, nb::kw_only(), "samples"_a, "width"_a, "atoms"_a, "k"_a,
             "method"_a, "nonnegative"_a, "products"_a, "shared_bytes_per_block"_a,
             "Form, shared memory, slots and workspace of the CUDA kernels for a problem.");
  module.def("_pick_key", key, "correlation"_a, "index"_a, "nonnegative"_a,
             "The number by which a GPU orders picks, and what it says again.");
}

}  // namespace interpkern
