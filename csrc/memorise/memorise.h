// The operation `memorise` as pure functions on pointers and sizes; see reference/memorise.py for what it computes.
#pragma once

#include <stdint.h>

#include <functional>

#include "common/isa.h"

namespace interpkern {

enum Field { E1, E2, W, HIDDEN_BIAS, READOUT, OUTPUT_BIAS, FIELDS };

struct MemoriseProblem {
  int64_t models, rows, columns, width, hidden;  // B, R, C, D, H

  float* weights[FIELDS];  // in: the start; out: trained. Shapes (B, R, D) (B, C, D) (B, H, D) (B, H) (B, H) (B,)
  float* first[FIELDS];    // Adam's moments, in and out, shaped like the weights
  float* second[FIELDS];
  int64_t* step;          // (B,) updates made before, in and out
  const uint8_t* tables;  // (B, R, C) 0 or 1

  const double *lr, *beta1, *beta2, *eps, *weight_decay;  // (B,)
  double readout_lr_scale;
  const double* schedule;  // lr's factor at the update made after `step` updates; the last one holds for ever after
  int64_t schedule_length;
  bool train[FIELDS];

  int64_t steps;
  bool stop_when_solved;
  float margin;
  const int64_t* logged_steps;  // (L,) ascending, from 0 to steps
  int64_t logs;

  float* loss;       // out (B, L) nats per fact
  int64_t* correct;  // out (B,)
};

// Elements of one model's field.
static inline int64_t field_size(const MemoriseProblem& p, int field) {
  const int64_t sizes[FIELDS] = {p.rows * p.width, p.columns * p.width, p.hidden * p.width, p.hidden, p.hidden, 1};
  return sizes[field];
}

// Called about every 50 ms with (model-steps done, model-steps in all); what it throws ends the run.
using Poll = std::function<void(int64_t, int64_t)>;

// Trains all models. The result of each is a function of its own inputs and the ISA alone.
void memorise_cpu(const MemoriseProblem& problem, Isa isa, int threads, const Poll& poll);

// Hands out models to the lanes of all threads, counts what is done, and carries the wish to stop.
struct ModelQueue;
int64_t next_model(ModelQueue& queue);  // -1 when none is left
bool stopped(const ModelQueue& queue);
void add_progress(ModelQueue& queue, int64_t model_steps);

}  // namespace interpkern
