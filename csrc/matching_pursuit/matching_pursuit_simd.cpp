// Matching pursuit of a group of samples: over the Gram, over the residuals, or over a few atoms.
#include "matching_pursuit_simd.h"

#include "sample.h"

namespace interpkern::INTERPKERN_ISA {
namespace {

int64_t blocks_of(const Atoms& atoms) {
  return (atoms.count + BLOCK - 1) / BLOCK;
}

// The group's samples as float32, and what the tiles make of them.
struct Samples {
  const Pursuit& p;
  float* x;            // (GROUP, padded_width)
  const float** rows;  // (GROUP,) those to multiply
  float* packed;       // (GROUP, width)
  float* products;     // (GROUP, PANEL)

  Samples(const Pursuit& pursuit, Arena& arena)
      : p(pursuit),
        x(arena.take<float>(GROUP * pursuit.atoms.padded_width)),
        rows(arena.take<const float*>(GROUP)),
        packed(arena.take<float>(GROUP * pursuit.atoms.width)),
        products(arena.take<float>(GROUP * PANEL)) {}

  float* residual(int64_t i) const { return x + i * p.atoms.padded_width; }

  void pack(int64_t count) { pack_rows(rows, count, p.atoms.width, packed); }

  // The packed rows times a panel of atoms, (count, PANEL).
  const float* multiply(int64_t count, int64_t panel) {
    const Atoms& atoms = p.atoms;
    multiply_panel(packed, count, atoms.panels + panel * PANEL * atoms.width, atoms.width, products);
    return products;
  }
};

// A sample whose correlations with all atoms are kept up to date through rows of the Gram.
struct GramSample : Sample {
  float* correlations;  // (blocks * BLOCK,) as of `base_coefficients`; mp: as of now
  Vec* peaks;           // (blocks,)
  float* base_coefficients;
  WeightedRows rows;  // omp: those of the support, weighted by what the coefficients have changed by since
  float* changes;
  int64_t blocks;
  float base_bound, bound;  // how far the correlations behind the peaks may be from the dots
  int64_t steps_at_rest;    // picks made by then
  bool busy;

  void lay_out(const Pursuit& p, Arena& arena) {
    Sample::lay_out(p, arena);
    blocks = blocks_of(p.atoms);
    correlations = arena.take<float>(blocks * BLOCK);
    peaks = arena.take<Vec>(blocks);
    const int64_t room = p.method == Method::omp ? capacity(p) : 0, pairs = (room + 1) / 2, columns = blocks * BLOCK;
    base_coefficients = arena.take<float>(room);
    changes = arena.take<float>(room);
    rows = {arena.take<int16_t>(pairs * columns * 2), arena.take<int32_t>(pairs), columns, 0, 0};
  }

  // Takes over the residual's products with all atoms; each block's lie GROUP blocks behind those of the one before.
  void rest_on_products(const float* products) {
    for (int64_t block = 0; block < blocks; ++block)
      copy(correlations + block * BLOCK, products + block * GROUP * BLOCK, BLOCK);
    rest_on(product_error(pursuit->atoms.width) * left);
  }

  // Makes the pick that `search` has prepared.
  void pick() {
    Best best;
    for (int i = 0; i < candidate_count; ++i)
      best.consider(candidates[i], correlation(candidates[i]), pursuit->nonnegative);
    const float before = left;
    absorb(best);
    if (ended) return;
    if (pursuit->method == Method::omp)
      weigh_rows();
    else
      bound += __builtin_fabsf(best.correlation) * gram_error(pursuit->atoms.width) + 4 * ROUNDING * before;
  }

