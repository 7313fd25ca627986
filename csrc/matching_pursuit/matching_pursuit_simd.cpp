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
  const float** rows;  // (GROUP,)
  float* products;     // (GROUP, PANEL)

  Samples(const Pursuit& pursuit, Arena& arena)
      : p(pursuit),
        x(arena.take<float>(GROUP * pursuit.atoms.padded_width)),
        rows(arena.take<const float*>(GROUP)),
        products(arena.take<float>(GROUP * PANEL)) {}

  float* residual(int64_t i) const { return x + i * p.atoms.padded_width; }

  const float* multiply(int64_t count, int64_t panel) {
    const Atoms& atoms = p.atoms;
    multiply_panel(rows, count, atoms.panels + panel * PANEL * atoms.width, atoms.width, products);
    return products;
  }
};

// A sample whose correlations with all atoms are kept up to date through rows of the Gram.
struct GramSample : Sample {
  float* correlations;  // (blocks * BLOCK,) as of `base_coefficients`; mp: as of now
  Vec* peaks;           // (blocks,)
  float* base_coefficients;
  Term* terms;
  int64_t term_count, blocks;
  float base_bound, bound;  // how far the correlations behind the peaks may be from the dots
  bool busy;

  void lay_out(const Pursuit& p, Arena& arena) {
    Sample::lay_out(p, arena);
    blocks = blocks_of(p.atoms);
    peaks = arena.take<Vec>(blocks);
    base_coefficients = arena.take<float>(capacity(p));
    terms = arena.take<Term>(capacity(p));
  }

  void begin(float* products) {
    Sample::begin();
    correlations = products;
    rest_on(product_error(pursuit->atoms.width) * norm);
  }

  void advance() {
    const float before = left;
    const Best best = pick();
    absorb(best);
    if (ended) return;
    if (pursuit->method == Method::omp)
      gather_terms();
    else
      bound += __builtin_fabsf(best.correlation) * gram_error(pursuit->atoms.width) + 4 * ROUNDING * before;
  }

  // Brings the peaks up to date with the last pick; fetches the row of `other` meanwhile.
  void propagate(const GramSample& other) {
    const bool nonnegative = pursuit->nonnegative;
    if (pursuit->method == Method::omp) {
      if (term_count == 0)
        find_peaks(correlations, blocks, nonnegative, peaks);
      else if (nonnegative)
        sum_rows<true>(correlations, terms, term_count, blocks, peaks);
      else
        sum_rows<false>(correlations, terms, term_count, blocks, peaks);
      return;
    }
    const float factor = -values[steps - 1] * PRODUCT_STEP;
    const int16_t* next = other.busy ? other.last_row() : nullptr;
    if (nonnegative)
      add_row<true>(correlations, factor, last_row(), blocks, peaks, next);
    else
      add_row<false>(correlations, factor, last_row(), blocks, peaks, next);
  }

 private:
  const int16_t* last_row() const { return product_row(picks[steps - 1]); }

  const int16_t* product_row(int64_t index) const { return pursuit->atoms.products + index * pursuit->atoms.stride; }

  // The correlations stand for the coefficients as they are now.
  void rest_on(float error) {
    base_bound = bound = error;
    for (int64_t i = 0; i < size; ++i) base_coefficients[i] = coefficients[i];
    term_count = 0;
    find_peaks(correlations, blocks, pursuit->nonnegative, peaks);
  }

  void gather_terms() {
    base_coefficients[size - 1] = 0;
    term_count = 0;
    float moved = 0, sum = norm;
    for (int64_t i = 0; i < size; ++i) {
      const float change = coefficients[i] - base_coefficients[i];
      if (change != 0) terms[term_count++] = {product_row(picks[i]), -change * PRODUCT_STEP};
      moved += __builtin_fabsf(change);
      sum += __builtin_fabsf(coefficients[i]);
    }
    bound = base_bound + moved * gram_error(pursuit->atoms.width) + 4 * ROUNDING * sum;
  }

  Best pick() {
    for (;;) {
      const float peak = largest_peak(peaks, blocks);
      if (peak + bound <= LEVEL * norm) return {};
      Best best;
      if ((bound == 0 || peak > 2 * bound) && choose(pursuit->exact ? peak - 2 * bound : peak, best)) return best;
      correlate_exactly();
    }
  }

  // The best by dots among the atoms that reach `least`; false when they are too many, or none may be picked.
  bool choose(float least, Best& best) {
    constexpr int MOST = 64;
    const Vec threshold = broadcast(least);
    float values[BLOCK];
    int tried = 0;
    for (int64_t block = 0; block < blocks; ++block) {
      if (!any_at_least(peaks[block], threshold)) continue;
      block_correlations(block, values);
      for (int64_t i = 0; i < BLOCK; i += LANES) {
        if (!any_at_least(magnitude(read(values + i), pursuit->nonnegative), threshold)) continue;
        for (int64_t lane = i; lane < i + LANES; ++lane) {
          const int64_t index = block * BLOCK + lane;
          if (!(magnitude(values[lane], pursuit->nonnegative) >= least) || index >= pursuit->atoms.count) continue;
          if (chosen().has(index)) continue;
          if (++tried > MOST && bound > 0) return false;
          best.consider(index, correlation(index), pursuit->nonnegative);
          if (!pursuit->exact) return true;
        }
      }
    }
    return tried > 0 || bound == 0;
  }

