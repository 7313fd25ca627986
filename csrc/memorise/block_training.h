// Whole training runs by one block: it takes models off a queue and trains each until it is done, or until the launch
// has done its share; the model it then has goes on in the next launch.
#pragma once

#include "common/block.h"
#include "memorise/block_passes.h"

namespace interpkern {

// Counters of a call, in global memory, zero before the first launch.
struct BlockQueue {
  int64_t next;         // place in the order of the next model to start
  int64_t finished;     // models
  int64_t model_steps;  // done
};

struct BlockLaunch {
  BlockQueue* queue;
  const int32_t* order;  // (B,) models in the order in which they start
  int64_t* done;         // (B,) updates made in this call
  int64_t* current;      // (blocks,) the model of a block plus 1; 0 where it has none
  int64_t budget;        // updates that a block makes in one launch
};

// What the threads of a block share beside the model, always in shared memory; three numbers a thread follow it.
struct alignas(16) BlockScratch {
  Betas betas;
  Rates rates;
  int64_t model, taken_steps;
  float output_bias, first_output_bias, second_output_bias;
};

inline int64_t scratch_floats(int threads) {
  return int64_t(sizeof(BlockScratch) / sizeof(float)) + 3 * threads;
}

// ALL_SHARED tells the compiler that no array is in global memory.
template <class Block, bool ALL_SHARED>
class BlockTraining {
 public:
  INTERPKERN_KERNEL BlockTraining(Block& block, const MemoriseProblem& problem, const BlockLayout& layout,
                                  const BlockLaunch& launch, float* shared, float* global, int slot)
      : block(block),
        p(problem),
        l(layout),
        launch(launch),
        s(*reinterpret_cast<BlockScratch*>(shared)),
        error_sums(shared + sizeof(BlockScratch) / sizeof(float)),
        loss_sums(error_sums + layout.threads),
        wrong_counts(loss_sums + layout.threads),
        slot(slot) {
    float* const rest = wrong_counts + layout.threads;
    float** const arrays[] = {&m.tokens,          &m.activations,   &m.errors,         &m.sums,
                              &m.weights,         &m.readouts,      &m.biases,         &m.readout_parts,
                              &m.bias_parts,      &m.first_weights, &m.second_weights, &m.first_readouts,
                              &m.second_readouts, &m.first_biases,  &m.second_biases,  &m.token_gradients,
                              &m.first_tokens,    &m.second_tokens};
    INTERPKERN_UNROLL for (int i = 0; i < BLOCK_ARRAYS; ++i) * arrays[i] =
        (ALL_SHARED || l.in_shared[i] ? rest : global) + l.offset[i];
  }

  INTERPKERN_KERNEL void run() {
    int64_t budget = launch.budget;
    while (take()) {
      load();
      if (!train(budget)) break;
    }
    block.run([&](int thread) {
      if (thread == 0) Block::add(&launch.queue->model_steps, launch.budget - budget);
    });
  }

 private:
  Block& block;
  const MemoriseProblem& p;
  const BlockLayout& l;
  const BlockLaunch& launch;
  BlockScratch& s;
  float *error_sums, *loss_sums, *wrong_counts;  // (threads,)
  const int slot;
  BlockModel m;
  int64_t model = 0, done = 0, next_log = 0;

  // The model that the last launch left, or the next in the queue; false when there is none.
  INTERPKERN_KERNEL bool take() {
    block.run([&](int thread) {
      if (thread != 0) return;
      if (launch.current[slot] == 0) {
        const int64_t place = Block::add(&launch.queue->next, 1);
        launch.current[slot] = place < p.models ? launch.order[place] + 1 : 0;
      }
      s.model = launch.current[slot] - 1;
    });
    model = s.model;
    return model >= 0;
  }

  INTERPKERN_KERNEL void load() {
    done = launch.done[model];
    next_log = 0;
    while (p.logged_steps[next_log] < done) ++next_log;
    block.run([&](int thread) {
      if (thread == 0) {
        set_betas(s.betas, p.beta1[model], p.beta2[model], p.eps[model]);
        s.taken_steps = p.step[model];
        s.output_bias = p.weights[OUTPUT_BIAS][model];
        s.first_output_bias = p.first[OUTPUT_BIAS][model];
        s.second_output_bias = p.second[OUTPUT_BIAS][model];
      }
      const int columns_from = l.row_tiles * TILE, hidden = l.hidden_tiles * TILE;
      load_matrix(thread, p.weights[E1], l.rows, m.tokens, columns_from);
      load_matrix(thread, p.weights[E2], l.columns, m.tokens + columns_from * l.width_stride, l.column_tiles * TILE);
      load_matrix(thread, p.weights[W], l.hidden, m.weights, hidden);
      load_vector(thread, p.weights[READOUT], m.readouts);
      load_vector(thread, p.weights[HIDDEN_BIAS], m.biases);
      load_facts(thread);
      if (l.train[W]) {
        load_matrix(thread, p.first[W], l.hidden, m.first_weights, hidden);
        load_matrix(thread, p.second[W], l.hidden, m.second_weights, hidden);
      }
      load_vector(thread, p.first[READOUT], m.first_readouts),
          load_vector(thread, p.second[READOUT], m.second_readouts);
      load_vector(thread, p.first[HIDDEN_BIAS], m.first_biases);
      load_vector(thread, p.second[HIDDEN_BIAS], m.second_biases);
      load_tokens(thread, p.first, m.first_tokens), load_tokens(thread, p.second, m.second_tokens);
    });
  }

