// `matching_pursuit` on a GPU: the problem, how many samples are worked on at once, and where a block keeps its own.
#pragma once

#include <stdint.h>

#include "common/device_limits.h"
#include "matching_pursuit/matching_pursuit.h"

namespace interpkern {

constexpr int PURSUIT_THREADS = 256;    // of a block, always, since the order of its sums depends on it
constexpr int PICKS_A_LAUNCH = 64;      // of a sample, at most
constexpr int64_t MOST_SLOTS = 4096;    // samples in work
constexpr int64_t WORKSPACE = 1 << 30;  // bytes that slots may take, unless one takes more
constexpr int64_t CACHED = 32 << 20;    // bytes of residuals that are multiplied with all atoms for every pick
constexpr int MOST_CANDIDATES = 128;    // of a pick; with more, all atoms are

// A dictionary in a GPU's memory. What is beyond `count` and `width` is zero.
struct GpuAtoms {
  int64_t count, width;   // M, D
  int64_t stride;         // floats from one row to the next, a multiple of 4
  const float* rows;      // (room, stride), room a multiple of BLOCK
  const float* products;  // (side, side) or null
  int64_t side;           // a multiple of BLOCK
};

using GpuPursuit = PursuitOver<GpuAtoms>;

// Codes over the atoms before `known`, of which is asked whether those from there on enter their paths.
struct Replayed {
  const int32_t* paths;  // (N, K)
  int32_t known;
  bool* changed;  // (N,) out
};

enum class Screen {
  CORRELATIONS,   // with all atoms, kept up to date through rows of the Gram, in shared memory as far as they fit
  LAST_PRODUCTS,  // those that omp takes the weighted rows of its support off for every pick
  PANELS          // the largest of each PANEL atoms, multiplied anew for every pick
};

// Where a sample is between two launches.
enum Phase : int32_t { IDLE, WAITING, READY };  // without a sample; for products; with products

struct SampleOrigin {
  int64_t row;  // of x
  float unit;   // power of two taken out of the sample
  float norm;
};

struct SamplePath {
  float left;                          // norm of the residual
  float base_bound, bound;             // how far what screens may be from the dots: after the last products; now
  float last;                          // correlation of the last pick
  int32_t last_index;                  // -1 where the correlations know of it
  int32_t steps, steps_at_rest, size;  // picks made; made before the last products; atoms in the support
  int32_t free;                        // of the non-negative system
  Phase phase;
  bool ended;
};

struct SampleState {
  SampleOrigin origin;
  SamplePath path;
  int32_t factored;  // of the non-negative system
};

// What a slot has beside its state, in global memory; `in_shared` says what a block copies to shared memory to work on.
struct PursuitLayout {
  Screen screen;
  bool fits;              // omp or mp_refit: least squares on a support
  int64_t columns;        // M rounded up to BLOCK
  int64_t width;          // D rounded up to what products take at once; also the length of a residual
  int64_t capacity;       // atoms in a support
  int64_t support_bytes;  // a multiple of 16
  int64_t screen_floats;
  int64_t on_chip;  // correlations in shared memory, the first ones
  bool residual_in_shared, support_in_shared;
  int64_t shared_bytes;  // of a block
  int64_t slots;
  int64_t workspace_bytes;
};

PursuitLayout lay_out_pursuit(const GpuPursuit& pursuit, const DeviceLimits& limits);

// Counters of a call and its slots, in global memory, zero before the first launch.
struct PursuitQueue {
  int64_t next;      // row of x
  int64_t finished;  // samples
  int64_t wanting;   // slots in the list that wait for products
  int64_t dots;      // of an atom with a residual
};

struct PursuitWorkspace {
  PursuitQueue* queue;
  SampleState* states;  // (slots,)
  int32_t* wanting;     // (slots,) list of slots
  float* residuals;     // (slots, layout.width)
  char* supports;       // (slots, layout.support_bytes)
  float* screens;       // (slots, layout.screen_floats)
};

// The parts of a workspace; only counts where memory is null.
PursuitWorkspace divide(const PursuitLayout& layout, void* memory, int64_t* bytes);

// Bytes at the workspace's beginning that have to be zero.
int64_t zeroed_bytes(const PursuitLayout& layout);

}  // namespace interpkern
