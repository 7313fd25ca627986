// The kernels' entry points; the work is in the headers.
#include "matching_pursuit_simd.h"

#include "atom_products.h"
#include "gram_group.h"
#include "replay.h"
#include "residual_group.h"

namespace interpkern::INTERPKERN_ISA {
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
  int64_t at;
  while (take(queue, 1, at)) {
    const int64_t row = p.first + at;
    if (!p.changed[row]) p.changed[row] = replay.changes(row);
  }
}

void tile_products(const Pursuit& p, Queue& queue, void* workspace, const TileProducts& out) {
  Arena arena{static_cast<char*>(workspace)};
  Samples samples(p, arena);
  int64_t first;
  while (const int64_t count = take(queue, GROUP, first)) {
    for (int64_t i = 0; i < count; ++i) {
      const float power = load_sample(p, first + i, samples.residual(i));
      samples.pack(i, samples.residual(i));
      out.units[first + i] = samples.rounded[i].unit * power;
      out.errors[first + i] = samples.rounded[i].error * power;
    }
    samples.tiles.multiply(count, panels_of(p.atoms), queue, [&](int64_t panel, int64_t i, int64_t lane, Int sums) {
      const int64_t atom = panel * PANEL + lane;
      for (int64_t l = 0; l < smaller(LANES, p.atoms.count - atom); ++l)
        out.sums[(first + i) * p.atoms.count + atom + l] = sums[l];
    });
  }
}

PanelLayout panel_layout(int64_t width) {
  return layout_of(width);
}

void pack_panel(const Atoms& atoms, int64_t first, int64_t panel) {
  char* packed = static_cast<char*>(atoms.panels) + panel * layout_of(atoms.width).size();
  const int64_t start = panel * PANEL, from = first > start ? first : start;
  for (int64_t i = from; i < smaller(start + PANEL, atoms.count); ++i) {
    const float* atom = atoms.rows + i * atoms.padded_width;
    float off = 0;
    for (int64_t d = 0; d < atoms.width; ++d) {
      const float units = __builtin_rintf(atom[d] / ATOM_STEP);
      put(packed, atoms.width, i - start, d, int16_t(units));
      off += square(atom[d] - units * ATOM_STEP);
    }
    off = __builtin_sqrtf(off);
    if (off > *atoms.rounding) *atoms.rounding = off;
  }
}

// Threads share columns in groups; a group's pairs are those with a later atom.
void multiply_atoms(const Atoms& atoms, int64_t appended_from, bool mirrored, Queue& queue) {
  float dots[GROUP * GROUP];
  int64_t group;
  while (take(queue, 1, group)) {
    const int64_t column = group * GROUP, later = column > appended_from ? column : appended_from;
    const int64_t squares = (atoms.count - later + SQUARE - 1) / SQUARE, aligned = atoms.count - squares * SQUARE;
    for (int64_t first = aligned > 0 ? aligned : 0; first < atoms.count; first += GROUP) {
      const int64_t rows = smaller(GROUP, atoms.count - first);
      multiply_atoms_at(atoms, first, rows, column, dots);
      write_products(atoms, first, rows, column, dots, mirrored);
    }
  }
}

}  // namespace interpkern::INTERPKERN_ISA
