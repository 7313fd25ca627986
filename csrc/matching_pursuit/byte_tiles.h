// Products of a group of vectors with a panel of atoms on matrix units (AMX). They multiply bytes, so a 16-bit number
// is taken as 256 times a signed byte plus an unsigned one, and four products of bytes make the sums that tiles.h
// makes.
#pragma once

#include "rounded.h"
#include "sample.h"

namespace interpkern::INTERPKERN_ISA {
namespace {

// A tile has 16 rows of 64 bytes: of 16 vectors, 64 numbers each; or four numbers a row for each of 16 atoms.
constexpr int64_t TILE_ROWS = 16, ROW_BYTES = 64, TILE_BYTES = TILE_ROWS * ROW_BYTES;
constexpr int64_t DEPTH = 64;              // numbers of a vector in a tile
constexpr int64_t STEP = 2 * TILE_BYTES;   // their high bytes, and their low ones behind them
constexpr int64_t STRIPS = PANEL / LANES;  // a strip has the tiles of 16 vectors or atoms, step by step

static_assert(LANES == TILE_ROWS);

constexpr int64_t steps_of(int64_t width) {
  return (width + DEPTH - 1) / DEPTH;
}

constexpr PanelLayout layout_of(int64_t width) {
  return {{STRIPS * steps_of(width) * 2, TILE_ROWS, ROW_BYTES}, 1};
}

// Number d of an atom in its panel. Four in a row are a pair and the one half a tile's depth behind, as `split` has
// them.
inline void put(void* panel, int64_t width, int64_t atom, int64_t d, int16_t number) {
  const int64_t step = atom / LANES * steps_of(width) + d / DEPTH, row = d % (DEPTH / 2) / 2;
  const int64_t column = atom % LANES * 4 + d % 2 * 2 + d % DEPTH / (DEPTH / 2);
  uint8_t* high = static_cast<uint8_t*>(panel) + step * STEP + row * ROW_BYTES + column;
  high[0] = uint8_t(number >> 8);
  high[TILE_BYTES] = uint8_t(number);
}

// A row of high bytes and one of low ones, of DEPTH numbers.
inline void split(const int32_t* pairs, char* row) {
  typedef uint16_t Numbers __attribute__((vector_size(ROW_BYTES)));
  Numbers first, second;
  __builtin_memcpy(&first, pairs, sizeof first);
  __builtin_memcpy(&second, pairs + LANES, sizeof second);
  const Numbers high = (first >> 8) | (second & 0xff00), low = (first & 0xff) | (second << 8);
  __builtin_memcpy(row, &high, sizeof high);
  __builtin_memcpy(row + TILE_BYTES, &low, sizeof low);
}

// The eight tile registers, all of full size, for as long as this lives.
struct TileRegisters {
  TileRegisters() {
    struct {
      uint8_t palette = 1, start_row = 0, reserved[14]{};
      uint16_t row_bytes[16]{};
      uint8_t rows[16]{};
    } configuration;
    for (int tile = 0; tile < 8; ++tile)
      configuration.row_bytes[tile] = ROW_BYTES, configuration.rows[tile] = TILE_ROWS;
    // What tile instructions read, this and the packed vectors, the compiler may not know to be read.
    asm volatile("" : : "r"(&configuration) : "memory");
    _tile_loadconfig(&configuration);
  }
  ~TileRegisters() { _tile_release(); }
};

// Sums of products of the bytes of 16 vectors with those of 16 atoms, all (TILE_ROWS, LANES).
struct ByteSums {
  int32_t high[TILE_ROWS * LANES], high_low[TILE_ROWS * LANES], low_high[TILE_ROWS * LANES], low[TILE_ROWS * LANES];

