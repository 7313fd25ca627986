// One thread's share of `memorise`: LANES models at a time, one in each lane of a vector; a model that is done leaves
// its lane to the next. Compiled once per ISA; no arithmetic ever crosses lanes, so a model's bits are its own.
#include "memorise_simd.h"

#include "passes.h"

#if defined(__SSE__)
#include <immintrin.h>
#endif

namespace interpkern::INTERPKERN_ISA {

namespace {

// Adam's second moments and the errors of well-learnt facts decay into denormals, which some cores handle 100x slower.
void flush_denormals() {
#if defined(__SSE__)
  _mm_setcsr(_mm_getcsr() | 0x8040);
#elif defined(__aarch64__)
  uint64_t control;
  asm volatile("mrs %0, fpcr" : "=r"(control));
  asm volatile("msr fpcr, %0" : : "r"(control | (1ull << 24)));
#endif
}

int odd(int n) {
  return n | 1;
}

// Takes pieces off one block of memory; with no block, only adds up what they need.
struct Arena {
  Vec* memory;
  int64_t used = 0;
  Vec* take(int64_t vectors) {
    Vec* piece = memory ? memory + used : nullptr;
    used += vectors;
    return piece;
  }
};

int64_t padded_size(const Group& g, int field) {
  const int64_t sizes[FIELDS] = {int64_t(g.rows) * g.width_stride,
                                 int64_t(g.columns) * g.width_stride,
                                 int64_t(g.hidden) * g.width_stride,
                                 g.hidden,
                                 g.hidden,
                                 1};
  return sizes[field];
}

Group lay_out(const MemoriseProblem& p, Arena& arena) {
  Group g{};
  g.rows = p.rows, g.columns = p.columns, g.width = p.width, g.hidden = p.hidden;
  g.row_stride = odd(g.rows), g.column_stride = odd(g.columns), g.width_stride = odd(g.width);
  const int64_t rows = int64_t(g.hidden) * g.row_stride, columns = int64_t(g.hidden) * g.column_stride;
  g.A = arena.take(rows), g.N = arena.take(columns);
  g.SA = arena.take(rows), g.SB = arena.take(columns);
  g.offset = arena.take(g.columns), g.active = arena.take(g.hidden);
  g.Z = arena.take(p.rows * p.columns);
  for (int field = 0; field < FIELDS; ++field) {
    const int64_t size = padded_size(g, field);
    g.weights[field] = arena.take(size);
    const bool written = field >= W;  // the passes write these gradients whether or not they are trained
    g.gradient[field] = p.train[field] || written ? arena.take(size) : nullptr;
    g.first[field] = p.train[field] ? arena.take(size) : nullptr;
    g.second[field] = p.train[field] ? arena.take(size) : nullptr;
  }
  g.facts = reinterpret_cast<uint32_t*>(arena.take((p.rows * p.columns + LANES - 1) / LANES));
  return g;
}

// One number a lane, to be written singly and read as a vector.
union PerLane {
  float lane[LANES];
  Vec vector;
};

struct Lane {
  int64_t model = -1, done = 0, next_log = 0;
  double power1 = 1, power2 = 1;  // beta^t
};

class Runner {
 public:
  Runner(const MemoriseProblem& problem, ModelQueue& models, const Group& group) : p(problem), queue(models), g(group) {
    for (int lane = 0; lane < LANES; ++lane) fill(lane);
  }

  void run() {
    while (busy > 0 && !stopped(queue)) {
      hidden_pass<false>(g, g.weights[E1], g.rows, g.A, g.row_stride);
      hidden_pass<true>(g, g.weights[E2], g.columns, g.N, g.column_stride);
      logits_pass(g);
      if (settle()) continue;
      error_pass(g);
      active_pass(g);
      weight_pass(g);
      if (p.train[E1]) embedding_pass(g, g.SA, g.row_stride, g.rows, g.gradient[E1]);
      if (p.train[E2]) embedding_pass(g, g.SB, g.column_stride, g.columns, g.gradient[E2]);
      update();
    }
  }

 private:
  const MemoriseProblem& p;
  ModelQueue& queue;
  const Group g;
  Lane lanes[LANES];
  int busy = 0;
  PerLane beta1{}, beta1_rest{}, beta2{}, beta2_rest{}, eps{};

  enum Direction { IN, OUT };

  // Moves a lane's model between the caller's arrays and the vectors; what is not trained need not go back.
  void move(int lane, Direction direction) {
    for (int field = 0; field < FIELDS; ++field) {
      if (p.train[field] || direction == IN) move_field(lane, direction, field, p.weights[field], g.weights[field]);
      if (!p.train[field]) continue;
      move_field(lane, direction, field, p.first[field], g.first[field]);
      move_field(lane, direction, field, p.second[field], g.second[field]);
    }
  }