  // Moments of the embeddings that are trained.
  INTERPKERN_KERNEL void load_tokens(int thread, float* const (&fields)[FIELDS], float* tokens) {
    const int columns_from = l.row_tiles * TILE;
    if (l.train[E1]) load_matrix(thread, fields[E1], l.rows, tokens, columns_from);
    if (l.train[E2])
      load_matrix(thread, fields[E2], l.columns, tokens + columns_from * l.width_stride, l.column_tiles * TILE);
  }

  // One model's (rows, D) matrix, with zeros around it.
  INTERPKERN_KERNEL void load_matrix(int thread, const float* field, int rows, float* to, int padded_rows) {
    const float* from = field + model * rows * l.width;
    for (int i = thread; i < padded_rows * l.width_stride; i += block.threads()) {
      const int row = i / l.width_stride, d = i % l.width_stride;
      to[i] = row < rows && d < l.width ? from[int64_t(row) * l.width + d] : 0.0f;
    }
  }

  INTERPKERN_KERNEL void load_vector(int thread, const float* field, float* to) {
    for (int j = thread; j < l.hidden_tiles * TILE; j += block.threads())
      to[j] = j < l.hidden ? field[model * l.hidden + j] : 0.0f;
  }

  INTERPKERN_KERNEL void load_facts(int thread) {
    const uint8_t* facts = p.tables + model * l.rows * l.columns;
    for (int i = thread; i < l.row_tiles * TILE * l.column_stride; i += block.threads()) {
      const int row = i / l.column_stride, column = i % l.column_stride;
      const bool one = row < l.rows && column < l.columns && facts[int64_t(row) * l.columns + column];
      m.errors[i] = as_float(one ? SIGN : 0);
    }
  }

  // Trains the model until it is done (true) or the budget is used up (false).
  INTERPKERN_KERNEL bool train(int64_t& budget) {
    for (;; --budget) {
      if (budget == 0) {
        suspend();
        return false;
      }
      block.run([&](int thread) { hidden_pass(thread); });
      const bool due = done == p.logged_steps[next_log];
      bool solved = false;  // once more with its loss where that was not wanted
      for (bool with_loss = due;; with_loss = true) {
        const bool open = block.any([&](int thread) { return error_pass(thread, with_loss); });
        solved = p.stop_when_solved && !open;
        if (!solved || with_loss) break;
      }
      if (due || solved) log(due, solved);
      if (solved || done == p.steps) {
        finish(solved);
        return true;
      }
      update();
      ++done;
    }
  }

  INTERPKERN_KERNEL void hidden_pass(int thread) {
    for (int i = thread; i < (l.row_tiles + l.column_tiles) * l.hidden_tiles; i += block.threads())
      hidden_tile(l, m, i % l.hidden_tiles, i / l.hidden_tiles);
  }

  // Whether a fact of this thread is not right by more than the margin.
  INTERPKERN_KERNEL bool error_pass(int thread, bool with_loss) {
    FactSums sums;
    for (int i = thread; i < l.row_tiles * l.column_tiles; i += block.threads())
      error_tile(l, m, s.output_bias, p.margin, with_loss, i % l.column_tiles, i / l.column_tiles, sums);
    error_sums[thread] = sums.error;
    if (with_loss) loss_sums[thread] = sums.loss, wrong_counts[thread] = float(sums.wrong);
    return sums.open;
  }

  // Writes the loss that is due; of a solved model also those to come, and how many facts are right.
  INTERPKERN_KERNEL void log(bool due, bool solved) {
    block.run([&](int thread) {
      if (thread != 0) return;
      double loss = 0, wrong = 0;
      for (int i = 0; i < block.threads(); ++i) loss += loss_sums[i], wrong += wrong_counts[i];
      const float mean = float(loss / (double(l.rows) * l.columns));
      const int64_t to = solved ? p.logs : next_log + 1;
      for (int64_t i = next_log; i < to; ++i) p.loss[model * p.logs + i] = mean;
      p.correct[model] = int64_t(l.rows) * l.columns - int64_t(wrong);
    });
    if (due) ++next_log;
  }

