// One update of a group of LANES models, one model a lane, as passes over arrays of vectors. With A = E1 W^T + c and
// N = -E2 W^T the hidden unit is max(A_aj, N_bj) - N_bj, so nothing of size R x C x H is ever stored.
#pragma once

#include "memorise.h"
#include "vector_functions.h"

namespace interpkern::INTERPKERN_ISA {

// The models in the lanes. Rows of 2-D arrays are padded to an odd number of vectors, so that no stride is a power of
// two and columns spread over all sets of the cache.
struct Group {
  int rows, columns, width, hidden;
  int row_stride, column_stride, width_stride;
  Vec *weights[FIELDS], *first[FIELDS], *second[FIELDS], *gradient[FIELDS];
  Vec *A, *N;       // (H, R) and (H, C), as are the next two
  Vec *SA, *SB;     // sums of g over the active columns of a row, and over the active rows of a column
  Vec* active;      // (H,) SA's sum over the rows
  Vec* offset;      // (C,) what a column's logits start from
  Vec* Z;           // (R, C) logits, then g = dloss/dlogit
  uint32_t* facts;  // (R, C) bit i: the fact of lane i
};

template <int SIZE>
struct Tile {
  static constexpr int size = SIZE;
};

// Calls body(Tile<size>, start) over [begin, end) in tiles of SIZE, then in halves of it.
template <int SIZE, class Body>
INTERPKERN_INLINE void for_tiles(int begin, int end, const Body& body) {
  for (; begin + SIZE <= end; begin += SIZE) body(Tile<SIZE>{}, begin);
  if constexpr (SIZE > 1) for_tiles<SIZE / 2>(begin, end, body);
}

constexpr int BLOCK = 32;

// The same over [0, end) in blocks that stay in the cache while another loop runs inside.
template <class Body>
INTERPKERN_INLINE void for_blocks(int end, const Body& body) {
  for (int begin = 0; begin < end; begin += BLOCK) body(begin, begin + BLOCK < end ? begin + BLOCK : end);
}

constexpr int TALL = REGISTERS == 32 ? 4 : 2;  // one side of a register tile; the other is 4

// out[j, a] = bias_j + sum_d W[j, d] E[a, d], or its negative without bias.
template <bool NEGATIVE>
INTERPKERN_INLINE void hidden_pass(const Group& g, const Vec* E, int tokens, Vec* out, int out_stride) {
  const Vec *W_ = g.weights[W], *bias = g.weights[HIDDEN_BIAS];
  const int width = g.width, stride = g.width_stride;
  for_blocks(g.hidden, [&](int from, int to) {
    for_tiles<4>(0, tokens, [&](auto tokens_tile, int a) {
      for_tiles<TALL>(from, to, [&](auto hidden_tile, int j) {
        constexpr int TA = decltype(tokens_tile)::size, TJ = decltype(hidden_tile)::size;
        Vec sum[TJ][TA];
        for (int y = 0; y < TJ; ++y)
          for (int x = 0; x < TA; ++x) sum[y][x] = NEGATIVE ? Vec{} : bias[j + y];
        for (int d = 0; d < width; ++d)
          for (int y = 0; y < TJ; ++y) {
            const Vec w = NEGATIVE ? -W_[(j + y) * stride + d] : W_[(j + y) * stride + d];
            for (int x = 0; x < TA; ++x) sum[y][x] = fma(w, E[(a + x) * stride + d], sum[y][x]);
          }
        for (int y = 0; y < TJ; ++y)
          for (int x = 0; x < TA; ++x) out[(j + y) * out_stride + a + x] = sum[y][x];
      });
    });
  });
}

// Z[a, b] = c_out + sum_j r_j (max(A[j, a], N[j, b]) - N[j, b]).
INTERPKERN_INLINE void logits_pass(const Group& g) {
  const Vec *A = g.A, *N = g.N, *r = g.weights[READOUT], *offset = g.offset;
  const int rows = g.rows, columns = g.columns, hidden = g.hidden;
  for_tiles<8>(0, columns, [&](auto columns_tile, int b) {
    constexpr int TB = decltype(columns_tile)::size;
    Vec sum[TB];
    for (int y = 0; y < TB; ++y) sum[y] = g.weights[OUTPUT_BIAS][0];
    for (int j = 0; j < hidden; ++j)
      for (int y = 0; y < TB; ++y) sum[y] = fma(-r[j], N[j * g.column_stride + b + y], sum[y]);
    for (int y = 0; y < TB; ++y) g.offset[b + y] = sum[y];
  });
  for_blocks(columns, [&](int from, int to) {
    for_tiles<TALL>(0, rows, [&](auto rows_tile, int a) {
      for_tiles<4>(from, to, [&](auto columns_tile, int b) {
        constexpr int TA = decltype(rows_tile)::size, TB = decltype(columns_tile)::size;
        Vec z[TA][TB];
        for (int x = 0; x < TA; ++x)
          for (int y = 0; y < TB; ++y) z[x][y] = offset[b + y];
        const Vec *A_j = A + a, *N_j = N + b;
        for (int j = 0; j < hidden; ++j, A_j += g.row_stride, N_j += g.column_stride)
          for (int x = 0; x < TA; ++x)
            for (int y = 0; y < TB; ++y) z[x][y] = fma(r[j], max(N_j[y], A_j[x]), z[x][y]);
        for (int x = 0; x < TA; ++x)
          for (int y = 0; y < TB; ++y) g.Z[(a + x) * columns + b + y] = z[x][y];
      });
    });
  });
}

// The sign bit in the lanes whose fact is 0.
INTERPKERN_INLINE Int signs(uint32_t facts) {
  return ((int32_t(facts) & LANE_BIT) == 0) & INT32_MIN;
}

// Z becomes (sigmoid(z) - fact) / (R C); c_out's gradient is their sum.
INTERPKERN_INLINE void error_pass(const Group& g) {
  const int rows = g.rows, columns = g.columns;
  const Vec one = broadcast(1.0f), share = broadcast(1.0f / (float(rows) * float(columns)));
  Vec total{};
  for (int a = 0; a < rows; ++a) {
    Vec row{};
    for (int b = 0; b < columns; ++b) {
      const int cell = a * columns + b;
      const Int sign = signs(g.facts[cell]);
      const Vec right_by = as_float(as_int(g.Z[cell]) ^ sign);
      const Vec error = as_float(as_int(share / (one + exp(right_by))) ^ sign ^ INT32_MIN);
      g.Z[cell] = error;
      row += error;
    }
    total += row;
  }
  g.gradient[OUTPUT_BIAS][0] = total;
}

// Nats per fact.
INTERPKERN_INLINE Vec loss_pass(const Group& g) {
  Sum sum;
  const int facts = g.rows * g.columns;
  for (int cell = 0; cell < facts; ++cell) {
    const Vec right_by = as_float(as_int(g.Z[cell]) ^ signs(g.facts[cell]));
    const Vec size = as_float(as_int(right_by) & INT32_MAX);
    sum.add(max(Vec{}, -right_by) + log1p(exp(-size)));
  }
  return sum.total / float(facts);
}

// How many facts are not right by more than the margin: z > margin for a 1, z <= -margin for a 0.
INTERPKERN_INLINE Int wrong_pass(const Group& g, float margin) {
  const Vec least = broadcast(margin);
  Int wrong{};
  for (int cell = 0; cell < g.rows * g.columns; ++cell) {
    const Int sign = signs(g.facts[cell]);
    const Vec right_by = as_float(as_int(g.Z[cell]) ^ sign);
    wrong += 1 + ((right_by > least) | ((right_by == least) & (sign < 0)));
  }
  return wrong;
}

// One register tile of active_pass: the sums over all columns, for TJ hidden units and TA rows.
template <int TJ, int TA>
INTERPKERN_INLINE void active_tile(const Group& g, int j, int a, Ones ones, Vec (&total)[TJ]) {
  const int columns = g.columns, stride = g.column_stride;
  Vec sum[TJ][TA]{}, threshold[TJ][TA];
  for (int y = 0; y < TJ; ++y)
    for (int x = 0; x < TA; ++x) threshold[y][x] = g.A[(j + y) * g.row_stride + a + x];
  const Vec *Z = g.Z + a * columns, *N = g.N + j * stride;
  Vec* SB = g.SB + j * stride;
  for (int b = 0; b < columns; ++b, ++Z, ++N, ++SB) {
    Vec error[TA];
    for (int x = 0; x < TA; ++x) error[x] = load(Z[x * columns]);
    for (int y = 0; y < TJ; ++y) {
      Vec column = SB[y * stride];
      const Vec n = load(N[y * stride]);
      for (int x = 0; x < TA; ++x) add_where_greater(threshold[y][x], n, error[x], sum[y][x], column, ones, x % 2 == 1);
      SB[y * stride] = column;
    }
  }
  for (int y = 0; y < TJ; ++y)
    for (int x = 0; x < TA; ++x) {
      g.SA[(j + y) * g.row_stride + a + x] = sum[y][x];
      total[y] += sum[y][x];
    }
}

// SA[j, a] = sum_b g_ab [A_aj > N_bj], SB[j, b] = sum_a g_ab [A_aj > N_bj], and SA's sum over a.
INTERPKERN_INLINE void active_pass(const Group& g) {
  const Ones ones = make_ones();
  for_blocks(g.rows, [&](int from, int to) {
    for_tiles<2>(0, g.hidden, [&](auto hidden_tile, int j) {
      constexpr int TJ = decltype(hidden_tile)::size;
      Vec total[TJ]{};
      for (int y = 0; y < TJ; ++y) {
        if (from > 0) total[y] = g.active[j + y];
        for (int b = 0; from == 0 && b < g.columns; ++b) g.SB[(j + y) * g.column_stride + b] = Vec{};
      }
      for_tiles<TALL>(from, to,
                      [&](auto rows_tile, int a) { active_tile<TJ, decltype(rows_tile)::size>(g, j, a, ones, total); });
      for (int y = 0; y < TJ; ++y) g.active[j + y] = total[y];
    });
  });
}

// With U[j, d] = sum_a SA[j, a] E1[a, d] + sum_b SB[j, b] E2[b, d]: dW = r_j U and, as A and N are linear in W and c,
// dr_j = sum_d U[j, d] W[j, d] + c_j active_j; dc_j = r_j active_j.
INTERPKERN_INLINE void weight_pass(const Group& g) {
  const int stride = g.width_stride;
  const Vec *r = g.weights[READOUT], *c = g.weights[HIDDEN_BIAS];
  for (int j = 0; j < g.hidden; ++j) {
    g.gradient[HIDDEN_BIAS][j] = r[j] * g.active[j];
    g.gradient[READOUT][j] = c[j] * g.active[j];
  }
  for_blocks(g.width, [&](int from, int to) {
    for_tiles<TALL>(0, g.hidden, [&](auto hidden_tile, int j) {
      for_tiles<4>(from, to, [&](auto width_tile, int d) {
        constexpr int TJ = decltype(hidden_tile)::size, TD = decltype(width_tile)::size;
        Vec sum[TJ][TD]{};
        const auto add = [&](const Vec* S, int s_stride, const Vec* E, int tokens) {
          for (int a = 0; a < tokens; ++a)
            for (int y = 0; y < TJ; ++y)
              for (int x = 0; x < TD; ++x) sum[y][x] = fma(S[(j + y) * s_stride + a], E[a * stride + d + x], sum[y][x]);
        };
        add(g.SA, g.row_stride, g.weights[E1], g.rows);
        add(g.SB, g.column_stride, g.weights[E2], g.columns);
        for (int y = 0; y < TJ; ++y) {
          Vec readout = g.gradient[READOUT][j + y];
          for (int x = 0; x < TD; ++x) {
            const int i = (j + y) * stride + d + x;
            g.gradient[W][i] = r[j + y] * sum[y][x];
            readout = fma(sum[y][x], g.weights[W][i], readout);
          }
          g.gradient[READOUT][j + y] = readout;
        }
      });
    });
  });
}

// dE[a, d] = sum_j S[j, a] r_j W[j, d].
INTERPKERN_INLINE void embedding_pass(const Group& g, const Vec* S, int s_stride, int tokens, Vec* gradient) {
  const Vec *r = g.weights[READOUT], *weights = g.weights[W];
  const int stride = g.width_stride;
  for_blocks(g.width, [&](int from, int to) {
    for_tiles<TALL>(0, tokens, [&](auto tokens_tile, int a) {
      for_tiles<4>(from, to, [&](auto width_tile, int d) {
        constexpr int TA = decltype(tokens_tile)::size, TD = decltype(width_tile)::size;
        Vec sum[TA][TD]{};
        for (int j = 0; j < g.hidden; ++j)
          for (int y = 0; y < TA; ++y) {
            const Vec dA = r[j] * S[j * s_stride + a + y];
            for (int x = 0; x < TD; ++x) sum[y][x] = fma(dA, weights[j * stride + d + x], sum[y][x]);
          }
        for (int y = 0; y < TA; ++y)
          for (int x = 0; x < TD; ++x) gradient[(a + y) * stride + d + x] = sum[y][x];
      });
    });
  });
}

// One update's numbers, one a lane.
struct Update {
  Vec rate, readout_rate;  // lr / (1 - beta1^t)
  Vec inverse_root;        // 1 / sqrt(1 - beta2^t)
  Vec decay;               // 1 - lr weight_decay
  Vec beta1, beta1_rest, beta2, beta2_rest, eps;
};

INTERPKERN_INLINE void adam_pass(const Group& g, int field, int size, const Update& of) {
  const Update u = of;
  const Vec rate = field == READOUT || field == OUTPUT_BIAS ? u.readout_rate : u.rate;
  Vec *weights = g.weights[field], *first = g.first[field], *second = g.second[field];
  const Vec* gradient = g.gradient[field];
  for (int i = 0; i < size; ++i) {
    const Vec g_i = gradient[i];
    const Vec m = fma(u.beta1, first[i], u.beta1_rest * g_i);
    const Vec v = fma(u.beta2, second[i], u.beta2_rest * g_i * g_i);
    first[i] = m;
    second[i] = v;
    weights[i] = fma(weights[i], u.decay, -(rate * m / fma(sqrt(v), u.inverse_root, u.eps)));
  }
}

}  // namespace interpkern::INTERPKERN_ISA
