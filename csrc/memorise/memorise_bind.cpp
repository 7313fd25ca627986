// Python's side of `memorise`. The caller has validated everything; sizes are read off the arrays.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/array.h>
#include <nanobind/stl/string.h>

#include <array>
#include <string>

#include "memorise.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace interpkern {
namespace {

template <class T, class... Shape>
using Array = nb::ndarray<T, nb::device::cpu, nb::c_contig, Shape...>;
using Floats = Array<float>;
using PerModel = Array<const double, nb::ndim<1>>;
using Parts = std::array<Floats, FIELDS>;

void point(float* (&pointers)[FIELDS], Parts& parts) {
  for (int field = 0; field < FIELDS; ++field) pointers[field] = parts[field].data();
}

void memorise(Parts weights, Parts first, Parts second, Array<int64_t, nb::ndim<1>> step,
              Array<const uint8_t, nb::ndim<3>> tables, PerModel lr, PerModel beta1, PerModel beta2, PerModel eps,
              PerModel weight_decay, double readout_lr_scale, PerModel schedule, std::array<bool, FIELDS> train,
              int64_t steps, bool stop_when_solved, double margin, Array<const int64_t, nb::ndim<1>> logged_steps,
              Array<float, nb::ndim<2>> loss, Array<int64_t, nb::ndim<1>> correct, int threads, const std::string& isa,
              nb::object progress) {
  MemoriseProblem p{};
  p.models = tables.shape(0), p.rows = tables.shape(1), p.columns = tables.shape(2);
  p.hidden = weights[W].shape(1), p.width = weights[W].shape(2);
  point(p.weights, weights), point(p.first, first), point(p.second, second);
  p.step = step.data(), p.tables = tables.data();
  p.lr = lr.data(), p.beta1 = beta1.data(), p.beta2 = beta2.data();
  p.eps = eps.data(), p.weight_decay = weight_decay.data();
  p.readout_lr_scale = readout_lr_scale;
  p.schedule = schedule.data(), p.schedule_length = schedule.size();
  for (int field = 0; field < FIELDS; ++field) p.train[field] = train[field];
  p.steps = steps, p.stop_when_solved = stop_when_solved, p.margin = float(margin);
  p.logged_steps = logged_steps.data(), p.logs = logged_steps.size();
  p.loss = loss.data(), p.correct = correct.data();

  const auto poll = [&](int64_t done, int64_t total) {
    const nb::gil_scoped_acquire gil;
    if (PyErr_CheckSignals() != 0) throw nb::python_error();
    if (!progress.is_none()) progress(done, total);
  };
  const nb::gil_scoped_release no_gil;
  memorise_cpu(p, isa_called(isa), threads, poll);
}

}  // namespace

void bind_memorise(nb::module_& module) {
  module.def("memorise", memorise, nb::kw_only(), "weights"_a, "first"_a, "second"_a, "step"_a, "tables"_a, "lr"_a,
             "beta1"_a, "beta2"_a, "eps"_a, "weight_decay"_a, "readout_lr_scale"_a, "schedule"_a, "train"_a, "steps"_a,
             "stop_when_solved"_a, "margin"_a, "logged_steps"_a, "loss"_a, "correct"_a, "threads"_a, "isa"_a,
             "progress"_a.none(),
             "Train all models in place; see interpkern.ops.memorise, which checks what comes here.");
}

}  // namespace interpkern
