// Products of residuals with all atoms, tile by tile on tensor cores: float32 numbers are split into two of float16,
// and three of the four products are summed. They only propose; what they may be off by is in block_bounds.h.
#pragma once

#include "common/block.h"
#include "matching_pursuit/block_bounds.h"
#include "matching_pursuit/block_pursuit.h"

namespace interpkern {

constexpr int TILE_SIDE = 128;        // residuals and atoms of a block
constexpr int WARP_SIDE = 32;         // of a warp
constexpr int PRODUCT_THREADS = 512;  // 4 x 4 warps
constexpr float HALF_SCALE = 256;     // of unit vectors, so that smaller halves are normal numbers or negligible
constexpr int DEPTH_PAIRS = DEPTH / 2;
constexpr int PAIR_STRIDE = DEPTH_PAIRS + 4;  // the rows that a warp reads at once lie in different banks
constexpr int TILE_ROWS_OF_CORE = 16, TILE_COLUMNS_OF_CORE = 8;
constexpr int ROW_TILES = WARP_SIDE / TILE_ROWS_OF_CORE, COLUMN_TILES = WARP_SIDE / TILE_COLUMNS_OF_CORE;
constexpr int QUADS = TILE_SIDE * DEPTH / 4 / PRODUCT_THREADS;  // of each side that a thread moves for a slice

// A slice of both sides as pairs of float16 numbers: [half][row][pair], the larger halves first.
struct ProductScratch {
  uint32_t left[2][TILE_SIDE * PAIR_STRIDE];
  uint32_t right[2][TILE_SIDE * PAIR_STRIDE];
  float scale[TILE_SIDE];  // of each residual: a power of two that brings its norm near HALF_SCALE; 0 past the last
  int32_t slot[TILE_SIDE];
};

struct ProductThread {
  Quad next_left[QUADS], next_right[QUADS];
  uint32_t left[2][ROW_TILES][4], right[2][2];
  float part[ROW_TILES][COLUMN_TILES][4], total[ROW_TILES][COLUMN_TILES][4];
};

// PANELS: keeps the largest of each PANEL atoms instead of all products. SPLIT: both halves count.
template <class Block, bool PANELS, bool SPLIT>
class BlockProducts {
 public:
  INTERPKERN_KERNEL BlockProducts(Block& block, const GpuPursuit& pursuit, const PursuitLayout& layout,
                                  const PursuitWorkspace& workspace, ProductScratch& scratch, int row_tile,
                                  int atom_tile)
      : block(block),
        p(pursuit),
        l(layout),
        w(workspace),
        s(scratch),
        first_row(row_tile * TILE_SIDE),
        first_atom(atom_tile * TILE_SIDE),
        rows(TILE_SIDE < int(w.queue->wanting) - first_row ? TILE_SIDE : int(w.queue->wanting) - first_row),
        own(block) {}

  INTERPKERN_KERNEL void run() {
    if (rows <= 0) return;
    block.run([&](int thread) {
      if (thread >= TILE_SIDE) return;
      const int slot = w.wanting[first_row + (thread < rows ? thread : 0)];
      s.slot[thread] = slot;
      s.scale[thread] = thread < rows ? scale_for(w.states[slot].path.left) : 0.0f;
    });
    block.each([&](int thread) {
      clear(own[thread].total);
      read_slice(thread, 0);
    });
    INTERPKERN_NO_UNROLL for (int depth = 0; depth < int(l.width); depth += DEPTH) {
      block.run([&](int thread) { write_slice(thread); });
      block.each([&](int thread) {
        clear(own[thread].part);
        if (depth + DEPTH < int(l.width)) read_slice(thread, depth + DEPTH);
      });
      multiply_slice();
      block.run([&](int thread) { add_part(own[thread]); });
    }
    PANELS ? write_panels() : write_products();
  }

 private:
  Block& block;
  const GpuPursuit& p;
  const PursuitLayout& l;
  const PursuitWorkspace& w;
  ProductScratch& s;
  const int first_row, first_atom;
  const int rows;  // that there are
  typename Block::template Private<ProductThread> own;