  // Brings the peaks up to date with the last pick; fetches what `other` will need meanwhile.
  void propagate(const GramSample& other) {
    const bool nonnegative = pursuit->nonnegative;
    const int16_t* fresh = product_row(picks[steps - 1]);
    if (pursuit->method == Method::omp)
      return (nonnegative ? sum_rows<true> : sum_rows<false>)(correlations, rows, fresh, blocks, peaks);
    const int16_t* next = other.busy && other.candidate_count > 0 ? product_row(other.candidates[0]) : nullptr;
    (nonnegative ? add_row<true> : add_row<false>)(correlations, -values[steps - 1] * PRODUCT_STEP, fresh, blocks,
                                                   peaks, next);
  }

  // Lists the atoms that may be the next pick, none when the residual is at rounding level. False when the correlations
  // have become too rough to tell, and have to be multiplied anew.
  bool search() {
    const float peak = largest_peak(peaks, blocks);
    candidate_count = 0;
    if (peak + bound <= LEVEL * norm) return true;
    if (!(peak > 2 * bound && collect(pursuit->exact ? peak - 2 * bound : peak))) {
      if (steps > steps_at_rest) return false;
      correlate_exactly();
      collect(largest_peak(peaks, blocks));
    }
    for (int i = 0; i < candidate_count && i < FETCHED; ++i)
      for (int64_t d = 0; d < pursuit->atoms.padded_width; d += LINE) __builtin_prefetch(atom(candidates[i]) + d);
    return true;
  }

 private:
  static constexpr int MOST = 256, FETCHED = 4;
  int32_t candidates[MOST];
  int candidate_count;

  const int16_t* product_row(int64_t index) const { return pursuit->atoms.products + index * pursuit->atoms.stride; }

  // The correlations stand for the coefficients as they are now.
  void rest_on(float error) {
    base_bound = bound = error;
    steps_at_rest = steps;
    rows.size = 0;
    if (pursuit->method == Method::omp)
      for (int64_t i = 0; i < size; ++i) base_coefficients[i] = coefficients[i];
    find_peaks(correlations, blocks, pursuit->nonnegative, peaks);
  }

  void weigh_rows() {
    for (; rows.size < size; ++rows.size) {
      if (rows.size >= steps_at_rest) base_coefficients[rows.size] = 0;
      if (rows.size < size - 1)  // the last one is placed as it is first summed
        for (int64_t block = 0; block < blocks; ++block) rows.place(rows.size, product_row(picks[rows.size]), block);
    }
    float moved = 0, sum = norm;
    for (int64_t i = 0; i < size; ++i) {
      changes[i] = coefficients[i] - base_coefficients[i];
      moved += __builtin_fabsf(changes[i]);
      sum += __builtin_fabsf(coefficients[i]);
    }
    bound = base_bound + rows.weigh(changes) + moved * gram_error(pursuit->atoms.width) + 4 * ROUNDING * sum;
  }

  // Lists the atoms that reach `least`; false when they are too many, or none may be picked.
  bool collect(float least) {
    const Vec threshold = broadcast(least);
    float values[BLOCK];
    candidate_count = 0;
    for (int64_t block = 0; block < blocks; ++block) {
      if (!any_at_least(peaks[block], threshold)) continue;
      block_correlations(block, values);
      for (int64_t i = 0; i < BLOCK; i += LANES) {
        if (!any_at_least(magnitude(read(values + i), pursuit->nonnegative), threshold)) continue;
        for (int64_t lane = i; lane < i + LANES; ++lane) {
          const int64_t index = block * BLOCK + lane;
          if (!(magnitude(values[lane], pursuit->nonnegative) >= least) || index >= pursuit->atoms.count) continue;
          if (chosen().has(index)) continue;
          if (candidate_count == MOST) return bound == 0;  // then all are equal, and the lowest is listed
          candidates[candidate_count++] = int32_t(index);
          if (!pursuit->exact) return true;
        }
      }
    }
    return candidate_count > 0 || bound == 0;
  }

  void block_correlations(int64_t block, float* out) const {
    for (int64_t at = 0; at < BLOCK; at += STRIP_ATOMS) {
      Vec sums[STRIP];
      sum_strip(correlations, rows, block * BLOCK + at, sums);
      for (int v = 0; v < STRIP; ++v) write(out + at + v * LANES, sums[v]);
    }
  }