  // Those of the numbers, modulo 2^32 as all sums.
  Int row(int64_t at) const {
    typedef uint32_t Sums __attribute__((vector_size(ROW_BYTES)));
    Sums parts[4];
    const int32_t* from[] = {high, high_low, low_high, low};
    for (int i = 0; i < 4; ++i) __builtin_memcpy(&parts[i], from[i] + at * LANES, sizeof parts[i]);
    return (Int)((parts[0] << 16) + ((parts[1] + parts[2]) << 8) + parts[3]);
  }
};

// Multiplies two strips; `ahead` is memory to fetch meanwhile, `lines` cache lines a step.
INTERPKERN_INLINE void multiply_strips(const char* vectors, const char* atoms, int64_t steps, const char* ahead,
                                       int64_t lines, ByteSums& sums) {
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  for (int64_t step = 0; step < steps; ++step, vectors += STEP, atoms += STEP) {
    _tile_loadd(4, vectors, ROW_BYTES);
    _tile_loadd(6, atoms, ROW_BYTES);
    _tile_dpbssd(0, 4, 6);
    _tile_loadd(7, atoms + TILE_BYTES, ROW_BYTES);
    _tile_dpbsud(1, 4, 7);
    _tile_loadd(5, vectors + TILE_BYTES, ROW_BYTES);
    _tile_dpbusd(2, 5, 6);
    _tile_dpbuud(3, 5, 7);
    for (int64_t line = 0; line < lines; ++line, ahead += ROW_BYTES) __builtin_prefetch(ahead, 0, 2);
  }
  _tile_stored(0, sums.high, ROW_BYTES);
  _tile_stored(1, sums.high_low, ROW_BYTES);
  _tile_stored(2, sums.low_high, ROW_BYTES);
  _tile_stored(3, sums.low, ROW_BYTES);
}

// A group's vectors, and their products with one panel after the other.
struct Tiles {
  const Atoms& atoms;
  int64_t steps;
  int32_t* pairs;  // (steps * DEPTH / 2,) of the vector that is packed
  char* packed;    // (GROUP / TILE_ROWS, steps, 2, TILE_ROWS, ROW_BYTES)
  ByteSums* sums;

  Tiles(const Atoms& dictionary, Arena& arena)
      : atoms(dictionary),
        steps(steps_of(atoms.width)),
        pairs(arena.take<int32_t>(steps * DEPTH / 2)),
        packed(arena.take<char>(GROUP / TILE_ROWS * steps * STEP)),
        sums(arena.take<ByteSums>(1)) {}

  Rounded pack(int64_t at, const float* vector) {
    for (int64_t i = pairs_of(atoms.width); i < steps * DEPTH / 2; ++i) pairs[i] = 0;
    const Rounded rounded = round_vector(vector, atoms, 1, pairs);
    char* strip = packed + at / TILE_ROWS * steps * STEP + at % TILE_ROWS * ROW_BYTES;
    for (int64_t step = 0; step < steps; ++step) split(pairs + step * DEPTH / 2, strip + step * STEP);
    return rounded;
  }

  // Calls take(panel, place, lane, sums) for every vector with every LANES atoms of the panels, in units of the
  // vector's times ATOM_STEP. Rows that no vector fills are multiplied as they are, and not taken.
  template <class Take>
  void multiply(int64_t count, int64_t panels, const Queue& queue, const Take& take) {
    const TileRegisters registers;
    const int64_t strip = steps * STEP, strips = (count + TILE_ROWS - 1) / TILE_ROWS;
    const int64_t lines = (STEP / ROW_BYTES + strips - 1) / strips;  // so that all strips together fetch a panel
    for (int64_t panel = 0; panel < panels && !stopped(queue); ++panel) {
      const char *its = static_cast<const char*>(atoms.panels) + panel * strip * STRIPS, *ahead = its + strip * STRIPS;
      for (int64_t first = 0; first < count; first += TILE_ROWS)
        for (int64_t half = 0; half < STRIPS; ++half, ahead += steps * lines * ROW_BYTES) {
          multiply_strips(packed + first / TILE_ROWS * strip, its + half * strip, steps, ahead, lines, *sums);
          for (int64_t row = 0; row < smaller(TILE_ROWS, count - first); ++row)
            take(panel, first + row, half * LANES, sums->row(row));
        }
    }
  }
};

}  // namespace
}  // namespace interpkern::INTERPKERN_ISA
