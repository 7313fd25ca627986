// One update of one model by the threads of a block, as passes over register tiles of 4 x 4; a barrier parts them.
// Rows that a tile does not read as quads lie a whole number of tiles apart, so that neighbouring threads read
// neighbouring rows. What is padded is 0, except for padded rows of ACTIVATIONS, which only meet errors that are 0.
#pragma once

#include "common/portable.h"
#include "memorise/block_layout.h"
#include "memorise/update.h"

namespace interpkern {

// A model in the memory of a block.
struct BlockModel {
  float *tokens, *activations, *errors, *sums, *weights, *readouts, *biases, *readout_parts, *bias_parts;
  float *first_weights, *second_weights, *first_readouts, *second_readouts, *first_biases, *second_biases;
  float *token_gradients, *first_tokens, *second_tokens;
};

// ACTIVATIONS of a tile of hidden units (x) for a tile of tokens (y).
INTERPKERN_KERNEL void hidden_tile(const BlockLayout& l, const BlockModel& m, int x, int y) {
  const bool rows = y < l.row_tiles;
  const int apart = rows ? l.row_tiles : l.column_tiles, token = rows ? y : l.row_tiles * (TILE - 1) + y;
  float sum[TILE][TILE];
  INTERPKERN_FOR_TILE (k) {
    const float bias = rows ? m.biases[x + k * l.hidden_tiles] : 0.0f;
    INTERPKERN_FOR_TILE (i) sum[i][k] = bias;
  }
  for (int d = 0; d < l.width_tiles * TILE; d += TILE) {
    Quad token_part[TILE], weight[TILE];
    INTERPKERN_FOR_TILE (i) token_part[i] = read_quad(m.tokens + (token + i * apart) * l.width_stride + d);
    INTERPKERN_FOR_TILE (k) weight[k] = read_quad(m.weights + (x + k * l.hidden_tiles) * l.width_stride + d);
    INTERPKERN_FOR_TILE (q)
      INTERPKERN_FOR_TILE (i)
        INTERPKERN_FOR_TILE (k) sum[i][k] = multiply_add(token_part[i].v[q], weight[k].v[q], sum[i][k]);
  }
  INTERPKERN_FOR_TILE (i)
    INTERPKERN_FOR_TILE (k)
      m.activations[(token + i * apart) * l.hidden_stride + x + k * l.hidden_tiles] = rows ? sum[i][k] : -sum[i][k];
}

// z_ab = c_out - sum_j r_j N_bj + sum_j r_j max(A_aj, N_bj) of a tile of columns (x) and a tile of rows (y).
INTERPKERN_KERNEL void logits_tile(const BlockLayout& l, const BlockModel& m, float output_bias, int x, int y,
                                   float (&z)[TILE][TILE]) {
  const float* A = m.activations + y * l.hidden_stride;
  const float* N = m.activations + (l.row_tiles * TILE + x) * l.hidden_stride;
  float offset[TILE];
  INTERPKERN_FOR_TILE (k) {
    offset[k] = output_bias;
    INTERPKERN_FOR_TILE (i) z[i][k] = 0.0f;
  }
  for (int j = 0; j < l.hidden_tiles * TILE; j += TILE) {
    const Quad readout = read_quad(m.readouts + j);
    Quad a[TILE], n[TILE];
    INTERPKERN_FOR_TILE (i) a[i] = read_quad(A + i * l.row_tiles * l.hidden_stride + j);
    INTERPKERN_FOR_TILE (k) n[k] = read_quad(N + k * l.column_tiles * l.hidden_stride + j);
    INTERPKERN_FOR_TILE (q)
      INTERPKERN_FOR_TILE (k) {
        offset[k] = multiply_add(-readout.v[q], n[k].v[q], offset[k]);
        INTERPKERN_FOR_TILE (i) z[i][k] = multiply_add(readout.v[q], larger(a[i].v[q], n[k].v[q]), z[i][k]);
      }
  }
  INTERPKERN_FOR_TILE (i)
    INTERPKERN_FOR_TILE (k) z[i][k] += offset[k];
}

// What a thread's facts add up to.
struct FactSums {
  float error = 0.0f, loss = 0.0f;
  int wrong = 0;      // not right
  bool open = false;  // one is not right by more than the margin
};

// Logits become errors; losses are wanted where they are logged.
INTERPKERN_KERNEL void error_tile(const BlockLayout& l, const BlockModel& m, float output_bias, float margin,
                                  bool with_loss, int x, int y, FactSums& sums) {
  float z[TILE][TILE];
  logits_tile(l, m, output_bias, x, y, z);
  const float share = 1.0f / (float(l.rows) * float(l.columns));
  INTERPKERN_FOR_TILE (i)
    INTERPKERN_FOR_TILE (k) {
      const int row = y + i * l.row_tiles, column = x + k * l.column_tiles;
      if (row >= l.rows || column >= l.columns) continue;
      float& place = m.errors[row * l.column_stride + column];
      const uint32_t fact = as_bits(place) & SIGN;
      const float error = error_of(z[i][k], fact, share);
      place = error;
      sums.error += error;
      sums.open |= !is_right(z[i][k], fact, margin);
      if (!with_loss) continue;
      sums.loss += loss_of(z[i][k], fact);
      sums.wrong += is_right(z[i][k], fact, 0.0f) ? 0 : 1;
    }
}

// SA_aj = sum_b g_ab [A_aj > N_bj] of a quad of hidden units (x) and a tile of rows (y), and its sum over those rows.
INTERPKERN_KERNEL void row_sums_tile(const BlockLayout& l, const BlockModel& m, int x, int y) {
  const float* N = m.activations + l.row_tiles * TILE * l.hidden_stride + x * TILE;
  const float* errors = m.errors + y * l.column_stride;
  const int errors_apart = l.row_tiles * l.column_stride, apart = l.row_tiles * l.hidden_stride;
  const int place = y * l.hidden_stride + x * TILE;
  Quad a[TILE], sum[TILE];
  INTERPKERN_FOR_TILE (i) a[i] = read_quad(m.activations + place + i * apart), sum[i] = Quad{};
  for (int b = 0; b < l.column_tiles * TILE; b += TILE) {
    Quad g[TILE];
    INTERPKERN_FOR_TILE (i) g[i] = read_quad(errors + i * errors_apart + b);
    INTERPKERN_FOR_TILE (q) {
      const Quad n = read_quad(N + (b + q) * l.hidden_stride);
      INTERPKERN_FOR_TILE (i)
        INTERPKERN_FOR_TILE (k)
          if (a[i].v[k] > n.v[k]) sum[i].v[k] += g[i].v[q];
    }
  }
  Quad total = sum[0];
  INTERPKERN_FOR_TILE (i) {
    write_quad(m.sums + place + i * apart, sum[i]);
    INTERPKERN_FOR_TILE (k) total.v[k] += i > 0 ? sum[i].v[k] : 0.0f;
  }
  write_quad(m.bias_parts + (y * l.hidden_tiles + x) * TILE, total);
}

// SB_bj = sum_a g_ab [A_aj > N_bj] of a quad of hidden units (x) and a quad of columns (y).
INTERPKERN_KERNEL void column_sums_tile(const BlockLayout& l, const BlockModel& m, int x, int y) {
  const float *A = m.activations + x * TILE, *errors = m.errors + y * TILE;
  const int place = (l.row_tiles + y) * TILE * l.hidden_stride + x * TILE;
  Quad n[TILE], sum[TILE];
  INTERPKERN_FOR_TILE (k) n[k] = read_quad(m.activations + place + k * l.hidden_stride), sum[k] = Quad{};
  for (int row = 0; row < l.rows; ++row) {
    const Quad a = read_quad(A + row * l.hidden_stride), g = read_quad(errors + row * l.column_stride);
    INTERPKERN_FOR_TILE (k)
      INTERPKERN_FOR_TILE (q)
        if (a.v[q] > n[k].v[q]) sum[k].v[q] += g.v[k];
  }
  INTERPKERN_FOR_TILE (k) write_quad(m.sums + place + k * l.hidden_stride, sum[k]);
}

// dE[t, d] = sum_j S[t, j] r_j W[j, d] of a quad of the width (x) and a tile of tokens (y).
INTERPKERN_KERNEL void token_gradients_tile(const BlockLayout& l, const BlockModel& m, int x, int y) {
  Quad sum[TILE];
  INTERPKERN_FOR_TILE (i) sum[i] = Quad{};
  const int apart = l.tokens / TILE;
  for (int j = 0; j < l.hidden_tiles * TILE; j += TILE) {
    const Quad readout = read_quad(m.readouts + j);
    Quad scaled[TILE];
    INTERPKERN_FOR_TILE (i) {
      scaled[i] = read_quad(m.sums + (y + i * apart) * l.hidden_stride + j);
      INTERPKERN_FOR_TILE (q) scaled[i].v[q] *= readout.v[q];
    }
    INTERPKERN_FOR_TILE (q) {
      const Quad weight = read_quad(m.weights + (j + q) * l.width_stride + x * TILE);
      INTERPKERN_FOR_TILE (i)
        INTERPKERN_FOR_TILE (d) sum[i].v[d] = multiply_add(scaled[i].v[q], weight.v[d], sum[i].v[d]);
    }
  }
  INTERPKERN_FOR_TILE (i) write_quad(m.token_gradients + (y + i * apart) * l.width_stride + x * TILE, sum[i]);
}

// sum[k][d] += sum over tokens of S[token, j + k] E[token, d].
INTERPKERN_KERNEL void add_products(const float* S, int S_stride, const float* E, int E_stride, int tokens,
                                    Quad (&sum)[TILE]) {
  for (int token = 0; token < tokens; ++token) {
    const Quad s = read_quad(S + token * S_stride), e = read_quad(E + token * E_stride);
    INTERPKERN_FOR_TILE (k)
      INTERPKERN_FOR_TILE (d) sum[k].v[d] = multiply_add(s.v[k], e.v[d], sum[k].v[d]);
  }
}

// U[j, d] = sum_a SA[a, j] E1[a, d] + sum_b SB[b, j] E2[b, d] of a quad of the width (x) and a quad of hidden units
// (y): dW = r_j U, which Adam uses at once, and U W is a part of r's gradient, since A and N are linear in W and c.
INTERPKERN_KERNEL void weights_tile(const BlockLayout& l, const BlockModel& m, const Betas& betas, const Rates& rates,
                                    int x, int y) {
  Quad sum[TILE];
  INTERPKERN_FOR_TILE (k) sum[k] = Quad{};
  const float *S = m.sums + y * TILE, *E = m.tokens + x * TILE;
  const int second = l.row_tiles * TILE;
  add_products(S, l.hidden_stride, E, l.width_stride, l.rows, sum);
  add_products(S + second * l.hidden_stride, l.hidden_stride, E + second * l.width_stride, l.width_stride, l.columns,
               sum);
  const Quad readout = read_quad(m.readouts + y * TILE);
  Quad part;
  INTERPKERN_FOR_TILE (k) {
    const int place = (y * TILE + k) * l.width_stride + x * TILE;
    Quad weight = read_quad(m.weights + place);
    float products = 0.0f;
    INTERPKERN_FOR_TILE (d) products = multiply_add(sum[k].v[d], weight.v[d], products);
    part.v[k] = products;
    if (!l.train[W] || y * TILE + k >= l.hidden) continue;
    Quad first = read_quad(m.first_weights + place), second_moment = read_quad(m.second_weights + place);
    INTERPKERN_FOR_TILE (d)
      if (x * TILE + d < l.width)
        adam(weight.v[d], first.v[d], second_moment.v[d], readout.v[k] * sum[k].v[d], rates.rate, rates.decay,
             rates.inverse_root, betas);
    write_quad(m.weights + place, weight);
    write_quad(m.first_weights + place, first);
    write_quad(m.second_weights + place, second_moment);
  }
  write_quad(m.readout_parts + (x * l.hidden_tiles + y) * TILE, part);
}

// Hidden unit j's bias and readout.
INTERPKERN_KERNEL void update_unit(const BlockLayout& l, const BlockModel& m, const Betas& betas, const Rates& rates,
                                   int j) {
  const int apart = l.hidden_tiles * TILE;
  float active = 0.0f, readout_gradient = 0.0f;
  for (int tile = 0; tile < l.row_tiles; ++tile) active += m.bias_parts[tile * apart + j];
  for (int tile = 0; tile < l.width_tiles; ++tile) readout_gradient += m.readout_parts[tile * apart + j];
  const float bias_gradient = m.readouts[j] * active;
  readout_gradient = multiply_add(m.biases[j], active, readout_gradient);
  if (l.train[READOUT])
    adam(m.readouts[j], m.first_readouts[j], m.second_readouts[j], readout_gradient, rates.readout_rate, rates.decay,
         rates.inverse_root, betas);
  if (l.train[HIDDEN_BIAS])
    adam(m.biases[j], m.first_biases[j], m.second_biases[j], bias_gradient, rates.rate, rates.decay, rates.inverse_root,
         betas);
}

// Four numbers of one token's embedding, counted over all tokens.
INTERPKERN_KERNEL void update_token(const BlockLayout& l, const BlockModel& m, const Betas& betas, const Rates& rates,
                                    int item) {
  const int token = item / l.width_tiles, quad = item % l.width_tiles, columns_from = l.row_tiles * TILE;
  const bool row = token < columns_from;
  if (!l.train[row ? E1 : E2] || (row ? token >= l.rows : token - columns_from >= l.columns)) return;
  for (int d = quad * TILE; d < quad * TILE + TILE && d < l.width; ++d) {
    const int place = token * l.width_stride + d;
    adam(m.tokens[place], m.first_tokens[place], m.second_tokens[place], m.token_gradients[place], rates.rate,
         rates.decay, rates.inverse_root, betas);
  }
}

}  // namespace interpkern