  void correlate_exactly() {
    for (int64_t index = 0; index < pursuit->atoms.count; ++index) correlations[index] = correlation(index);
    const Chosen taken = chosen();
    for (int64_t i = 0; i < taken.count; ++i) correlations[taken.indices[i]] = 0;
    rest_on(0);
  }
};

// Takes turns with several samples, so that each one's row of the Gram arrives while the others are worked on.
struct GramGroup {
  static constexpr int SLOTS = 2;
  struct Member {
    int64_t sample, steps;  // picks made before its products were too rough
  };
  Samples samples;
  float* products;            // (blocks, GROUP, BLOCK), so that a panel's are written close together
  Member *members, *waiting;  // (GROUP,) in this round; for the next one
  GramSample slots[SLOTS];
  int64_t count = 0, next = 0, waiting_count = 0;

  GramGroup(const Pursuit& p, Arena& arena)
      : samples(p, arena),
        products(arena.take<float>(blocks_of(p.atoms) * GROUP * BLOCK)),
        members(arena.take<Member>(GROUP)),
        waiting(arena.take<Member>(GROUP)) {
    for (GramSample& slot : slots) slot.lay_out(p, arena);
  }

  void run(Queue& queue) {
    while (gather(queue)) {
      multiply(queue);
      // An omp sample's rows fill the cache: one at a time.
      const int used = samples.p.method == Method::omp ? 1 : SLOTS;
      for (GramSample& slot : slots) slot.busy = false;
      for (int i = 0; i < used; ++i) start(slots[i]);
      for (bool busy = true; busy && !stopped(queue);) {
        busy = false;
        for (int i = 0; i < used; ++i) {
          if (slots[i].busy) take_turn(slots[i], slots[(i + 1) % SLOTS], queue);
          busy |= slots[i].busy;
        }
      }
    }
  }

 private:
  // Those who wait, and new samples in the places left.
  bool gather(Queue& queue) {
    for (int64_t i = 0; i < waiting_count; ++i) members[i] = waiting[i];
    count = waiting_count;
    waiting_count = next = 0;
    int64_t first;
    for (int64_t fresh = take(queue, GROUP - count, first); fresh > 0; --fresh) members[count++] = {first++, 0};
    return count > 0 && !stopped(queue);
  }

  void multiply(const Queue& queue) {
    const int64_t panels = blocks_of(samples.p.atoms) * BLOCK / PANEL;
    for (int64_t i = 0; i < count; ++i) {
      resume(slots[0], i);
      samples.rows[i] = samples.residual(i);
    }
    samples.pack(count);
    for (int64_t panel = 0; panel < panels && !stopped(queue); ++panel) {
      const float* tile = samples.multiply(count, panel);
      float* to = products + panel * PANEL / BLOCK * GROUP * BLOCK + panel * PANEL % BLOCK;
      for (int64_t i = 0; i < count; ++i) copy(to + i * BLOCK, tile + i * PANEL, PANEL);
    }
  }

  void resume(GramSample& slot, int64_t i) {
    slot.load(members[i].sample, samples.residual(i));
    slot.begin();
    slot.repeat(members[i].steps);
  }

  void start(GramSample& slot) {
    slot.busy = next < count;
    if (!slot.busy) return;
    const int64_t i = next++;
    resume(slot, i);
    slot.rest_on_products(products + i * BLOCK);
    slot.search();  // products just made tell
  }

  // Makes one pick and prepares the next one, which waits until the others' turns have brought its memory near.
  void take_turn(GramSample& slot, const GramSample& other, Queue& queue) {
    if (slot.wants_pick()) slot.pick();
    if (slot.wants_pick()) {
      slot.propagate(other);
      if (slot.search()) return;
      waiting[waiting_count++] = {slot.row, slot.steps};
    } else {
      slot.finish();
      add_done(queue, 1);
    }
    start(slot);
  }
};

// Multiplies all residuals of the group with all atoms at every step, and keeps the peaks alone.
struct ResidualGroup {
  Samples samples;
  Sample* members;  // (GROUP,)
  Vec* peaks;       // (GROUP, blocks)
  int64_t blocks, *active;