  void block_correlations(int64_t block, float* out) const {
    for (int64_t at = 0; at < BLOCK; at += STRIP_ATOMS) {
      Vec sums[STRIP];
      sum_strip(correlations, terms, term_count, block * BLOCK + at, sums);
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
  Samples samples;
  float* correlations;  // (GROUP, blocks * BLOCK)
  GramSample slots[SLOTS];
  int64_t first = 0, count = 0, next = 0;

  GramGroup(const Pursuit& p, Arena& arena)
      : samples(p, arena), correlations(arena.take<float>(GROUP * blocks_of(p.atoms) * BLOCK)) {
    for (GramSample& slot : slots) slot.lay_out(p, arena);
  }

  void run(int64_t from, int64_t samples_here, const Stop& stop) {
    first = from, count = samples_here, next = 0;
    if (!correlate(stop)) return;
    // The rows an omp sample goes back to fill the cache: one at a time.
    const int used = samples.p.method == Method::omp ? 1 : SLOTS;
    for (GramSample& slot : slots) slot.busy = false;
    for (int i = 0; i < used; ++i) start(slots[i]);
    for (bool busy = true; busy && !stopped(stop);) {
      busy = false;
      for (int i = 0; i < used; ++i) {
        if (!slots[i].busy) continue;
        slots[i].propagate(slots[(i + 1) % SLOTS]);
        step(slots[i]);
        busy |= slots[i].busy;
      }
    }
  }

 private:
  bool correlate(const Stop& stop) {
    const Atoms& atoms = samples.p.atoms;
    const int64_t columns = blocks_of(atoms) * BLOCK;
    for (int64_t i = 0; i < count; ++i) load_sample(samples.p, first + i, samples.residual(i));
    point_rows(samples.x, atoms.padded_width, count, samples.rows);
    for (int64_t panel = 0; panel < columns / PANEL && !stopped(stop); ++panel) {
      const float* products = samples.multiply(count, panel);
      for (int64_t i = 0; i < count; ++i) copy(correlations + i * columns + panel * PANEL, products + i * PANEL, PANEL);
    }
    return !stopped(stop);
  }

  // Makes one pick; replaces the sample when it has all.
  void step(GramSample& slot) {
    if (slot.wants_pick()) slot.advance();
    if (slot.wants_pick()) return;
    slot.finish();
    start(slot);
  }

  void start(GramSample& slot) {
    slot.busy = next < count;
    if (!slot.busy) return;
    const int64_t i = next++;
    slot.load(first + i, samples.residual(i));
    slot.begin(correlations + i * blocks_of(samples.p.atoms) * BLOCK);
    step(slot);
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

  void run(int64_t first, int64_t count, const Stop& stop) {
    for (int64_t i = 0; i < count; ++i) {
      members[i].load(first + i, samples.residual(i));
      members[i].begin();
    }
    while (const int64_t pursued = gather(count)) {
      find_all_peaks(pursued, stop);
      if (stopped(stop)) return;
      for (int64_t i = 0; i < pursued; ++i) members[active[i]].absorb(choose(members[active[i]], peaks + i * blocks));
    }
    for (int64_t i = 0; i < count; ++i) members[i].finish();
  }

 private:
  int64_t gather(int64_t count) {
    int64_t pursued = 0;
    for (int64_t i = 0; i < count; ++i) {
      if (!members[i].wants_pick()) continue;
      active[pursued] = i;
      samples.rows[pursued++] = members[i].residual;
    }
    for (int64_t i = pursued; pursued > 0 && i < padded_rows(pursued); ++i) samples.rows[i] = samples.rows[0];
    return pursued;
  }

  void find_all_peaks(int64_t pursued, const Stop& stop) {
    for (int64_t i = 0; i < pursued * blocks; ++i) peaks[i] = Vec{};
    for (int64_t panel = 0; panel < blocks * BLOCK / PANEL && !stopped(stop); ++panel) {
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

void pursue_group(const Pursuit& p, int64_t first, int64_t count, const Stop& stop, void* workspace) {
  Arena arena{static_cast<char*>(workspace)};
  if (p.atoms.products)
    GramGroup(p, arena).run(first, count, stop);
  else
    ResidualGroup(p, arena).run(first, count, stop);
}

int64_t changes_workspace_bytes(const Pursuit& p) {
  Arena arena{nullptr};
  Replay{p, arena};
  return arena.used;
}

void find_changes(const Pursuit& p, int64_t first, int64_t count, const Stop& stop, void* workspace) {
  Arena arena{static_cast<char*>(workspace)};
  Replay replay(p, arena);
  for (int64_t row = first; row < first + count && !stopped(stop); ++row) p.changed[row] = replay.changes(row);
}

void pack_panel(const Atoms& atoms, int64_t panel) {
  float* packed = atoms.panels + panel * PANEL * atoms.width;
  for (int64_t d = 0; d < atoms.width; ++d)
    for (int64_t i = 0; i < PANEL; ++i) packed[d * PANEL + i] = atoms.rows[(panel * PANEL + i) * atoms.padded_width + d];
}

void multiply_atoms(const Atoms& atoms, int64_t appended_from, int64_t first, int64_t count) {
  const float* rows[GROUP];
  float products[GROUP * PANEL];
  point_rows(atoms.rows + first * atoms.padded_width, atoms.padded_width, count, rows);
  for (int64_t column = 0; column < atoms.count; column += PANEL) {
    multiply_panel(rows, count, atoms.panels + column * atoms.width, atoms.width, products);
    for (int64_t i = 0; i < count; ++i)
      for (int64_t j = 0; j < PANEL; ++j) {
        const int16_t rounded = int16_t(__builtin_rintf(products[i * PANEL + j] / PRODUCT_STEP));
        atoms.products[(first + i) * atoms.stride + column + j] = rounded;
        if (column + j < appended_from) atoms.products[(column + j) * atoms.stride + first + i] = rounded;
      }
  }
}

}  // namespace interpkern::INTERPKERN_ISA