  void move_field(int lane, Direction direction, int field, float* array, Vec* vectors) {
    const bool matrix = field <= W;
    const int64_t size = field_size(p, field), row = matrix ? p.width : size, stride = matrix ? g.width_stride : size;
    float* model = array + lanes[lane].model * size;
    for (int64_t start = 0; start < size; start += row, model += row, vectors += stride) {
      float* elements = reinterpret_cast<float*>(vectors) + lane;
      for (int64_t i = 0; i < row; ++i)
        if (direction == IN)
          elements[i * LANES] = model[i];
        else
          model[i] = elements[i * LANES];
    }
  }

  // Gives the lane its next model, if there is one.
  void fill(int index) {
    Lane& lane = lanes[index];
    lane = Lane{};
    lane.model = next_model(queue);
    if (lane.model < 0) return;
    ++busy;
    move(index, IN);
    const int64_t facts = p.rows * p.columns;
    for (int64_t cell = 0; cell < facts; ++cell) {
      const uint32_t fact = p.tables[lane.model * facts + cell];
      g.facts[cell] = (g.facts[cell] & ~(1u << index)) | fact << index;
    }
    const double b1 = p.beta1[lane.model], b2 = p.beta2[lane.model];
    beta1.lane[index] = float(b1), beta1_rest.lane[index] = float(1 - b1);
    beta2.lane[index] = float(b2), beta2_rest.lane[index] = float(1 - b2);
    eps.lane[index] = float(p.eps[lane.model]);
    // The same products as a run without a break; below 1e-18 they no longer count.
    for (int64_t t = 0; t < p.step[lane.model] && (lane.power1 > 1e-18 || lane.power2 > 1e-18); ++t)
      lane.power1 *= b1, lane.power2 *= b2;
  }

  // Logs what is due, and replaces the models that are done; true when a lane has a new one.
  bool settle() {
    const Int unsolved = p.stop_when_solved ? wrong_pass(g, p.margin) : Int{} + 1;
    bool due = false;
    for (int i = 0; i < LANES; ++i) due |= lanes[i].model >= 0 && (logs_now(lanes[i]) || unsolved[i] == 0);
    if (!due) return false;
    const Vec loss = loss_pass(g);
    const Int wrong = wrong_pass(g, 0.0f);
    bool replaced = false;
    for (int i = 0; i < LANES; ++i) {
      Lane& lane = lanes[i];
      if (lane.model < 0) continue;
      if (logs_now(lane)) p.loss[lane.model * p.logs + lane.next_log++] = loss[i];
      if (unsolved[i] > 0 && lane.done < p.steps) continue;
      finish(i, loss[i], wrong[i]);
      fill(i);
      replaced = true;
    }
    return replaced;
  }

  bool logs_now(const Lane& lane) const { return lane.done == p.logged_steps[lane.next_log]; }

  void finish(int index, float loss, int wrong) {
    Lane& lane = lanes[index];
    move(index, OUT);
    while (lane.next_log < p.logs) p.loss[lane.model * p.logs + lane.next_log++] = loss;
    p.correct[lane.model] = p.rows * p.columns - wrong;
    p.step[lane.model] += lane.done;
    add_progress(queue, p.steps - lane.done);
    --busy;
  }

  void update() {
    PerLane rate{}, readout_rate{}, inverse_root{}, decay{};
    for (int i = 0; i < LANES; ++i) {
      Lane& lane = lanes[i];
      if (lane.model < 0) continue;
      const int64_t t = p.step[lane.model] + lane.done;
      const double lr = p.lr[lane.model] * p.schedule[t < p.schedule_length ? t : p.schedule_length - 1];
      lane.power1 *= p.beta1[lane.model];
      lane.power2 *= p.beta2[lane.model];
      rate.lane[i] = float(lr / (1 - lane.power1));
      readout_rate.lane[i] = float(p.readout_lr_scale * lr / (1 - lane.power1));
      inverse_root.lane[i] = float(1 / __builtin_sqrt(1 - lane.power2));
      decay.lane[i] = float(1 - lr * p.weight_decay[lane.model]);
      ++lane.done;
    }
    const Update numbers{rate.vector,       readout_rate.vector, inverse_root.vector, decay.vector, beta1.vector,
                         beta1_rest.vector, beta2.vector,        beta2_rest.vector,   eps.vector};
    for (int field = 0; field < FIELDS; ++field)
      if (p.train[field]) adam_pass(g, field, padded_size(g, field), numbers);
    add_progress(queue, busy);
  }
};

}  // namespace

int64_t workspace_bytes(const MemoriseProblem& problem) {
  Arena arena{nullptr};
  lay_out(problem, arena);
  return arena.used * int64_t(sizeof(Vec));
}

void train_models(const MemoriseProblem& problem, ModelQueue& queue, void* workspace) {
  flush_denormals();
  Arena arena{static_cast<Vec*>(workspace)};
  const Group group = lay_out(problem, arena);
  for (int64_t i = 0; i < arena.used; ++i) arena.memory[i] = Vec{};
  Runner(problem, queue, group).run();
}

int lanes() {
  return LANES;
}

}  // namespace interpkern::INTERPKERN_ISA