  static INTERPKERN_KERNEL void clear(float (&sums)[ROW_TILES][COLUMN_TILES][4]) {
    INTERPKERN_UNROLL for (int i = 0; i < ROW_TILES; ++i) INTERPKERN_UNROLL for (int j = 0; j < COLUMN_TILES; ++j)
        INTERPKERN_UNROLL for (int e = 0; e < 4; ++e) sums[i][j][e] = 0;
  }

  static INTERPKERN_KERNEL void add_part(ProductThread& t) {
    INTERPKERN_UNROLL for (int i = 0; i < ROW_TILES; ++i) INTERPKERN_UNROLL for (int j = 0; j < COLUMN_TILES; ++j)
        INTERPKERN_UNROLL for (int e = 0; e < 4; ++e) t.total[i][j][e] += t.part[i][j][e];
  }

  // 256 over the norm's power of two.
  static INTERPKERN_KERNEL float scale_for(float norm) {
    const uint32_t exponent = as_bits(norm) >> 23;  // biased by 127
    return as_float((254 - (exponent < 100 ? 100 : exponent)) << 23) * HALF_SCALE;
  }

  static INTERPKERN_KERNEL int row_of_quad(int thread, int i) { return (thread + i * PRODUCT_THREADS) / (DEPTH / 4); }
  static INTERPKERN_KERNEL int quad_in_row(int thread) { return thread % (DEPTH / 4); }

  INTERPKERN_KERNEL void read_slice(int thread, int depth) {
    const int d = depth + quad_in_row(thread) * 4;
    INTERPKERN_UNROLL for (int i = 0; i < QUADS; ++i) {
      const int row = row_of_quad(thread, i);
      own[thread].next_left[i] = read_quad(w.residuals + s.slot[row] * l.width + d);
      own[thread].next_right[i] = Quad{};
      if (d < int(p.atoms.stride))
        own[thread].next_right[i] = read_quad(p.atoms.rows + int64_t(first_atom + row) * p.atoms.stride + d);
    }
  }

  INTERPKERN_KERNEL void write_slice(int thread) {
    INTERPKERN_UNROLL for (int i = 0; i < QUADS; ++i) {
      const int at = row_of_quad(thread, i) * PAIR_STRIDE + quad_in_row(thread) * 2;
      const int row = row_of_quad(thread, i);
      write_halves(s.left, at, own[thread].next_left[i], s.scale[row]);
      write_halves(s.right, at, own[thread].next_right[i], HALF_SCALE);
    }
  }

  static INTERPKERN_KERNEL void write_halves(uint32_t (&to)[2][TILE_SIDE * PAIR_STRIDE], int at, const Quad& quad,
                                             float scale) {
    INTERPKERN_UNROLL for (int i = 0; i < 2; ++i) {
      const float low = quad.v[2 * i] * scale, high = quad.v[2 * i + 1] * scale;
      const uint32_t large = half_pair(low, high);
      to[0][at + i] = large;
      if (SPLIT) to[1][at + i] = half_pair(low - low_of(large), high - high_of(large));
    }
  }

  static INTERPKERN_KERNEL int warp_row(int warp) { return warp / (TILE_SIDE / WARP_SIDE) * WARP_SIDE; }
  static INTERPKERN_KERNEL int warp_column(int warp) { return warp % (TILE_SIDE / WARP_SIDE) * WARP_SIDE; }

  INTERPKERN_KERNEL bool has_work(int warp) const {
    return warp_row(warp) < rows && first_atom + warp_column(warp) < int(p.atoms.count);
  }

  INTERPKERN_KERNEL void multiply_slice() {
    const auto active = [&](int warp) { return has_work(warp); };
    INTERPKERN_UNROLL for (int depth = 0; depth < DEPTH_PAIRS; depth += 8) {
      block.each([&](int thread) {
        if (has_work(thread / WARP)) read_left(thread, depth);
      });
      INTERPKERN_UNROLL for (int j = 0; j < COLUMN_TILES; ++j) {
        block.each([&](int thread) {
          if (has_work(thread / WARP)) read_right(thread, depth, j);
        });
        INTERPKERN_UNROLL for (int halves = 0; halves < (SPLIT ? 3 : 1); ++halves)
            INTERPKERN_UNROLL for (int i = 0; i < ROW_TILES; ++i) block.multiply_tiles(active, [&](int thread) {
              ProductThread& t = own[thread];
              return Operands{t.part[i][j], t.left[halves == 2][i], t.right[halves == 1]};
            });
      }
    }
  }

