// Python's arrays as a MemoriseProblem, on whichever device they are. The caller has validated everything; sizes are
// read off the arrays.
#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/array.h>

#include <array>

#include "memorise/memorise.h"

namespace interpkern {

template <class Device>
struct MemoriseArguments {
  template <class T, class... Shape>
  using Array = nanobind::ndarray<T, Device, nanobind::c_contig, Shape...>;
  using Parts = std::array<Array<float>, FIELDS>;
  using Steps = Array<int64_t, nanobind::ndim<1>>;
  using Tables = Array<const uint8_t, nanobind::ndim<3>>;
  using PerModel = Array<const double, nanobind::ndim<1>>;
  using Hyper = std::array<PerModel, 5>;  // lr, beta1, beta2, eps, weight_decay
  using LoggedSteps = Array<const int64_t, nanobind::ndim<1>>;
  using Losses = Array<float, nanobind::ndim<2>>;

  static void point(float* (&pointers)[FIELDS], Parts& parts) {
    for (int field = 0; field < FIELDS; ++field) pointers[field] = parts[field].data();
  }

  static MemoriseProblem problem(Parts& weights, Parts& first, Parts& second, Steps& step, Tables& tables, Hyper& hyper,
                                 double readout_lr_scale, PerModel& schedule, std::array<bool, FIELDS> train,
                                 int64_t steps, bool stop_when_solved, double margin, LoggedSteps& logged_steps,
                                 Losses& loss, Steps& correct) {
    MemoriseProblem p{};
    p.models = tables.shape(0), p.rows = tables.shape(1), p.columns = tables.shape(2);
    p.hidden = weights[W].shape(1), p.width = weights[W].shape(2);
    point(p.weights, weights), point(p.first, first), point(p.second, second);
    p.step = step.data(), p.tables = tables.data();
    p.lr = hyper[0].data(), p.beta1 = hyper[1].data(), p.beta2 = hyper[2].data();
    p.eps = hyper[3].data(), p.weight_decay = hyper[4].data();
    p.readout_lr_scale = readout_lr_scale;
    p.schedule = schedule.data(), p.schedule_length = schedule.size();
    for (int field = 0; field < FIELDS; ++field) p.train[field] = train[field];
    p.steps = steps, p.stop_when_solved = stop_when_solved, p.margin = float(margin);
    p.logged_steps = logged_steps.data(), p.logs = logged_steps.size();
    p.loss = loss.data(), p.correct = correct.data();
    return p;
  }
};

// Tells Python how far a run is, and lets Ctrl-C through; for a thread without the GIL.
inline Poll poll_of(const nanobind::object& progress) {
  return [&progress](int64_t done, int64_t total) {
    const nanobind::gil_scoped_acquire gil;
    if (PyErr_CheckSignals() != 0) throw nanobind::python_error();
    if (!progress.is_none()) progress(done, total);
  };
}

}  // namespace interpkern

// The names of problem()'s arguments, in their order.
#define INTERPKERN_MEMORISE_NAMES                                                                                     \
  "weights"_a, "first"_a, "second"_a, "step"_a, "tables"_a, "hyper"_a, "readout_lr_scale"_a, "schedule"_a, "train"_a, \
      "steps"_a, "stop_when_solved"_a, "margin"_a, "logged_steps"_a, "loss"_a, "correct"_a