  ResidualGroup(const Pursuit& p, Arena& arena)
      : samples(p, arena),
        members(arena.take<Sample>(GROUP)),
        peaks(arena.take<Vec>(GROUP * blocks_of(p.atoms))),
        blocks(blocks_of(p.atoms)),
        active(arena.take<int64_t>(GROUP)) {
    Sample counted;
    for (int64_t i = 0; i < GROUP; ++i) (members ? members[i] : counted).lay_out(p, arena);
  }

  void run(Queue& queue) {
    int64_t first;
    while (const int64_t count = take(queue, GROUP, first)) {
      if (!pursue(first, count, queue)) return;
      add_done(queue, count);
    }
  }

 private:
  bool pursue(int64_t first, int64_t count, const Queue& queue) {
    for (int64_t i = 0; i < count; ++i) {
      members[i].load(first + i, samples.residual(i));
      members[i].begin();
    }
    while (const int64_t pursued = gather(count)) {
      find_all_peaks(pursued, queue);
      if (stopped(queue)) return false;
      for (int64_t i = 0; i < pursued; ++i) members[active[i]].absorb(choose(members[active[i]], peaks + i * blocks));
    }
    for (int64_t i = 0; i < count; ++i) members[i].finish();
    return true;
  }

  int64_t gather(int64_t count) {
    int64_t pursued = 0;
    for (int64_t i = 0; i < count; ++i) {
      if (!members[i].wants_pick()) continue;
      active[pursued] = i;
      samples.rows[pursued++] = members[i].residual;
    }
    samples.pack(pursued);
    return pursued;
  }

  void find_all_peaks(int64_t pursued, const Queue& queue) {
    for (int64_t i = 0; i < pursued * blocks; ++i) peaks[i] = Vec{};
    for (int64_t panel = 0; panel < blocks * BLOCK / PANEL && !stopped(queue); ++panel) {
      const float* products = samples.multiply(pursued, panel);
      for (int64_t i = 0; i < pursued; ++i) {
        Vec& peak = peaks[i * blocks + panel * PANEL / BLOCK];
        for (int64_t v = 0; v < PANEL; v += LANES)
          peak = max(peak, magnitude(read(products + i * PANEL + v), samples.p.nonnegative));
      }
    }
  }

  Best choose(const Sample& sample, const Vec* its_peaks) const {
    const Atoms& atoms = samples.p.atoms;
    const float error = product_error(atoms.width) * sample.left;
    const Vec least = broadcast(largest_peak(its_peaks, blocks) - 2 * error);
    const Chosen taken = sample.chosen();
    Best best;
    for (int64_t block = 0; block < blocks; ++block) {
      if (!any_at_least(its_peaks[block], least)) continue;
      for (int64_t index = block * BLOCK; index < smaller((block + 1) * BLOCK, atoms.count); ++index)
        if (!taken.has(index)) best.consider(index, sample.correlation(index), samples.p.nonnegative);
    }
    return best;
  }
};

// Writes the tile of products between the atoms from `first` and from `column` on, and their mirror among older rows.
void write_products(const Atoms& atoms, int64_t appended_from, int64_t first, int64_t count, int64_t column,
                    const float* products) {
  for (int64_t i = 0; i < count; ++i)
    for (int64_t j = 0; j < PANEL; ++j) {
      const int16_t rounded = int16_t(__builtin_rintf(products[i * PANEL + j] / PRODUCT_STEP));
      atoms.products[(first + i) * atoms.stride + column + j] = rounded;
      if (column + j < appended_from) atoms.products[(column + j) * atoms.stride + first + i] = rounded;
    }
}

// Pursues over a sample's own picks and the atoms from `known` on.
struct Replay {
  const Pursuit& p;
  Sample sample;
  float *residual, *values;
  int32_t* picks;