  INTERPKERN_KERNEL void read_left(int thread, int depth) {
    const int row = warp_row(thread / WARP) + thread % WARP / 4, pair = depth + thread % 4;
    INTERPKERN_UNROLL for (int half = 0; half < (SPLIT ? 2 : 1); ++half)
        INTERPKERN_UNROLL for (int i = 0; i < ROW_TILES; ++i) INTERPKERN_UNROLL for (int e = 0; e < 4; ++e) own[thread]
            .left[half][i][e] =
        s.left[half][(row + i * TILE_ROWS_OF_CORE + e % 2 * 8) * PAIR_STRIDE + pair + e / 2 * 4];
  }

  INTERPKERN_KERNEL void read_right(int thread, int depth, int j) {
    const int column = warp_column(thread / WARP) + thread % WARP / 4, pair = depth + thread % 4;
    INTERPKERN_UNROLL for (int half = 0; half < (SPLIT ? 2 : 1); ++half) INTERPKERN_UNROLL for (int e = 0; e < 2; ++e)
        own[thread]
            .right[half][e] = s.right[half][(column + j * TILE_COLUMNS_OF_CORE) * PAIR_STRIDE + pair + e * 4];
  }

  INTERPKERN_KERNEL float* screen(int row) const { return w.screens + s.slot[row] * l.screen_floats; }

  INTERPKERN_KERNEL void write_products() {
    block.each([&](int thread) {
      const int lane = thread % WARP, warp = thread / WARP;
      INTERPKERN_UNROLL for (int i = 0; i < ROW_TILES; ++i) INTERPKERN_UNROLL for (int upper = 0; upper < 2; ++upper) {
        const int row = warp_row(warp) + i * TILE_ROWS_OF_CORE + lane / 4 + upper * 8;
        if (row >= rows) continue;
        const float unit = 1 / (s.scale[row] * HALF_SCALE);
        float* const to = screen(row) + first_atom + warp_column(warp) + lane % 4 * 2;
        INTERPKERN_UNROLL for (int j = 0; j < COLUMN_TILES; ++j) {
          to[j * TILE_COLUMNS_OF_CORE] = own[thread].total[i][j][upper * 2] * unit;
          to[j * TILE_COLUMNS_OF_CORE + 1] = own[thread].total[i][j][upper * 2 + 1] * unit;
        }
      }
    });
  }

  // The largest of a row's 32 atoms are in four neighbouring lanes.
  INTERPKERN_KERNEL void write_panels() {
    float* const largest = reinterpret_cast<float*>(s.left);  // (TILE_SIDE rows, TILE_SIDE / PANEL, 4)
    constexpr int PANELS_OF_TILE = TILE_SIDE / PANEL;
    block.run([&](int thread) {
      const int lane = thread % WARP, warp = thread / WARP;
      INTERPKERN_UNROLL for (int i = 0; i < ROW_TILES; ++i) INTERPKERN_UNROLL for (int upper = 0; upper < 2; ++upper) {
        const int row = warp_row(warp) + i * TILE_ROWS_OF_CORE + lane / 4 + upper * 8;
        float peak = 0;
        INTERPKERN_UNROLL for (int j = 0; j < COLUMN_TILES; ++j) INTERPKERN_UNROLL for (int e = 0; e < 2; ++e) {
          const float c = own[thread].total[i][j][upper * 2 + e];
          peak = larger(peak, p.nonnegative ? c : fabsf(c));
        }
        largest[(row * PANELS_OF_TILE + warp_column(warp) / PANEL) * 4 + lane % 4] = peak;
      }
    });
    block.each([&](int thread) {
      const int row = thread / PANELS_OF_TILE, panel = thread % PANELS_OF_TILE;
      if (row >= rows) return;
      const float* const four = largest + thread * 4;
      const float peak = larger(larger(four[0], four[1]), larger(four[2], four[3]));
      screen(row)[first_atom / PANEL + panel] = peak / (s.scale[row] * HALF_SCALE);
    });
  }
};

static_assert(WARP_SIDE == PANEL && TILE_SIDE * TILE_SIDE / PANEL == PRODUCT_THREADS);

}  // namespace interpkern