  INTERPKERN_KERNEL void update() {
    block.run([&](int thread) { sums_pass(thread); });
    if (l.train[E1] || l.train[E2])
      block.run([&](int thread) {
        for (int i = thread; i < l.tokens / TILE * l.width_tiles; i += block.threads())
          token_gradients_tile(l, m, i % l.width_tiles, i / l.width_tiles);
      });
    block.run([&](int thread) {
      for (int i = thread; i < l.hidden_tiles * l.width_tiles; i += block.threads())
        weights_tile(l, m, s.betas, s.rates, i % l.width_tiles, i / l.width_tiles);
    });
    block.run([&](int thread) { last_pass(thread); });
  }

  // The last thread, which often has no tile, sees to the numbers of this update.
  INTERPKERN_KERNEL void sums_pass(int thread) {
    const int of_rows = l.row_tiles * l.hidden_tiles;
    for (int i = thread; i < of_rows + l.column_tiles * l.hidden_tiles; i += block.threads()) {
      const int x = i % l.hidden_tiles, y = i / l.hidden_tiles;
      if (i < of_rows)
        row_sums_tile(l, m, x, y);
      else
        column_sums_tile(l, m, x, y - l.row_tiles);
    }
    if (thread != block.threads() - 1) return;
    const int64_t t = s.taken_steps + done, last = p.schedule_length - 1;
    const double lr = p.lr[model] * p.schedule[t < last ? t : last];
    s.rates = rates_after(t, s.betas, lr, p.readout_lr_scale, p.weight_decay[model]);
  }

  // Hidden units, the output bias, and embeddings.
  INTERPKERN_KERNEL void last_pass(int thread) {
    const int tokens = l.train[E1] || l.train[E2] ? l.tokens * l.width_tiles : 0;
    for (int i = thread; i < l.hidden + 1 + tokens; i += block.threads()) {
      if (i < l.hidden)
        update_unit(l, m, s.betas, s.rates, i);
      else if (i == l.hidden)
        update_output_bias();
      else
        update_token(l, m, s.betas, s.rates, i - l.hidden - 1);
    }
  }

  INTERPKERN_KERNEL void update_output_bias() {
    if (!l.train[OUTPUT_BIAS]) return;
    float sum[TILE] = {};
    for (int i = 0; i < block.threads(); i += TILE)
      INTERPKERN_FOR_TILE (k) sum[k] += error_sums[i + k];
    adam(s.output_bias, s.first_output_bias, s.second_output_bias, (sum[0] + sum[1]) + (sum[2] + sum[3]),
         s.rates.readout_rate, s.rates.decay, s.rates.inverse_root, s.betas);
  }

  INTERPKERN_KERNEL void finish(bool solved) {
    store();
    block.run([&](int thread) {
      if (thread != 0) return;
      p.step[model] = s.taken_steps + done;
      launch.current[slot] = 0;
      Block::add(&launch.queue->finished, 1);
      if (solved) Block::add(&launch.queue->model_steps, p.steps - done);
    });
  }

  INTERPKERN_KERNEL void suspend() {
    store();
    block.run([&](int thread) {
      if (thread == 0) launch.done[model] = done;
    });
  }

  // What is trained goes back to the caller's arrays.
  INTERPKERN_KERNEL void store() {
    block.run([&](int thread) {
      const int second = l.row_tiles * TILE * l.width_stride;
      store_matrix(thread, E1, l.rows, m.tokens, m.first_tokens, m.second_tokens);
      store_matrix(thread, E2, l.columns, m.tokens + second, m.first_tokens + second, m.second_tokens + second);
      store_matrix(thread, W, l.hidden, m.weights, m.first_weights, m.second_weights);
      store_vector(thread, READOUT, l.hidden, m.readouts, m.first_readouts, m.second_readouts);
      store_vector(thread, HIDDEN_BIAS, l.hidden, m.biases, m.first_biases, m.second_biases);
      store_vector(thread, OUTPUT_BIAS, 1, &s.output_bias, &s.first_output_bias, &s.second_output_bias);
    });
  }

  INTERPKERN_KERNEL void store_matrix(int thread, int field, int rows, const float* weights, const float* first,
                                      const float* second) {
    if (!l.train[field]) return;
    const int64_t start = model * rows * l.width;
    for (int i = thread; i < rows * l.width; i += block.threads()) {
      const int place = i / l.width * l.width_stride + i % l.width;
      p.weights[field][start + i] = weights[place];
      p.first[field][start + i] = first[place];
      p.second[field][start + i] = second[place];
    }
  }

  INTERPKERN_KERNEL void store_vector(int thread, int field, int size, const float* weights, const float* first,
                                      const float* second) {
    if (!l.train[field]) return;
    for (int j = thread; j < size; j += block.threads()) {
      p.weights[field][model * size + j] = weights[j];
      p.first[field][model * size + j] = first[j];
      p.second[field][model * size + j] = second[j];
    }
  }
};

}  // namespace interpkern