  Replay(const Pursuit& pursuit, Arena& arena)
      : p(pursuit),
        residual(arena.take<float>(p.atoms.padded_width)),
        values(arena.take<float>(p.picks)),
        picks(arena.take<int32_t>(p.picks)) {
    sample.lay_out(p, arena);
  }

  // Whether one of the atoms from `known` on is picked.
  bool changes(int64_t row) {
    sample.load(row, residual);
    sample.begin();
    sample.picks = picks, sample.values = values;
    const int32_t* path = p.path + row * p.picks;
    int64_t length = 0;
    while (length < p.picks && path[length] >= 0) ++length;
    while (sample.wants_pick()) {
      const Best best = choose(path, length);
      if (best.index >= p.known) return best.size > LEVEL * sample.norm;
      sample.absorb(best);
    }
    return false;
  }

 private:
  // mp's and omp's paths list the picks in order, the refit's only once each.
  Best choose(const int32_t* path, int64_t length) const {
    const bool in_order = p.method != Method::mp_refit;
    const int64_t from = in_order ? smaller(sample.steps, length) : 0;
    const int64_t to = in_order ? smaller(sample.steps + 1, length) : length;
    Best best;
    for (int64_t i = from; i < to; ++i) best.consider(path[i], sample.correlation(path[i]), p.nonnegative);
    for (int64_t i = p.known; i < p.atoms.count; ++i) best.consider(i, sample.correlation(i), p.nonnegative);
    return best;
  }
};

}  // namespace

int64_t pursuit_workspace_bytes(const Pursuit& p) {
  Arena arena{nullptr};
  if (p.atoms.products)
    GramGroup{p, arena};
  else
    ResidualGroup{p, arena};
  return arena.used;
}

void pursue(const Pursuit& p, Queue& queue, void* workspace) {
  Arena arena{static_cast<char*>(workspace)};
  if (p.atoms.products)
    GramGroup(p, arena).run(queue);
  else
    ResidualGroup(p, arena).run(queue);
}

int64_t changes_workspace_bytes(const Pursuit& p) {
  Arena arena{nullptr};
  Replay{p, arena};
  return arena.used;
}

void find_changes(const Pursuit& p, Queue& queue, void* workspace) {
  Arena arena{static_cast<char*>(workspace)};
  Replay replay(p, arena);
  int64_t row;
  while (take(queue, 1, row)) p.changed[row] = replay.changes(row);
}

void pack_panel(const Atoms& atoms, int64_t panel) {
  float* packed = atoms.panels + panel * PANEL * atoms.width;
  for (int64_t d = 0; d < atoms.width; ++d)
    for (int64_t i = 0; i < PANEL; ++i)
      packed[d * PANEL + i] = atoms.rows[(panel * PANEL + i) * atoms.padded_width + d];
}

int64_t multiply_workspace_bytes(const Atoms& atoms) {
  return GROUP * (atoms.width + PANEL) * int64_t(sizeof(float));
}

void multiply_atoms(const Atoms& atoms, int64_t appended_from, Queue& queue, void* workspace) {
  const float* rows[GROUP];
  float* products = static_cast<float*>(workspace);
  float* packed = products + GROUP * PANEL;
  int64_t first;
  while (const int64_t count = take(queue, GROUP, first)) {
    first += appended_from;
    for (int64_t i = 0; i < count; ++i) rows[i] = atoms.rows + (first + i) * atoms.padded_width;
    pack_rows(rows, count, atoms.width, packed);
    for (int64_t column = 0; column < atoms.count; column += PANEL) {
      multiply_panel(packed, count, atoms.panels + column * atoms.width, atoms.width, products);
      write_products(atoms, appended_from, first, count, column, products);
    }
  }
}

}  // namespace interpkern::INTERPKERN_ISA
